"""Angles between kernels, projections and gradients, and sizes, layer by layer."""
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import oracle
import samples
from alignment import angles
from alignment.gradients import Dense, aligned
from reference import error, stream

ANGLES = ('weight_angles', 'projection_angles', 'gradient_angles')
SIZES = ('weightsq_norm', 'weightsq_mean', 'actsq_norm', 'actsq_mean')
DEGREES = 0.05  # near 0 and 180 degrees a float32 cosine tells no less


def degrees(a, b):
    return samples.numbers(lambda: angles.angle(tf.constant(a, tf.float32), tf.constant(b, tf.float32)))


@pytest.mark.parametrize('shape', [(1,), (7,), (3, 5), (2, 3, 5, 4)], ids=str)
def test_an_angle_is_that_of_the_flat_arrays(shape):
    a, b = samples.array('a', shape), samples.array('b', shape)
    assert abs(degrees(a, b) - oracle.angle(a, b)) < (1e-3 if len(shape) > 1 else DEGREES)
    assert abs(degrees(a, 3 * a)) < DEGREES and abs(degrees(a, -0.5 * a) - 180) < DEGREES


def test_orthogonal_arrays_are_at_ninety_degrees_and_a_zero_array_is_no_nan():
    across = np.zeros((3, 5))
    across[:, 2] = 1
    along = np.ones((3, 5)) - across
    assert abs(degrees(across, along) - 90) < 1e-3 and abs(degrees(across, across + along) - 63.4349) < 1e-3
    assert degrees(np.zeros((3, 5)), across) == 90


def task(record):
    """A loss whose gradient with respect to the layer's output is not the same everywhere."""
    return tf.reduce_sum(record.y * tf.constant(error_signal(record.name), tf.float32))


def error_signal(name):
    layer = samples.layer(name)
    return samples.array(name + '/dy', layer.linear.project(layer.x, layer.W).shape)


@pytest.mark.parametrize('name', sorted(samples.SAMPLES))
def test_what_a_validation_reports_of_a_layer(name):
    layer, dy = samples.layer(name), error_signal(name)

    def build():
        record = samples.record(name)
        return dict(angles.measure([record], task(record)), output={name: record.output})
    got = {measure: values[name] for measure, values in samples.numbers(build).items()}
    project, reconstruct = layer.linear.project, layer.linear.reconstruct
    y = project(layer.x, layer.W) if layer.bias is None else layer.linear.add_bias(project(layer.x, layer.W), layer.bias)
    output = oracle.ACTIVATIONS[layer.activation](y) if layer.activation else y
    assert error(got.pop('output'), output) < 1e-5
    wanted = dict(
        weight_angles=oracle.angle(layer.W, layer.B),
        projection_angles=oracle.angle(project(layer.x, layer.W), project(layer.x, layer.B)),  # without the bias
        gradient_angles=oracle.angle(reconstruct(dy, layer.B, layer.x), reconstruct(dy, layer.W, layer.x)),
        hebb_angle=0.0, weightsq_norm=np.sum(layer.W ** 2), weightsq_mean=np.mean(layer.W ** 2),
        actsq_norm=np.sum(output ** 2), actsq_mean=np.mean(output ** 2))
    assert set(got) == set(wanted)
    for measure in wanted:
        np.testing.assert_allclose(got[measure], wanted[measure], 1e-5, err_msg=measure)


@pytest.mark.parametrize('sign, angle', [(1, 0), (-1, 180)])
def test_kernels_that_are_equal_or_opposite(sign, angle):
    def build():
        record = samples.record('conv', B=sign * samples.layer('conv').W)
        return angles.measure([record], task(record))
    measured = samples.numbers(build)
    for measure in ANGLES:
        assert abs(measured[measure]['conv'] - angle) < DEGREES, measure


def test_a_layer_without_a_backward_kernel_has_sizes_but_no_angles():
    def build():
        records = [samples.record('dense', backward=False), samples.record('conv')]
        return angles.measure(records, tf.add_n([task(record) for record in records]))
    measured = samples.numbers(build)
    assert {measure: set(values) for measure, values in measured.items()} == dict(
        {measure: {'conv'} for measure in ANGLES}, **{measure: {'dense', 'conv'} for measure in SIZES + ('hebb_angle',)})


def test_without_any_backward_kernel_there_are_no_angles():
    def build():
        record = samples.record('dense', backward=False)
        return angles.measure([record], task(record))
    measured = samples.numbers(build)
    assert all(measured[measure] == {} for measure in ANGLES) and set(measured['actsq_mean']) == {'dense'}


def test_the_error_is_the_one_that_arrives_at_the_layer():
    """Two layers: the lower one's gradient angle belongs to the error that the upper one's B has sent down."""
    W, B = [stream('upper' + which).standard_normal((5, 3)) for which in 'WB']

    def build():
        record = samples.record('dense')
        y = aligned(Dense(), record.output, samples.leaf(W), samples.leaf(B))
        return angles.measure([record], tf.reduce_sum(tf.square(y))), record.output
    measured, output = samples.numbers(build)
    layer = samples.layer('dense')
    dy = 2 * (output @ W) @ B.T * output * (1 - output)  # of the sigmoid, at the product before the bias
    wanted = oracle.angle(dy @ layer.B.T, dy @ layer.W.T)
    assert abs(measured['gradient_angles']['dense'] - wanted) < 1e-2
