"""Images that are held in memory."""

import contextlib

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import data
import idx_files
from data import memory

COUNT = 7


def test_a_seed_can_put_any_image_anywhere():
    """With a smaller shuffle buffer, the last images could never come first."""
    images, labels = np.zeros((COUNT, 2, 3), np.uint8), np.arange(COUNT, dtype=np.uint8)
    with tf.Graph().as_default(), tf.Session() as session:
        seed = tf.placeholder(tf.int64, [])
        iterator = tf.data.make_initializable_iterator(
            memory.records(images, labels, seed).batch(COUNT)
        )
        found, orders = iterator.get_next()['labels'], []
        for number in range(100):
            session.run(iterator.initializer, {seed: number})
            orders.append(session.run(found).tolist())
    assert all(sorted(order) == labels.tolist() for order in orders)
    assert {order[0] for order in orders} == {order[-1] for order in orders} == set(range(COUNT))


def _batches(dataset):
    """Returns all kinds of batches of a data set, as a list of {name: array}."""
    per_epoch = dataset.steps_per_epoch(37)
    with tf.Graph().as_default(), tf.Session() as session:
        iterators = [
            tf.data.make_initializable_iterator(batches)
            for batches in (
                dataset.train(37, 5, first_step=per_epoch - 1).take(3),
                dataset.train(38, 5, part=(1, 2)).take(2),
                dataset.validation(77),
                dataset.first(19),
            )
        ]
        session.run([iterator.initializer for iterator in iterators])
        found = []
        for iterator in iterators:
            batch = iterator.get_next()
            assert batch['images'].shape.is_fully_defined()
            with contextlib.suppress(tf.errors.OutOfRangeError):
                while True:
                    found.append(session.run(batch))
    return found


@pytest.mark.parametrize(
    'name, arguments',
    [
        ('fashion_mnist', {}),
        ('mnist', dict(image_size=35, validation_split=103)),
        ('synthetic', dict(image_size=5)),
    ],
    ids=str,
)
def test_batches_that_are_decoded_at_once_are_those_decoded_one_by_one(
    monkeypatch, tmp_path, name, arguments
):
    if name == 'fashion_mnist':
        made = idx_files.arrays(train=101, test=83)
        idx_files.pretend(monkeypatch, made)
        idx_files.write(tmp_path, made)
        arguments = dict(data_dir=str(tmp_path), image_size=32)
    dataset = data.load(name, **arguments)
    assert dataset.decodes_batches
    at_once = _batches(dataset)
    monkeypatch.setattr(type(dataset), 'decodes_batches', False)
    one_by_one = _batches(dataset)
    assert len(at_once) == len(one_by_one) > 5
    for one, other in zip(at_once, one_by_one):
        assert {each: (array.dtype, array.tolist()) for each, array in one.items()} == {
            each: (array.dtype, array.tolist()) for each, array in other.items()
        }
