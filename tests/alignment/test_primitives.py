"""The terms of alignment losses against plain sums."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import samples
from alignment import primitives

KERNELS = [(3, 5), (2, 3, 4, 7)]
ACTIVITIES = [(1, 3), (5, 2), (4, 3, 2, 5)]


def term(name, a, *others):
    """Returns a primitive of NumPy arrays, computed by TensorFlow."""
    return samples.numbers(
        lambda: getattr(primitives, name)(*[tf.constant(x, tf.float32) for x in (a,) + others])
    )


def pair(shape):
    return samples.array('first', shape), samples.array('second', shape, 0.5)


@pytest.mark.parametrize('shape', KERNELS, ids=str)
def test_terms_of_kernels_are_sums(shape):
    W, B = pair(shape)
    np.testing.assert_allclose(term('decay', W, B), (W**2).sum() + (B**2).sum(), 1e-5)
    np.testing.assert_allclose(term('kernel_product', W, B), -(W * B).sum(), 1e-5)


@pytest.mark.parametrize('shape', ACTIVITIES, ids=str)
def test_terms_of_activities_are_means_over_the_batch(shape):
    Wx, Bx = pair(shape)
    images = range(shape[0])
    np.testing.assert_allclose(
        term('sparse', Wx, Bx),
        np.mean([(Wx[i] ** 2).sum() + (Bx[i] ** 2).sum() for i in images]),
        1e-5,
    )
    np.testing.assert_allclose(
        term('amp', Wx, Bx), -np.mean([(Wx[i] * Bx[i]).sum() for i in images]), 1e-5
    )
    np.testing.assert_allclose(
        term('null', Wx), np.mean([(Wx[i] ** 2).sum() for i in images]), 1e-5
    )


@pytest.mark.parametrize(
    'name, sign', [('kernel_product', -1), ('amp', -1), ('decay', 1), ('sparse', 1)]
)
def test_the_sign_rewards_agreement_and_punishes_size(name, sign):
    W, _ = pair((4, 3))
    assert np.sign(term(name, W, W)) == sign


@pytest.mark.parametrize('name', ['sparse', 'amp', 'null'])
def test_a_batch_seen_twice_weighs_the_same(name):
    arrays = pair((3, 2, 5))[: 1 if name == 'null' else 2]
    twice = [np.concatenate([x, x]) for x in arrays]
    np.testing.assert_allclose(term(name, *twice), term(name, *arrays), 1e-6)
