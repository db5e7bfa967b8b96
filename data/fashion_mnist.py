"""Fashion-MNIST: 60,000 training and 10,000 test images of ten kinds of clothes.

Xiao, Rasul and Vollgraf 2017, arXiv:1708.07747. The images are under the MIT licence.
"""

from typing import Optional, Sequence

import numpy as np
import tensorflow.compat.v1 as tf
from PIL import Image

from data import idx
from data.base import DataError
from data.idx import SIZE, Splits
from data.types import Array

PACKAGE = 'dataset-fashion-mnist'  # of Debian
FOLDER = '/usr/share/datasets/fashion-mnist'  # of that package
ORIGIN = idx.Origin(
    title='Fashion-MNIST',
    url='http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/',
    cache='~/.tfutils/datasets/fashion_mnist',
    # Without compression, because the Debian package compresses the files again.
    md5={
        'train-images-idx3-ubyte': 'f4a8712d7a061bf5bd6d2ca38dc4d50a',
        'train-labels-idx1-ubyte': '9018921c3c673c538a1fc5bad174d6f9',
        't10k-images-idx3-ubyte': '8181f5470baa50b63fa0f6fddb340f0a',
        't10k-labels-idx1-ubyte': '15d484375f8d13e6eb1aabb0c3f46965',
    },
)
# Of the training images, in 0..1: the figures that BioTorch and many others normalise with.
MEAN, DEVIATION = 0.2859, 0.3530


class FashionMnist(idx.IdxImages):
    """Grey photographs of clothes, uint8 [28, 28, 1].

    The input of the network is (x / 255 - 0.2859) / 0.3530. At another size, the images are resized
    by Pillow's bilinear filter and rounded to bytes before that.

    If data_dir is given, the images are read from the four IDX files (raw or .gz) in it, and from
    nowhere else. Otherwise the first of these places that has them is used:

    1. /usr/share/datasets/fashion-mnist, the folder of the Debian package dataset-fashion-mnist;
    2. ~/.tfutils/datasets/fashion_mnist, to which they are downloaded if they are missing.

    A log message names the place, and each file must have the MD5 checksum of the published one.
    The arguments and errors are those of `IdxImages`.
    """

    name = 'fashion_mnist'
    label_names = [
        'T-shirt/top',
        'Trouser',
        'Pullover',
        'Dress',
        'Coat',
        'Sandal',
        'Shirt',
        'Sneaker',
        'Bag',
        'Ankle boot',
    ]
    origin = ORIGIN

    def read(self, data_dir: Optional[str], splits: Sequence[str]) -> Splits:
        """See `InMemory.read`."""
        size = self.image_shape[0]
        return {
            split: (images if size == SIZE else resized(images, size), labels)
            for split, (images, labels) in super().read(data_dir, splits).items()
        }

    def elsewhere(self, splits: Sequence[str]) -> Splits:
        """See `IdxImages.elsewhere`."""
        origin = self.origin
        found = idx.in_places(origin, [FOLDER], splits) or idx.downloaded(origin, splits)
        if found is None:
            raise DataError(
                f'There are no images of Fashion-MNIST: give their folder as --data_dir, or '
                f'install the Debian package {PACKAGE}, which puts them into {FOLDER}, or make '
                f'{origin.url} reachable, from which they are downloaded.'
            )
        return found

    def normalise(self, images: tf.Tensor) -> tf.Tensor:
        """Returns (x / 255 - 0.2859) / 0.3530 of images, uint8 [batch, h, w, 1], as float32."""
        return (tf.cast(images, tf.float32) / 255 - MEAN) / DEVIATION


def resized(images: Array, size: int) -> Array:
    """Resizes images, uint8 [n, h, w], to uint8 [n, size, size] by Pillow's bilinear filter."""
    shape, kind = (size, size), Image.Resampling.BILINEAR
    return np.stack([np.asarray(Image.fromarray(image).resize(shape, kind)) for image in images])
