"""Every preprocessing compared with NumPy, its randomness, and images of awkward shapes.

test_references.py compares images with those of the original system.
"""

import io

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from PIL import Image

from data import preprocessing
from data.preprocessing import PREPROCESSINGS, Inception, Plain, Resnet

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
FLOATS = 2e-4  # errors of float32
AWKWARD = [(1, 1), (1, 2), (3, 2), (2, 300), (400, 1), (7, 1500), (20, 1000)]


def resize(image, height, width):
    """Resizes bilinearly with the sampling of TensorFlow 1.

    Output pixel i samples input position i * input size / output size.
    """

    def between(array, size):
        position = np.arange(size) * len(array) / size
        low = np.floor(position).astype(int)
        high = np.minimum(low + 1, len(array) - 1)
        part = (position - low)[:, None, None]
        return array[low] * (1 - part) + array[high] * part

    rows = between(image.astype(np.float64), height)
    return between(rows.swapaxes(0, 1), width).swapaxes(0, 1)


def colour(image, delta, factor):
    """Changes the brightness and then the saturation of an image in 0..1.

    The result is clipped and mapped to -1..1. The saturation moves all channels away from the
    largest one.
    """
    image = image + delta
    largest, smallest = image.max(2, keepdims=True), image.min(2, keepdims=True)
    saturation = np.where(largest > 0, (largest - smallest) / np.where(largest > 0, largest, 1), 0)
    factor = np.minimum(factor, 1 / np.maximum(saturation, 1e-9))
    return 2 * np.clip(largest - (largest - image) * factor, 0, 1) - 1


@pytest.fixture
def seen(evaluate):
    """Returns a function that returns the input of a network.

    seen(kind, jpeg, seed) preprocesses and normalises JPEG bytes. Without a seed it does so for
    validation.
    """

    def run(kind, jpeg, seed=None):
        def build():
            jpegs = tf.constant(jpeg)
            image = (
                kind.validation(jpegs)
                if seed is None
                else kind.train(jpegs, tf.constant(seed, tf.int64))
            )
            return image, kind.normalise(image[tf.newaxis])[0]

        image, normal = evaluate(build)
        assert image.dtype == kind.dtype.as_numpy_dtype and normal.dtype == np.float32
        assert image.shape == (kind.stored_size,) * 2 + (3,) and normal.shape == (
            kind.size,
        ) * 2 + (3,)
        return normal

    return run


@pytest.fixture
def decode(evaluate):
    return lambda jpeg: evaluate(
        lambda: tf.image.decode_jpeg(jpeg, channels=3, dct_method='INTEGER_FAST')
    )


@pytest.fixture
def photograph(photographs):
    return lambda name: next(photographs.glob('*/' + name)).read_bytes()


@pytest.mark.parametrize(
    'shape, size', [((5, 7), (3, 4)), ((5, 7), (11, 13)), ((6, 9), (6, 18)), ((1, 8), (5, 3))]
)
def test_resize_samples_as_tensorflow_1_did(evaluate, shape, size):
    image = np.random.RandomState(0).randint(0, 256, shape + (3,)).astype(np.uint8)
    np.testing.assert_allclose(
        evaluate(lambda: preprocessing.resize(tf.constant(image), *size)),
        resize(image, *size),
        atol=1e-3,
    )


def test_resize_is_not_the_half_pixel_one(evaluate):
    image = np.arange(4, dtype=np.float32).reshape(1, 4, 1)
    np.testing.assert_allclose(
        evaluate(lambda: preprocessing.resize(image, 1, 2)).ravel(), [0, 2]
    )  # the values are truncated to 0 and 2


@pytest.mark.parametrize('side, size', [(224, 128), (224, 331), (5, 1), (1, 3), (9, 9)])
def test_aligned_corners(evaluate, side, size):
    """Resizes so that the first and the last pixel keep their values.

    Output pixel i samples input position i * (side - 1) / (size - 1).
    """
    images = np.random.RandomState(0).standard_normal((2, side, side, 3)).astype(np.float32)
    position = np.linspace(0, side - 1, size) if size > 1 else np.zeros(1)
    expected = images.astype(np.float64)
    for axis in (1, 2):
        expected = np.apply_along_axis(
            lambda line: np.interp(position, np.arange(side), line), axis, expected
        )
    ours, theirs = evaluate(
        lambda: (
            preprocessing.resize_aligned(tf.constant(images), size),
            tf.image.resize_bilinear(images, [size, size], align_corners=True),
        )
    )
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, expected, atol=1e-4)  # float32 positions of up to 330
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_plain_is_the_same_in_training(seen, photograph):
    jpeg = photograph('china.jpg')
    np.testing.assert_array_equal(seen(Plain(53), jpeg, [3, 4]), seen(Plain(53), jpeg))


@pytest.mark.parametrize(
    'kind, area, aspect',
    [(Resnet(224), (0.08, 1), (3 / 4, 4 / 3)), (Inception(41), (0.05, 1), (0.75, 1.33))],
)
@pytest.mark.parametrize(
    'seed',
    [(0, 0), (1, 5)]
    + [pytest.param(seed, marks=pytest.mark.slow) for seed in ((2, 10**12), (-3, 7))],
)
def test_training_is_crop_resize_flip_and_colour(
    evaluate, seen, decode, photograph, kind, area, aspect, seed
):
    jpeg = photograph('flower.jpg')
    image = decode(jpeg)

    def steps():
        draws = preprocessing.draw(tf.constant(seed, tf.int64))
        window = preprocessing.random_window(*image.shape[:2], draws.windows, area, aspect)
        return (
            window,
            preprocessing.decode(tf.constant(jpeg), window),
            draws.flip,
            draws.brightness,
            draws.saturation,
        )

    (top, left, height, width), decoded, flip, brightness, saturation = evaluate(steps)
    cut = image[top : top + height, left : left + width]
    np.testing.assert_array_equal(
        decoded[2:-2, 2:-2], cut[2:-2, 2:-2]
    )  # decoding only the crop can change its outermost pixels
    expected = resize(decoded if kind.dtype == tf.uint8 else cut, kind.size, kind.size)
    expected = expected[:, ::-1] if flip < 0.5 else expected
    if kind.dtype == tf.uint8:
        difference = expected - 255 * (seen(kind, jpeg, seed) * STD + MEAN)
        assert (
            difference.min() > -255 * FLOATS and difference.max() < 1 + 255 * FLOATS
        )  # truncated, not rounded
    else:
        expected = colour(expected / 255, (2 * brightness - 1) * 32 / 255, 0.5 + saturation)
        np.testing.assert_allclose(
            seen(kind, jpeg, seed), expected, atol=5e-5
        )  # positions are float32 there


def windows(evaluate, count, height, width, area, aspect):
    """Returns `count` windows, each with a different seed."""

    def window(number):
        draws = preprocessing.draw([5, number]).windows
        return preprocessing.random_window(
            tf.constant(height), tf.constant(width), draws, area, aspect
        )

    return evaluate(lambda: tf.map_fn(window, tf.range(count)))


def windows_of_tensorflow(count, height, width, area, aspect):
    """Returns a tensor of `count` windows of TensorFlow's operation."""

    def window(_):
        begin, size, _ = tf.image.sample_distorted_bounding_box(
            [height, width, 3],
            [[[0.0, 0.0, 1.0, 1.0]]],
            seed=3,
            min_object_covered=0.1,
            area_range=area,
            aspect_ratio_range=aspect,
            max_attempts=100,
            use_image_if_no_bounding_boxes=True,
        )
        return tf.concat([begin[:2], size[:2]], axis=0)

    return tf.map_fn(window, tf.range(count))


@pytest.mark.parametrize('height, width', [(427, 640), (640, 427), (37, 53), (300, 1000), (9, 7)])
def test_windows_keep_to_the_image_the_area_and_the_aspect_ratio(evaluate, height, width):
    top, left, crop_height, crop_width = windows(
        evaluate, 300, height, width, (0.08, 1.0), (3 / 4, 4 / 3)
    ).T
    assert (top >= 0).all() and (left >= 0).all()
    assert (top + crop_height <= height).all() and (left + crop_width <= width).all()
    area = crop_height * crop_width / (height * width)
    assert (area >= 0.1 - 1e-6).all() and (
        area <= 1
    ).all()  # 0.1, not 0.08, because a window must cover a tenth of the image
    # Rounding changes the height and the width by at most half a pixel each.
    assert ((crop_width + 0.5) / (crop_height - 0.5) >= 3 / 4).all()
    assert ((crop_width - 0.5) / (crop_height + 0.5) <= 4 / 3).all()


@pytest.mark.slow
def test_windows_are_as_varied_as_those_of_tensorflow(evaluate):
    height, width, area, aspect = 427, 640, (0.08, 1.0), (3 / 4, 4 / 3)
    ours = windows(evaluate, 1500, height, width, area, aspect)
    theirs = evaluate(lambda: windows_of_tensorflow(1500, height, width, area, aspect))
    for quantile in (0.1, 0.25, 0.5, 0.75, 0.9):
        np.testing.assert_allclose(
            *(np.quantile(w, quantile, axis=0) for w in (ours, theirs)), atol=0.06 * width
        )
    areas = [
        np.mean(windows[:, 2] * windows[:, 3]) / (height * width) for windows in (ours, theirs)
    ]
    np.testing.assert_allclose(*areas, atol=0.03)


@pytest.mark.slow
def test_windows_of_a_small_image_are_as_frequent_as_those_of_tensorflow(evaluate):
    """Compares the frequency of every window of an image so small that each pixel matters.

    The whole image is one of them. No window ends at the last row.
    """
    height, width, count, area, aspect = 5, 4, 8000, (0.08, 1.0), (3 / 4, 4 / 3)
    found = [
        windows(evaluate, count, height, width, area, aspect),
        evaluate(lambda: windows_of_tensorflow(count, height, width, area, aspect)),
    ]
    frequency = [
        dict(zip(map(tuple, each[0]), each[1] / count))
        for each in (np.unique(windows, axis=0, return_counts=True) for windows in found)
    ]
    assert frequency[0][(0, 0, height, width)] > 0.02
    for window in set(frequency[0]) | set(frequency[1]):
        assert abs(frequency[0].get(window, 0) - frequency[1].get(window, 0)) < 0.015, window


def test_the_first_acceptable_window_is_taken(evaluate):
    draws = np.zeros((preprocessing.ATTEMPTS, 4), np.float32)
    draws[:, 0] = 0.5
    draws[0, 1] = 0.0  # 0.08 of the area, which is less than a tenth
    draws[1:, 1] = 0.5
    draws[1, 2:] = 0.999
    top, left, height, width = evaluate(
        lambda: preprocessing.random_window(100, 130, draws, (0.08, 1.0), (1.0, 1.5))
    )
    assert (top, left) == (99 - height, 129 - width) and abs(width / height - 1.25) < 0.03


@pytest.mark.parametrize('height, width', [(20, 1000), (1000, 24), (1, 1)])
def test_the_whole_image_where_no_window_fits(evaluate, height, width):
    np.testing.assert_array_equal(
        windows(evaluate, 3, height, width, (0.08, 1.0), (3 / 4, 4 / 3)),
        [(0, 0, height, width)] * 3,
    )


@pytest.mark.parametrize('name', sorted(PREPROCESSINGS))
def test_tiny_and_thin_images(make_jpeg, name):
    with tf.Graph().as_default(), tf.Session() as session:
        jpeg = tf.placeholder(tf.string, [])
        kind = PREPROCESSINGS[name](29)
        images = [
            kind.normalise(image[tf.newaxis])
            for image in (kind.train(jpeg, [1, 2]), kind.validation(jpeg))
        ]
        for shape in AWKWARD:
            content = make_jpeg(
                np.random.RandomState(0).randint(0, 256, shape + (3,), dtype=np.uint8)
            )
            for image in session.run(images, {jpeg: content}):
                assert (
                    image.shape == (1, 29, 29, 3)
                    and np.isfinite(image).all()
                    and np.abs(image).max() < 3
                )


def test_a_long_image_needs_no_more_memory_than_its_own_pixels(evaluate, make_jpeg):
    jpeg = make_jpeg(
        np.full((2, 60000, 3), 128, np.uint8)
    )  # resizing before the crop would need 256 x 7,680,000 pixels: 23 GB
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
        lambda: [
            preprocessing.random_flip(tf.constant(image), tf.constant(draw)) for draw in (0.49, 0.5)
        ]
    )
    np.testing.assert_array_equal(mirrored, image[:, ::-1])
    np.testing.assert_array_equal(same, image)


@pytest.mark.parametrize('name', ['resnet', 'inception'])
def test_the_seed_alone_decides_the_image(evaluate, photograph, name):
    jpeg, kind = photograph('china.jpg'), PREPROCESSINGS[name](31)
    first, again, other_record, other_seed = evaluate(
        lambda: [kind.train(tf.constant(jpeg), seed) for seed in ([1, 2], [1, 2], [1, 3], [2, 2])]
    )
    np.testing.assert_array_equal(first, again)
    for other in (other_record, other_seed):
        assert np.abs(first.astype(np.float64) - other).max() > 0.1 * first.max()


def test_bytes_are_cut_not_rounded(evaluate):
    image = np.array([0, 0.49, 0.51, 127.4, 127.999, 254.6, 254.9999, 255], np.float32).reshape(
        2, 4, 1
    )
    cut = evaluate(lambda: preprocessing.to_bytes(tf.constant(image)))
    assert cut.dtype == np.uint8 and cut.ravel().tolist() == [0, 0, 0, 127, 127, 254, 254, 255]


@pytest.mark.parametrize('name', sorted(PREPROCESSINGS))
def test_only_a_jpeg_is_read(evaluate, name):
    """Both splits refuse PNG and GIF, which TensorFlow's decode_jpeg would accept.

    decode_and_crop_jpeg does not accept them.
    """
    for form in ('PNG', 'GIF'):
        buffer = io.BytesIO()
        Image.fromarray(np.zeros((5, 7, 3), np.uint8)).save(buffer, form)
        for image in (
            lambda: PREPROCESSINGS[name](9).train(tf.constant(buffer.getvalue()), [1, 2]),
            lambda: PREPROCESSINGS[name](9).validation(tf.constant(buffer.getvalue())),
        ):
            with pytest.raises(tf.errors.InvalidArgumentError, match='not a JPEG file'):
                evaluate(image)
