"""Data sets: `load` returns a Dataset by name. Independent of models and training."""

import importlib
import os
import pkgutil
import sys
from typing import Iterator, Optional, Type

if sys.argv[:1] == ['-m']:  # A command line tool of this package is about to run.
    import missing_packages  # noqa: F401 (imported first: it reports missing packages)

os.environ.setdefault(
    'TF_CPP_MIN_LOG_LEVEL', '3'
)  # for the command line tools; see training/runtime.py

from data.base import MANY_PIXELS, DataError, Dataset
from data.memory import InMemory
from data.split import VALIDATION

# The command line tools are skipped: they may only be imported as the main module.
for _module in pkgutil.iter_modules(__path__):
    if not _module.name.startswith('build_'):
        importlib.import_module(f'{__name__}.{_module.name}')

__all__ = ['DATASETS', 'DataError', 'Dataset', 'InMemory', 'load']


def _named(cls: Type[Dataset]) -> Iterator[Type[Dataset]]:
    """Yields all direct and indirect subclasses of a class that have a name."""
    for subclass in cls.__subclasses__():
        if 'name' in vars(subclass):
            yield subclass
        yield from _named(subclass)


DATASETS = {cls.name: cls for cls in _named(Dataset)}


def load(
    name: str,
    data_dir: Optional[str] = None,
    image_size: Optional[int] = None,
    preprocessing: Optional[str] = None,
    validation_split: int = 0,
    split: Optional[str] = None,
    max_pixels: int = MANY_PIXELS,
) -> Dataset:
    """Finds, checks and returns the data set with the given name, without running a session.

    Args:
        name: A key of `DATASETS`.
        data_dir: Folder (or gs:// address) of the images, or None for the data set's default.
        image_size: Height and width in pixels. None means 28 for mnist and fashion_mnist, 32
            for cifar10 and cifar100, 299 for the inception preprocessing, and 224 otherwise.
        preprocessing: 'resnet', 'inception' or 'plain' (imagenet only). None means resnet.
        validation_split: Number of training images that are held out for validations; for data sets
            that are held in memory.
        split: What a validation sees: 'validation', the images that are held out, or 'test'. None
            means 'validation' if images are held out, and 'test' otherwise.
        max_pixels: The most pixels that a stored image may have, for data sets that decode images.

    Raises:
        DataError: The name or the preprocessing is unknown, the size is below 1, the data set has
            no such split, or images are missing or damaged.
    """
    if name not in DATASETS:
        raise DataError(
            f'There is no dataset {name!r}. --dataset must be one of {", ".join(sorted(DATASETS))}.'
        )
    if image_size is not None and image_size < 1:
        raise DataError(
            f'--image_size={image_size} is too small. Images must be at least one pixel wide.'
        )
    if split == VALIDATION and not validation_split:
        raise DataError(
            '--split=validation has no images: without --validation_split, no training images are '
            'held out, and a validation sees the test images. Leave it out.'
        )
    cls = DATASETS[name]
    if issubclass(cls, InMemory):
        return cls(
            data_dir=data_dir,
            image_size=image_size,
            preprocessing=preprocessing,
            validation_split=validation_split,
            split=split,
        )
    if validation_split:
        raise DataError(
            f'--validation_split={validation_split} is for data sets that are held in memory, and '
            f'not for --dataset={name}. TFRecords are split into files train-* and validation-* by '
            'data/build_tfrecords.py --validation_fraction.'
        )
    found = cls(data_dir=data_dir, image_size=image_size, preprocessing=preprocessing)
    found.max_pixels = max_pixels
    return found
