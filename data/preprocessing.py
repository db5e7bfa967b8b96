"""Preprocessing: turns JPEG bytes into the input of a network, for training and validation.

The images equal those of the original system in every pixel: JPEGs are decoded with the fast
integer DCT, cropped before they are resized, and resized bilinearly with TensorFlow 1's sampling
(output pixel i samples input position i * input / output). Normalisation runs on the device, on a
whole batch.

All randomness comes from a seed through stateless operations. The same seed gives the same image,
regardless of the order and the number of threads that decode images.
"""

import abc
from typing import Dict, NamedTuple, Tuple, Type

import numpy as np
import tensorflow.compat.v1 as tf

JPEG_START = b'\xff\xd8'
ATTEMPTS = 100  # crops that are tried before the whole image is used
COVERED = 0.1  # least part of the image (the "object") that a crop must cover
DCT = 'INTEGER_FAST'  # given explicitly, because the default depends on the build of TensorFlow
MEAN = (0.485, 0.456, 0.406)  # of ImageNet in red, green, blue, with values in 0..1
STD = (0.229, 0.224, 0.225)


class Draws(NamedTuple):
    """The random numbers of a training image, uniform in 0..1.

    windows is float32 [ATTEMPTS, 4]. The others are float32 [].
    """

    windows: tf.Tensor
    flip: tf.Tensor
    brightness: tf.Tensor
    saturation: tf.Tensor
    square: tf.Tensor


class Preprocessing(abc.ABC):
    """Turns JPEG bytes into the input of a network.

    Args:
        size: Height and width in pixels of the input of the network.

    Attributes:
        size: Height and width in pixels of the input of the network.
        stored_size: Height and width in pixels of the images in batches, before `normalise`.
        dtype: Type of the images in batches.
        default_size: The size if none is given.
    """

    size: int
    stored_size: int
    dtype: tf.DType
    default_size: int

    @abc.abstractmethod
    def __init__(self, size: int) -> None:
        """See the class."""

    @abc.abstractmethod
    def train(self, jpeg: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Returns a training image.

        Args:
            jpeg: string [].
            seed: int64 [2].

        Returns:
            dtype [stored_size, stored_size, 3].
        """

    @abc.abstractmethod
    def validation(self, jpeg: tf.Tensor) -> tf.Tensor:
        """Returns a validation image, dtype [stored_size, stored_size, 3]. jpeg: string []."""

    @abc.abstractmethod
    def normalise(self, images: tf.Tensor) -> tf.Tensor:
        """Turns the images of a batch into the input of the network.

        Args:
            images: dtype [batch, stored_size, stored_size, 3].

        Returns:
            float32 [batch, size, size, 3].
        """


class Resnet(Preprocessing):
    """The preprocessing of ResNet v1: mean 0 and variance 1 over ImageNet.

    Training: a random crop (8 % to 100 % of the area, width / height from 3/4 to 4/3) is resized
    and mirrored with probability 1/2. If the crop is the whole image and the file has three
    channels, it is replaced by a square with the shorter side of the image, at a random place.
    Validation: the central square with 224/256 of the shorter side is resized.

    Images are resized to 224 x 224 and truncated to uint8. If `size` is not 224, they are resized
    a second time after their normalisation.

    Args:
        size: Height and width in pixels of the input of the network.
    """

    default_size = stored_size = 224
    dtype = tf.uint8

    def __init__(self, size: int) -> None:
        self.size = size

    def train(self, jpeg: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Returns a training image, uint8 [224, 224, 3]. jpeg: string []; seed: int64 [2]."""
        draws, shape = draw(seed), shape_of(jpeg)
        window = random_window(
            shape[0], shape[1], draws.windows, area=(0.08, 1.0), aspect=(3 / 4, 4 / 3)
        )
        window = square_for_whole(window, shape, draws.square)
        return random_flip(self.crop(jpeg, window), draws.flip)

    def validation(self, jpeg: tf.Tensor) -> tf.Tensor:
        """Returns a validation image, uint8 [224, 224, 3]. jpeg: string []."""
        shape = shape_of(jpeg)
        # Both quotients are float32, as in the original: with float64, some sides, such as 240 and
        # 480, give one pixel more.
        scale = 256 / tf.cast(tf.minimum(shape[0], shape[1]), tf.float32)
        side = tf.maximum(1, tf.cast(self.stored_size / scale, tf.int32))
        return self.crop(jpeg, central_window(shape, side, side))

    def crop(self, jpeg: tf.Tensor, window: tf.Tensor) -> tf.Tensor:
        """Decodes a window of an image and resizes it.

        Args:
            jpeg: string [].
            window: int32 [4]: top, left, height and width in pixels.

        Returns:
            uint8 [224, 224, 3].
        """
        return to_bytes(resize(decode(jpeg, window), self.stored_size, self.stored_size))

    def normalise(self, images: tf.Tensor) -> tf.Tensor:
        """Normalises images to mean 0 and variance 1 over ImageNet, and resizes them to `size`.

        Args:
            images: uint8 [batch, 224, 224, 3].

        Returns:
            float32 [batch, size, size, 3].
        """
        return resize_aligned(normalise(images), self.size)


class Inception(Preprocessing):
    """The preprocessing of ResNet v2: values in -1..1, which are never rounded to uint8.

    Training: a random crop (5 % to 100 % of the area, width / height from 0.75 to 1.33) is resized
    and mirrored with probability 1/2. Then its brightness is changed by up to 32/255 and its
    saturation by a factor of 0.5 to 1.5, and the values are clipped to 0..1.
    Validation: the central 87.5 % of height and width are resized.

    Args:
        size: Height and width in pixels of the input of the network.
    """

    default_size = 299
    dtype = tf.float32

    def __init__(self, size: int) -> None:
        self.size = self.stored_size = size

    def train(self, jpeg: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Returns a training image, float32 [size, size, 3] in 0..1.

        Args:
            jpeg: string [].
            seed: int64 [2].
        """
        draws, shape = draw(seed), shape_of(jpeg)
        window = random_window(
            shape[0], shape[1], draws.windows, area=(0.05, 1.0), aspect=(0.75, 1.33)
        )
        image = random_flip(self.crop(jpeg, window), draws.flip)
        return self.colour(image, (2 * draws.brightness - 1) * 32 / 255, 0.5 + draws.saturation)

    def validation(self, jpeg: tf.Tensor) -> tf.Tensor:
        """Returns a validation image, float32 [size, size, 3] in 0..1. jpeg: string []."""
        shape = shape_of(jpeg)
        # side // 16 equals the original's int((side - 0.875 * side) / 2), whose float64 arithmetic
        # is exact here.
        return self.crop(
            jpeg,
            central_window(shape, shape[0] - 2 * (shape[0] // 16), shape[1] - 2 * (shape[1] // 16)),
        )

    def crop(self, jpeg: tf.Tensor, window: tf.Tensor) -> tf.Tensor:
        """Decodes an image and resizes a window of it.

        Args:
            jpeg: string [].
            window: int32 [4]: top, left, height and width in pixels.

        Returns:
            float32 [size, size, 3] in 0..1.
        """
        # The original decodes the whole image. Decoding only the crop would change its outermost
        # pixels.
        top, left, height, width = tf.unstack(window)
        image = tf.image.decode_jpeg(jpeg, channels=3, dct_method=DCT)[
            top : top + height, left : left + width
        ]
        return resize(tf.cast(image, tf.float32) * (1 / 255), self.size, self.size)

    @staticmethod
    def colour(image: tf.Tensor, brightness: tf.Tensor, saturation: tf.Tensor) -> tf.Tensor:
        """Changes the brightness and then the saturation of an image.

        Args:
            image: float32 [h, w, 3] in 0..1.
            brightness: float32 [], added to the values.
            saturation: float32 [], the factor of the saturation.

        Returns:
            float32 [h, w, 3], clipped to 0..1.
        """
        image = tf.image.adjust_brightness(image, brightness)
        return tf.clip_by_value(tf.image.adjust_saturation(image, saturation), 0, 1)

    def normalise(self, images: tf.Tensor) -> tf.Tensor:
        """Maps images, float32 [batch, size, size, 3] in 0..1, to -1..1."""
        return (images - 0.5) * 2


class Plain(Preprocessing):
    """The preprocessing for images that must not be cropped or mirrored.

    The whole image is resized to `size`, truncated to uint8, and normalised as for ResNet v1.
    Training and validation images are the same, and nothing is random.

    Args:
        size: Height and width in pixels of the input of the network.
    """

    default_size = 224
    dtype = tf.uint8

    def __init__(self, size: int) -> None:
        self.size = self.stored_size = size

    def train(self, jpeg: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Returns the same image as `validation`; seed is not used."""
        return self.validation(jpeg)

    def validation(self, jpeg: tf.Tensor) -> tf.Tensor:
        """Returns the image, uint8 [size, size, 3]. jpeg: string []."""
        shape = shape_of(jpeg)
        return to_bytes(
            resize(decode(jpeg, central_window(shape, shape[0], shape[1])), self.size, self.size)
        )

    def normalise(self, images: tf.Tensor) -> tf.Tensor:
        """Normalises images to mean 0 and variance 1 over ImageNet.

        Args:
            images: uint8 [batch, h, w, 3].

        Returns:
            float32 [batch, h, w, 3].
        """
        return normalise(images)


PREPROCESSINGS: Dict[str, Type[Preprocessing]] = dict(
    resnet=Resnet, inception=Inception, plain=Plain
)


def shape_of(jpeg: tf.Tensor) -> tf.Tensor:
    """Returns the height, width and number of channels of a JPEG file, int32 [3].

    Reading the result fails if the file is not a JPEG. jpeg: string [].
    """
    # Checked here, because some of TensorFlow's decoders accept other formats, and the others write
    # to standard error.
    is_jpeg = tf.Assert(
        tf.equal(tf.strings.substr(jpeg, 0, 2), JPEG_START), ['the image is not a JPEG file']
    )
    with tf.control_dependencies([is_jpeg]):
        return tf.image.extract_jpeg_shape(jpeg)


def decode(jpeg: tf.Tensor, window: tf.Tensor) -> tf.Tensor:
    """Decodes a window of an image.

    Only the window is decoded, which is faster than decoding and cropping the whole image, and may
    change the outermost pixels slightly. Grey images get three equal channels.

    Args:
        jpeg: string [].
        window: int32 [4]: top, left, height and width in pixels.

    Returns:
        uint8 [height, width, 3].
    """
    return tf.image.decode_and_crop_jpeg(jpeg, window, channels=3, dct_method=DCT)


def resize(image: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Resizes one image, or each image of a batch, bilinearly, without scaling its values.

    Args:
        image: [h, w, c] or [batch, h, w, c] of any number type.
        height: New height in pixels.
        width: New width in pixels.

    Returns:
        float32 [height, width, c] or [batch, height, width, c].
    """
    if len(image.shape) == 4:
        return tf.image.resize_bilinear(image, [height, width])
    return tf.image.resize_bilinear(image[tf.newaxis], [height, width])[0]


def resize_aligned(images: tf.Tensor, size: int) -> tf.Tensor:
    """Resizes square images bilinearly, with the corner pixels aligned.

    Args:
        images: float32 [batch, side, side, c].
        size: New height and width in pixels.

    Returns:
        float32 [batch, size, size, c].
    """
    side = images.shape.as_list()[1]
    if size == side:
        return images
    position = np.arange(size, dtype=np.float32) * np.float32((side - 1) / max(size - 1, 1))
    low = np.floor(position).astype(np.int32)
    high, part = np.minimum(low + 1, side - 1), position - low
    # Implemented here, so that every device, with and without XLA, uses the same float32
    # operations.
    for axis, weight in ((2, part[:, np.newaxis]), (1, part[:, np.newaxis, np.newaxis])):
        first, second = tf.gather(images, low, axis=axis), tf.gather(images, high, axis=axis)
        images = first + (second - first) * weight
    return images


def to_bytes(image: tf.Tensor) -> tf.Tensor:
    """Truncates an image, float32 [h, w, c] in 0..255, to uint8, as in the original."""
    return tf.cast(image, tf.uint8)


def normalise(images: tf.Tensor) -> tf.Tensor:
    """Normalises images by ImageNet's mean and standard deviation of each channel.

    Args:
        images: [batch, h, w, 3] in 0..255, of any number type.

    Returns:
        float32 [batch, h, w, 3].
    """
    return (tf.cast(images, tf.float32) / 255 - MEAN) / STD


def random_flip(image: tf.Tensor, draw: tf.Tensor) -> tf.Tensor:
    """Mirrors an image, [h, w, c], left to right if draw, float32 [] in 0..1, is below 0.5."""
    return tf.cond(draw < 0.5, lambda: tf.reverse(image, [1]), lambda: image)


def central_window(shape: tf.Tensor, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """Returns the central window of an image.

    Args:
        shape: int32 [3], the shape of the image.
        height: int32 [], the height of the window in pixels.
        width: int32 [], the width of the window in pixels.

    Returns:
        int32 [4]: top, left, height and width in pixels.
    """
    return tf.stack([(shape[0] - height) // 2, (shape[1] - width) // 2, height, width])


def square_for_whole(window: tf.Tensor, shape: tf.Tensor, draw: tf.Tensor) -> tf.Tensor:
    """Replaces a window that is a whole image of three channels by a random square.

    The square has the shorter side of the image. Other windows are returned unchanged.

    Args:
        window: int32 [4]: top, left, height and width in pixels.
        shape: int32 [3]: height, width and number of channels of the file.
        draw: float32 [] in 0..1, which determines the place of the square.

    Returns:
        int32 [4]: top, left, height and width in pixels.
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
    """Returns the first acceptable of ATTEMPTS random windows, or the whole image if there is none.

    The distribution equals that of TensorFlow's sample_distorted_bounding_box with the whole image
    as the object: the aspect ratio is uniform in its range, then the height is uniform among the
    whole numbers of pixels that give an allowed area and fit into the image. As in that operation,
    a window that is smaller than the image never touches its lower or right edge.

    Args:
        height: int32 [], the height of the image in pixels.
        width: int32 [], the width of the image in pixels.
        draws: float32 [ATTEMPTS, 4], uniform in 0..1.
        area: (least, most) area of the window as a fraction of the area of the image. A window must
            also cover at least the fraction COVERED.
        aspect: (least, most) width / height, before rounding to whole pixels.

    Returns:
        int32 [4]: top, left, height and width in pixels.
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
    # Because of rounding, the area may be out of its range by one row.
    heights += tf.cast(heights * tf.rint(heights * ratio) < least, tf.float32)
    heights -= tf.cast(heights * tf.rint(heights * ratio) > most, tf.float32)
    widths = tf.rint(heights * ratio)
    areas = heights * widths
    # A window without pixels has area 0, so it is rejected because it is too small.
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
    """Returns the Draws of a training image. seed: int64 [2]."""
    # All numbers are drawn in one call, because seeds derived by counting would equal the seeds of
    # the next images.
    draws = tf.random.stateless_uniform([4 * ATTEMPTS + 4], seed)
    return Draws(tf.reshape(draws[:-4], [ATTEMPTS, 4]), *tf.unstack(draws[-4:]))
