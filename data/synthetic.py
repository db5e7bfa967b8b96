"""Constant random images: measures everything but the reading of data."""

import numpy as np
import tensorflow.compat.v1 as tf

from data.base import DataError, Dataset

# Enough to tell images apart, few enough to stay in the cache of a processor.
DIFFERENT_IMAGES = 8


class Synthetic(Dataset):
    """Standard normal images, always the same ones, with labels that cycle through the classes."""

    name = 'synthetic'
    image_dtype = tf.float32

    def __init__(
        self,
        data_dir=None,
        image_size=None,
        preprocessing=None,
        use_resnet_v2=False,
        classes=1000,
        train_images=1024,
        validation_images=256,
    ):
        """
        Args:
            data_dir, use_resnet_v2: not used.
            image_size: int, height and width in pixels; None means 224.
            preprocessing: must be None.
            classes, train_images, validation_images: int, see Dataset.

        Raises:
            DataError: a preprocessing is given.
        """
        if preprocessing is not None:
            raise DataError(
                f'--preprocessing={preprocessing} has no meaning for --dataset=synthetic; leave '
                'it out.'
            )
        size = 224 if image_size is None else image_size
        self.classes = classes
        self.train_images = train_images
        self.validation_images = validation_images
        self.image_shape = (size, size, 3)
        self._images = (
            np.random.RandomState(0).randn(DIFFERENT_IMAGES, size, size, 3).astype(np.float32)
        )

    def records(self, split, seed):
        images = self.train_images if split == 'train' else self.validation_images
        indices = tf.data.Dataset.range(images)
        return indices if seed is None else indices.shuffle(images, seed=seed)

    def example(self, record, seed):
        return tf.gather(self._images, record % DIFFERENT_IMAGES), record % self.classes
