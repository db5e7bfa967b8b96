"""Fashion-MNIST: where its files are found, their checksums, and what a network sees of them."""

import gzip

import numpy as np
import pytest
from PIL import Image

import idx_files
from data import DataError, download, fashion_mnist, load
from data.fashion_mnist import FashionMnist
from idx_files import NAMES, to_bytes

TEST_FILES = [NAMES[2], NAMES[3] + '.gz']
CACHE = '.tfutils/datasets/fashion_mnist'


@pytest.fixture(autouse=True)
def package(tmp_path, monkeypatch):
    """The folder of the Debian package; the one of this machine is never read."""
    monkeypatch.setattr(fashion_mnist, 'FOLDER', str(tmp_path / 'package'))
    return tmp_path / 'package'


@pytest.fixture
def arrays(monkeypatch):
    """{name of the IDX file: uint8 array} of files that pass for the published ones."""
    made = idx_files.arrays()
    idx_files.pretend(monkeypatch, made)
    return made


@pytest.fixture
def folder(tmp_path, arrays):
    """A folder of these files, with the other one of the package beside it."""
    (tmp_path / 'given').mkdir()
    idx_files.write(tmp_path / 'given', arrays)
    return tmp_path / 'given'


def counts(dataset):
    return dataset.train_images, dataset.validation_images


def test_the_files_of_the_folder_that_is_named(folder, arrays, offline, take):
    dataset = load('fashion_mnist', str(folder))
    assert counts(dataset) == (37, 11) and dataset.validated_split == 'test'
    assert len(dataset.label_names) == dataset.classes == 10
    assert (dataset.label_names[0], dataset.label_names[9]) == ('T-shirt/top', 'Ankle boot')
    (batch,) = take(lambda: dataset.validation(11))
    np.testing.assert_array_equal(batch['images'][..., 0], arrays[NAMES[2]])
    np.testing.assert_array_equal(batch['labels'], arrays[NAMES[3]])


def test_the_package_comes_before_the_download(folder, package, home, monkeypatch):
    monkeypatch.setattr(download, 'reachable', None)  # it is not even asked
    folder.rename(package)
    assert counts(load('fashion_mnist')) == (37, 11)
    (package / TEST_FILES[0]).unlink()
    with pytest.raises(DataError, match=f'{package} holds only a part .* Put {NAMES[2]} there'):
        load('fashion_mnist')


def test_it_is_downloaded_once(arrays, home, monkeypatch):
    served = {name + '.gz': gzip.compress(to_bytes(arrays[name]), 1) for name in NAMES}
    monkeypatch.setattr(download, 'reachable', lambda url: url.startswith(FashionMnist.origin.url))
    monkeypatch.setattr(download, 'fetch', lambda url: served.pop(url.rsplit('/', 1)[1]))
    for _ in range(2):  # the second time, nothing is left to serve
        assert counts(load('fashion_mnist')) == (37, 11)
    assert sorted(path.name for path in (home / CACHE).iterdir()) == sorted(
        name + '.gz' for name in NAMES
    )


@pytest.mark.parametrize('content', [b'<html>please log in</html>', gzip.compress(b'other')])
def test_a_wrong_download_is_not_kept(arrays, home, monkeypatch, content):
    monkeypatch.setattr(download, 'reachable', lambda url: True)
    monkeypatch.setattr(download, 'fetch', lambda url: content)
    with pytest.raises(DataError, match='is not the file of Fashion-MNIST .*it cannot|MD5'):
        load('fashion_mnist')
    assert not home.exists()


def test_without_images_one_sentence_names_the_three_places(offline, package):
    with pytest.raises(DataError) as caught:
        load('fashion_mnist')
    said = str(caught.value)
    places = ['--data_dir', 'dataset-fashion-mnist', str(package), 'http://fashion-mnist.s3-']
    assert [word for word in places if word not in said] == [] and '\n' not in said


def test_a_folder_that_is_named_is_never_replaced(tmp_path, folder, package, monkeypatch):
    folder.rename(package)
    monkeypatch.setattr(download, 'reachable', None)
    (tmp_path / 'empty').mkdir()
    with pytest.raises(DataError, match='holds no train-images.* download Fashion-MNIST'):
        load('fashion_mnist', str(tmp_path / 'empty'))
    assert not list((tmp_path / 'empty').iterdir())


def test_other_images_in_the_same_layout_are_refused(tmp_path, home):
    """Such as those of MNIST, whose files have the same names."""
    idx_files.write(tmp_path, idx_files.arrays())
    with pytest.raises(DataError, match=f'{NAMES[0]} is not the published file: .*MD5'):
        load('fashion_mnist', str(tmp_path))


@pytest.mark.parametrize('size', [32, 21])
def test_the_images_are_resized_as_pillow_does(folder, arrays, take, size):
    (batch,) = take(lambda: load('fashion_mnist', str(folder), image_size=size).validation(11))
    assert batch['images'].dtype == np.uint8
    expected = [
        np.asarray(Image.fromarray(image).resize((size, size), Image.BILINEAR))
        for image in arrays[NAMES[2]]
    ]
    np.testing.assert_array_equal(batch['images'][..., 0], expected)


def test_a_larger_image_is_sampled_between_the_centres_of_the_pixels(folder, arrays, take):
    """The formula in NumPy: half-pixel centres, and a rounding to bytes after each direction."""
    (batch,) = take(lambda: load('fashion_mnist', str(folder), image_size=32).validation(11))
    position = np.clip((np.arange(32) + 0.5) * 28 / 32 - 0.5, 0, 27)
    low = np.minimum(position.astype(int), 26)
    part = position - low

    def along(rows):  # the last axis, rounded half up
        return np.floor(rows[..., low] * (1 - part) + rows[..., low + 1] * part + 0.5)

    expected = along(along(arrays[NAMES[2]].astype(float)).transpose(0, 2, 1)).transpose(0, 2, 1)
    np.testing.assert_array_equal(batch['images'][..., 0], expected)


@pytest.mark.parametrize('size', [28, 32])
def test_what_a_network_sees(folder, evaluate, size):
    dataset = load('fashion_mnist', str(folder), image_size=size)
    grey = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    seen = evaluate(lambda: dataset.normalise(grey))
    expected = (np.arange(256) / 255 - 0.2859) / 0.3530
    assert seen.dtype == np.float32
    np.testing.assert_allclose(seen.ravel(), expected, rtol=1e-5, atol=1e-6)


def test_with_images_held_out_the_test_files_are_not_opened(folder, offline):
    for name in TEST_FILES:
        (folder / name).unlink()
    dataset = load('fashion_mnist', str(folder), validation_split=7)
    assert counts(dataset) == (30, 7) and dataset.validated_split == 'validation'
    with pytest.raises(DataError, match=f'holds no {NAMES[2]}, {NAMES[3]}'):
        load('fashion_mnist', str(folder), validation_split=7, split='test')
