"""Grey images in the four IDX files of MNIST and of the data sets that use its layout."""

import functools
import gzip
import hashlib
import logging
import operator
import os
import struct
import zlib
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import tensorflow.compat.v1 as tf

from data import download, files
from data.base import DataError
from data.memory import InMemory
from data.types import Array, Arrays, Record

CLASSES = 10
SIZE = 28  # pixels
FILES = dict(
    train=('train-images-idx3-ubyte', 'train-labels-idx1-ubyte'),
    test=('t10k-images-idx3-ubyte', 't10k-labels-idx1-ubyte'),
)
WORDS = dict(train='training', test='test')  # for messages

Splits = Dict[str, Arrays]  # {split: (uint8 [n, 28, 28] images, uint8 [n] labels)}

log = logging.getLogger(__name__)


class Origin(NamedTuple):
    """The place on the web from which the files of a data set are downloaded.

    Attributes:
        title: Name of the data set, for messages.
        url: Address of the folder of the compressed files, with a final slash.
        cache: Folder to which they are downloaded.
        sha256: Checksums of the compressed files, which are checked when they are downloaded.
        md5: Checksums of the files without their compression, which are checked whenever they are
            read; empty if files with other images are allowed.
    """

    title: str
    url: str
    cache: str
    sha256: Mapping[str, str] = {}
    md5: Mapping[str, str] = {}


class IdxImages(InMemory):
    """Images of 10 classes, uint8 [28, 28, 1], from IDX files (raw or .gz).

    If data_dir is given, they are read from that folder, and from nowhere else.

    Args:
        data_dir: Folder of the IDX files, or None.
        image_size: Height and width in pixels. Images are resized if it is not 28.
        preprocessing: Must be None.
        validation_split: See `InMemory`.
        split: See `InMemory`.

    Raises:
        DataError: A file is damaged or missing, or a preprocessing is given.

    Attributes:
        origin: Where the files are downloaded from.
    """

    classes = CLASSES
    default_size, channels = SIZE, 1
    decodes_batches = True
    preprocessing_advice = (
        'Leave it out, or write TFRecords with data/build_tfrecords.py and train on them with '
        '--dataset=imagenet'
    )
    origin: Origin

    def read(self, data_dir: Optional[str], splits: Sequence[str]) -> Splits:
        """See `InMemory.read`."""
        return in_folder(self.origin, data_dir, splits) if data_dir else self.elsewhere(splits)

    def elsewhere(self, splits: Sequence[str]) -> Splits:
        """Reads some splits from the first place that has them, if there is no --data_dir."""
        raise NotImplementedError(f'{type(self).__name__} must implement the method elsewhere.')

    def example(self, record: Record, seed: Optional[tf.Tensor]) -> Tuple[tf.Tensor, tf.Tensor]:
        """See `Dataset.example`."""
        return record['images'][..., tf.newaxis], tf.cast(record['labels'], tf.int64)


def in_folder(origin: Origin, data_dir: str, splits: Sequence[str]) -> Splits:
    """Reads some splits from the IDX files in --data_dir.

    Raises:
        DataError: A file is missing or damaged.
    """
    folder, _ = files.listed(
        data_dir, f'the IDX files of {origin.title}, or leave --data_dir out to download them'
    )
    missing = _missing(folder, splits)
    if missing:
        them = 'it' if len(missing) == 1 else 'them'
        raise DataError(
            f'--data_dir={data_dir} holds no {", ".join(missing)} (raw or .gz). Put {them} there, '
            f'or leave --data_dir out to download {origin.title}.'
        )
    return _read(origin, folder, splits)


def in_places(origin: Origin, folders: Sequence[str], splits: Sequence[str]) -> Optional[Splits]:
    """Reads some splits from the first folder that has IDX files; None if no folder has any.

    Raises:
        DataError: That folder has only a part of the files, or a file is damaged.
    """
    for folder in folders:
        missing = _missing(folder, splits)
        if not missing:
            return _read(origin, folder, splits)
        if _present(folder):
            raise _only_a_part(origin, folder, missing)
    return None


def downloaded(origin: Origin, splits: Sequence[str]) -> Optional[Splits]:
    """Reads some splits from the cache of an origin, after downloading the missing files.

    Returns:
        The splits, or None if the cache is empty and there is no network.

    Raises:
        DataError: A file is damaged, or only a part of the files is there and there is no network.
    """
    folder = os.path.expanduser(origin.cache)
    missing = _missing(folder, splits)
    if missing and not _download(origin, folder, missing):
        if _present(folder):
            raise _only_a_part(origin, folder, missing, f', and {origin.url} does not answer')
        return None
    return _read(origin, folder, splits)


def read_idx(path: str, dimensions: int, md5: Optional[str] = None) -> Array:
    """Reads an IDX file of bytes as a uint8 array.

    Args:
        path: Path of a raw file, or of a compressed one if it ends in .gz.
        dimensions: Number of dimensions that the array must have.
        md5: Checksum that the file must have without its compression, or None.

    Raises:
        DataError: The file is damaged or of another kind.
    """
    content = read_bytes(path)
    found = hashlib.md5(content).hexdigest() if md5 else None
    if found != md5:
        raise DataError(
            f'{path} is not the published file: its MD5 without compression is {found}, not {md5}. '
            'Delete it and download it again.'
        )
    start = 4 + 4 * dimensions
    if len(content) < start or content[:4] != bytes([0, 0, 8, dimensions]):
        raise DataError(
            f'{path} is not an IDX file of bytes with {dimensions} dimension(s). Delete it and '
            'download it again.'
        )
    shape = struct.unpack(f'>{dimensions}I', content[4:start])
    # The product is one of Python's integers, which do not overflow.
    if len(content) - start != functools.reduce(operator.mul, shape):
        raise DataError(
            f'{path} holds {len(content) - start:,} bytes of data, but its header promises '
            f'{" x ".join(map(str, shape))}. Delete it and download it again.'
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _read(origin: Origin, folder: str, splits: Sequence[str]) -> Splits:
    """Reads some splits from the files in a folder, and logs the folder."""
    paths = _present(folder)
    found = {split: _read_split(origin, paths, split) for split in splits}
    counts = [f'{len(labels)} {WORDS[split]}' for split, (_, labels) in found.items()]
    log.info('%s: %s images from %s.', origin.title, ' and '.join(counts), folder)
    return found


def _read_split(origin: Origin, paths: Mapping[str, str], split: str) -> Arrays:
    """Reads a split. paths: {name of the file: its path}."""
    images_path, labels_path = [paths[name] for name in FILES[split]]
    images, labels = [
        read_idx(paths[name], dimensions, origin.md5.get(name))
        for name, dimensions in zip(FILES[split], (3, 1))
    ]
    if images.shape[1:] != (SIZE, SIZE):
        raise DataError(
            f'{images_path} holds images of {images.shape[1]} x {images.shape[2]} pixels, but '
            f'those of {origin.title} have {SIZE} x {SIZE}. Download it again.'
        )
    if not len(images) or len(images) != len(labels):
        raise DataError(
            f'{images_path} holds {len(images):,} images, but {labels_path} holds '
            f'{len(labels):,} labels. Download both again.'
        )
    if labels.max() >= CLASSES:
        raise DataError(
            f'{labels_path} holds the label {labels.max()}, but the largest one of {origin.title} '
            f'is {CLASSES - 1}. Download it again.'
        )
    return images, labels


def _missing(folder: str, splits: Sequence[str]) -> List[str]:
    """Returns the names of the files of some splits that are missing in a folder."""
    present = _present(folder)
    return [name for split in splits for name in FILES[split] if name not in present]


def _only_a_part(origin: Origin, folder: str, missing: Sequence[str], why: str = '') -> DataError:
    return DataError(
        f'The folder {folder} holds only a part of {origin.title}{why}. Put {", ".join(missing)} '
        'there.'
    )


def _present(folder: str) -> Dict[str, str]:
    """Returns {name: path} of the raw or compressed files in a folder.

    They may have their original names or Kaggle's (train-images.idx3-ubyte).
    """
    found = {}
    for name in (name for names in FILES.values() for name in names):
        paths = [
            os.path.join(folder, called + end)
            for called in (name, name.replace('-idx', '.idx'))
            for end in ('', '.gz')
        ]
        found.update({name: path for path in paths[::-1] if os.path.isfile(path)})
    return found


def read_bytes(path: str) -> bytes:
    """Returns the content of a file, uncompressed if its name ends in .gz.

    Raises:
        DataError: The file cannot be read, or is larger without compression than images can be.
    """
    try:
        with gzip.open(path) if path.endswith('.gz') else open(path, 'rb') as file:
            if not path.endswith('.gz'):
                return file.read()
            most = files.uncompressed(os.path.getsize(path))
            content = file.read(most + 1)
            if len(content) > most:
                raise OSError(f'it has more than {most:,} bytes without compression')
            return content
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f'{path} cannot be read ({error}). Delete it and download it again.')


def _download(origin: Origin, folder: str, names: Sequence[str]) -> bool:
    """Downloads files into the folder. Returns False if the network is unavailable or fails."""
    if not download.reachable(origin.url + names[0] + '.gz'):
        return False
    for name in names:
        try:
            content = download.fetch(origin.url + name + '.gz')
        except download.NETWORK_ERRORS as error:
            log.warning('%s: the download of %s stopped: %s.', origin.title, name, error)
            return False
        wrong = _wrong_checksum(origin, name, content)
        if wrong:
            raise DataError(
                f'{origin.url}{name}.gz is not the file of {origin.title} ({wrong}). Put a good '
                f'copy into {folder}.'
            )
        download.store(os.path.join(folder, name + '.gz'), content, origin.title)
    return True


def _wrong_checksum(origin: Origin, name: str, archive: bytes) -> Optional[str]:
    """Returns what is wrong with a compressed file that was downloaded, or None."""
    expected = origin.sha256.get(name + '.gz')
    if expected and hashlib.sha256(archive).hexdigest() != expected:
        return 'its SHA-256 differs'
    if name not in origin.md5:
        return None
    try:
        content = gzip.decompress(archive)
    except (OSError, EOFError, zlib.error) as error:
        return f'it cannot be uncompressed: {error}'
    if hashlib.md5(content).hexdigest() != origin.md5[name]:
        return 'its MD5 without compression differs'
    return None
