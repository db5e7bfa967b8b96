"""Compares the multiply-adds of a step with a count by hand."""

import pytest

import tiers
import tiny
from training.cost import multiply_adds, of_step
import tensorflow.compat.v1 as tf

CONVOLUTION = (3 * 5 * 6 * 7) * (3 * 2 * 5)  # values of the output, kernel values for each
DENSE = 20 * 5, 5 * 10  # of tiny.FC, for one image


@pytest.mark.parametrize(
    'data_format, image, strides',
    [('NHWC', [3, 9, 11, 5], [1, 2, 2, 1]), ('NCHW', [3, 5, 9, 11], [1, 1, 2, 2])],
)
def test_a_convolution_and_its_gradients(data_format, image, strides):
    with tf.Graph().as_default():
        images, kernel = tf.zeros(image), tf.zeros([3, 2, 5, 7])
        activity = tf.nn.conv2d(images, kernel, strides, 'SAME', data_format=data_format)
        gradients = tf.gradients(activity, [images, kernel])
        assert multiply_adds([activity]) == {'convolutions': CONVOLUTION}
        assert multiply_adds(gradients[:1]) == {'their input gradients': CONVOLUTION}
        assert multiply_adds(gradients + [tf.group(activity)]) == {
            'convolutions': CONVOLUTION,
            'their input gradients': CONVOLUTION,
            'their kernel gradients': CONVOLUTION,
        }


@pytest.mark.parametrize('transposed', [False, True])
def test_a_product(transposed):
    with tf.Graph().as_default():
        product = tf.matmul(
            tf.zeros([11, 3] if transposed else [3, 11]), tf.zeros([11, 7]), transpose_a=transposed
        )
        assert multiply_adds([product]) == {'matrix products': 3 * 11 * 7}


PROJECTIONS = [(None, 0), ('feedback', 0), ('mirror', 1), ('activation', 2)]
MORE = [
    dict(minibatch_size=3),
    dict(minibatch_size=6),
    dict(iterations_per_loop=4),
    dict(cpu_devices=2, gpu='0,1'),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    'rule, projections, more',
    [(*counted, {}) for counted in PROJECTIONS]
    + [(*PROJECTIONS[-1], more) for more in MORE]
    + tiers.at_night(*[(*counted, more) for counted in PROJECTIONS[:-1] for more in MORE]),
)
def test_a_step_of_dense_layers(rule, projections, more):
    exp = tiny.trainer(alignment=rule, **more)
    by_hand = 12 * (
        (3 + projections) * sum(DENSE) - DENSE[0]
    )  # the first layer sends no error to the images
    assert of_step(exp) == {'matrix products': by_hand}
