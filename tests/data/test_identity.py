"""The identity of images in records: it follows their content, and reads no file of images."""

import glob
import hashlib
import json
import os
import shutil

import pytest

from data import load
from data.base import Dataset


def test_images_in_memory_are_told_by_all_of_them():
    first, again, smaller = load('mnist'), load('mnist'), load('mnist', None, 14)
    found = first.identity()
    assert again.identity() == smaller.identity() == found and first.digest() != smaller.digest()
    assert found.of == 'all images and labels' and len(found.digest) == 64
    images, labels = again._splits['validation']
    changed = images.copy()
    changed[-1, 27, 27] ^= 1
    again._splits = dict(again._splits, validation=(changed, labels))
    assert again.identity().digest != found.digest


def test_images_that_are_always_the_same_are_told_by_their_counts():
    assert load('synthetic', None, 8).identity().of == 'the counts'


def test_a_data_set_of_a_user_may_say_what_tells_its_images():
    class Own(Dataset):
        name, classes, train_images, validation_images = 'own', 3, 5, 2
        version = 1

        def contents(self):
            return [self.version]

    other = Own(image_size=3)
    other.version = 2
    one, two = Own(image_size=3).identity(), other.identity()
    assert one.digest != two.digest and one.of == two.of == 'facts about the images'


@pytest.fixture
def folder(numbered_records, tmp_path):
    """A copy of a folder of TFRecords with its dataset.json."""
    copy = str(tmp_path / 'records')
    shutil.copytree(numbered_records, copy)
    return copy


def identity(folder, **settings):
    return load('imagenet', folder, **settings).identity()


def describe(folder, change):
    path = os.path.join(folder, 'dataset.json')
    with open(path) as file:
        document = json.load(file)
    change(document)
    with open(path, 'w') as file:
        json.dump(document, file)


def test_the_checksums_of_dataset_json_tell_files_of_records(folder):
    before = identity(folder)
    assert before.of == 'the SHA-256 of each file as dataset.json has it'
    assert identity(folder, image_size=32) == before  # the size of the input is no part of it
    with open(os.path.join(folder, 'dataset.json')) as file:
        shards = json.load(file)['shards']
    for path in glob.glob(os.path.join(folder, '*-of-*')):  # what the checksums are of
        with open(path, 'rb') as file:
            content = file.read()
        assert shards[os.path.basename(path)]['sha256'] == hashlib.sha256(content).hexdigest()

    def another(document):
        document['shards']['train-00003-of-00005']['sha256'] = '0' * 64

    describe(folder, another)
    assert identity(folder).digest != before.digest


def test_no_image_is_read_for_it(folder, monkeypatch):
    dataset = load('imagenet', folder)
    shutil.rmtree(folder)
    assert len(dataset.identity().digest) == 64


def test_without_checksums_names_and_sizes_tell_files_of_records(folder):
    describe(folder, lambda document: document.pop('shards'))
    before = identity(folder)
    assert before.of == 'the names and sizes of the files of train and validation'
    for path in glob.glob(os.path.join(folder, 'train-*')):
        os.remove(path)
    only = identity(folder)  # a validation needs no training records
    assert only.of == 'the names and sizes of the files of validation'
    assert only.digest != before.digest
