"""Images as the original system makes them of JPEG files, made without TensorFlow and without our
own code:

    apt-get install libjpeg-turbo-progs
    python tests/data/references/make_references.py

It cuts the photographs of scikit-image and scikit-learn into small JPEG files of many kinds,
decodes them with libjpeg-turbo's `djpeg -dct fast`, crops, resizes and normalises them with NumPy,
and writes the JPEG files and references.npz beside itself. tests/data/test_references.py compares
our images with them. The files are new only where the kinds or sizes below change.

NAME stands for a JPEG file in the names of the arrays: NAME/resnet/224, NAME/resnet/128,
NAME/inception/299, NAME/plain/53 are what a network sees of it in a validation at that size, and
NAME/resnet/window/INDEX that of a training with a window of WINDOWS. Of the floats, a grid of GRID
x GRID pixels is kept, the corners among them. Bytes are kept whole as a SHA-256, beside a grid.
"""

import hashlib
import importlib.util
import io
import os
import subprocess

import numpy as np
from PIL import Image

FOLDER = os.path.dirname(os.path.abspath(__file__))
REFERENCES = os.path.join(FOLDER, 'references.npz')
GRID = 17  # pixels of each side of an image that are kept
SIZES = dict(
    resnet=(224, 128, 331), inception=(299, 75), plain=(53,)
)  # that evaluations are compared at
MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])

# name: (photograph, height, width, mode, options of the JPEG encoder). Sides of 240 and 480: their
# quotients differ in float64.
KINDS = {
    '420': ('sklearn/datasets/images/china.jpg', 251, 333, 'RGB', dict(subsampling=2)),
    '420_480': ('skimage/data/astronaut.png', 480, 491, 'RGB', dict(subsampling=2, quality=70)),
    '420_240': ('sklearn/datasets/images/flower.jpg', 301, 240, 'RGB', dict(subsampling=2)),
    '422_progressive': (
        'skimage/data/chelsea.png',
        97,
        131,
        'RGB',
        dict(subsampling=1, progressive=True),
    ),
    '444': ('skimage/data/coffee.png', 277, 203, 'RGB', dict(subsampling=0)),
    'grey': ('skimage/data/camera.png', 240, 319, 'L', {}),
    'cmyk': ('skimage/data/rocket.jpg', 181, 263, 'CMYK', dict(quality=70)),
    'tiny_1x1': ('skimage/data/coffee.png', 1, 1, 'RGB', {}),
    'tiny_1x19': ('skimage/data/coffee.png', 1, 19, 'RGB', {}),
    'tiny_23x2': ('skimage/data/coffee.png', 23, 2, 'RGB', {}),
    'tiny_9x7': ('skimage/data/coffee.png', 9, 7, 'RGB', dict(subsampling=2)),
    'tiny_17x15_grey': ('skimage/data/coffee.png', 17, 15, 'L', {}),
}
# name: windows of a training (top, left, height, width), at odd places; and whole images, one with
# a square of its shorter side.
WINDOWS = {
    '420': [(16, 32, 117, 64), (3, 1, 200, 331), (0, 0, 251, 333), (0, 41, 251, 251)],
    '444': [(31, 70, 99, 101)],
    '422_progressive': [(5, 33, 41, 47)],
    'grey': [(11, 23, 150, 133), (0, 0, 240, 319)],
    'cmyk': [(8, 17, 61, 77), (0, 0, 181, 263)],
    'tiny_9x7': [(3, 2, 4, 5)],
}


def jpeg_of(photograph, height, width, mode, options):
    """JPEG bytes of a photograph, resized."""
    package, _, inside = photograph.partition('/')
    path = os.path.join(os.path.dirname(importlib.util.find_spec(package).origin), inside)
    buffer = io.BytesIO()
    with Image.open(path) as image:
        image = image.convert('RGB').resize((width, height), Image.BICUBIC).convert(mode)
        image.save(buffer, 'JPEG', **dict(dict(quality=85), **options))
    return buffer.getvalue()


def decoded(jpeg, window=None):
    """uint8 [h, w, 3] of JPEG bytes; with a window (top, left, height, width), of it alone."""
    crop = [] if window is None else ['-crop', '{3}x{2}+{1}+{0}'.format(*window)]
    done = subprocess.run(
        ['djpeg', '-dct', 'fast', '-pnm'] + crop, input=jpeg, stdout=subprocess.PIPE, check=True
    )
    with Image.open(io.BytesIO(done.stdout)) as image:
        pixels = np.array(image.convert('RGB'))
    return pixels if window is None else pixels[:, -window[3] :]  # djpeg begins at a whole block


def bilinear(image, size, aligned=False):
    """image: [h, w, c]. Returns float32 [size, size, c], as TensorFlow 1's resize_bilinear, in
    float32 as there.
    """

    def neighbours(length):
        """(low, high, weight of high, float32 [size]) along one side."""
        first, last = (length - 1, size - 1) if aligned and size > 1 else (length, size)
        position = np.arange(size, dtype=np.float32) * (np.float32(first) / np.float32(last))
        low = np.minimum(position.astype(int), length - 1)
        return low, np.minimum(low + 1, length - 1), (position - low).astype(np.float32)

    image = image.astype(np.float32)
    (top, bottom, down), (left, right, across) = (
        neighbours(image.shape[0]),
        neighbours(image.shape[1]),
    )
    above, below = (
        image[row][:, left] + (image[row][:, right] - image[row][:, left]) * across[:, None]
        for row in (top, bottom)
    )
    return above + (below - above) * down[:, None, None]


def resnet_window(height, width):
    """The window of an evaluation, by two quotients in float32."""
    scale = np.float32(256) / np.float32(min(height, width))
    side = max(1, int(np.float32(224) / scale))
    return (height - side) // 2, (width - side) // 2, side, side


def inception_window(height, width):
    """The same of "inception", in float64."""
    top, left = (int((side - 0.875 * side) / 2) for side in (height, width))
    return top, left, height - 2 * top, width - 2 * left


def cut(window, image):
    top, left, height, width = window
    return image[top : top + height, left : left + width]


def to_bytes(image):
    """Fractions cut off."""
    return image.astype(np.uint8)


def resnet(jpeg, window=None):
    """uint8 [224, 224, 3], of a window, else of the evaluation's."""
    return to_bytes(bilinear(decoded(jpeg, window or resnet_window(*decoded(jpeg).shape[:2])), 224))


def normal(image, size=None):
    """float32: what a network sees of bytes; resized with aligned corners, where a size is
    given.
    """
    image = (image.astype(np.float32) / np.float32(255) - MEAN) / STD
    return image if size in (None, len(image)) else bilinear(image, size, aligned=True)


def inception(jpeg, size, window=None):
    """float32 [size, size, 3] in 0..1."""
    image = decoded(jpeg)
    return bilinear(
        cut(window or inception_window(*image.shape[:2]), image) * np.float32(1 / 255), size
    )


def plain(jpeg, size):
    """uint8 [size, size, 3]."""
    return to_bytes(bilinear(decoded(jpeg), size))


def evaluated(jpeg, kind, size):
    """What an evaluation stores in a batch, and what a network sees of it."""
    if kind == 'inception':
        stored = inception(jpeg, size)
        return stored, (stored - np.float32(0.5)) * np.float32(2)
    stored = plain(jpeg, size) if kind == 'plain' else resnet(jpeg)
    return stored, normal(stored, size)


def grid(image):
    """[GRID, GRID, 3] of an image, its corners among them."""
    rows, columns = (np.linspace(0, side - 1, GRID).round().astype(int) for side in image.shape[:2])
    return image[rows][:, columns]


def digest(image):
    """uint8 [32], the SHA-256 of the image's bytes."""
    return np.frombuffer(hashlib.sha256(np.ascontiguousarray(image).tobytes()).digest(), np.uint8)


def main():
    arrays = {}
    for name, kind in KINDS.items():
        jpeg = jpeg_of(*kind)
        with open(os.path.join(FOLDER, name + '.jpg'), 'wb') as file:
            file.write(jpeg)
        for kind, sizes in SIZES.items():
            for size in sizes:
                stored, seen = evaluated(jpeg, kind, size)
                if stored.dtype == np.uint8:
                    arrays[f'{name}/{kind}/{size}/bytes'] = digest(stored)
                arrays[f'{name}/{kind}/{size}'] = grid(seen)
        for index, window in enumerate(WINDOWS.get(name, [])):
            arrays[f'{name}/resnet/window/{index}/bytes'] = digest(resnet(jpeg, window))
            arrays[f'{name}/resnet/window/{index}'] = grid(normal(resnet(jpeg, window)))
            arrays[f'{name}/inception/window/{index}'] = grid(inception(jpeg, 299, window))
    np.savez_compressed(REFERENCES, **arrays)


if __name__ == '__main__':
    main()
