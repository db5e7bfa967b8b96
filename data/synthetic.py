"""Constant random images: measures everything but the reading of data."""

from typing import Optional, Tuple

import numpy as np
import tensorflow.compat.v1 as tf

from data.base import Dataset
from data.types import Record

# Enough to tell images apart, few enough to stay in the cache of a processor.
DIFFERENT_IMAGES = 8


class Synthetic(Dataset):
    """Standard normal images, always the same ones, with labels that cycle through the classes."""

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
        """classes, train_images, validation_images: see Dataset, as the others; nothing is read
        from data_dir.
        """
        super().__init__(data_dir, image_size, preprocessing)
        self.classes = classes
        self.train_images = train_images
        self.validation_images = validation_images
        random = np.random.RandomState(0)
        self._images = random.randn(DIFFERENT_IMAGES, *self.image_shape).astype(np.float32)

    def records(self, split: str, seed: Optional[tf.Tensor]) -> tf.data.Dataset:
        images = self.train_images if split == 'train' else self.validation_images
        indices = tf.data.Dataset.range(images)
        return indices if seed is None else indices.shuffle(images, seed=seed)

    def example(self, record: Record, seed: Optional[tf.Tensor]) -> Tuple[tf.Tensor, tf.Tensor]:
        return tf.gather(self._images, record % DIFFERENT_IMAGES), record % self.classes
