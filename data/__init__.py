"""Images in: `load` gives a Dataset by its name; knows nothing of models or training."""

import importlib
import os
import pkgutil
import sys
from typing import Iterator, Optional, Type

if sys.argv[:1] == ['-m']:  # a command line tool of this package is about to run
    import missing_packages  # noqa: F401 (first: it tells which package this Python lacks)

os.environ.setdefault(
    'TF_CPP_MIN_LOG_LEVEL', '3'
)  # for the command line tools; see training/runtime.py

from data.base import DataError, Dataset

# The command line tools are left out: they may only be imported as the main module.
for _module in pkgutil.iter_modules(__path__):
    if not _module.name.startswith('build_'):
        importlib.import_module(f'{__name__}.{_module.name}')

__all__ = ['DATASETS', 'DataError', 'Dataset', 'load']


def _named(cls: Type[Dataset]) -> Iterator[Type[Dataset]]:
    """The subclasses of a class, and theirs, that have a name."""
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
) -> Dataset:
    """The dataset of that name, found and checked, before any session runs.

    Args:
        name: str, a key of `DATASETS`.
        data_dir: str, folder (or gs:// address) of the images, or None for the dataset's own
        default.
        image_size: int, height and width in pixels, or None: 28 for mnist, 32 for cifar10 and
            cifar100, 299 for the inception preprocessing, else 224.
        preprocessing: 'resnet', 'inception' or 'plain' (imagenet only), or None: resnet.

    Returns:
        Dataset.

    Raises:
        DataError: an unknown name or preprocessing, a size below 1, or images that are missing or
        damaged.
    """
    if name not in DATASETS:
        raise DataError(
            f'There is no dataset {name!r}; --dataset is one of {", ".join(sorted(DATASETS))}.'
        )
    if image_size is not None and image_size < 1:
        raise DataError(
            f'An image must be at least one pixel wide, so --image_size={image_size} is too small.'
        )
    return DATASETS[name](data_dir=data_dir, image_size=image_size, preprocessing=preprocessing)
