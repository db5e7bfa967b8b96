"""The rules that compute B from the signs of W.

The tests check the kernels, the errors that go back through them, which variables change, and which
layers learn.
"""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import samples
from alignment.gradients import Convolution, Dense
from alignment.rules import RULES
from models.layers import Layers
from reference import error, stream, variable
from samples import KINDS, oracle_of, unpadded

SIGNS = ('usf', 'frsf', 'brsf')
TOLERANCE = 1e-5
SEED = 5


class Run:
    """One layer of a kind under a rule, with its values in float64.

    It has W, K (the kernel that errors go back through), M (the variable of B in the layout of W,
    or None), x, y and dy, and dx and dW for the loss sum(y * dy). `record` is its LayerRecord.
    """

    def __init__(self, rule, kind, step=0, seed=SEED, zeros=False, name='layer'):
        shape, build, _, _ = KINDS[kind]
        with tf.Graph().as_default(), samples.session() as session:
            layers = Layers(RULES[rule](seed=seed, step=step))
            x = tf.constant(stream('images').standard_normal(shape), tf.float32)
            with tf.variable_scope(name):
                build(layers, x)
            (record,) = layers.records
            dy = tf.constant(stream('errors').standard_normal(record.y.shape.as_list()), tf.float32)
            variables = {
                v.op.name: v for v in tf.trainable_variables() if v.op.name.endswith('kernel')
            }
            found = tf.gradients(record.y, [x] + list(variables.values()), dy)
            self.moved = {
                name for name, gradient in zip(variables, found[1:]) if gradient is not None
            }
            assert tf.gradients(record.B, list(variables.values())) == [None] * len(variables)
            for key, v in variables.items():
                value = variable('layer/' + key.rpartition('/')[2], v.shape.as_list())
                if zeros and key.endswith('forward_kernel'):
                    value.ravel()[::3] = 0
                v.load(value, session)
            M = [v for key, v in variables.items() if key.endswith('backward_kernel')]
            dW = found[1 + list(variables).index(name + '/forward_kernel')]
            arrays = session.run([record.W, record.B, record.x, record.y, dy, found[0], dW] + M)
        arrays = [array.astype(np.float64) for array in arrays]
        self.W, self.K, self.x, self.y, self.dy, self.dx, self.dW = arrays[:7]
        self.M = (arrays[7].T if kind == 'dense' else arrays[7]) if M else None
        self.variables, self.record = set(variables), record
        assert self.W.shape == self.K.shape == KINDS[kind][2]


@pytest.mark.parametrize('kind', sorted(KINDS))
@pytest.mark.parametrize('rule', SIGNS)
def test_the_error_goes_back_through_the_kernel_of_the_rule(rule, kind):
    run = Run(rule, kind)
    linear = oracle_of(run.record.linear)
    assert isinstance(run.record.linear, Dense if kind == 'dense' else Convolution)
    magnitude = {
        'usf': KINDS[kind][3],
        'frsf': np.abs(run.M) if rule == 'frsf' else None,
        'brsf': np.abs(run.K),
    }[rule]
    K = magnitude * np.sign(run.W)
    assert error(run.K, K) < TOLERANCE
    dx = linear.reconstruct(run.dy, K, run.x)
    assert error(run.dx, unpadded(kind, dx)) < TOLERANCE
    assert error(run.y, linear.project(run.x, run.W)) < TOLERANCE
    assert error(run.dW, linear.kernel_gradient(run.x, run.dy, run.W)) < TOLERANCE
    wrong = linear.reconstruct(run.dy, run.W, run.x)
    assert error(run.dx, unpadded(kind, wrong)) > 0.1  # not what backpropagation sends


@pytest.mark.parametrize('kind', sorted(KINDS))
@pytest.mark.parametrize('rule', SIGNS)
def test_which_variables_there_are_and_which_the_task_moves(rule, kind):
    run = Run(rule, kind)
    forward = {'layer/forward_kernel'}
    assert run.variables == (forward | {'layer/backward_kernel'} if rule == 'frsf' else forward)
    assert run.moved == forward


@pytest.mark.parametrize('rule', SIGNS)
def test_where_a_weight_is_0_no_error_goes_back(rule):
    run = Run(rule, 'conv', zeros=True)
    assert np.array_equal(run.K == 0, run.W == 0) and np.any(run.W == 0)


# --- draws at every step --------------------------------------------------------------------------


def test_magnitudes_are_uniform_and_their_mean_square_is_that_of_the_kernel():
    size = KINDS['conv'][3]
    drawn = np.concatenate([np.abs(Run('brsf', 'conv', step).K).ravel() for step in range(20)])
    assert len(drawn) == 20 * 126 and len(np.unique(drawn)) > 0.99 * len(drawn)
    assert 0 <= drawn.min() < 0.01 * size and 1.71 * size < drawn.max() <= np.sqrt(3) * size * (
        1 + 1e-6
    )
    assert abs(np.mean(drawn**2) / size**2 - 1) < 0.06
    counts, _ = np.histogram(drawn, bins=6, range=(0, np.sqrt(3) * size))
    assert np.all(np.abs(counts / len(drawn) * 6 - 1) < 0.2)


def test_the_draw_depends_on_the_seed_the_step_and_the_layer_alone():
    first = Run('brsf', 'conv', step=3).K
    np.testing.assert_array_equal(first, Run('brsf', 'conv', step=3).K)
    for other in (
        Run('brsf', 'conv', step=4),
        Run('brsf', 'conv', step=3, seed=6),
        Run('brsf', 'conv', step=3, name='next'),
    ):
        assert np.mean(np.abs(other.K) == np.abs(first)) < 0.02
        assert abs(np.corrcoef(np.abs(other.K).ravel(), np.abs(first).ravel())[0, 1]) < 0.3


def test_the_step_may_be_a_tensor():
    numbers = []
    for rule in (RULES['brsf'](seed=SEED, step=3), None):
        with tf.Graph().as_default(), samples.session() as session:
            rule = rule or RULES['brsf'](seed=SEED, step=tf.constant(3, tf.int64))
            numbers.append(session.run(rule.backward_kernel('layer', tf.ones((3, 5)), None, 0.5)))
    np.testing.assert_array_equal(*numbers)
    assert len(np.unique(numbers[0])) == 15


# --- learning -------------------------------------------------------------------------------------


def descent(rule, steps=150, rate=0.2):
    """Returns the squared error of two convolutions under a dense layer before and after descent.

    The dense layer stays fixed. All that the convolutions learn from comes through its backward
    kernel and, for the first convolution, through one more backward kernel.
    """
    with tf.Graph().as_default(), samples.session() as session:
        step = tf.get_variable('step', (), tf.int32, tf.zeros_initializer(), trainable=False)
        layers = Layers(RULES[rule](seed=SEED, step=step.read_value()), seed=SEED)
        x = tf.constant(stream('images').standard_normal((11, 7, 5, 3)), tf.float32)
        for name, filters in (('one', 6), ('two', 4)):
            with tf.variable_scope(name):
                x = layers.conv2d(x, filters, 3, activation='tanh')
        with tf.variable_scope('three'):
            y = layers.dense(tf.reshape(x, [11, -1]), 13)
        loss = tf.reduce_mean(
            tf.square(y - tf.constant(stream('targets').standard_normal((11, 13)), tf.float32))
        )
        moved = [
            v
            for v in tf.trainable_variables()
            if v.op.name in ('one/forward_kernel', 'two/forward_kernel')
        ]
        slopes = tf.gradients(loss, moved)
        with tf.control_dependencies(slopes):
            update = tf.group(
                step.assign_add(1), *[v.assign_sub(rate * slope) for v, slope in zip(moved, slopes)]
            )
        session.run(tf.global_variables_initializer())
        first = session.run(loss)
        for _ in range(steps):
            session.run(update)
        return first, session.run(loss)


@pytest.mark.slow
@pytest.mark.parametrize('rule', SIGNS)
def test_layers_learn_by_errors_that_come_through_the_signs(rule):
    first, last = descent(rule)
    assert last < 0.1 * first


def test_layers_below_one_that_stands_still_do_not_learn_by_feedback():
    first, last = descent('feedback')
    assert last > first
