"""Fixtures of the tests of data/: graph mode, batches as NumPy arrays, photographs, TFRecords."""

import importlib.util
import io
import os
import shutil

from training import runtime  # noqa: F401 (first: it prepares TensorFlow)

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from PIL import Image

from data import build_tfrecords, download

PHOTOGRAPHS = dict(
    sklearn=('datasets/images', ['china.jpg', 'flower.jpg']),
    skimage=(
        'data',
        [
            'astronaut.png',
            'brick.png',
            'camera.png',
            'chelsea.png',
            'coffee.png',
            'rocket.jpg',
            'retina.jpg',
            'hubble_deep_field.jpg',
        ],
    ),
)


def session():
    """Returns a Session that runs a graph without rewriting it.

    TensorFlow needs more time to rewrite a graph than these tests need to run it.
    """
    config = tf.ConfigProto()
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    return tf.Session(config=config)


@pytest.fixture
def evaluate():
    """Returns a function that evaluates tensors.

    evaluate(function) runs the tensors that function() returns in a separate graph, and returns
    NumPy arrays.
    """

    def run(function):
        with tf.Graph().as_default(), session() as opened:
            return opened.run(function())

    return run


@pytest.fixture
def take():
    """Returns a function that reads batches.

    take(function, batches) returns the first (or all) batches of the tf.data.Dataset that
    function() returns, as NumPy arrays.
    """

    def run(function, batches=None):
        with tf.Graph().as_default(), session() as opened:
            iterator = tf.data.make_initializable_iterator(function())
            batch = iterator.get_next()
            opened.run(iterator.initializer)
            taken = []
            while batches is None or len(taken) < batches:
                try:
                    taken.append(opened.run(batch))
                except tf.errors.OutOfRangeError:
                    break
            return taken

    return run


@pytest.fixture(scope='session')
def photographs(tmp_path_factory):
    """A folder with two class folders, `art` and `place`, of five real photographs each.

    They are in colour and grey, JPEG and PNG.
    """
    folder = tmp_path_factory.mktemp('photographs')
    paths = [
        os.path.join(os.path.dirname(importlib.util.find_spec(package).origin), where, name)
        for package, (where, names) in PHOTOGRAPHS.items()
        for name in names
    ]
    for number, path in enumerate(paths):
        target = folder / ('place', 'art')[number % 2]
        target.mkdir(exist_ok=True)
        shutil.copy(path, str(target))
    return folder


@pytest.fixture(scope='session')
def photograph_records(photographs, tmp_path_factory):
    """A folder of TFRecords of the photographs: 6 for training and 4 for validation."""
    out = tmp_path_factory.mktemp('photograph_records')
    assert (
        build_tfrecords.main(
            ['folder', str(photographs), str(out), '--validation_fraction=0.4', '--shards=3']
        )
        == 0
    )
    return str(out)


class Numbered:
    """A source of small JPEGs, each with a different label.

    101 are for training (labels 0..100), and 23 for validation (labels 101..123).
    """

    label_names = [f'image {number}' for number in range(124)]
    splits = dict(
        train=[(number, number) for number in range(101)],
        validation=[(number, number) for number in range(101, 124)],
    )

    @staticmethod
    def jpeg(number):
        return make_jpeg(
            np.random.RandomState(number).randint(0, 256, (9, 11, 3), dtype=np.uint8)
        ), None


@pytest.fixture(scope='session')
def numbered_records(tmp_path_factory):
    """A folder of TFRecords of Numbered, with five files per split."""
    out = tmp_path_factory.mktemp('numbered_records')
    build_tfrecords.build(Numbered, str(out), shards=5)
    return str(out)


@pytest.fixture
def home(monkeypatch, tmp_path):
    """An empty home folder, so that no images of this machine are found."""
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    monkeypatch.delenv('TFUTILS_HOME', raising=False)
    return tmp_path / 'home'


@pytest.fixture
def offline(monkeypatch, home):
    """Makes the network unavailable."""
    monkeypatch.setattr(download, 'reachable', lambda url: False)


def make_jpeg(image, **options):
    """Returns JPEG bytes of an image, uint8 [h, w, 3] or [h, w]."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, 'JPEG', **options)
    return buffer.getvalue()


@pytest.fixture(name='make_jpeg')
def make_jpeg_fixture():
    return make_jpeg
