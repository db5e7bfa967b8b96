"""Properties of every data set, and how one is loaded by its name."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import cifar_files
import data
import idx_files
from data import DATASETS, DataError, load

pytestmark = pytest.mark.slow

# The arguments of each data set in the tests below. A new data set needs an entry here.
ARGUMENTS = dict(
    cifar10=lambda request: dict(
        data_dir=request.getfixturevalue('cifar')('cifar10'), image_size=37
    ),
    cifar100=lambda request: dict(data_dir=request.getfixturevalue('cifar')('cifar100')),
    fashion_mnist=lambda request: dict(data_dir=request.getfixturevalue('clothes'), image_size=21),
    imagenet=lambda request: dict(
        data_dir=request.getfixturevalue('numbered_records'), image_size=19
    ),
    mnist=lambda request: dict(image_size=21),
    synthetic=lambda request: dict(image_size=17),
)


@pytest.fixture
def clothes(tmp_path, monkeypatch):
    """The folder of small files that pass for those of Fashion-MNIST."""
    made = idx_files.arrays(train=61, test=23)
    idx_files.pretend(monkeypatch, made)
    idx_files.write(tmp_path, made)
    return str(tmp_path)


@pytest.fixture
def cifar(tmp_path, monkeypatch):
    """Returns a function: it packs a small archive of a data set and returns the folder."""

    def packed(name):
        cifar_files.shrink(monkeypatch)
        cifar_files.pack(name, str(tmp_path), cifar_files.contents(name)[0])
        return str(tmp_path)

    return packed


AT_NIGHT = ('cifar10',)  # it is read like cifar100


@pytest.fixture(
    params=[
        pytest.param(name, marks=[pytest.mark.nightly] if name in AT_NIGHT else [])
        for name in sorted(DATASETS)
    ]
)
def dataset(request, offline):
    assert request.param in ARGUMENTS, f'add {request.param} to ARGUMENTS'
    return load(request.param, **ARGUMENTS[request.param](request))


def test_shapes_and_types_are_static(dataset):
    stored = (
        (224, 224, 3) if dataset.name == 'imagenet' else dataset.image_shape
    )  # its images are resized when they are normalised
    shapes = dict(images=(7,) + stored, labels=(7,), mask=(7,))
    images = (
        'uint8' if dataset.name in ('imagenet', 'cifar100', 'fashion_mnist') else 'float32'
    )  # synthetic images are float32, and so are those that are resized while they are read
    types = dict(images=images, labels='int64', mask='float32')
    for batches, keys in (
        (dataset.train(7, seed=0), {'images', 'labels'}),
        (dataset.validation(7), {'images', 'labels', 'mask'}),
    ):
        batch = tf.data.make_initializable_iterator(batches).get_next()
        assert set(batch) == keys
        for key, tensor in batch.items():
            assert tuple(tensor.shape.as_list()) == shapes[key] and tensor.dtype == types[key]
        normal = dataset.normalise(batch['images'])
        assert (
            tuple(normal.shape.as_list()) == (7,) + dataset.image_shape
            and normal.dtype == 'float32'
        )


def test_what_a_network_sees_is_finite_even_of_filling(dataset, take):
    def normal():
        return dataset.validation(dataset.validation_images + 3).map(
            lambda batch: dataset.normalise(batch['images'])
        )

    (images,) = take(normal)
    assert images.dtype == np.float32 and np.isfinite(images).all() and np.abs(images).max() < 6


def test_the_seed_decides_the_batches(dataset, take):
    first, again, other = (take(lambda: dataset.train(13, seed), 4) for seed in (3, 3, 4))
    for batch, same in zip(first, again):
        np.testing.assert_array_equal(batch['images'], same['images'])
        np.testing.assert_array_equal(batch['labels'], same['labels'])
    assert any(
        (batch['labels'] != different['labels']).any() for batch, different in zip(first, other)
    )


def test_a_seed_of_the_graph_changes_nothing(dataset, take):
    def seeded():
        tf.set_random_seed(11)
        return dataset.train(13, 3)

    np.testing.assert_array_equal(
        take(seeded, 1)[0]['images'], take(lambda: dataset.train(13, 3), 1)[0]['images']
    )


def test_an_iterator_started_again_gives_the_same(dataset):
    with tf.Graph().as_default(), tf.Session() as session:
        iterator = tf.data.make_initializable_iterator(dataset.train(13, 3))
        batch = iterator.get_next()
        runs = []
        for _ in range(2):
            session.run(iterator.initializer)
            runs.append([session.run(batch)['images'] for _ in range(3)])
    np.testing.assert_array_equal(*runs)


def test_without_a_seed_batches_differ(dataset, take):
    first, second = (take(lambda: dataset.train(50), 1)[0] for _ in range(2))
    assert (first['labels'] != second['labels']).any()


def test_training_resumes_where_it_stopped(dataset, take):
    steps = (
        dataset.steps_per_epoch(29) + 2
    )  # the resumed batches are on both sides of the end of an epoch
    whole, resumed = (
        take(lambda: dataset.train(29, 3), steps + 2),
        take(lambda: dataset.train(29, 3, steps - 3), 5),
    )
    for batch, same in zip(whole[-5:], resumed):
        np.testing.assert_array_equal(batch['images'], same['images'])
        np.testing.assert_array_equal(batch['labels'], same['labels'])


@pytest.mark.parametrize('batch_size', [1, 7, 100000])
def test_validation_counts_every_image_once(dataset, take, batch_size):
    if batch_size == 100000:  # a batch that is larger than the whole set, but needs little memory
        batch_size = dataset.validation_images + 3
    batches = take(lambda: dataset.validation(batch_size))
    assert len(batches) == dataset.validation_steps(batch_size)
    mask = np.concatenate([batch['mask'] for batch in batches])
    np.testing.assert_array_equal(mask, np.arange(len(mask)) < dataset.validation_images)
    assert not batches[-1]['images'][batches[-1]['mask'] == 0].any()


def test_the_first_images_are_those_of_a_validation(dataset, take):
    (batch,) = take(lambda: dataset.first(7))
    others = take(lambda: dataset.validation(4), 2)
    assert set(batch) == {'images', 'labels', 'mask'} and batch['mask'].tolist() == [1] * 7
    for name in batch:
        np.testing.assert_array_equal(
            batch[name], np.concatenate([other[name] for other in others])[:7]
        )


def test_labels_and_names(dataset, take):
    assert dataset.label_names is None or len(dataset.label_names) == dataset.classes
    labels = np.concatenate([batch['labels'] for batch in take(lambda: dataset.validation(50))])
    assert labels.min() >= 0 and labels.max() < dataset.classes


def test_steps(dataset):
    assert dataset.steps_per_epoch(7) == dataset.train_images // 7
    assert dataset.steps_per_epoch(dataset.train_images) == 1


def test_batch_sizes_that_cannot_be(dataset):
    with pytest.raises(DataError, match='larger than the training set'):
        dataset.steps_per_epoch(dataset.train_images + 1)
    with pytest.raises(DataError, match='larger than the training set'):
        dataset.train(dataset.train_images + 1)
    for call in (
        dataset.steps_per_epoch,
        dataset.validation_steps,
        dataset.train,
        dataset.validation,
    ):
        with pytest.raises(DataError, match='at least one image, not 0'):
            call(0)


def test_unknown_names_and_sizes():
    with pytest.raises(DataError, match="no dataset 'cifar'.*imagenet, mnist, synthetic"):
        load('cifar')
    with pytest.raises(DataError, match='image_size=0 is too small'):
        load('synthetic', image_size=0)


@pytest.mark.parametrize('name', ['mnist', 'synthetic'])
def test_only_photographs_are_preprocessed(name):
    with pytest.raises(DataError, match='no meaning'):
        load(name, preprocessing='plain')


def test_synthetic_has_the_shape_of_imagenet(take):
    synthetic = load('synthetic')
    assert synthetic.image_shape == (224, 224, 3) and synthetic.classes == 1000
    few = DATASETS['synthetic'](image_size=5, classes=3, train_images=10, test_images=4)
    assert few.steps_per_epoch(3) == 3
    (batch,) = take(lambda: few.train(10, 0), 1)
    assert set(batch['labels']) == {0, 1, 2} and batch['images'].std() > 0.9


@pytest.mark.slow
def test_a_file_is_enough_for_a_new_dataset(tmp_path):
    package = os.path.dirname(data.__file__)
    shutil.copytree(package, str(tmp_path / 'data'))
    (tmp_path / 'data' / 'fresh.py').write_text(
        "from data.base import Dataset\n\n\nclass Fresh(Dataset):\n    name = 'fresh'\n"
    )
    program = (
        'import data, sys; print(sorted(data.DATASETS), "data.build_tfrecords" in sys.modules)'
    )
    said = subprocess.check_output(
        [sys.executable, '-c', program],
        cwd=str(tmp_path),
        stderr=subprocess.DEVNULL,
        env={**os.environ, 'PYTHONPATH': ''},
    )
    assert (
        said.decode().split('\n')[0]
        == "['cifar10', 'cifar100', 'fashion_mnist', 'fresh', 'imagenet', 'mnist', 'synthetic'] "
        'False'
    )


@pytest.mark.parametrize(
    'read',
    [
        lambda dataset, **more: dataset.train(7, seed=3, first_step=1, **more),
        lambda dataset, **more: dataset.validation(7, **more),
    ],
    ids=['train', 'validation'],
)
def test_where_nothing_is_damaged_nothing_is_skipped(dataset, take, read):
    batches = take(lambda: read(dataset), 2)
    others = take(lambda: read(dataset, tolerant=True), 2)
    assert len(batches) == len(others) == 2
    for batch, other in zip(batches, others):
        assert set(other) == set(batch) | {'skipped'} and not other['skipped'].any()
        for name in batch:
            np.testing.assert_array_equal(other[name], batch[name])
