"""Folders of TFRecords with missing, duplicate, surplus or empty files, or with wrong counts."""

import json
import os
import shutil
import socket

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from PIL import Image

import tiers
from data import DataError, imagenet, load, mnist, sources
from test_imagenet import example

JPEG = sources.encode(Image.new('L', (5, 3)))


def write(path, labels):
    """Writes a file of records with these labels in this order. Without labels, it has no bytes."""
    with tf.python_io.TFRecordWriter(str(path)) as writer:
        for label in labels:
            writer.write(example(images=JPEG, labels=label))


def described(folder, **changes):
    (folder / 'dataset.json').write_text(
        json.dumps(dict(dict(classes=100, train_images=7, validation_images=2), **changes))
    )


@pytest.fixture
def folder(tmp_path):
    """7 training images in three files and 2 validation images in one, with different labels."""
    for index, labels in enumerate(([0, 1, 2], [3, 4], [5, 6])):
        write(tmp_path / f'train-{index:05d}-of-00003', labels)
    write(tmp_path / 'validation-00000-of-00001', [7, 8])
    described(tmp_path)
    return tmp_path


def refused(folder):
    """Returns the message of the error that prevents a training from starting."""
    with pytest.raises(DataError) as error:
        load('imagenet', str(folder), 8).train(1)
    assert '\n' not in str(error.value) and str(error.value).endswith('.')
    return str(error.value)


def epoch(dataset, take):
    """Returns the sorted labels of the first epoch."""
    (batch,) = take(lambda: dataset.train(dataset.train_images, seed=1), 1)
    return sorted(batch['labels'])


# --- the files ------------------------------------------------------------------------------------

FILES = {  # case: (a function that changes the folder, words of the message)
    'one is missing': (
        lambda path: (path / 'train-00001-of-00003').unlink(),
        ['lacks 1 of 3 train files', 'train-00001-of-00003'],
    ),
    'two are missing': (
        lambda path: [(path / f'train-0000{i}-of-00003').unlink() for i in (0, 2)],
        ['lacks 2 of 3 train files', 'train-00000-of-00003'],
    ),
    'one is left over': (
        lambda path: write(path / 'train-00001-of-00002', [1]),
        ['several sets', 'train-00001-of-00002', '-of-00003'],
    ),
    'one is there twice': (
        lambda path: write(path / 'train-1-of-3', [1]),
        ['twice', 'train-00001-of-00003', 'train-1-of-3'],
    ),
    'one is too many': (
        lambda path: write(path / 'train-00003-of-00003', [1]),
        ['train-00003-of-00003', '0 to 2'],
    ),
    'one has no number': (
        lambda path: write(path / 'train-more', [1]),
        ['two kinds', 'train-more'],
    ),
    'a set of huge numbers': (
        lambda path: [
            os.rename(str(file), str(file)[:-5] + '9' * 30) for file in path.glob('train-*')
        ],
        ['lacks', 'train-00003-of-' + '9' * 30],
    ),
    'a folder': (
        lambda path: (
            (path / 'train-x').mkdir() or [file.unlink() for file in path.glob('train-0*')]
        ),
        ['train-x is a folder'],
    ),
    'a pipe': (
        lambda path: (
            (path / 'train-00001-of-00003').unlink()
            or os.mkfifo(str(path / 'train-00001-of-00003'))
        ),
        ['train-00001-of-00003 is a named pipe'],
    ),
    'a link to nothing': (
        lambda path: (
            (path / 'train-00001-of-00003').unlink()
            or (path / 'train-00001-of-00003').symlink_to(path / 'nowhere')
        ),
        ['train-00001-of-00003 cannot be read (No such file'],
    ),
    'an empty one': (
        lambda path: write(path / 'train-00001-of-00003', []),
        ['train-00001-of-00003 is empty'],
    ),
}


@pytest.mark.parametrize('case', sorted(FILES))
def test_files_that_are_not_those_of_one_set(folder, case):
    change, words = FILES[case]
    change(folder)
    sentence = refused(folder)
    assert [word for word in words if word not in sentence] == []


def test_a_socket_among_the_records(folder, monkeypatch):
    monkeypatch.chdir(folder)  # the name of a socket must be short
    (folder / 'validation-00000-of-00001').unlink()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind('validation-00000-of-00001')
        assert 'is a socket' in refused(folder)


@pytest.mark.parametrize('name', ['dataset.json', 'dataset_info.json'])
def test_a_description_that_is_a_pipe_is_not_waited_for(folder, name):
    (folder / 'dataset.json').unlink()
    os.mkfifo(str(folder / name))
    assert f'{name} is a named pipe' in refused(folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    'names',
    [
        ['train-a', 'train-b', 'train-c'],
        [f'train-{i}-of-3' for i in (1, 2, 3)],
        [f'set-train.tfrecord-0000{i}-of-00003' for i in range(3)],
    ],
)
def test_other_names_of_a_whole_set(folder, take, names):
    for path, name in zip(sorted(folder.glob('train-*')), names):
        path.rename(folder / name)
    assert epoch(load('imagenet', str(folder), 8), take) == list(range(7))


def test_other_files_beside_the_records_are_left_aside(folder, take):
    for name in (
        'train-00000-of-00003.idx',
        'train-00001-of-00003.md5',
        'train.txt',
        'train-list.TXT',
        'validation-of.json',
        '.train-00000-of-00003',
    ):
        (folder / name).write_text('0 100\n')
    assert epoch(load('imagenet', str(folder), 8), take) == list(range(7))


def listed(folder):
    """Returns the `shards` of dataset.json for this folder."""
    counts = {
        'train-00000-of-00003': 3,
        'train-00001-of-00003': 2,
        'train-00002-of-00003': 2,
        'validation-00000-of-00001': 2,
    }
    return {
        name: dict(images=count, bytes=(folder / name).stat().st_size)
        for name, count in counts.items()
    }


def test_the_files_are_those_that_the_description_lists(folder, take):
    shards = listed(folder)
    described(folder, shards=shards)
    assert epoch(load('imagenet', str(folder), 8), take) == list(range(7))
    for name, size in (('train-00001-of-00003', 1), ('validation-00000-of-00001', -1)):
        described(
            folder, shards={**shards, name: dict(shards[name], bytes=shards[name]['bytes'] + size)}
        )
        assert f'{name} has {shards[name]["bytes"]:,} bytes' in refused(folder)
    described(
        folder,
        shards={name: shard for name, shard in shards.items() if name != 'train-00002-of-00003'},
        train_images=5,
    )
    assert 'train-00002-of-00003 is not one of the files' in refused(folder)
    described(folder, shards={**shards, 'train-00003-of-00004': dict(images=0, bytes=0)})
    assert 'train-00003-of-00004 is missing' in refused(folder)


@pytest.mark.parametrize(
    'counts, words',
    [
        (dict(train_images=8), "gives 8 as 'train_images', but its 'shards' hold 7"),
        (dict(validation_images=1), "gives 1 as 'validation_images', but its 'shards' hold 2"),
    ],
)
def test_the_sum_over_the_files_is_the_count(folder, counts, words):
    described(folder, shards=listed(folder), **counts)
    assert words in refused(folder)


@pytest.mark.parametrize(
    'shards',
    [
        [],
        3,
        {'train-00000-of-00003': 3},
        {'train-00000-of-00003': {'images': 3}},
        {'train-00000-of-00003': {'images': -3, 'bytes': 1}},
    ],
)
def test_files_that_are_listed_in_another_form(folder, shards):
    described(folder, shards=shards)
    assert "whole numbers 'images' and 'bytes'" in refused(folder)


def test_a_file_may_be_empty_where_the_description_says_so(folder, take):
    for index in (0, 2):  # the first and the last
        os.truncate(str(folder / f'train-0000{index}-of-00003'), 0)
    shards = listed(folder)
    for index in (0, 2):
        shards[f'train-0000{index}-of-00003']['images'] = 0
    described(folder, shards=shards, train_images=2)
    assert epoch(load('imagenet', str(folder), 8), take) == [3, 4]
    (folder / 'train-00001-of-00003').write_bytes(b'')
    shards['train-00001-of-00003'] = dict(images=0, bytes=0)
    described(folder, shards=dict(shards, more=dict(images=2, bytes=0)), train_images=2)
    assert "'shards' hold 0" in refused(folder)


def test_a_validation_needs_no_training_records(folder, take):
    for path in folder.glob('train-*'):
        path.unlink()
    dataset = load('imagenet', str(folder), 8)
    (batch,) = take(lambda: dataset.validation(3))
    assert list(batch['labels'][:2]) == [7, 8] and dataset.train_images == 7
    for ask in (lambda: dataset.train(1), lambda: dataset.records('train', None), dataset.digest):
        with pytest.raises(DataError, match='holds no file train-'):
            ask()


# --- descriptions ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'change, words',
    [
        (dict(classes=2**31), "'classes', of at most 10,000,000"),
        (dict(classes=10**40), "'classes'"),
        (dict(classes=True), "'classes'"),
        (dict(train_images=10**30), "'train_images', of at most"),
        (dict(train_images=2**62), "'train_images'"),
        (dict(validation_images=2**63), "'validation_images'"),
        (dict(classes=2, label_names=['a', 7]), 'one name for each'),
    ],
)
def test_numbers_that_cannot_be(folder, change, words):
    described(folder, **change)
    assert words in refused(folder)


@pytest.mark.parametrize('text', ['[' * 200000, '{"a":' * 200000, '\udcff', '1' * 5000])
def test_what_is_no_description(folder, text):
    (folder / 'dataset.json').write_bytes(text.encode('utf-8', 'surrogateescape'))
    assert 'is not JSON' in refused(folder) or "as 'classes'" in refused(folder)


def test_a_byte_order_mark_is_no_part_of_a_description(folder):
    (folder / 'dataset.json').write_bytes(b'\xef\xbb\xbf' + (folder / 'dataset.json').read_bytes())
    assert load('imagenet', str(folder)).classes == 100


def tensorflow_datasets(folder, train=(3, 2, 2), names='', **splits):
    """Describes the folder as TensorFlow Datasets does."""
    (folder / 'dataset.json').unlink()
    lengths = dict(dict(train=train, validation=[2]), **splits)
    (folder / 'dataset_info.json').write_text(
        json.dumps(
            dict(
                splits=[
                    dict(name=name, shardLengths=[str(length) for length in found])
                    for name, found in lengths.items()
                    if found
                ]
            )
        )
    )
    if names:
        (folder / 'label.labels.txt').write_bytes(names)


@pytest.mark.parametrize(
    'names, expected',
    [
        (
            b'pink primrose\nalpine sea holly\nfire lily\n',
            ['pink primrose', 'alpine sea holly', 'fire lily'],
        ),
        (b'\xef\xbb\xbfa\r\n\r\n c d \r\n', ['a', '', 'c d']),
        ('b\u00fcrste\nT\u00fcr'.encode(), ['b\u00fcrste', 'T\u00fcr']),
    ],
)
def test_a_label_name_is_a_line(folder, names, expected):
    tensorflow_datasets(folder, names=names)
    for path in folder.glob('*-of-*'):
        write(path, [0, 1])
    dataset = load('imagenet', str(folder))
    assert dataset.label_names == expected and dataset.classes == len(expected)


def test_the_files_are_those_that_tensorflow_datasets_lists(folder, take):
    os.truncate(str(folder / 'train-00000-of-00003'), 0)
    tensorflow_datasets(folder, train=[0, 2, 2])
    assert epoch(load('imagenet', str(folder), 8), take) == [3, 4, 5, 6]
    described(folder)
    tensorflow_datasets(folder, train=[2, 2])
    assert 'holds 3 train files, but ' in refused(
        folder
    ) and 'dataset_info.json lists 2' in refused(folder)
    described(folder)
    tensorflow_datasets(folder, train=[2, 2, -1])
    assert 'which is impossible' in refused(folder)
    described(folder)
    tensorflow_datasets(folder, validation=[], test=[2])
    assert "has the splits test, train, but 'train' and 'validation' are needed" in refused(folder)


@pytest.mark.parametrize(
    'features, words',
    [
        (dict(images=JPEG, labels=b'7'), 'but have images (bytes), labels (bytes)'),
        (dict(images=3, labels=7), 'but have images (int64), labels (int64)'),
        (
            dict(image__encoded=JPEG, image__class__label=0),
            'labels must be in 1..100. If the labels count from 0, write the data set with the '
            "features 'images' and 'labels'",
        ),
    ],
)
def test_what_is_foreign_about_a_record_is_said(folder, features, words):
    with tf.python_io.TFRecordWriter(str(folder / 'train-00000-of-00003')) as writer:
        writer.write(example(**features))
    assert words in refused(folder)


# --- the number of images -------------------------------------------------------------------------


@pytest.fixture
def many(tmp_path, monkeypatch):
    """Returns a function of the described number of training images, which returns the data set.

    There are 48 training images, in three files of different sizes.
    """
    monkeypatch.setattr(imagenet, 'SHUFFLE_BUFFER', 9)
    for index, (start, end) in enumerate(((0, 21), (21, 40), (40, 48))):
        write(tmp_path / f'train-{index:05d}-of-00003', range(start, end))
    write(tmp_path / 'validation-00000-of-00001', [0])

    def dataset(said):
        described(tmp_path, train_images=said, validation_images=1)
        return load('imagenet', str(tmp_path), 3, 'plain')

    return dataset


def read_until(function):
    """Returns (the labels of up to two epochs of 48, the error that ended them, or None)."""
    seen = []
    with tf.Graph().as_default(), tf.Session() as session:
        labels = tf.data.make_one_shot_iterator(function()).get_next()['labels']
        try:
            while len(seen) < 96:
                seen += session.run(labels).tolist()
        except tf.errors.InvalidArgumentError as error:
            return seen, error
    return seen, None


HOW = [dict(tolerant=True), dict(part=(1, 2)), dict(first_step=4)]
WRONG = [(said, {}) for said in (47, 49)]
WRONG += [pytest.param(said, {}, marks=pytest.mark.slow) for said in (6, 46, 70)]
WRONG += [pytest.param(said, how, marks=pytest.mark.slow) for said in (47, 49) for how in HOW]
WRONG += tiers.at_night(*[(said, how) for said in (6, 46, 70) for how in HOW])


@pytest.mark.parametrize('said, how', WRONG, ids=str)
def test_a_wrong_count_is_noticed_before_the_first_epoch_ends(many, said, how):
    seen, error = read_until(lambda: many(said).train(6, seed=3, **how))
    given = len(seen) * how.get('part', (0, 1))[1]
    assert error is not None and given < max(1, min(said, 48) - how.get('first_step', 0) * 6)


@pytest.mark.parametrize(
    'how',
    [{}]
    + [
        pytest.param(how, marks=pytest.mark.slow)
        for how in (dict(tolerant=True), dict(part=(1, 2)), dict(first_step=9))
    ],
    ids=str,
)
def test_the_right_count_is_not_complained_of(many, how):
    seen, error = read_until(lambda: many(48).train(6, seed=3, **how))
    assert error is None and len(seen) == 96


@pytest.mark.slow
@pytest.mark.parametrize('said, words', [(47, 'gives 47;'), (4900, 'gives 4,900;')])
def test_both_counts_are_named(many, said, words):
    dataset = many(said)
    for in_files in (False, True):
        with tf.Graph().as_default():
            sentence = dataset.find_damage(
                'train', None if in_files else dataset.suspects(6, 3, 0, 1)
            )
        assert 'holds 48 training images, but ' in sentence and 'dataset.json ' + words in sentence
    os.remove(os.path.join(dataset._folder, 'dataset.json'))
    with tf.Graph().as_default():
        dataset = load('imagenet', dataset._folder, 3, 'plain')
        sentence = dataset.find_damage('train', dataset.suspects(6, 3, 0, 1))
    assert "holds 48 training images, but ImageNet's 1,281,167 are expected" in sentence


# --- hosts with different images ------------------------------------------------------------------


def test_the_digest_is_of_what_must_be_alike(folder, tmp_path_factory):
    def digest(**settings):
        return load('imagenet', str(folder), **settings).digest()

    first, elsewhere = digest(), tmp_path_factory.mktemp('elsewhere') / 'copy'
    shutil.copytree(str(folder), str(elsewhere))
    assert load('imagenet', str(elsewhere)).digest() == first and len(first) == 64
    digests = [first, digest(image_size=5)]
    write(folder / 'train-00000-of-00003', [0, 1, 2, 3])
    digests.append(digest())
    for change in (dict(classes=99), dict(train_images=6), dict(validation_images=3)):
        described(folder, **change)
        digests.append(digest())
    described(folder, classes=9, label_names=list('abcdefghi'))
    digests.append(digest())
    described(folder, classes=9, label_names=list('abcdefgih'))
    digests.append(digest())
    (folder / 'validation-00000-of-00001').rename(folder / 'validation-0-of-1')
    digests.append(digest())
    assert len(set(digests)) == len(digests) == 9


def test_the_digest_of_images_in_memory(offline, monkeypatch):
    first, again = (load('mnist').digest() for _ in range(2))
    assert first == again
    splits = mnist.read_subset()
    images, labels = splits['test']
    splits['test'] = (images, np.roll(labels, 1))
    monkeypatch.setattr(mnist, 'read_subset', lambda: splits)
    assert load('mnist').digest() != first != load('synthetic').digest()
