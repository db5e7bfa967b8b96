"""Every preprocessing against numpy, on real photographs and on images of awkward shapes."""
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from data import preprocessing
from data.preprocessing import PREPROCESSINGS, Inception, Plain, Resnet

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
FLOATS = 2e-4  # what float32 may change
HALF_LEVEL = 0.5 / 255 / STD.min() + FLOATS  # and rounding to bytes, after the normalisation
AWKWARD = [(1, 1), (1, 2), (3, 2), (2, 300), (400, 1), (7, 1500), (20, 1000)]


def resize(image, height, width):
    """Bilinear with the sampling of TensorFlow 1: output i looks at input i * input size / output size."""
    def between(array, size):
        position = np.arange(size) * len(array) / size
        low = np.floor(position).astype(int)
        high = np.minimum(low + 1, len(array) - 1)
        part = (position - low)[:, None, None]
        return array[low] * (1 - part) + array[high] * part
    rows = between(image.astype(np.float64), height)
    return between(rows.swapaxes(0, 1), width).swapaxes(0, 1)


def normalise(image):
    return (image / 255 - MEAN) / STD


def colour(image, delta, factor):
    """image: in 0..1. Brightness, then saturation (all channels move away from the largest one), clipped, to -1..1."""
    image = image + delta
    largest, smallest = image.max(2, keepdims=True), image.min(2, keepdims=True)
    saturation = np.where(largest > 0, (largest - smallest) / np.where(largest > 0, largest, 1), 0)
    factor = np.minimum(factor, 1 / np.maximum(saturation, 1e-9))
    return 2 * np.clip(largest - (largest - image) * factor, 0, 1) - 1


@pytest.fixture
def seen(evaluate):
    """seen(kind, jpeg, seed): what a network sees of the image, from bytes; seed None is for validation."""
    def run(kind, jpeg, seed=None):
        def build():
            jpegs = tf.constant(jpeg)
            image = kind.validation(jpegs) if seed is None else kind.train(jpegs, tf.constant(seed, tf.int64))
            return image, kind.normalise(image[tf.newaxis])[0]
        image, normal = evaluate(build)
        assert image.dtype == np.uint8 and normal.dtype == np.float32
        return normal
    return run


@pytest.fixture
def decode(evaluate):
    return lambda jpeg: evaluate(lambda: tf.image.decode_jpeg(jpeg, channels=3, dct_method='INTEGER_ACCURATE'))


@pytest.fixture
def photograph(photographs):
    return lambda name: next(photographs.glob('*/' + name)).read_bytes()


@pytest.mark.parametrize('shape, size', [((5, 7), (3, 4)), ((5, 7), (11, 13)), ((6, 9), (6, 18)), ((1, 8), (5, 3))])
def test_resize_samples_as_tensorflow_1_did(evaluate, shape, size):
    image = np.random.RandomState(0).randint(0, 256, shape + (3,)).astype(np.uint8)
    np.testing.assert_allclose(evaluate(lambda: preprocessing.resize(tf.constant(image), *size)),
                               resize(image, *size), atol=1e-3)


def test_resize_is_not_the_half_pixel_one(evaluate):
    image = np.arange(4, dtype=np.float32).reshape(1, 4, 1)
    np.testing.assert_allclose(evaluate(lambda: preprocessing.resize(image, 1, 2)).ravel(), [0, 2])  # not 0.5, 2.5


@pytest.mark.parametrize('name', ['china.jpg', 'flower.jpg', 'rocket.jpg', 'retina.jpg'])
@pytest.mark.parametrize('size, short', [(224, 256), (128, 146), (37, 42)])
def test_resnet_validation(seen, decode, photograph, name, size, short):
    jpeg = photograph(name)
    image = decode(jpeg)
    height, width = image.shape[:2]
    scale = short / min(height, width)
    resized = resize(image, int(np.rint(height * scale)), int(np.rint(width * scale)))
    assert min(resized.shape[:2]) == short
    top, left = (resized.shape[0] - size) // 2, (resized.shape[1] - size) // 2
    expected = normalise(resized[top:top + size, left:left + size])
    np.testing.assert_allclose(seen(Resnet(size), jpeg), expected, atol=HALF_LEVEL)


@pytest.mark.parametrize('shape', [(427, 640), (33, 47), (100, 41)])
@pytest.mark.parametrize('size', [299, 31])
def test_inception_validation(seen, decode, make_jpeg, shape, size):
    jpeg = make_jpeg(np.random.RandomState(0).randint(0, 256, shape + (3,), dtype=np.uint8))
    image = decode(jpeg)
    top, left = int((shape[0] - shape[0] * 0.875) / 2), int((shape[1] - shape[1] * 0.875) / 2)
    central = image[top:shape[0] - top, left:shape[1] - left]
    np.testing.assert_allclose(seen(Inception(size), jpeg), 2 * resize(central, size, size) / 255 - 1, atol=1 / 255 + FLOATS)


def test_plain_resizes_the_whole_image_and_nothing_else(seen, decode, photograph):
    jpeg = photograph('china.jpg')
    train, validation = seen(Plain(53), jpeg, [3, 4]), seen(Plain(53), jpeg)
    np.testing.assert_array_equal(train, validation)
    np.testing.assert_allclose(validation, normalise(resize(decode(jpeg), 53, 53)), atol=HALF_LEVEL)


@pytest.mark.parametrize('kind, area, aspect', [
    (Resnet, (0.08, 1), (3 / 4, 4 / 3)), (Inception, (0.05, 1), (0.75, 1.33))])
@pytest.mark.parametrize('seed', [(0, 0), (1, 5), (2, 10 ** 12), (-3, 7)])
def test_training_is_crop_resize_flip_and_colour(evaluate, seen, decode, photograph, kind, area, aspect, seed):
    jpeg = photograph('flower.jpg')
    image = decode(jpeg)

    def steps():
        seeds = tf.constant(seed, tf.int64)
        crop, flip, brightness, saturation = preprocessing._draws(seeds)
        window = preprocessing.random_window(*image.shape[:2], crop, area, aspect)
        decoded = preprocessing.random_crop(tf.constant(jpeg), crop, area, aspect)
        return window, decoded, flip, brightness, saturation

    (top, left, height, width), decoded, flip, brightness, saturation = evaluate(steps)
    np.testing.assert_array_equal(decoded[2:-2, 2:-2], image[top:top + height, left:left + width][2:-2, 2:-2])
    expected = resize(decoded, 41, 41)
    expected = expected[:, ::-1] if flip < 0.5 else expected
    if kind is Resnet:
        expected = normalise(expected)
    else:
        expected = colour(expected / 255, (2 * brightness - 1) * 32 / 255, 0.5 + saturation)
    atol = HALF_LEVEL if kind is Resnet else 1 / 255 + FLOATS  # half a level of 2 / 255
    np.testing.assert_allclose(seen(kind(41), jpeg, seed), expected, atol=atol)


def windows(session_seeds, height, width, area, aspect):
    """One window for each seed."""
    with tf.Graph().as_default(), tf.Session() as session:
        seed = tf.placeholder(tf.int64, [2])
        window = preprocessing.random_window(height, width, preprocessing._draws(seed)[0], area, aspect)
        return np.array([session.run(window, {seed: (5, number)}) for number in range(session_seeds)])


@pytest.mark.parametrize('height, width', [(427, 640), (640, 427), (37, 53), (300, 1000), (9, 7)])
def test_windows_keep_to_the_image_the_area_and_the_aspect_ratio(height, width):
    top, left, crop_height, crop_width = windows(300, height, width, (0.08, 1.0), (3 / 4, 4 / 3)).T
    assert (top >= 0).all() and (left >= 0).all()
    assert (top + crop_height <= height).all() and (left + crop_width <= width).all()
    area = crop_height * crop_width / (height * width)
    assert (area >= 0.1 - 1e-6).all() and (area <= 1).all()  # 0.1, not 0.08: a tenth of the image must be seen
    # Rounding the height and the width moves each by at most half a pixel.
    assert ((crop_width + 0.5) / (crop_height - 0.5) >= 3 / 4).all()
    assert ((crop_width - 0.5) / (crop_height + 0.5) <= 4 / 3).all()


def test_windows_are_as_varied_as_those_of_tensorflow():
    height, width = 427, 640
    ours = windows(1500, height, width, (0.08, 1.0), (3 / 4, 4 / 3))
    with tf.Graph().as_default(), tf.Session() as session:
        begin, size, _ = tf.image.sample_distorted_bounding_box(
            [height, width, 3], [[[0.0, 0.0, 1.0, 1.0]]], seed=3, min_object_covered=0.1, area_range=(0.08, 1.0),
            aspect_ratio_range=(3 / 4, 4 / 3), max_attempts=100, use_image_if_no_bounding_boxes=True)
        both = tf.concat([begin[:2], size[:2]], axis=0)
        theirs = np.array([session.run(both) for _ in range(1500)])
    for quantile in (0.1, 0.25, 0.5, 0.75, 0.9):
        np.testing.assert_allclose(*(np.quantile(w, quantile, axis=0) for w in (ours, theirs)), atol=0.06 * width)
    areas = [np.mean(windows[:, 2] * windows[:, 3]) / (height * width) for windows in (ours, theirs)]
    np.testing.assert_allclose(*areas, atol=0.03)


def test_the_first_acceptable_window_is_taken(evaluate):
    draws = np.zeros((preprocessing.ATTEMPTS, 4), np.float32)
    draws[:, 0] = 0.5
    draws[0, 1] = 0.0  # 0.08 of the area: less than a tenth
    draws[1:, 1] = 0.5
    draws[1, 2:] = 0.999
    top, left, height, width = evaluate(lambda: preprocessing.random_window(100, 130, draws, (0.08, 1.0), (1.0, 1.5)))
    assert (top, left) == (100 - height, 130 - width) and abs(width / height - 1.25) < 0.03


@pytest.mark.parametrize('height, width, expected', [(20, 1000, (1, 491, 18, 18)), (1000, 24, (489, 1, 21, 21))])
def test_central_square_where_no_window_fits(height, width, expected):
    np.testing.assert_array_equal(windows(3, height, width, (0.08, 1.0), (3 / 4, 4 / 3)), [expected] * 3)


@pytest.mark.parametrize('name', sorted(PREPROCESSINGS))
def test_tiny_and_thin_images(make_jpeg, name):
    with tf.Graph().as_default(), tf.Session() as session:
        jpeg = tf.placeholder(tf.string, [])
        images = PREPROCESSINGS[name](29).train(jpeg, [1, 2]), PREPROCESSINGS[name](29).validation(jpeg)
        for shape in AWKWARD:
            content = make_jpeg(np.random.RandomState(0).randint(0, 256, shape + (3,), dtype=np.uint8))
            for image in session.run(images, {jpeg: content}):
                assert image.shape == (29, 29, 3) and image.dtype == np.uint8


def test_a_long_image_needs_no_more_memory_than_its_middle(evaluate, make_jpeg):
    jpeg = make_jpeg(np.full((2, 60000, 3), 128, np.uint8))  # resized whole: 256 x 7,680,000 pixels, 23 GB
    image = evaluate(lambda: Resnet(224).validation(tf.constant(jpeg)))
    np.testing.assert_array_equal(image, np.full((224, 224, 3), 128))


@pytest.mark.parametrize('name', sorted(PREPROCESSINGS))
def test_grey_images_get_three_equal_channels(evaluate, make_jpeg, name):
    jpeg = make_jpeg(np.random.RandomState(0).randint(0, 256, (31, 43), dtype=np.uint8))
    image = evaluate(lambda: PREPROCESSINGS[name](23).validation(tf.constant(jpeg)))
    np.testing.assert_array_equal(image, image[:, :, :1].repeat(3, axis=2))


def test_every_other_image_is_mirrored(evaluate):
    image = np.arange(30, dtype=np.float32).reshape(2, 5, 3)
    mirrored, same = evaluate(
        lambda: [preprocessing.random_flip(tf.constant(image), tf.constant(draw)) for draw in (0.49, 0.5)])
    np.testing.assert_array_equal(mirrored, image[:, ::-1])
    np.testing.assert_array_equal(same, image)


@pytest.mark.parametrize('name', ['resnet', 'inception'])
def test_the_seed_alone_decides_the_image(evaluate, photograph, name):
    jpeg, kind = photograph('china.jpg'), PREPROCESSINGS[name](31)
    first, again, other_record, other_seed = evaluate(
        lambda: [kind.train(tf.constant(jpeg), seed) for seed in ([1, 2], [1, 2], [1, 3], [2, 2])])
    np.testing.assert_array_equal(first, again)
    for other in (other_record, other_seed):
        assert np.abs(first.astype(int) - other).max() > 25


def test_bytes_are_the_nearest(evaluate):
    image = np.array([0, 0.49, 0.51, 127.4, 127.6, 254.6, 255, 255.00002], np.float32).reshape(2, 4, 1)
    rounded = evaluate(lambda: preprocessing.to_bytes(tf.constant(image)))
    assert rounded.dtype == np.uint8 and rounded.ravel().tolist() == [0, 0, 1, 127, 128, 255, 255, 255]
