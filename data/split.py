"""The split of labelled images into training and validation images, stratified by class."""

from typing import Optional, Sequence, Union

import numpy as np

from data.types import Array, Arrays

# What a validation reads: images held out of the training images, or the test images.
VALIDATION, TEST = 'validation', 'test'


def validated(validation_split: int, split: Optional[str]) -> str:
    """Returns what a validation reads: VALIDATION or TEST.

    Args:
        validation_split: Number of training images that are held out.
        split: What is asked for, or None for the default.
    """
    return split or (VALIDATION if validation_split else TEST)


def stratified_split(
    labels: Union[Sequence[int], Array], validation_fraction: float, seed: int = 0
) -> Arrays:
    """Splits images so that every class has the same fraction of validation images.

    At least one image of each class is a training image.

    Args:
        labels: The class of each of the n images.
        validation_fraction: Fraction of validation images, in [0, 1).
        seed: The same seed gives the same split with every version of NumPy.

    Returns:
        (train, validation): sorted int64 arrays of indices into `labels`, together 0 .. n - 1.
    """
    classes, sizes = np.unique(labels, return_counts=True)
    counts = [min(int(round(validation_fraction * size)), size - 1) for size in sizes.tolist()]
    return _drawn(np.asarray(labels), classes, counts, seed)


def hold_out(labels: Union[Sequence[int], Array], count: int, seed: int = 0) -> Arrays:
    """Splits off a number of validation images, to which every class contributes its share.

    Shares that are not whole numbers are rounded so that they add up to `count`: those with the
    largest remainders are rounded up.

    Args:
        labels: The class of each of the n images.
        count: Number of validation images, 0 .. n.
        seed: The same seed gives the same split with every version of NumPy.

    Returns:
        (train, validation): sorted int64 arrays of indices into `labels`, together 0 .. n - 1.
    """
    classes, sizes = np.unique(labels, return_counts=True)
    counts, remainders = np.divmod(sizes.astype(np.int64) * count, len(labels))
    largest = np.argsort(-remainders, kind='stable')
    counts[largest[: count - counts.sum()]] += 1
    return _drawn(np.asarray(labels), classes, counts.tolist(), seed)


def _drawn(labels: Array, classes: Array, counts: Sequence[int], seed: int) -> Arrays:
    """Returns a random split with the given numbers of validation images for each class."""
    random = np.random.RandomState(seed)
    validates = np.zeros(len(labels), bool)
    for label, count in zip(classes, counts):
        members = random.permutation(np.flatnonzero(labels == label))
        validates[members[:count]] = True
    return np.flatnonzero(~validates), np.flatnonzero(validates)
