"""Data sets that are small enough to be held in memory."""

import hashlib
from typing import Dict, List, Optional, Sequence, Tuple

import tensorflow.compat.v1 as tf

from data.base import DataError, Dataset
from data.split import TEST, VALIDATION, hold_out, validated
from data.types import Array, Arrays


class InMemory(Dataset):
    """A data set whose images are read as a whole, held in memory, and shuffled as a whole.

    To add one, implement `read` and `example` in a subclass that has a `name`.

    A validation sees the test images, or images that are held out of the training images. Which
    images are held out does not depend on the seed of a training, so trainings with different seeds
    can be compared, and whoever restores a checkpoint knows the images that it was trained on. If
    images are held out, files of test images are not opened.

    Args:
        data_dir: See `Dataset`.
        image_size: See `Dataset`.
        preprocessing: See `Dataset`.
        validation_split: Number of training images to hold out.
        split: What a validation sees: 'validation' or 'test'. None means 'validation' if images are
            held out, and 'test' otherwise.

    Raises:
        DataError: An argument does not fit, or the images cannot be read.
    """

    contents_of = 'all images and labels'

    def __init__(
        self,
        data_dir: Optional[str] = None,
        image_size: Optional[int] = None,
        preprocessing: Optional[str] = None,
        validation_split: int = 0,
        split: Optional[str] = None,
    ) -> None:
        super().__init__(data_dir, image_size, preprocessing)
        self.validated_split = validated(validation_split, split)
        tests = self.validated_split == TEST
        found = self.read(data_dir, ['train', TEST] if tests else ['train'])
        train, held_out = self._held_out(found['train'], validation_split)
        self._splits = dict(train=train, validation=found[TEST] if tests else held_out)
        self.train_images, self.validation_images = len(train[1]), len(self._splits[VALIDATION][1])

    def read(self, data_dir: Optional[str], splits: Sequence[str]) -> Dict[str, Arrays]:
        """Reads the images of the given splits, and no others. Called once, by the constructor.

        Args:
            data_dir: Folder of the images, or None.
            splits: 'train', or 'train' and 'test'.

        Returns:
            {split: (images [n, ...], labels [n])}.

        Raises:
            DataError: The images cannot be read.
        """
        raise NotImplementedError(f'{type(self).__name__} must implement the method read.')

    def arrays(self, split: str) -> Arrays:
        """Returns (images [n, ...], labels [n]) of 'train' or 'validation', before decoding."""
        return self._splits[split]

    def contents(self) -> List[object]:
        """Returns a checksum of all images and labels."""
        return checksum(self._splits)

    def records(self, split: str, seed: Optional[tf.Tensor]) -> tf.data.Dataset:
        """See `Dataset.records`. A record is dict(images, labels) of the arrays of `read`."""
        return records(*self._splits[split], seed=seed)

    def _held_out(self, train: Arrays, count: int) -> Tuple[Arrays, Arrays]:
        """Returns the training images that are kept and those that are held out, with labels."""
        images, labels = train
        if count >= len(labels):
            raise DataError(
                f'--validation_split={count} leaves no training images: {self.name} has '
                f'{len(labels):,}. Hold out fewer.'
            )
        if not count:  # Nothing is copied.
            return train, (images[:0], labels[:0])
        kept, held_out = hold_out(labels, count)
        return (images[kept], labels[kept]), (images[held_out], labels[held_out])


def records(images: Array, labels: Array, seed: Optional[tf.Tensor]) -> tf.data.Dataset:
    """Returns `Dataset.records` of arrays in memory.

    Args:
        images: [n, ...].
        labels: [n].
        seed: int64 [], for a shuffle of all records, or None for the stored order.

    Returns:
        A tf.data.Dataset of dict(images, labels), one per record.
    """
    # The arrays come from Python once per pass. As constants, 47 MB would take ten seconds to load
    # and would be a part of every saved graph.
    arrays = tf.py_func(lambda: (images, labels), [], [images.dtype, labels.dtype])
    for array, shape in zip(arrays, (images.shape, labels.shape)):
        array.set_shape(shape)
    found = tf.data.Dataset.from_tensor_slices(dict(images=arrays[0], labels=arrays[1]))
    return found if seed is None else found.shuffle(len(labels), seed=seed)


def checksum(splits: Dict[str, Arrays]) -> List[object]:
    """Returns `Dataset.contents` of arrays in memory. splits: {split: (images, labels)}."""
    digest = hashlib.sha256()
    for split in sorted(splits):
        for array in splits[split]:
            digest.update(f'{split} {array.dtype} {array.shape}'.encode())
            digest.update(array.tobytes())
    return [digest.hexdigest()]
