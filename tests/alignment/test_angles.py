"""Angles between kernels, projections and gradients, and sizes of weights and activities."""

import functools

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import oracle
import samples
import tiers
from alignment import angles, measures
from alignment.gradients import Dense, aligned
from reference import error, stream

ANGLES = ('weight_angles', 'projection_angles', 'gradient_angles')
RATIOS = ('norm_ratios', 'gradient_norm_ratios')
SIZES = ('weightsq_norm', 'weightsq_mean', 'actsq_norm', 'actsq_mean', 'activity_norms')
DEGREES = 2e-5  # the rounding error of float32


def degrees(a, b):
    return samples.numbers(lambda: angles.angle(vector(a), vector(b)))


def vector(x):
    return angles.Vector(tf.constant(x, tf.float32))


@pytest.mark.parametrize('shape', [(1,), (7,), (3, 5), (2, 3, 5, 4)], ids=str)
def test_an_angle_is_that_of_the_flat_arrays(shape):
    a, b = samples.array('a', shape), samples.array('b', shape)
    assert abs(degrees(a, b) - oracle.angle(a, b)) < DEGREES
    assert abs(degrees(a, 3 * a)) < DEGREES and abs(degrees(a, -0.5 * a) - 180) < DEGREES


def test_orthogonal_arrays_are_at_ninety_degrees():
    across = np.zeros((3, 5))
    across[:, 2] = 1
    along = np.ones((3, 5)) - across
    assert (
        abs(degrees(across, along) - 90) < DEGREES
        and abs(degrees(across, across + along) - 63.434949) < DEGREES
    )


@functools.lru_cache(maxsize=1)
def basis(size):
    """Returns two orthogonal float64 unit vectors."""
    x, y = [stream(f'angle {size} {which}').standard_normal(size) for which in 'xy']
    x /= np.linalg.norm(x)
    y -= x * (x @ y)
    return x, y / np.linalg.norm(y)


def pair(size, theta):
    """Returns two float64 unit vectors at an angle, in degrees."""
    x, y = basis(size)
    return x, np.cos(np.radians(theta)) * x + np.sin(np.radians(theta)) * y


THETAS = (0.0, 1e-4, 0.03, 37.0, 90.0, 179.97, 180.0)
LENGTHS = [(1.0, 1.0), (1e-30, 1e-30), (1e-6, 3e-8), (3e19, 1e-30), (1e30, 1e30)]


@pytest.mark.parametrize(
    'size, thetas, lengths',
    [(size, THETAS, LENGTHS) for size in (3, 257, 66049)]
    + [(3000017, (1e-4, 37.0, 180.0), LENGTHS[:1])]
    + tiers.at_night((3000017, THETAS, LENGTHS[:2])),
    ids=lambda value: str(value) if isinstance(value, int) else str(len(value)),
)  # around powers of BLOCK
def test_angles_are_right_whatever_the_lengths(size, thetas, lengths):
    """The angles of float32 vectors equal those in long doubles, if the processor has them."""
    with tf.Graph().as_default(), samples.session() as session:
        a, b = [tf.placeholder(tf.float32, [size]) for _ in 'ab']
        angle = angles.angle(angles.Vector(a), angles.Vector(b))
        for both in lengths:
            for theta in thetas:
                vectors = [
                    (length * vector).astype(np.float32)
                    for length, vector in zip(both, pair(size, theta))
                ]
                wanted = oracle.angle(*vectors)
                assert (
                    abs(wanted - theta) < 1e-5
                    and abs(session.run(angle, {a: vectors[0], b: vectors[1]}) - wanted) < DEGREES
                )


@pytest.mark.slow
def test_sums_of_millions_do_not_drift():
    """All numbers are positive, so their squares add up without cancelling."""
    a = np.abs(stream('millions').standard_normal(3000017)).astype(np.float32)
    b = a[::-1].copy()
    assert abs(degrees(a, b) - oracle.angle(a, b)) < DEGREES
    assert abs(degrees(a, np.float32(3) * a) - oracle.angle(a, np.float32(3) * a)) < DEGREES


def test_elements_that_are_nearly_nothing():
    """Denormal numbers, which TensorFlow treats as zero on CPUs, do not change an angle.

    Vectors that have no other elements have no angle.
    """
    a = np.array([1e-30, 1e-40, -1e-39, 0, 1e-31], np.float32)
    assert abs(degrees(a, a[::-1]) - oracle.angle(a, a[::-1])) < DEGREES and degrees(a, a) < DEGREES
    tiny = np.float32(1e-41) * np.arange(1, 8, dtype=np.float32)
    found = degrees(tiny, tiny[::-1])
    assert np.isnan(found) or abs(found - oracle.angle(tiny, tiny[::-1])) < 0.1


@pytest.mark.parametrize('bad', [0.0, np.inf, -np.inf, np.nan], ids=str)
@pytest.mark.parametrize('whole', [True, False], ids=['all', 'one'])
def test_where_there_is_no_angle_it_is_nan(bad, whole):
    vector, other = np.full(7, bad) if whole else np.arange(7.0), np.ones(7)
    vector[3] = bad
    is_nan = [
        np.isnan(degrees(*both))
        for both in ((vector, other), (other, vector), (vector, vector), (-vector, vector))
    ]
    assert is_nan == [whole or bad != 0] * 4


def measured(records, loss):
    """Returns the measures of the layers of a network by themselves."""
    return measures.measure(measures.back(records, loss))


def task(record):
    """Returns a loss whose gradient with respect to the layer's output differs between elements."""
    return tf.reduce_sum(record.y * tf.constant(error_signal(record.name), tf.float32))


def error_signal(name):
    layer = samples.layer(name)
    return samples.array(name + '/dy', layer.linear.project(layer.x, layer.W).shape)


@pytest.mark.parametrize('name', sorted(samples.SAMPLES))
def test_what_a_validation_reports_of_a_layer(name):
    layer, dy = samples.layer(name), error_signal(name)

    def build():
        record = samples.record(name)
        return dict(measured([record], task(record)), output={name: record.output})

    got = {measure: values[name] for measure, values in samples.numbers(build).items()}
    project, reconstruct = layer.linear.project, layer.linear.reconstruct
    y = (
        project(layer.x, layer.W)
        if layer.bias is None
        else layer.linear.add_bias(project(layer.x, layer.W), layer.bias)
    )
    output = oracle.ACTIVATIONS[layer.activation](y) if layer.activation else y
    assert error(got.pop('output'), output) < 1e-5
    wanted = dict(
        weight_angles=oracle.angle(layer.W, layer.B),
        projection_angles=oracle.angle(
            project(layer.x, layer.W), project(layer.x, layer.B)
        ),  # excludes the bias
        gradient_angles=oracle.angle(
            reconstruct(dy, layer.B, layer.x), reconstruct(dy, layer.W, layer.x)
        ),
        norm_ratios=np.linalg.norm(layer.B) / np.linalg.norm(layer.W),
        gradient_norm_ratios=np.linalg.norm(reconstruct(dy, layer.B, layer.x))
        / np.linalg.norm(reconstruct(dy, layer.W, layer.x)),
        hebb_angle=0.0,
        weightsq_norm=np.sum(layer.W**2),
        weightsq_mean=np.mean(layer.W**2),
        actsq_norm=np.sum(output**2),
        actsq_mean=np.mean(output**2),
        activity_norms=np.mean([np.linalg.norm(image) for image in output]),
    )
    assert set(got) == set(wanted)
    for measure in wanted:
        np.testing.assert_allclose(got[measure], wanted[measure], 1e-5, err_msg=measure)


@pytest.mark.parametrize('sign, angle', [(1, 0), (-1, 180)])
def test_kernels_that_are_equal_or_opposite(sign, angle):
    def build():
        record = samples.record('conv', B=sign * samples.layer('conv').W)
        return measured([record], task(record))

    found = samples.numbers(build)
    for measure in ANGLES:
        assert abs(found[measure]['conv'] - angle) < DEGREES, measure
    for measure in RATIOS:
        assert abs(found[measure]['conv'] - 1) < 1e-6, measure


def test_a_layer_without_a_backward_kernel_has_sizes_but_no_angles():
    def build():
        records = [samples.record('dense', backward=False), samples.record('conv')]
        return measured(records, tf.add_n([task(record) for record in records]))

    found = samples.numbers(build)
    assert {measure: set(values) for measure, values in found.items()} == dict(
        {measure: {'conv'} for measure in ANGLES + RATIOS},
        **{measure: {'dense', 'conv'} for measure in SIZES + ('hebb_angle',)},
    )


def test_without_any_backward_kernel_there_are_no_angles():
    def build():
        record = samples.record('dense', backward=False)
        return measured([record], task(record))

    found = samples.numbers(build)
    assert all(found[measure] == {} for measure in ANGLES + RATIOS) and set(
        found['actsq_mean']
    ) == {'dense'}


def test_the_error_is_the_one_that_arrives_at_the_layer():
    """The lower layer's gradient angle uses the error that the upper layer's B sends."""
    W, B = [stream('upper' + which).standard_normal((5, 3)) for which in 'WB']

    def build():
        record = samples.record('dense')
        y = aligned(Dense(), record.output, samples.leaf(W), samples.leaf(B))
        return measured([record], tf.reduce_sum(tf.square(y))), record.output

    found, output = samples.numbers(build)
    layer = samples.layer('dense')
    dy = (
        2 * (output @ W) @ B.T * output * (1 - output)
    )  # the derivative of the sigmoid, at the product before the bias
    wanted = oracle.angle(dy @ layer.B.T, dy @ layer.W.T)
    assert abs(found['gradient_angles']['dense'] - wanted) < 1e-2
