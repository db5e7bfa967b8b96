"""Makes reference images: those that the original system makes from JPEG files.

It uses neither TensorFlow nor the code of this project:

    apt-get install libjpeg-turbo-progs
    python tests/data/references/make_references.py

The script makes small JPEG files of many kinds from the photographs of scikit-image and
scikit-learn, decodes them with libjpeg-turbo's `djpeg -dct fast`, crops, resizes and normalises
them with NumPy, and writes the JPEG files and references.npz into its own folder.
tests/data/test_references.py compares our images with them. Run it again only if the kinds or sizes
below change.

In the names of the arrays, NAME stands for a JPEG file. NAME/resnet/224, NAME/resnet/128,
NAME/inception/299 and NAME/plain/53 are the inputs of a network in a validation at that size, and
NAME/resnet/window/INDEX is the one in a training with a window of WINDOWS. Of floats, a grid of
GRID x GRID pixels is stored, which includes the corners. Of bytes, the SHA-256 of the whole image
and a grid are stored.
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
GRID = 17  # stored pixels along each side of an image
SIZES = dict(
    resnet=(224, 128, 331), inception=(299, 75), plain=(53,)
)  # sizes of the validation images that are compared
MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])

# name: (photograph, height, width, mode, options of the JPEG encoder). Sides of 240 and 480 are
# included because their quotients differ in float64.
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
# name: windows of a training (top, left, height, width), at odd places, and whole images, one of
# them with a square of its shorter side.
WINDOWS = {
    '420': [(16, 32, 117, 64), (3, 1, 200, 331), (0, 0, 251, 333), (0, 41, 251, 251)],
    '444': [(31, 70, 99, 101)],
    '422_progressive': [(5, 33, 41, 47)],
    'grey': [(11, 23, 150, 133), (0, 0, 240, 319)],
    'cmyk': [(8, 17, 61, 77), (0, 0, 181, 263)],
    'tiny_9x7': [(3, 2, 4, 5)],
}


def jpeg_of(photograph, height, width, mode, options):
    """Returns the JPEG bytes of a resized photograph."""
    package, _, inside = photograph.partition('/')
    path = os.path.join(os.path.dirname(importlib.util.find_spec(package).origin), inside)
    buffer = io.BytesIO()
    with Image.open(path) as image:
        image = image.convert('RGB').resize((width, height), Image.BICUBIC).convert(mode)
        image.save(buffer, 'JPEG', **dict(dict(quality=85), **options))
    return buffer.getvalue()


def decoded(jpeg, window=None):
    """Decodes JPEG bytes, or a window (top, left, height, width) of them, to uint8 [h, w, 3]."""
    crop = [] if window is None else ['-crop', '{3}x{2}+{1}+{0}'.format(*window)]
    done = subprocess.run(
        ['djpeg', '-dct', 'fast', '-pnm'] + crop, input=jpeg, stdout=subprocess.PIPE, check=True
    )
    with Image.open(io.BytesIO(done.stdout)) as image:
        pixels = np.array(image.convert('RGB'))
    return pixels if window is None else pixels[:, -window[3] :]  # djpeg starts at a whole block


def bilinear(image, size, aligned=False):
    """Resizes an image, [h, w, c], to float32 [size, size, c], like TensorFlow 1's resize_bilinear.

    The arithmetic is float32, as in that operation.
    """

    def neighbours(length):
        """Returns (low, high, weight of high, float32 [size]) along one side."""
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
    """Returns the window of a validation of "resnet", from two quotients in float32."""
    scale = np.float32(256) / np.float32(min(height, width))
    side = max(1, int(np.float32(224) / scale))
    return (height - side) // 2, (width - side) // 2, side, side


def inception_window(height, width):
    """Returns the window of a validation of "inception", computed in float64."""
    top, left = (int((side - 0.875 * side) / 2) for side in (height, width))
    return top, left, height - 2 * top, width - 2 * left


def cut(window, image):
    top, left, height, width = window
    return image[top : top + height, left : left + width]


def to_bytes(image):
    """Truncates values to uint8."""
    return image.astype(np.uint8)


def resnet(jpeg, window=None):
    """Returns uint8 [224, 224, 3] of a window, by default that of a validation."""
    return to_bytes(bilinear(decoded(jpeg, window or resnet_window(*decoded(jpeg).shape[:2])), 224))


def normal(image, size=None):
    """Normalises bytes to float32, and resizes them with aligned corners if a size is given."""
    image = (image.astype(np.float32) / np.float32(255) - MEAN) / STD
    return image if size in (None, len(image)) else bilinear(image, size, aligned=True)


def inception(jpeg, size, window=None):
    """Returns the image of "inception", float32 [size, size, 3] in 0..1."""
    image = decoded(jpeg)
    return bilinear(
        cut(window or inception_window(*image.shape[:2]), image) * np.float32(1 / 255), size
    )


def plain(jpeg, size):
    """Returns the image of "plain", uint8 [size, size, 3]."""
    return to_bytes(bilinear(decoded(jpeg), size))


def evaluated(jpeg, kind, size):
    """Returns a validation image as stored in a batch, and as the input of a network."""
    if kind == 'inception':
        stored = inception(jpeg, size)
        return stored, (stored - np.float32(0.5)) * np.float32(2)
    stored = plain(jpeg, size) if kind == 'plain' else resnet(jpeg)
    return stored, normal(stored, size)


def grid(image):
    """Returns [GRID, GRID, 3] pixels of an image, including its corners."""
    rows, columns = (np.linspace(0, side - 1, GRID).round().astype(int) for side in image.shape[:2])
    return image[rows][:, columns]


def digest(image):
    """Returns the SHA-256 of the bytes of an image, uint8 [32]."""
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
