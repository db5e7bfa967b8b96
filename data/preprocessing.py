"""From JPEG bytes to the image a network sees, for training and for validation.

An image is rounded to bytes once it is cropped and resized, and normalised on the device, a batch at a time.

All randomness comes from a seed through stateless operations: the same seed gives the same image, in whatever order
and on however many threads images are decoded. Resizing is bilinear with TensorFlow 1's sampling (output pixel i looks
at input position i * input / output), which the published checkpoints were trained with.
"""
import tensorflow.compat.v1 as tf

ATTEMPTS = 100  # crops tried before the central one is taken
COVERED = 0.1  # least part of the image, taken as the object, that a crop must show
CENTRAL = 224 / 256  # side of the central crop, over the short side of the image
LONGEST = 8  # sides: of a longer image the middle is resized, or a line of pixels would fill the memory
DCT = 'INTEGER_ACCURATE'  # named because the default is left to the build of TensorFlow
MEAN = (0.485, 0.456, 0.406)  # of ImageNet in red, green, blue, with values in 0..1
STD = (0.229, 0.224, 0.225)


class Resnet:
    """The preprocessing of ResNet v1: mean 0 and variance 1 over ImageNet.

    Training: a random crop (8 % to 100 % of the area, width / height 3/4 to 4/3), resized, mirrored every other time.
    Validation: resized until the short side is 256/224 of the image size, then the central square.
    """
    default_size = 224

    def __init__(self, size):
        """size: int, height and width of the images in pixels."""
        self.size = size

    def train(self, jpeg, seed):
        """jpeg: string []; seed: int64 [2]. Returns uint8 [size, size, 3]."""
        crop, flip, _, _ = _draws(seed)
        image = random_crop(jpeg, crop, area=(0.08, 1.0), aspect=(3 / 4, 4 / 3))
        return random_flip(to_bytes(resize(image, self.size, self.size)), flip)

    def validation(self, jpeg):
        """jpeg: string []. Returns uint8 [size, size, 3]."""
        image = _decode(jpeg)
        height, width = tf.shape(image)[0], tf.shape(image)[1]
        height, width = tf.minimum(height, LONGEST * width), tf.minimum(width, LONGEST * height)
        scale = round(self.size / CENTRAL) / tf.cast(tf.minimum(height, width), tf.float32)
        image = resize(central_crop(image, height, width), _rounded(scale * tf.cast(height, tf.float32)),
                       _rounded(scale * tf.cast(width, tf.float32)))
        image = central_crop(image, self.size, self.size)
        image.set_shape([self.size, self.size, 3])
        return to_bytes(image)

    def normalise(self, images):
        """images: uint8 [batch, h, w, 3]. Returns float32 [batch, h, w, 3], mean 0 and variance 1 over ImageNet."""
        return normalise(images)


class Inception:
    """The preprocessing of ResNet v2: values in -1..1.

    Training: a random crop (5 % to 100 % of the area, width / height 0.75 to 1.33), resized, mirrored every other
    time, its brightness changed by up to 32/255, then its saturation by a factor 0.5 to 1.5, clipped to 0..1.
    Validation: the central 87.5 % of height and width, resized.
    """
    default_size = 299

    def __init__(self, size):
        """size: int, height and width of the images in pixels."""
        self.size = size

    def train(self, jpeg, seed):
        """jpeg: string []; seed: int64 [2]. Returns uint8 [size, size, 3]."""
        crop, flip, brightness, saturation = _draws(seed)
        image = random_crop(jpeg, crop, area=(0.05, 1.0), aspect=(0.75, 1.33))
        image = random_flip(resize(image, self.size, self.size), flip) / 255
        image = tf.image.adjust_brightness(image, (2 * brightness - 1) * 32 / 255)
        image = tf.image.adjust_saturation(image, 0.5 + saturation)
        return to_bytes(255 * tf.clip_by_value(image, 0, 1))

    def validation(self, jpeg):
        """jpeg: string []. Returns uint8 [size, size, 3]."""
        image = _decode(jpeg)
        height, width = tf.shape(image)[0], tf.shape(image)[1]
        image = central_crop(image, height - 2 * (height // 16), width - 2 * (width // 16))
        return to_bytes(resize(image, self.size, self.size))

    def normalise(self, images):
        """images: uint8 [batch, h, w, 3]. Returns float32 [batch, h, w, 3] in -1..1."""
        return 2 * tf.cast(images, tf.float32) / 255 - 1


class Plain:
    """For images that must not be cropped or mirrored: the whole image, resized, normalised as for ResNet v1.

    Training and validation are the same, and nothing is random.
    """
    default_size = 224

    def __init__(self, size):
        """size: int, height and width of the images in pixels."""
        self.size = size

    def train(self, jpeg, seed):
        """jpeg: string []; seed is not used. Returns uint8 [size, size, 3]."""
        return self.validation(jpeg)

    def validation(self, jpeg):
        """jpeg: string []. Returns uint8 [size, size, 3]."""
        return to_bytes(resize(_decode(jpeg), self.size, self.size))

    def normalise(self, images):
        """images: uint8 [batch, h, w, 3]. Returns float32 [batch, h, w, 3], mean 0 and variance 1 over ImageNet."""
        return normalise(images)


PREPROCESSINGS = dict(resnet=Resnet, inception=Inception, plain=Plain)


def resize(image, height, width):
    """image: [h, w, c], any number type. Returns float32 [height, width, c], bilinear, values as they were."""
    return tf.image.resize_bilinear(image[tf.newaxis], [height, width])[0]


def to_bytes(image):
    """image: float32 [h, w, c] in 0..255. Returns uint8 [h, w, c], to the nearest."""
    return tf.cast(tf.rint(image), tf.uint8)


def normalise(images):
    """images: [batch, h, w, 3] in 0..255, any number type. Returns float32, ImageNet's mean and deviation taken out."""
    return (tf.cast(images, tf.float32) / 255 - MEAN) / STD


def random_flip(image, draw):
    """image: [h, w, c]; draw: float32 [] in 0..1. Returns the image, mirrored left to right where draw < 0.5."""
    return tf.cond(draw < 0.5, lambda: tf.reverse(image, [1]), lambda: image)


def random_crop(jpeg, draws, area, aspect):
    """jpeg: string []; the rest as for `random_window`. Returns uint8 [h, w, 3]; only the crop is decoded."""
    shape = tf.image.extract_jpeg_shape(jpeg)
    window = random_window(shape[0], shape[1], draws, area, aspect)
    # Faster than to decode and cut; only in the outermost pixels of the crop may colours differ slightly.
    return tf.image.decode_and_crop_jpeg(jpeg, window, channels=3, dct_method=DCT)


def central_crop(image, height, width):
    """image: [h, w, c]. Returns the middle of it, [height, width, c]."""
    top, left = (tf.shape(image)[0] - height) // 2, (tf.shape(image)[1] - width) // 2
    return image[top:top + height, left:left + width]


def random_window(height, width, draws, area, aspect):
    """The first acceptable one of ATTEMPTS random windows, else the central square.

    As in TensorFlow's sample_distorted_bounding_box, with the whole image for the object: the aspect ratio is uniform
    in its range, then the height is uniform among those that keep to the area and fit into the image.

    Args:
        height, width: int32 [], of the image in pixels.
        draws: float32 [ATTEMPTS, 4], uniform in 0..1.
        area: (least, most) area of the window over that of the image; a window must also cover COVERED of the image.
        aspect: (least, most) width over height, before rounding to whole pixels.

    Returns:
        int32 [4]: top, left, height, width in pixels.
    """
    image_height, image_width = tf.cast(height, tf.float32), tf.cast(width, tf.float32)
    image_area = image_height * image_width
    ratio = aspect[0] + draws[:, 0] * (aspect[1] - aspect[0])
    lowest = tf.sqrt(area[0] * image_area / ratio)
    highest = tf.minimum(tf.sqrt(area[1] * image_area / ratio), tf.minimum(image_height, image_width / ratio))
    heights = tf.rint(lowest + draws[:, 1] * (highest - lowest))
    widths = tf.rint(heights * ratio)
    areas = heights * widths / image_area
    # A window without a pixel has no area, so it is refused with the small ones.
    acceptable = ((heights <= image_height) & (widths <= image_width)
                  & (areas >= max(area[0], COVERED)) & (areas <= area[1]))
    tops = tf.floor(draws[:, 2] * (image_height - heights + 1))
    lefts = tf.floor(draws[:, 3] * (image_width - widths + 1))
    windows = tf.cast(tf.stack([tops, lefts, heights, widths], axis=1), tf.int32)

    side = tf.maximum(1, _rounded(CENTRAL * tf.minimum(image_height, image_width)))
    central = tf.stack([(height - side) // 2, (width - side) // 2, side, side])
    candidates = tf.concat([windows, central[tf.newaxis]], axis=0)
    first = tf.where(tf.concat([acceptable, [True]], axis=0))[0, 0]
    return candidates[first]


def _draws(seed):
    """Uniform float32 in 0..1: [ATTEMPTS, 4] for the crop, then [] for flip, brightness and saturation."""
    # Drawn at once, because seeds derived by counting would be those of the next images.
    draws = tf.random.stateless_uniform([4 * ATTEMPTS + 3], seed)
    return tf.reshape(draws[:-3], [ATTEMPTS, 4]), draws[-3], draws[-2], draws[-1]


def _decode(jpeg):
    """jpeg: string []. Returns uint8 [height, width, 3]; grey images get three equal channels."""
    return tf.image.decode_jpeg(jpeg, channels=3, dct_method=DCT)


def _rounded(x):
    return tf.cast(tf.rint(x), tf.int32)
