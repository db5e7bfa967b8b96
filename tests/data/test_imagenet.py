"""TFRecords: what is read, in which order, and what is refused."""

import json
import shutil
import struct

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from PIL import Image

import tiers
from data import DataError, load, sources
from training import runtime


def example(**features):
    """Returns a serialised tf.train.Example. '__' in a name stands for '/'."""
    kinds = {
        bytes: lambda value: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value])),
        int: lambda value: tf.train.Feature(int64_list=tf.train.Int64List(value=[value])),
    }
    feature = {
        name.replace('__', '/'): kinds[type(value)](value) for name, value in features.items()
    }
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def write(path, **features):
    with tf.python_io.TFRecordWriter(str(path)) as writer:
        writer.write(example(**features))


@pytest.fixture
def folder(tmp_path, make_jpeg):
    """A folder like ImageNet's, without dataset.json, with one image per split."""
    jpeg = make_jpeg(np.zeros((5, 7, 3), np.uint8))
    write(tmp_path / 'train-00000-of-00001', images=jpeg, labels=999)
    write(tmp_path / 'validation-00000-of-00001', images=jpeg, labels=0)
    return tmp_path


def labels(batches):
    return [list(batch['labels']) for batch in batches]


def test_imagenet_is_meant_where_there_is_no_description(folder):
    dataset = load('imagenet', str(folder))
    assert (dataset.train_images, dataset.validation_images, dataset.classes) == (
        1281167,
        50000,
        1000,
    )
    assert dataset.steps_per_epoch(256) == 5004
    assert dataset.validation_steps(1024) == 49
    assert dataset.label_names is None


def test_counts_come_from_the_description(numbered_records):
    dataset = load('imagenet', numbered_records)
    assert (dataset.train_images, dataset.validation_images, dataset.classes) == (101, 23, 124)
    assert dataset.label_names[123] == 'image 123'


@pytest.mark.parametrize(
    'arguments, size',
    [
        (dict(), 224),
        (dict(preprocessing='resnet'), 224),
        (dict(preprocessing='inception'), 299),
        (dict(preprocessing='plain'), 224),
        (dict(preprocessing='inception', image_size=64), 64),
    ],
)
def test_default_sizes(folder, arguments, size):
    assert load('imagenet', str(folder), **arguments).image_shape == (size, size, 3)


@pytest.mark.slow
def test_every_epoch_holds_every_image_once_in_another_order(numbered_records, take):
    epochs = labels(take(lambda: load('imagenet', numbered_records, 11).train(101, seed=1), 3))
    assert all(sorted(epoch) == list(range(101)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


@pytest.mark.slow
def test_batches_straddle_epochs_so_that_none_is_left_out(numbered_records, take):
    seen = np.concatenate(
        labels(take(lambda: load('imagenet', numbered_records, 11).train(10, seed=1), 101))
    )
    np.testing.assert_array_equal(np.bincount(seen, minlength=101), np.full(101, 10))


@pytest.mark.slow
def test_epoch_1_of_one_seed_is_not_epoch_0_of_the_next(numbered_records, take):
    dataset = load('imagenet', numbered_records, 11)
    first = labels(take(lambda: dataset.train(101, seed=1), 2))
    second = labels(take(lambda: dataset.train(101, seed=2), 1))
    assert first[1] != second[0]


def test_records_are_mixed_not_only_files(tmp_path, take):
    jpeg = sources.encode(Image.new('L', (3, 4)))
    for split, numbers in (('train', range(200)), ('validation', [200])):
        with tf.python_io.TFRecordWriter(str(tmp_path / (split + '-00000-of-00001'))) as writer:
            for label in numbers:
                writer.write(example(images=jpeg, labels=label))
    (tmp_path / 'dataset.json').write_text(
        json.dumps(dict(classes=201, train_images=200, validation_images=1))
    )
    order = np.array(
        labels(take(lambda: load('imagenet', str(tmp_path), 3).train(200, seed=1), 1))[0]
    )
    assert np.abs(order - np.arange(200)).mean() > 40  # a perfect shuffle gives 66.7
    assert (np.diff(order) == 1).sum() < 10


def test_the_same_image_is_cropped_anew_in_every_epoch(numbered_records, take):
    epochs = take(lambda: load('imagenet', numbered_records, 11).train(101, seed=1), 2)
    images = [epoch['images'][np.argsort(epoch['labels'])] for epoch in epochs]
    assert (images[0] != images[1]).any((1, 2, 3)).mean() > 0.9


@pytest.mark.parametrize('batch_size', [1, 4, 23, 50])
def test_validation_covers_every_image(numbered_records, take, batch_size):
    batches = take(lambda: load('imagenet', numbered_records, 11).validation(batch_size))
    seen = np.concatenate([batch['labels'][batch['mask'] == 1] for batch in batches])
    assert sorted(seen) == list(range(101, 124))


def test_a_validation_that_is_short_can_be_seen(numbered_records, tmp_path, take):
    out = shutil.copytree(numbered_records, str(tmp_path / 'short'))
    description = dict(classes=124, train_images=101, validation_images=29)
    (tmp_path / 'short' / 'dataset.json').write_text(json.dumps(description))
    dataset = load('imagenet', out, 11)
    assert (
        sum(batch['mask'].sum() for batch in take(lambda: dataset.validation(4)))
        == 23
        != dataset.validation_images
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    'preprocessing, size',
    [('resnet', 64), ('inception', 75)] + tiers.at_night(('resnet', 224), ('inception', 299)),
)
def test_photographs(photograph_records, take, preprocessing, size):
    dataset = load('imagenet', photograph_records, size, preprocessing)
    assert dataset.label_names == ['art', 'place']

    def seen(batches):
        return batches.map(lambda batch: dict(batch, images=dataset.normalise(batch['images'])))

    batches = take(lambda: seen(dataset.train(5, seed=1)), 2) + take(
        lambda: seen(dataset.validation(3))
    )
    assert sum(batch['mask'].sum() for batch in batches if 'mask' in batch) == 4
    for batch in batches:
        images = batch['images'][batch.get('mask', np.ones(5)) == 1]
        assert images.shape[1:] == (size, size, 3) and images.std() > 0.2
        low, high = (-1, 1) if preprocessing == 'inception' else (-2.2, 2.7)
        assert images.min() >= low and images.max() <= high


def refused(folder, **arguments):
    """Returns the message of the error that prevents a training from starting."""
    with pytest.raises(DataError) as error:
        load('imagenet', str(folder), **arguments).train(1)
    assert '\n' not in str(error.value) and str(error.value).endswith('.')
    return str(error.value)


def test_no_data_dir():
    with pytest.raises(DataError, match='needs --data_dir'):
        load('imagenet')


def test_data_dir_that_is_none(tmp_path, folder):
    assert 'is not a folder' in refused(tmp_path / 'nowhere')
    assert 'is not a folder' in refused(folder / 'train-00000-of-00001')


def test_storage_that_cannot_be_reached(tmp_path):
    """A file system that does not answer is not reported as a missing folder."""
    sentence = refused('nosuch://bucket/imagenet')
    assert (
        sentence.startswith('--data_dir=nosuch://bucket/imagenet cannot be read: ')
        and 'not implemented' in sentence
    )
    assert 'cannot be a path' in refused('a\0b') and 'cannot be a path' in refused('\udc80')


@pytest.mark.parametrize('split', ['train', 'validation'])
def test_no_records_of_a_split(folder, split):
    next(folder.glob(split + '-*')).unlink()
    assert f'holds no file {split}-*' in refused(folder)


def test_half_built(folder):
    (folder / 'dataset.json.tmp').write_text('')
    assert 'half built' in refused(folder)


def test_unknown_preprocessing(folder):
    assert "no preprocessing 'vgg'" in refused(folder, preprocessing='vgg')


@pytest.mark.parametrize(
    'text, words',
    [
        ('{', 'is not JSON'),
        ('[]', "'classes'"),
        ('{"classes": 0}', "'classes'"),
        ('{"classes": 5}', "'train_images'"),
        ('{"classes": 5, "train_images": 1, "validation_images": "1"}', "'validation_images'"),
        (
            '{"classes": 2, "train_images": 1, "validation_images": 1, "label_names": ["one"]}',
            'one name for each',
        ),
    ],
)
def test_damaged_description(folder, text, words):
    (folder / 'dataset.json').write_text(text)
    assert words in refused(folder)


@pytest.mark.parametrize(
    'content', [b'short', b'not a record at all', struct.pack('<Q', 10**15) + bytes(50)]
)
def test_files_that_are_no_records(folder, content):
    (folder / 'train-00000-of-00001').write_bytes(content)
    assert 'not an (uncompressed) TFRecord file' in refused(folder)


def test_a_record_that_is_cut_off(folder):
    path = folder / 'validation-00000-of-00001'
    path.write_bytes(path.read_bytes()[:-50])
    assert 'cut off' in refused(folder)


def test_foreign_records(folder, make_jpeg):
    path, jpeg = folder / 'train-00000-of-00001', make_jpeg(np.zeros((5, 7, 3), np.uint8))
    write(path, encoded=jpeg, image__class__label=7)
    assert 'but have encoded (bytes), image/class/label (int64)' in refused(folder)
    write(path, images=jpeg, labels=1000)
    assert 'the label 1000, but labels must be in 0..999' in refused(folder)
    write(path, images=b'\x89PNG', labels=3)
    assert 'not JPEG' in refused(folder)
    with tf.python_io.TFRecordWriter(str(path)) as writer:
        writer.write(b'\xff\xff\xff')
    assert 'not one of tf.train.Example' in refused(folder)


# --- records of other programs --------------------------------------------------------------------


def foreign(folder, names, image, label, first):
    """Writes records of 7 and 3 images, with the labels 0..6 and 0..2.

    The pixels of an image are 20 times its label.
    """
    for name, count in zip(names, (7, 3)):
        with tf.python_io.TFRecordWriter(str(folder / name)) as writer:
            for number in range(count):
                jpeg = sources.encode(Image.new('L', (11, 9), 20 * number))
                writer.write(
                    example(**{image: jpeg, label: first + number, 'image__format': b'JPEG'})
                )


def seen(folder, take, **settings):
    """Returns {label: mean of the pixels} of each split."""
    dataset = load('imagenet', str(folder), 8, preprocessing='plain', **settings)
    (train,) = take(lambda: dataset.train(7, seed=0), 1)
    (validation,) = take(lambda: dataset.validation(3), 1)
    return [
        {label: int(round(image.mean())) for label, image in zip(batch['labels'], batch['images'])}
        for batch in (train, validation)
    ]


@pytest.mark.parametrize('preprocessing', ['plain', 'resnet', 'inception'])
def test_an_image_of_too_many_pixels_is_not_decoded(tmp_path, take, preprocessing):
    """Its file has a few hundred bytes, whatever its size is."""
    foreign(tmp_path, SHARDS, 'images', 'labels', 0)
    (tmp_path / 'dataset.json').write_text(json.dumps(COUNTS))
    given = dict(preprocessing=preprocessing)
    assert len(take(lambda: load('imagenet', str(tmp_path), 8, **given).validation(3), 1)) == 1
    dataset = load('imagenet', str(tmp_path), 8, max_pixels=11 * 9 - 1, **given)
    for batches in (lambda: dataset.validation(3), lambda: dataset.train(7, seed=0)):
        with pytest.raises(tf.errors.InvalidArgumentError, match='--max_pixels') as caught:
            take(batches, 1)
        assert 'IteratorGetNext' in caught.value.message
    with tf.Graph().as_default():
        found = dataset.find_damage('validation', dataset.records('validation', None))
    assert 'record 0 of ' in found and 'more pixels than --max_pixels allows' in found


EXPECTED = [{number: 20 * number for number in range(count)} for count in (7, 3)]
SHARDS = ('train-00000-of-00001', 'validation-00000-of-00001')
COUNTS = dict(classes=7, train_images=7, validation_images=3)


def test_records_of_tf_models_whose_labels_count_from_1(tmp_path, take):
    foreign(tmp_path, SHARDS, 'image__encoded', 'image__class__label', 1)
    (tmp_path / 'dataset.json').write_text(json.dumps(COUNTS))
    assert seen(tmp_path, take) == EXPECTED


def test_a_label_of_tf_models_is_in_1_to_the_number_of_classes(folder, make_jpeg):
    jpeg = make_jpeg(np.zeros((5, 7, 3), np.uint8))
    for label in (1, 1000):
        for split in ('train-00000-of-00001', 'validation-00000-of-00001'):
            write(folder / split, image__encoded=jpeg, image__class__label=label)
        assert load('imagenet', str(folder)).classes == 1000
    for label in (0, 1001):
        write(folder / 'train-00000-of-00001', image__encoded=jpeg, image__class__label=label)
        assert f'the label {label}, but labels must be in 1..1000' in refused(folder)


def test_records_of_tensorflow_datasets(tmp_path, take):
    names = [f'imagenet2012-{split}.tfrecord-00000-of-00001' for split in ('train', 'validation')]
    foreign(tmp_path, names, 'image', 'label', 0)
    splits = [dict(name='train', shardLengths=['7']), dict(name='validation', shardLengths=['3'])]
    (tmp_path / 'dataset_info.json').write_text(json.dumps(dict(splits=splits)))
    (tmp_path / 'label.labels.txt').write_text('\n'.join(f'n{number:08d}' for number in range(7)))
    assert seen(tmp_path, take) == EXPECTED
    dataset = load('imagenet', str(tmp_path))
    assert (dataset.classes, dataset.train_images, dataset.validation_images) == (7, 7, 3)
    assert dataset.label_names[6] == 'n00000006'
    (tmp_path / 'label.labels.txt').unlink()
    assert load('imagenet', str(tmp_path)).classes == 1000
    for text in ('{', '{}', '{"splits": [{"name": "train"}]}'):
        (tmp_path / 'dataset_info.json').write_text(text)
        assert 'dataset_info.json does not give the number of images' in refused(tmp_path)


def test_records_of_two_programs_do_not_go_together(folder, make_jpeg):
    write(
        folder / 'train-00000-of-00001',
        image__encoded=make_jpeg(np.zeros((5, 7, 3), np.uint8)),
        image__class__label=7,
    )
    assert 'of different programs' in refused(folder)


@pytest.mark.slow
def test_a_folder_of_another_file_system(numbered_records, take):
    """TFRecords can be read from TensorFlow's other file systems.

    gs:// is one of them, but needs the network. Only TensorFlow 2.x has one in memory.
    """
    scheme = 'ram://' if runtime.IS_TF2 else 'file://'
    there = scheme + numbered_records
    if runtime.IS_TF2:
        tf.gfile.MakeDirs(there)
        for name in tf.gfile.ListDirectory(numbered_records):
            tf.gfile.Copy(numbered_records + '/' + name, there + '/' + name)
    batches = [
        take(lambda: load('imagenet', place, 11).train(50, seed=3), 2)
        for place in (there, numbered_records)
    ]
    for one, other in zip(*batches):
        np.testing.assert_array_equal(one['labels'], other['labels'])
        np.testing.assert_array_equal(one['images'], other['images'])
