"""Images that are held in memory."""

import numpy as np
import tensorflow.compat.v1 as tf

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
