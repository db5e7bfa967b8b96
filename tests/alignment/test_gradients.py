"""Products and convolutions, forward and back, against NumPy, TensorFlow and finite differences."""

import itertools

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import oracle
import samples
from alignment.gradients import (
    Convolution,
    Dense,
    aligned,
    backprop,
    conv2d,
    matmul,
    with_gradient,
)
from reference import error
from training import runtime

TOLERANCE = 1e-5
FILTERS = 4
STRIDES = [(1, 1), (2, 2), (3, 3), (1, 2), (3, 2)]
# Height and width of the image, then of the kernel. The cases have many and few output positions,
# kernels from 1 x 1 to 5 x 5, kernels that skip pixels (1 x 1 with a stride), and images smaller
# than the kernel.
SIZES = [
    ((9, 7), (3, 3)),
    ((6, 7), (1, 1)),
    ((8, 5), (5, 4)),
    ((5, 6), (2, 3)),
    ((10, 11), (4, 2)),
    ((3, 2), (5, 3)),
    ((1, 1), (3, 3)),
    ((2, 7), (4, 1)),
]


def fits(image, kernel, padding):
    return padding == 'SAME' or all(length >= size for length, size in zip(image, kernel))


CONVOLUTIONS = [
    (image, kernel, strides, padding)
    for (image, kernel), strides, padding in itertools.product(SIZES, STRIDES, ['SAME', 'VALID'])
    if fits(image, kernel, padding)
]


def convolution(image, kernel, strides, padding):
    """Returns the parts of one convolution of 3 images with 2 channels.

    Returns:
        (our map, the oracle's map, x, a kernel, a signal at the output).
    """
    linear, wanted = Convolution(strides, padding), oracle.Convolution(strides, padding)
    x, K = samples.array('x', (3,) + image + (2,)), samples.array('K', kernel + (2, FILTERS))
    return linear, wanted, x, K, samples.array('dy', wanted.project(x, K).shape)


def assert_same_maps(linear, wanted, x, K, dy):
    def build():
        image, kernel, signal = [samples.leaf(value) for value in (x, K, dy)]
        return [
            linear.project(image, kernel),
            linear.reconstruct(signal, kernel, image),
            linear.kernel_gradient(image, signal, kernel),
        ]

    y, dx, dK = samples.numbers(build)
    assert error(y, wanted.project(x, K)) < TOLERANCE
    assert error(dx, wanted.reconstruct(dy, K, x)) < TOLERANCE
    assert error(dK, wanted.kernel_gradient(x, dy, K)) < TOLERANCE


# --- the linear maps ------------------------------------------------------------------------------


def test_dense_maps():
    x, K, dy = samples.array('x', (4, 7)), samples.array('K', (7, 5)), samples.array('dy', (4, 5))
    assert_same_maps(Dense(), oracle.Dense(), x, K, dy)


@pytest.mark.parametrize(
    'few_positions',
    [
        pytest.param(0, id='transposed'),
        pytest.param(10**6, id='spread', marks=[] if runtime.FEW_POSITIONS else [pytest.mark.slow]),
    ],
)
@pytest.mark.parametrize('case', CONVOLUTIONS, ids=str)
def test_convolution_maps(case, few_positions):
    linear, *others = convolution(*case)
    assert_same_maps(linear._replace(few_positions=few_positions), *others)


def operations(build):
    """Returns the types of the operations that `build` creates."""
    with tf.Graph().as_default() as graph:
        build()
        return [operation.type for operation in graph.get_operations()]


@pytest.mark.parametrize(
    'image, few', [((4, 4), True), ((2, 8), True), ((4, 5), False), ((None, 4), False)]
)
def test_few_positions_take_the_short_way(image, few):
    def build():
        x = tf.placeholder(tf.float32, (3,) + image + (2,))
        K = tf.zeros([3, 3, 2, FILTERS])
        linear = Convolution((1, 1), 'SAME', few_positions=16)
        linear.reconstruct(linear.project(x, K), K, x)

    assert operations(build).count('Conv2DBackpropInput') == (0 if few else 1)


@pytest.mark.parametrize(
    'linear, kernel', [(Dense(), (6, 5)), (Convolution((2, 1), 'SAME'), (3, 2, 6, 5))]
)
@pytest.mark.parametrize('images', [1, 4])
def test_the_number_of_images_may_be_open(linear, kernel, images):
    shape = (6,) if len(kernel) == 2 else (7, 3, 6)
    K, x = samples.array('K', kernel), samples.array('x', (images,) + shape)
    with tf.Graph().as_default(), samples.session() as session:
        W, image = samples.leaf(K), tf.placeholder(tf.float32, (None,) + shape)
        y = aligned(linear, image, W, W)
        results = session.run(
            [y] + tf.gradients(tf.reduce_sum(tf.square(y)), [image, W]), {image: x}
        )
    wanted = samples.oracle_of(linear)
    y = wanted.project(x, K)
    assert error(results[0], y) < TOLERANCE
    assert error(results[1], wanted.reconstruct(2 * y, K, x)) < TOLERANCE
    assert error(results[2], wanted.kernel_gradient(x, 2 * y, K)) < TOLERANCE


# --- the gradients that a layer sends -------------------------------------------------------------


def gradients_of(product, name):
    """Returns (y, dx, dW, dB) of a sample for the loss sum(y * dy).

    `product` is a function (linear, x, W, B) -> y.
    """
    layer = samples.layer(name)
    dy = samples.array('dy', layer.linear.project(layer.x, layer.W).shape)

    def build():
        x, W, B = [samples.leaf(value) for value in (layer.x, layer.W, layer.B)]
        y = product(samples.SAMPLES[name].linear, x, W, B)
        found = tf.gradients(tf.reduce_sum(y * tf.constant(dy, tf.float32)), [x, W, B])
        return [y] + [tf.constant(np.nan) if gradient is None else gradient for gradient in found]

    return layer, dy, samples.numbers(build)


@pytest.mark.parametrize('tie', [False, True], ids=['free', 'tied'])
@pytest.mark.parametrize('name', sorted(samples.SAMPLES))
def test_errors_go_through_the_backward_kernel(name, tie):
    layer, dy, (y, dx, dW, dB) = gradients_of(
        lambda *arguments: aligned(*arguments, tie_gradients=tie), name
    )
    assert error(y, layer.linear.project(layer.x, layer.W)) < TOLERANCE
    assert error(dx, layer.linear.reconstruct(dy, layer.B, layer.x)) < TOLERANCE
    assert error(dx, layer.linear.reconstruct(dy, layer.W, layer.x)) > 0.1
    assert error(dW, layer.linear.kernel_gradient(layer.x, dy, layer.W)) < TOLERANCE
    np.testing.assert_array_equal(
        dB, dW if tie else np.nan
    )  # None, not a tensor of zeros that an optimiser would apply


def test_a_loss_on_the_backward_kernel_adds_to_its_tied_gradient():
    layer = samples.layer('dense')

    def build(tie):
        x, W, B = [samples.leaf(value) for value in (layer.x, layer.W, layer.B)]
        y = aligned(Dense(), x, W, B, tie)
        return tf.gradients(tf.reduce_sum(y) + 3 * tf.reduce_sum(B), [B])[0]

    dW = layer.x.T @ np.ones((4, 5))
    assert error(samples.numbers(lambda: build(True)), dW + 3) < TOLERANCE
    assert error(samples.numbers(lambda: build(False)), np.full((7, 5), 3.0)) < TOLERANCE


def test_what_scales_a_loss_scales_its_closed_form():
    layer = samples.layer('dense')

    def build():
        W, B = samples.leaf(layer.W), samples.leaf(layer.B)
        loss = with_gradient(tf.reduce_sum(W * B), B, [(2.0, W), (-0.5, B)])
        return [loss] + tf.gradients(3.0 * loss, [B]) + tf.gradients(loss, [B])

    loss, scaled, alone = samples.numbers(build)
    assert error(loss, np.sum(layer.W * layer.B)) < TOLERANCE
    assert error(alone, 2.0 * layer.W - 0.5 * layer.B) < TOLERANCE
    assert error(scaled, 3.0 * alone) < TOLERANCE


@pytest.mark.parametrize('name', sorted(samples.SAMPLES))
def test_backprop_is_what_tensorflow_differentiates(name):
    _, _, ours = gradients_of(lambda linear, x, W, B: backprop(linear, x, W), name)
    _, _, stock = gradients_of(lambda linear, x, W, B: linear.project(x, W), name)
    for got, wanted in zip(ours[:3], stock[:3]):
        assert error(got, wanted) < 1e-6
    assert np.isnan(ours[3])  # no path to B


@pytest.mark.parametrize('name', sorted(samples.SAMPLES))
def test_backprop_is_the_limit_of_differences(name):
    layer, dy, (_, dx, dW, _) = gradients_of(lambda linear, x, W, B: backprop(linear, x, W), name)
    for tag in ('one', 'two', 'three'):
        step_x, step_W = samples.array(tag + 'x', dx.shape), samples.array(tag + 'W', dW.shape)
        slope_x = oracle.slope(
            lambda x: np.sum(dy * layer.linear.project(x, layer.W)), layer.x, step_x
        )
        slope_W = oracle.slope(
            lambda W: np.sum(dy * layer.linear.project(layer.x, W)), layer.W, step_W
        )
        scale_x, scale_W = (
            np.linalg.norm(dx) * np.linalg.norm(step_x),
            np.linalg.norm(dW) * np.linalg.norm(step_W),
        )
        assert abs(np.vdot(dx, step_x) - slope_x) < TOLERANCE * scale_x
        assert abs(np.vdot(dW, step_W) - slope_W) < TOLERANCE * scale_W


# --- matmul and conv2d ----------------------------------------------------------------------------


@pytest.mark.parametrize('tie', [False, True], ids=['free', 'tied'])
def test_matmul_takes_the_backward_kernel_as_units_by_inputs(tie):
    layer = samples.layer('dense')
    dy = samples.array('dy', (4, 5))

    def build():
        x, W, B = [samples.leaf(value) for value in (layer.x, layer.W, layer.B.T)]
        y = matmul(x, W, B, tie_gradients=tie)
        found = tf.gradients(tf.reduce_sum(y * tf.constant(dy, tf.float32)), [x, W, B])
        return [y] + [tf.zeros((5, 7)) if gradient is None else gradient for gradient in found]

    y, dx, dW, dB = samples.numbers(build)
    assert error(y, layer.x @ layer.W) < TOLERANCE and error(dx, dy @ layer.B.T) < TOLERANCE
    assert error(dW, layer.x.T @ dy) < TOLERANCE
    np.testing.assert_array_equal(dB, dW.T if tie else np.zeros((5, 7)))


@pytest.mark.parametrize('name', ['conv', 'strided', 'valid'])
@pytest.mark.parametrize('tie', [False, True], ids=['free', 'tied'])
def test_conv2d_takes_both_kernels_alike(name, tie):
    def product(linear, x, W, B):
        return conv2d(
            x, W, B, strides=list(linear.strides), padding=linear.padding, tie_gradients=tie
        )

    for got, wanted in zip(
        gradients_of(product, name)[2],
        gradients_of(lambda *a: aligned(*a, tie_gradients=tie), name)[2],
    ):
        np.testing.assert_array_equal(got, wanted)


def test_conv2d_pads_and_moves_by_one_where_nothing_is_said():
    layer = samples.layer('strided')
    y = samples.numbers(
        lambda: conv2d(*[samples.leaf(value) for value in (layer.x, layer.W, layer.B)])
    )
    assert error(y, oracle.Convolution((1, 1), 'SAME').project(layer.x, layer.W)) < TOLERANCE
