"""Small IDX files in the layout of MNIST and Fashion-MNIST."""

import gzip
import hashlib
import struct

import numpy as np

from data import fashion_mnist, idx

NAMES = [name for names in idx.FILES.values() for name in names]
COUNTS = dict(train=37, test=11)


def to_bytes(array):
    """Returns a uint8 array as the bytes of an IDX file."""
    return (
        bytes([0, 0, 8, array.ndim])
        + struct.pack(f'>{array.ndim}I', *array.shape)
        + array.tobytes()
    )


def arrays(**counts):
    """Returns {name of the IDX file: uint8 array} with these numbers of images of each split."""
    random, made = np.random.RandomState(0), {}
    for split, (images, labels) in idx.FILES.items():
        count = dict(COUNTS, **counts)[split]
        made[images] = random.randint(0, 256, (count, 28, 28), dtype=np.uint8)
        made[labels] = random.randint(0, 10, count).astype(np.uint8)
    return made


def write(folder, made, splits=('train', 'test')):
    """Writes the arrays of splits into a folder (a pathlib.Path), every other file compressed."""
    for number, name in enumerate(name for split in splits for name in idx.FILES[split]):
        content = to_bytes(made[name])
        if number % 2:
            (folder / (name + '.gz')).write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)


def pretend(monkeypatch, made):
    """Makes the program take arrays for the published files of Fashion-MNIST."""
    sums = {name: hashlib.md5(to_bytes(array)).hexdigest() for name, array in made.items()}
    origin = fashion_mnist.ORIGIN._replace(md5=sums)
    monkeypatch.setattr(fashion_mnist.FashionMnist, 'origin', origin)
