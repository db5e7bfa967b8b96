"""From JPEG bytes to the image a network sees, for training and for validation.

The images are those of the original system to the pixel: JPEGs are decoded with the fast integer
DCT, cropped before they are resized, and resized bilinearly with TensorFlow 1's sampling (output
pixel i looks at input position i * input / output). Normalisation is done on the device, a batch at
a time.

All randomness comes from a seed through stateless operations: the same seed gives the same image,
in whatever order and on however many threads images are decoded.
"""

import abc
from typing import Dict, NamedTuple, Tuple, Type

import numpy as np
import tensorflow.compat.v1 as tf

JPEG_START = b'\xff\xd8'
ATTEMPTS = 100  # crops tried before the whole image is taken
COVERED = 0.1  # least part of the image, taken as the object, that a crop must show
DCT = 'INTEGER_FAST'  # named because the default is left to the build of TensorFlow
MEAN = (0.485, 0.456, 0.406)  # of ImageNet in red, green, blue, with values in 0..1
STD = (0.229, 0.224, 0.225)


class Draws(NamedTuple):
    """What is random in a training image: float32 in 0..1, [ATTEMPTS, 4] for the windows and [] for
    everything else.
    """

    windows: tf.Tensor
    flip: tf.Tensor
    brightness: tf.Tensor
    saturation: tf.Tensor
    square: tf.Tensor


class Preprocessing(abc.ABC):
    """From JPEG bytes to the image that a network sees.

    Attributes:
        size: height and width in pixels of the images that a network sees.
        stored_size: the same of the images in batches, which `normalise` takes.
        dtype: the type of those.
        default_size: the size where none is asked for.
    """

    size: int
    stored_size: int
    dtype: tf.DType
    default_size: int

    @abc.abstractmethod
    def __init__(self, size: int) -> None:
        """size: height and width in pixels of the images that a network sees."""

    @abc.abstractmethod
    def train(self, jpeg: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """jpeg: string []; seed: int64 [2]. Returns dtype [stored_size, stored_size, 3]."""

    @abc.abstractmethod
    def validation(self, jpeg: tf.Tensor) -> tf.Tensor:
        """jpeg: string []. Returns dtype [stored_size, stored_size, 3]."""

    @abc.abstractmethod
    def normalise(self, images: tf.Tensor) -> tf.Tensor:
        """images: dtype [batch, stored_size, stored_size, 3]. Returns float32 [batch, size, size,
        3].
        """


class Resnet(Preprocessing):
    """The preprocessing of ResNet v1: mean 0 and variance 1 over ImageNet.

    Training: a random crop (8 % to 100 % of the area, width / height 3/4 to 4/3), resized, mirrored
    every other time. A crop that is the whole image is replaced by a square of its shorter side at
    a random place, if the file has three channels.
    Validation: the central square of 224/256 of the shorter side, resized.

    Images are resized to 224 x 224 and cut to bytes. Only then, normalised, are they resized to
    another size.
    """

    default_size = stored_size = 224
    dtype = tf.uint8

    def __init__(self, size: int) -> None:
        """size: int, height and width in pixels of the images that a network sees."""
        self.size = size

    def train(self, jpeg: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """jpeg: string []; seed: int64 [2]. Returns uint8 [224, 224, 3]."""
        draws, shape = draw(seed), shape_of(jpeg)
        window = random_window(
            shape[0], shape[1], draws.windows, area=(0.08, 1.0), aspect=(3 / 4, 4 / 3)
        )
        window = square_for_whole(window, shape, draws.square)
        return random_flip(self.crop(jpeg, window), draws.flip)

    def validation(self, jpeg: tf.Tensor) -> tf.Tensor:
        """jpeg: string []. Returns uint8 [224, 224, 3]."""
        shape = shape_of(jpeg)
        # Both quotients in float32, as the original has them: in float64 some sides, such as 240
        # and 480, give one pixel more.
        scale = 256 / tf.cast(tf.minimum(shape[0], shape[1]), tf.float32)
        side = tf.maximum(1, tf.cast(self.stored_size / scale, tf.int32))
        return self.crop(jpeg, central_window(shape, side, side))

    def crop(self, jpeg: tf.Tensor, window: tf.Tensor) -> tf.Tensor:
        """jpeg: string []; window: int32 [4], top, left, height, width. Returns it as uint8 [224,
        224, 3].
        """
        return to_bytes(resize(decode(jpeg, window), self.stored_size, self.stored_size))

    def normalise(self, images: tf.Tensor) -> tf.Tensor:
        """images: uint8 [batch, 224, 224, 3]. Returns float32 [batch, size, size, 3], mean 0 and
        variance 1 over ImageNet.
        """
        return resize_aligned(normalise(images), self.size)


class Inception(Preprocessing):
    """The preprocessing of ResNet v2: values in -1..1, which are never rounded to bytes.

    Training: a random crop (5 % to 100 % of the area, width / height 0.75 to 1.33), resized,
    mirrored every other time, its brightness changed by up to 32/255, then its saturation by a
    factor 0.5 to 1.5, clipped to 0..1.
    Validation: the central 87.5 % of height and width, resized.
    """

    default_size = 299
    dtype = tf.float32

    def __init__(self, size: int) -> None:
        """size: int, height and width of the images in pixels."""
        self.size = self.stored_size = size

    def train(self, jpeg: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """jpeg: string []; seed: int64 [2]. Returns float32 [size, size, 3] in 0..1."""
        draws, shape = draw(seed), shape_of(jpeg)
        window = random_window(
            shape[0], shape[1], draws.windows, area=(0.05, 1.0), aspect=(0.75, 1.33)
        )
        image = random_flip(self.crop(jpeg, window), draws.flip)
        return self.colour(image, (2 * draws.brightness - 1) * 32 / 255, 0.5 + draws.saturation)

    def validation(self, jpeg: tf.Tensor) -> tf.Tensor:
        """jpeg: string []. Returns float32 [size, size, 3] in 0..1."""
        shape = shape_of(jpeg)
        # side // 16 is int((side - 0.875 * side) / 2), the original's float64 being exact here.
        return self.crop(
            jpeg,
            central_window(shape, shape[0] - 2 * (shape[0] // 16), shape[1] - 2 * (shape[1] // 16)),
        )

    def crop(self, jpeg: tf.Tensor, window: tf.Tensor) -> tf.Tensor:
        """jpeg: string []; window: int32 [4], top, left, height, width. Returns it as float32
        [size, size, 3] in 0..1.
        """
        # The original decodes the whole image. To decode the crop alone would change its outermost
        # pixels.
        top, left, height, width = tf.unstack(window)
        image = tf.image.decode_jpeg(jpeg, channels=3, dct_method=DCT)[
            top : top + height, left : left + width
        ]
        return resize(tf.cast(image, tf.float32) * (1 / 255), self.size, self.size)

    @staticmethod
    def colour(image: tf.Tensor, brightness: tf.Tensor, saturation: tf.Tensor) -> tf.Tensor:
        """image: float32 [h, w, 3] in 0..1; brightness: is added; saturation: a factor. Returns the
        same in 0..1.
        """
        image = tf.image.adjust_brightness(image, brightness)
        return tf.clip_by_value(tf.image.adjust_saturation(image, saturation), 0, 1)

    def normalise(self, images: tf.Tensor) -> tf.Tensor:
        """images: float32 [batch, size, size, 3] in 0..1. Returns float32 [batch, size, size, 3] in
        -1..1.
        """
        return (images - 0.5) * 2


class Plain(Preprocessing):
    """For images that must not be cropped or mirrored: the whole image, resized to `size` and cut
    to bytes, then normalised as for ResNet v1.

    Training and validation are the same, and nothing is random.
    """

    default_size = 224
    dtype = tf.uint8

    def __init__(self, size: int) -> None:
        """size: int, height and width of the images in pixels."""
        self.size = self.stored_size = size

    def train(self, jpeg: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """jpeg: string []; seed is not used. Returns uint8 [size, size, 3]."""
        return self.validation(jpeg)

    def validation(self, jpeg: tf.Tensor) -> tf.Tensor:
        """jpeg: string []. Returns uint8 [size, size, 3]."""
        shape = shape_of(jpeg)
        return to_bytes(
            resize(decode(jpeg, central_window(shape, shape[0], shape[1])), self.size, self.size)
        )

    def normalise(self, images: tf.Tensor) -> tf.Tensor:
        """images: uint8 [batch, h, w, 3]. Returns float32 [batch, h, w, 3], mean 0 and variance 1
        over ImageNet.
        """
        return normalise(images)


PREPROCESSINGS: Dict[str, Type[Preprocessing]] = dict(
    resnet=Resnet, inception=Inception, plain=Plain
)


def shape_of(jpeg: tf.Tensor) -> tf.Tensor:
    """jpeg: string []. Returns int32 [3]: height, width and channels in the file. Reading fails
    where that is no JPEG.
    """
    # Said here, because some of TensorFlow's decoders read other formats, and the others write to
    # standard error.
    is_jpeg = tf.Assert(
        tf.equal(tf.strings.substr(jpeg, 0, 2), JPEG_START), ['the image is not a JPEG file']
    )
    with tf.control_dependencies([is_jpeg]):
        return tf.image.extract_jpeg_shape(jpeg)


def decode(jpeg: tf.Tensor, window: tf.Tensor) -> tf.Tensor:
    """jpeg: string []; window: int32 [4], top, left, height, width. Returns it as uint8 [height,
    width, 3].

    Only the window is decoded, which is faster than to decode the image and cut it, and may change
    the outermost pixels slightly. Grey images get three equal channels.
    """
    return tf.image.decode_and_crop_jpeg(jpeg, window, channels=3, dct_method=DCT)


def resize(image: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """image: [h, w, c], any number type. Returns float32 [height, width, c], bilinear, values as
    they were.
    """
    return tf.image.resize_bilinear(image[tf.newaxis], [height, width])[0]


def resize_aligned(images: tf.Tensor, size: int) -> tf.Tensor:
    """images: float32 [batch, side, side, c]. Returns float32 [batch, size, size, c], bilinear,
    corners kept at the corners.
    """
    side = images.shape.as_list()[1]
    if size == side:
        return images
    position = np.arange(size, dtype=np.float32) * np.float32((side - 1) / max(size - 1, 1))
    low = np.floor(position).astype(np.int32)
    high, part = np.minimum(low + 1, side - 1), position - low
    # Written out, so that every device, with XLA or without, computes it by the same float32
    # operations.
    for axis, weight in ((2, part[:, np.newaxis]), (1, part[:, np.newaxis, np.newaxis])):
        first, second = tf.gather(images, low, axis=axis), tf.gather(images, high, axis=axis)
        images = first + (second - first) * weight
    return images


def to_bytes(image: tf.Tensor) -> tf.Tensor:
    """image: float32 [h, w, c] in 0..255. Returns uint8 [h, w, c]; fractions are cut off, as the
    original does.
    """
    return tf.cast(image, tf.uint8)


def normalise(images: tf.Tensor) -> tf.Tensor:
    """images: [batch, h, w, 3] in 0..255, any number type. Returns float32, ImageNet's mean and
    deviation taken out.
    """
    return (tf.cast(images, tf.float32) / 255 - MEAN) / STD


def random_flip(image: tf.Tensor, draw: tf.Tensor) -> tf.Tensor:
    """image: [h, w, c]; draw: float32 [] in 0..1. Returns the image, mirrored left to right where
    draw < 0.5.
    """
    return tf.cond(draw < 0.5, lambda: tf.reverse(image, [1]), lambda: image)


def central_window(shape: tf.Tensor, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """shape: int32 [3] of an image; height, width: int32 []. Returns int32 [4]: top, left, height
    and width of its middle.
    """
    return tf.stack([(shape[0] - height) // 2, (shape[1] - width) // 2, height, width])


def square_for_whole(window: tf.Tensor, shape: tf.Tensor, draw: tf.Tensor) -> tf.Tensor:
    """The window, or where it is a whole image of three channels, a square of the shorter side at a
    random place.

    window: int32 [4]; shape: int32 [3], height, width and channels in the file; draw: float32 [] in
    0..1. Returns int32 [4].
    """
    side = tf.minimum(shape[0], shape[1])
    place = tf.cast(tf.floor(draw * tf.cast(shape[:2] - side + 1, tf.float32)), tf.int32)
    square = tf.concat([place, [side, side]], axis=0)
    whole = tf.reduce_all(tf.equal(tf.concat([window[2:], [3]], axis=0), shape))
    return tf.cond(whole, lambda: square, lambda: window)


def random_window(
    height: tf.Tensor,
    width: tf.Tensor,
    draws: tf.Tensor,
    area: Tuple[float, float],
    aspect: Tuple[float, float],
) -> tf.Tensor:
    """The first acceptable one of ATTEMPTS random windows, else the whole image.

    The distribution is that of TensorFlow's sample_distorted_bounding_box with the whole image for
    the object: the aspect ratio is uniform in its range, then the height is uniform among the whole
    numbers that keep to the area and fit into the image. A window that is smaller than the image
    never touches its lower or right edge, as there.

    Args:
        height, width: int32 [], of the image in pixels.
        draws: float32 [ATTEMPTS, 4], uniform in 0..1.
        area: (least, most) area of the window over that of the image; a window must also cover
        COVERED of the image.
        aspect: (least, most) width over height, before rounding to whole pixels.

    Returns:
        int32 [4]: top, left, height, width in pixels.
    """
    image_height, image_width = tf.cast(height, tf.float32), tf.cast(width, tf.float32)
    least, most = (part * image_height * image_width for part in area)
    ratio = aspect[0] + draws[:, 0] * (aspect[1] - aspect[0])
    highest = tf.rint(tf.sqrt(most / ratio))
    highest = tf.where(
        tf.rint(highest * ratio) > image_width, tf.floor((image_width + 0.5) / ratio), highest
    )
    highest = tf.minimum(highest, image_height)
    lowest = tf.minimum(tf.rint(tf.sqrt(least / ratio)), highest)
    heights = lowest + tf.floor(draws[:, 1] * (highest - lowest + 1))
    # Rounding may have left the range of areas by one row.
    heights += tf.cast(heights * tf.rint(heights * ratio) < least, tf.float32)
    heights -= tf.cast(heights * tf.rint(heights * ratio) > most, tf.float32)
    widths = tf.rint(heights * ratio)
    areas = heights * widths
    # A window without a pixel has no area, so it is refused with the small ones.
    acceptable = (
        (heights <= image_height)
        & (widths <= image_width)
        & (areas <= most)
        & (areas >= tf.maximum(least, COVERED * image_height * image_width))
    )
    tops = tf.floor(draws[:, 2] * (image_height - heights))
    lefts = tf.floor(draws[:, 3] * (image_width - widths))
    windows = tf.cast(tf.stack([tops, lefts, heights, widths], axis=1), tf.int32)
    candidates = tf.concat([windows, [[0, 0, height, width]]], axis=0)
    first = tf.where(tf.concat([acceptable, [True]], axis=0))[0, 0]
    return candidates[first]


def draw(seed: tf.Tensor) -> Draws:
    """The Draws of a training image. seed: int64 [2]."""
    # Drawn at once, because seeds derived by counting would be those of the next images.
    draws = tf.random.stateless_uniform([4 * ATTEMPTS + 4], seed)
    return Draws(tf.reshape(draws[:-4], [ATTEMPTS, 4]), *tf.unstack(draws[-4:]))
