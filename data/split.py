"""Which images train and which validate."""

from typing import Sequence, Union

import numpy as np

from data.types import Array, Arrays


def stratified_split(
    labels: Union[Sequence[int], Array], validation_fraction: float, seed: int = 0
) -> Arrays:
    """Takes the same fraction of every class for validation; at least one image of each class
    trains.

    Args:
        labels: sequence of n ints, the class of each image.
        validation_fraction: float in [0, 1).
        seed: int; the same seed gives the same split, on every numpy.

    Returns:
        (train, validation): int64 arrays of indices into `labels`, each sorted, together 0 .. n -
        1.
    """
    random = np.random.RandomState(seed)
    labels = np.asarray(labels)
    validates = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        count = min(int(round(validation_fraction * len(members))), len(members) - 1)
        validates[members[:count]] = True
    return np.flatnonzero(~validates), np.flatnonzero(validates)
