"""The split of a data set into training and validation images."""

from typing import Sequence, Union

import numpy as np

from data.types import Array, Arrays


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
    random = np.random.RandomState(seed)
    labels = np.asarray(labels)
    validates = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        count = min(int(round(validation_fraction * len(members))), len(members) - 1)
        validates[members[:count]] = True
    return np.flatnonzero(~validates), np.flatnonzero(validates)
