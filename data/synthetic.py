"""Constant random images, to measure the speed of everything but the reading of data."""

from typing import Optional, Tuple

import numpy as np
import tensorflow.compat.v1 as tf

from data.base import Dataset
from data.types import Record

# Enough to distinguish images, and few enough to stay in the cache of a processor.
DIFFERENT_IMAGES = 8


class Synthetic(Dataset):
    """Standard normal images, always the same, with labels that cycle through the classes.

    Args:
        data_dir: Not used: no files are read.
        image_size: See `Dataset`.
        preprocessing: Must be None.
        classes: Number of classes.
        train_images: Number of training images.
        validation_images: Number of validation images.
    """

    name = 'synthetic'
    image_dtype = tf.float32

    def __init__(
        self,
        data_dir: Optional[str] = None,
        image_size: Optional[int] = None,
        preprocessing: Optional[str] = None,
        classes: int = 1000,
        train_images: int = 1024,
        validation_images: int = 256,
    ) -> None:
        super().__init__(data_dir, image_size, preprocessing)
        self.classes = classes
        self.train_images = train_images
        self.validation_images = validation_images
        random = np.random.RandomState(0)
        self._images = random.randn(DIFFERENT_IMAGES, *self.image_shape).astype(np.float32)

    def records(self, split: str, seed: Optional[tf.Tensor]) -> tf.data.Dataset:
        """See `Dataset.records`. A record is its number, int64 []."""
        images = self.train_images if split == 'train' else self.validation_images
        indices = tf.data.Dataset.range(images)
        return indices if seed is None else indices.shuffle(images, seed=seed)

    def example(self, record: Record, seed: Optional[tf.Tensor]) -> Tuple[tf.Tensor, tf.Tensor]:
        """See `Dataset.example`."""
        return tf.gather(self._images, record % DIFFERENT_IMAGES), record % self.classes
