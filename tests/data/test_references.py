"""Our images compared with those of the original system, pixel by pixel.

references/make_references.py describes how those were made.
"""

import json
import os
import sys

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from data import load, preprocessing
from data.preprocessing import PREPROCESSINGS, Draws

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), 'references'))

import make_references as made  # noqa: E402

FLOATS = 1e-6
NAMES = sorted(made.KINDS)
WHOLE = ('420', made.WINDOWS['420'][2])  # it has three channels, so a square replaces it
WINDOWS = [
    (name, window)
    for name in sorted(made.WINDOWS)
    for window in made.WINDOWS[name]
    if (name, window) != WHOLE
]


@pytest.fixture(scope='module')
def references():
    with np.load(made.REFERENCES) as arrays:
        return dict(arrays)


def jpeg_of(name):
    with open(os.path.join(made.FOLDER, name + '.jpg'), 'rb') as file:
        return file.read()


@pytest.fixture(scope='module')
def records(tmp_path_factory):
    """A folder of TFRecords: image i of each split is that of NAMES[i], with the label i."""
    folder = tmp_path_factory.mktemp('references')
    for split in ('train', 'validation'):
        with tf.python_io.TFRecordWriter(str(folder / (split + '-00000-of-00001'))) as writer:
            for label, name in enumerate(NAMES):
                writer.write(
                    tf.train.Example(
                        features=tf.train.Features(
                            feature=dict(
                                images=tf.train.Feature(
                                    bytes_list=tf.train.BytesList(value=[jpeg_of(name)])
                                ),
                                labels=tf.train.Feature(
                                    int64_list=tf.train.Int64List(value=[label])
                                ),
                            )
                        )
                    ).SerializeToString()
                )
    counts = dict(classes=len(NAMES), train_images=len(NAMES), validation_images=len(NAMES))
    (folder / 'dataset.json').write_text(json.dumps(counts))
    return str(folder)


def compared(errors, tolerance):
    """Fails with every name whose error is above the tolerance."""
    assert {name: error for name, error in errors.items() if not error <= tolerance} == {}


@pytest.mark.slow
@pytest.mark.parametrize(
    'kind, size', [(kind, size) for kind in sorted(made.SIZES) for size in made.SIZES[kind]]
)
def test_evaluations_are_the_originals(references, records, take, kind, size):
    dataset = load('imagenet', records, size, preprocessing=kind)
    (batch,) = take(
        lambda: dataset.validation(len(NAMES) + 2).map(
            lambda batch: dict(batch, seen=dataset.normalise(batch['images']))
        )
    )
    keys = [f'{name}/{kind}/{size}' for name in NAMES]
    if kind != 'inception':
        assert batch['images'].dtype == np.uint8
        different = [
            key
            for key, image in zip(keys, batch['images'])
            if made.digest(image).tobytes() != references[key + '/bytes'].tobytes()
        ]
        assert different == []
    assert batch['seen'].dtype == np.float32 and batch['seen'].shape[1:] == dataset.image_shape == (
        size,
        size,
        3,
    )
    compared(
        {
            key: np.abs(made.grid(image) - references[key]).max()
            for key, image in zip(keys, batch['seen'])
        },
        FLOATS,
    )


@pytest.fixture
def trained(monkeypatch):
    """Returns a function that makes a training image from a given window and given draws.

    trained(kind, jpeg, window, **draws) returns the image as stored in a batch, and as the input of
    a network. The defaults of the draws are 0.7, 0.5, 0.5 and 0, which change nothing.
    """
    drawn = dict(flip=0.7, brightness=0.5, saturation=0.5, square=0.0)
    with tf.Graph().as_default(), tf.Session() as session:
        jpeg, window = tf.placeholder(tf.string, []), tf.placeholder(tf.int32, [4])
        places = {name: tf.placeholder(tf.float32, []) for name in drawn}
        monkeypatch.setattr(preprocessing, 'random_window', lambda *_, **__: window)
        monkeypatch.setattr(preprocessing, 'draw', lambda seed: Draws(None, **places))
        images = {}
        for name, size in (('resnet', 224), ('inception', 299)):
            kind = PREPROCESSINGS[name](size)
            image = kind.train(jpeg, None)
            images[name] = image, kind.normalise(image[tf.newaxis])[0]

        def run(kind, content, given, **draws):
            feed = {places[name]: value for name, value in dict(drawn, **draws).items()}
            return session.run(images[kind], {jpeg: content, window: given, **feed})

        yield run


def of_window(references, name, kind, window):
    """Returns (SHA-256 or None, grid) of the reference of a window."""
    key = f'{name}/{kind}/window/{made.WINDOWS[name].index(window)}'
    return references.get(key + '/bytes'), references[key]


@pytest.mark.parametrize('flip, mirrored', [(0.2, slice(None, None, -1)), (0.7, slice(None))])
def test_a_training_image_of_a_window_is_the_originals(trained, references, flip, mirrored):
    different, errors = [], {}
    for name, window in WINDOWS:
        image, seen = trained('resnet', jpeg_of(name), window, flip=flip)
        digest, grid = of_window(references, name, 'resnet', window)
        if made.digest(image[:, mirrored]).tobytes() != digest.tobytes():
            different.append((name, window))
        errors[name, window] = np.abs(made.grid(seen[:, mirrored]) - grid).max()
        image, seen = trained('inception', jpeg_of(name), window, flip=flip)
        _, grid = of_window(references, name, 'inception', window)
        errors[name, window, 'inception'] = np.abs(made.grid(image[:, mirrored]) - grid).max()
        errors[name, window, 'seen'] = (
            np.abs(made.grid(seen[:, mirrored]) - 2 * (grid - 0.5)).max() / 2
        )
    assert different == []
    compared(errors, FLOATS)


def test_a_square_replaces_the_whole_image_of_three_channels(trained, references):
    """Only "resnet" does this. In wider photographs the square moves along, in taller ones down."""
    whole, square = made.WINDOWS['420'][2:]
    image, _ = trained('resnet', jpeg_of('420'), whole, square=0.5)
    np.testing.assert_array_equal(
        made.digest(image), of_window(references, '420', 'resnet', square)[0]
    )
    image, _ = trained('inception', jpeg_of('420'), whole, square=0.5)
    np.testing.assert_allclose(
        made.grid(image), of_window(references, '420', 'inception', whole)[1], atol=FLOATS
    )
    for name in ('grey', 'cmyk'):
        image, _ = trained('resnet', jpeg_of(name), made.WINDOWS[name][-1], square=0.5)
        np.testing.assert_array_equal(
            made.digest(image), of_window(references, name, 'resnet', made.WINDOWS[name][-1])[0]
        )


@pytest.mark.parametrize(
    'shape, draw, expected',
    [
        ((31, 19, 3), 0.0, (0, 0, 19, 19)),
        ((31, 19, 3), 0.5, (6, 0, 19, 19)),
        ((31, 19, 3), 0.9999999, (12, 0, 19, 19)),
        ((19, 31, 3), 0.5, (0, 6, 19, 19)),
        ((19, 19, 3), 0.5, (0, 0, 19, 19)),
        ((31, 19, 1), 0.5, (0, 0, 31, 19)),
        ((31, 19, 4), 0.5, (0, 0, 31, 19)),
    ],
)
def test_where_the_square_lies(evaluate, shape, draw, expected):
    window = evaluate(
        lambda: preprocessing.square_for_whole(
            tf.constant((0, 0) + shape[:2]), tf.constant(shape), draw
        )
    )
    assert tuple(window) == expected
    smaller = (0, 0, shape[0] - 1, shape[1])
    assert (
        tuple(
            evaluate(
                lambda: preprocessing.square_for_whole(
                    tf.constant(smaller), tf.constant(shape), draw
                )
            )
        )
        == smaller
    )
