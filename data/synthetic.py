"""Constant random images, to measure the speed of everything but the reading of data."""

from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np
import tensorflow.compat.v1 as tf

from data.memory import InMemory
from data.types import Arrays, Record

# Enough to distinguish images, and few enough to stay in the cache of a processor.
DIFFERENT_IMAGES = 8


class Synthetic(InMemory):
    """Standard normal images, always the same, with labels that cycle through the classes.

    Args:
        data_dir: Not used: no files are read.
        image_size: See `Dataset`.
        preprocessing: Must be None.
        validation_split: See `InMemory`.
        split: See `InMemory`.
        classes: Number of classes.
        train_images: Number of training images, of which `validation_split` are held out.
        test_images: Number of test images.
    """

    name = 'synthetic'
    image_dtype = tf.float32
    decodes_batches = True

    def __init__(
        self,
        data_dir: Optional[str] = None,
        image_size: Optional[int] = None,
        preprocessing: Optional[str] = None,
        validation_split: int = 0,
        split: Optional[str] = None,
        classes: int = 1000,
        train_images: int = 1024,
        test_images: int = 256,
    ) -> None:
        self.classes = classes
        self._counts = dict(train=train_images, test=test_images)
        super().__init__(data_dir, image_size, preprocessing, validation_split, split)
        random = np.random.RandomState(0)
        self._images = random.randn(DIFFERENT_IMAGES, *self.image_shape).astype(np.float32)

    def read(self, data_dir: Optional[str], splits: Sequence[str]) -> Dict[str, Arrays]:
        """See `InMemory.read`. The numbers of the images stand for the images."""
        numbers = {split: np.arange(self._counts[split]) for split in splits}
        return {split: (found, found % self.classes) for split, found in numbers.items()}

    def contents(self) -> List[object]:
        """Returns nothing: the images follow from their counts."""
        return []

    def records(self, split: str, seed: Optional[tf.Tensor]) -> tf.data.Dataset:
        """See `Dataset.records`. A record is its number, int64 []."""
        numbers, _ = self._splits[split]
        records = tf.data.Dataset.from_tensor_slices(numbers)
        return records if seed is None else records.shuffle(len(numbers), seed=seed)

    def example(self, record: Record, seed: Optional[tf.Tensor]) -> Tuple[tf.Tensor, tf.Tensor]:
        """See `Dataset.example`."""
        return tf.gather(self._images, record % DIFFERENT_IMAGES), record % self.classes
