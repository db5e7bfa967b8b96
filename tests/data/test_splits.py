"""The splits of data sets that are held in memory: which images are held out, and what counts."""

import numpy as np
import pytest

import cifar_files
import idx_files
from data import DataError, load
from data.split import hold_out, stratified_split
from tiers import at_night

HELD_OUT = 9


@pytest.fixture(params=['fashion_mnist', 'synthetic', *at_night('mnist', 'cifar10')])
def loaded(request, tmp_path, monkeypatch):
    """Returns a function: more arguments -> a data set with a few images."""
    if request.param == 'cifar10':
        cifar_files.shrink(monkeypatch)
        cifar_files.pack(request.param, str(tmp_path), cifar_files.contents(request.param)[0])
    elif request.param != 'synthetic':
        made = idx_files.arrays()
        idx_files.pretend(monkeypatch, made)
        idx_files.write(tmp_path, made)

    def make(**arguments):
        size = dict(image_size=8) if request.param == 'synthetic' else {}
        return load(request.param, str(tmp_path), **size, **arguments)

    return make


def labels_of(batch):
    """Returns the sorted labels of a batch that has no filling."""
    return sorted(batch['labels'].tolist())


def images_of(dataset):
    """Returns {split: the images, as bytes, and their labels, sorted}."""
    return {
        split: sorted((image.tobytes(), int(label)) for image, label in zip(*arrays))
        for split, arrays in dataset._splits.items()
    }


@pytest.mark.parametrize(
    'fraction, expected', [(0.2, [2, 1, 0]), (0.5, [5, 2, 0]), (0.999, [9, 4, 0]), (0.0, [0, 0, 0])]
)
def test_stratified_split(fraction, expected):
    labels = [0] * 10 + [1] * 5 + [2]
    train, validation = stratified_split(labels, fraction)
    np.testing.assert_array_equal(np.bincount(np.array(labels)[validation], minlength=3), expected)
    assert sorted(np.concatenate([train, validation])) == list(range(16))


@pytest.mark.parametrize(
    'count, expected',
    [
        (0, [0, 0, 0]),
        (1, [1, 0, 0]),
        (4, [3, 1, 0]),  # 2.5, 1.25 and 0.25
        (8, [5, 3, 0]),  # 5, 2.5 and 0.5: of equal remainders, the first class
        (15, [9, 5, 1]),  # 9.375, 4.6875 and 0.9375
    ],
)
def test_each_class_gives_its_share(count, expected):
    labels = np.array([0] * 10 + [1] * 5 + [2])
    np.random.RandomState(1).shuffle(labels)
    train, validation = hold_out(labels, count)
    assert np.bincount(labels[validation], minlength=3).tolist() == expected
    assert sorted(np.concatenate([train, validation])) == list(range(16))
    assert (np.diff(train) > 0).all() and (np.diff(validation) > 0).all()


def test_the_same_images_are_held_out_with_every_version_of_numpy():
    labels = np.arange(40) % 4
    assert hold_out(labels, 6)[1].tolist() == [8, 10, 13, 21, 27, 32]


def test_held_out_images_are_training_images_that_no_training_sees(loaded, take):
    whole, split = loaded(), loaded(validation_split=HELD_OUT)
    assert (split.train_images, split.validation_images) == (whole.train_images - 9, 9)
    assert (whole.validated_split, split.validated_split) == ('test', 'validation')
    before, after = images_of(whole), images_of(split)
    assert sorted(after['train'] + after['validation']) == before['train']
    (epoch,) = take(lambda: split.train(split.train_images, 3), 1)
    (batch,) = take(lambda: split.validation(HELD_OUT))
    assert labels_of(epoch) == sorted(label for _, label in after['train'])
    assert labels_of(batch) == sorted(label for _, label in after['validation'])


def test_the_seed_of_a_training_does_not_change_the_split(loaded, take):
    one, other = loaded(validation_split=HELD_OUT), loaded(validation_split=HELD_OUT)
    assert images_of(one) == images_of(other)
    (first,), (second,) = [
        take(lambda: dataset.train(dataset.train_images, seed), 1)
        for dataset, seed in ((one, 1), (other, 2))
    ]
    assert labels_of(first) == labels_of(second)
    assert first['labels'].tolist() != second['labels'].tolist()


def test_the_test_images_of_a_training_with_a_split(loaded):
    whole, tested = loaded(), loaded(validation_split=HELD_OUT, split='test')
    assert tested.validated_split == 'test'
    assert images_of(tested)['validation'] == images_of(whole)['validation']
    assert images_of(tested)['train'] == images_of(loaded(validation_split=HELD_OUT))['train']


def test_steps_and_digests_follow_the_split(loaded):
    datasets = [loaded(validation_split=count) for count in (0, 8, HELD_OUT)]
    datasets.append(loaded(validation_split=HELD_OUT, split='test'))
    assert len({dataset.digest() for dataset in datasets}) == 4
    for dataset, count in zip(datasets, (0, 8, 9, 9)):
        assert dataset.train_images == datasets[0].train_images - count
        assert dataset.steps_per_epoch(7) == (datasets[0].train_images - count) // 7
    assert datasets[2].validation_steps(4) == 3


def test_too_many_images(loaded):
    images = loaded().train_images
    assert loaded(validation_split=images - 1).train_images == 1
    for count in (images, images + 1):
        with pytest.raises(DataError, match=f'--validation_split={count} leaves no training'):
            loaded(validation_split=count)


def test_a_split_that_is_not_there(loaded):
    assert loaded(split='test').validated_split == 'test'
    with pytest.raises(DataError, match='--split=validation has no images: .*Leave it out'):
        loaded(split='validation')


def test_tfrecords_have_their_split_in_their_files(numbered_records):
    assert load('imagenet', numbered_records, split='test').validated_split == 'test'
    with pytest.raises(DataError, match='--validation_split=5 .*--dataset=imagenet.*build_tfrec'):
        load('imagenet', numbered_records, validation_split=5)
    with pytest.raises(DataError, match='--split=validation has no images'):
        load('imagenet', numbered_records, split='validation')
