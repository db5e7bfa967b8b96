"""Product feedback (pfa) and direct feedback (dfa).

The tests check the kernels, the errors, which variables change, the angles, and which layers learn.
"""

import functools

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import oracle
import samples
from alignment import measures
from alignment.view import LayerView, ViewOptions
from alignment.rules import RULES
from drawn import start
from models.layers import Layers
from models.roles import Role
from reference import error, stream
from samples import KINDS, oracle_of, unpadded

TOLERANCE = 1e-5
EXPANSION = 3
CLASSES = 11


# --- product feedback alignment -------------------------------------------------------------------


class Product:
    """One layer of a kind under pfa, in float64.

    It has W, P, R in the layout of W, B, x, y and dy, and dx, dW and dR for the loss sum(y * dy).
    """

    def __init__(self, kind):
        shape, build, self.shape, _ = KINDS[kind]
        with tf.Graph().as_default(), samples.session() as session:
            layers = Layers(RULES['pfa'](expansion=EXPANSION))
            x = tf.constant(stream('images').standard_normal(shape), tf.float32)
            with tf.variable_scope('layer'):
                build(layers, x)
            (record,) = layers.records
            self.roles, self.record = layers.roles, record
            self.trainable = {v.op.name for v in tf.trainable_variables()}
            variables = {v.op.name.rpartition('/')[2]: v for v in tf.global_variables()}
            dy = tf.constant(stream('errors').standard_normal(record.y.shape.as_list()), tf.float32)
            moved = [x] + [variables[name] for name in ('forward_kernel', 'backward_kernel')]
            start(session)
            arrays = session.run(
                [
                    record.W,
                    variables['fixed_matrix'],
                    variables['backward_kernel'],
                    record.R,
                    record.B,
                    record.x,
                    record.y,
                    dy,
                ]
                + tf.gradients(record.y, moved, dy)
            )
        arrays = [array.astype(np.float64) for array in arrays]
        (
            self.W,
            self.P,
            self.stored,
            self.R,
            self.B,
            self.x,
            self.y,
            self.dy,
            self.dx,
            self.dW,
            self.dR,
        ) = arrays


@pytest.mark.parametrize('kind', sorted(KINDS))
def test_the_error_goes_back_through_the_product(kind):
    run = Product(kind)
    units = run.shape[-1]
    assert run.P.shape == (EXPANSION * units, units) and run.R.shape == run.shape[:-1] + (
        EXPANSION * units,
    )
    np.testing.assert_array_equal(run.R, run.stored.T if kind == 'dense' else run.stored)
    linear, B = oracle_of(run.record.linear), np.einsum('...m,mu->...u', run.R, run.P)
    assert run.B.shape == run.W.shape and error(run.B, B) < TOLERANCE
    assert error(run.y, linear.project(run.x, run.W)) < TOLERANCE
    assert error(run.dx, unpadded(kind, linear.reconstruct(run.dy, B, run.x))) < TOLERANCE
    assert (
        error(run.dx, unpadded(kind, linear.reconstruct(run.dy, run.W, run.x))) > 0.1
    )  # not what backpropagation sends


@pytest.mark.parametrize('kind', sorted(KINDS))
def test_the_learned_factor_receives_the_task_gradient_through_the_fixed_one(kind):
    run = Product(kind)
    dW = oracle_of(run.record.linear).kernel_gradient(run.x, run.dy, run.W)
    assert error(run.dW, dW) < TOLERANCE
    dR = np.einsum('...u,mu->...m', dW, run.P)
    assert error(run.dR, dR.T if kind == 'dense' else dR) < TOLERANCE
    assert (
        run.trainable - {'layer/bias'} == {'layer/forward_kernel', 'layer/backward_kernel'}
        and run.roles['layer/fixed_matrix'] is Role.FIXED
    )


@pytest.mark.parametrize('update_forward', [False, True])
def test_both_factors_of_learning_decay(update_forward):
    rule = RULES['pfa'](alpha=0.3, options=ViewOptions(update_forward=update_forward))
    with tf.Graph().as_default(), samples.session() as session:
        record, R = samples.record('conv'), samples.leaf(samples.array('R', (3, 1, 2, 21)))
        loss = rule.loss(LayerView(record._replace(R=R), rule.options))
        found = tf.gradients(loss, [record.W, R, record.B])
        W, R, loss, dR = session.run([record.W, R, loss, found[1]])
        assert found[2] is None and (found[0] is not None) == update_forward
    np.testing.assert_allclose(loss, 0.3 * (np.sum(W**2) + np.sum(R**2)), TOLERANCE)
    np.testing.assert_allclose(dR, 0.6 * R, TOLERANCE)


def test_the_fixed_matrix_starts_so_that_it_keeps_the_size_of_an_error():
    with tf.Graph().as_default(), samples.session() as session:
        layers = Layers(RULES['pfa'](expansion=7), seed=1)
        layers.dense(tf.zeros([2, 13]), 50)
        session.run(tf.global_variables_initializer())
        (P,) = session.run([v for v in tf.global_variables() if v.op.name == 'fixed_matrix'])
    assert P.shape == (350, 50) and abs(P.mean()) < 0.001 and abs(P.var() * 350 - 1) < 0.03
    assert abs(np.mean(np.sum(P**2, axis=0)) - 1) < 0.03


@pytest.mark.parametrize('expansion', [1, 3, 10])
def test_where_the_factor_has_grown_like_the_forward_kernel_the_angle_is_that_of_random_matrices(
    expansion,
):
    """If R = W P^T, then B = W P^T P, whose angle to W is acos(1 / sqrt(1 + 1 / expansion))."""
    units = 60
    with tf.Graph().as_default(), samples.session() as session:
        W = stream('W').standard_normal([90, units]).astype(np.float32)
        P = (
            stream('P').standard_normal([expansion * units, units]) / np.sqrt(expansion * units)
        ).astype(np.float32)
        B = session.run(
            RULES['pfa'](expansion=expansion).backward_kernel('layer', W, W @ P.T, None, P)
        )
    assert abs(oracle.angle(W, B) - np.degrees(np.arccos(1 / np.sqrt(1 + 1 / expansion)))) < 2.5


# --- direct feedback alignment --------------------------------------------------------------------


class Direct:
    """A convolution below a layer of a kind, and the logits, as float64 arrays.

    The loss is sum(c * logits), so that e is c.
    """

    def __init__(self, kind, dtype=tf.float32, whole=False):
        self.whole = whole
        with tf.Graph().as_default(), samples.session() as session:
            layers = Layers(RULES['dfa'](undivided_error=whole), classes=CLASSES, dtype=dtype)
            shape, build, _, _ = KINDS['conv' if kind == 'dense' else kind]
            images = tf.constant(stream('images').standard_normal(shape), tf.float32)
            with tf.variable_scope('below'):
                x = layers.conv2d(images, shape[-1], 3, use_bias=True, activation='tanh')
            with tf.variable_scope('above'):
                above = (
                    layers.dense(tf.reshape(x, [shape[0], -1]), 5)
                    if kind == 'dense'
                    else build(layers, x)
                )
            with tf.variable_scope('top'):
                logits = layers.finish(
                    layers.dense(tf.reshape(tf.tanh(above), [shape[0], -1]), CLASSES)
                )
            self.e = samples.array('e', (shape[0], CLASSES))
            loss = tf.reduce_sum(tf.constant(self.e, tf.float32) * tf.cast(logits, tf.float32))
            moved = {v.op.name: v for v in tf.trainable_variables()}
            found = dict(zip(moved, tf.gradients(loss, list(moved.values()))))
            self.still = {name for name, gradient in found.items() if gradient is None}
            measured = {}
            if dtype == tf.float32:
                measured = measures.measure(measures.back(layers.records, loss, logits, whole))
            start(session)
            gradients = {name: gradient for name, gradient in found.items() if gradient is not None}
            fetched = session.run(
                [
                    [(r.W, r.direct, r.x, r.y, r.output) for r in layers.records],
                    gradients,
                    measured,
                    above,
                ]
            )
        (self.below, self.above, self.top), self.gradients, self.measures, self.output = fetched
        self.linear = [oracle_of(record.linear) for record in layers.records]
        assert all(record.B is None for record in layers.records)

    def sent(self, which):
        """Returns the error that the rule sends to the input of a layer, by the formula."""
        _, B, x, y, _ = [
            array.astype(np.float64) for array in (self.below, self.above, self.top)[which]
        ]
        e = self.e
        if y.ndim == 4:
            positions = 1 if self.whole else y.shape[1] * y.shape[2]
            e = np.broadcast_to(e[:, None, None, :] / positions, y.shape[:3] + (CLASSES,))
        return self.linear[which].reconstruct(e, B, x)


direct = functools.lru_cache(maxsize=None)(Direct)  # several tests use the numbers of a kind


@pytest.mark.slow
@pytest.mark.parametrize('whole', [False, True], ids=['divided', 'undivided'])
@pytest.mark.parametrize('kind', sorted(KINDS))
def test_the_error_of_the_logits_comes_straight_to_every_layer(kind, whole):
    run = direct(kind, whole=whole)
    at_above = unpadded(kind, run.sent(1))  # the gradient of the output of the layer below
    W, _, x, y, output = [array.astype(np.float64) for array in run.below]
    dy = at_above.reshape(output.shape) * (1 - output**2)
    assert (
        error(run.gradients['below/forward_kernel'], run.linear[0].kernel_gradient(x, dy, W))
        < TOLERANCE
    )
    assert error(run.gradients['below/bias'], dy.sum((0, 1, 2))) < TOLERANCE
    W, _, x, y, _ = [array.astype(np.float64) for array in run.above]
    dy = run.sent(2).reshape(y.shape) * (1 - np.tanh(run.output.astype(np.float64)) ** 2)
    assert (
        error(run.gradients['above/forward_kernel'], run.linear[1].kernel_gradient(x, dy, W))
        < TOLERANCE
    )
    assert (
        error(run.gradients['top/forward_kernel'], np.einsum('ni,nc->ic', run.top[2], run.e))
        < TOLERANCE
    )
    assert run.still == {name + '/backward_kernel' for name in ('below', 'above', 'top')}


@pytest.mark.slow
@pytest.mark.parametrize('kind', sorted(KINDS))
def test_kernels_lead_from_the_classes_to_the_inputs(kind):
    run = direct(kind)
    assert all(
        B.shape == W.shape[:-1] + (CLASSES,) for W, B, _, _, _ in (run.below, run.above, run.top)
    )


@pytest.mark.parametrize('whole', [False, True], ids=['divided', 'undivided'])
@pytest.mark.parametrize('kind', sorted(KINDS))
def test_angles_are_between_what_the_rule_sends_and_what_the_forward_kernel_would(kind, whole):
    run = direct(kind, whole=whole)
    for name in ('weight_angles', 'projection_angles', 'norm_ratios'):
        assert run.measures[name] == {}
    found = run.measures['gradient_angles']
    assert set(found) == {'below', 'above', 'top'}
    W, _, x, _, _ = [array.astype(np.float64) for array in run.top]
    by_W = {'top': np.einsum('nc,ic->ni', run.e, W)}
    W, _, x, y, _ = [array.astype(np.float64) for array in run.above]
    dy = run.sent(2).reshape(y.shape) * (1 - np.tanh(run.output.astype(np.float64)) ** 2)
    by_W['above'] = run.linear[1].reconstruct(dy, W, x)
    ratios = run.measures['gradient_norm_ratios']
    for which, layer in ((2, 'top'), (1, 'above')):
        sent = run.sent(which)
        assert abs(found[layer] - oracle.angle(sent, by_W[layer])) < 1e-2
        wanted = np.linalg.norm(sent) / np.linalg.norm(by_W[layer])
        np.testing.assert_allclose(ratios[layer], wanted, 1e-4)


def test_in_a_narrower_type():
    wide, narrow = direct('stride 2'), Direct('stride 2', tf.float16)
    names = {f'{layer}/forward_kernel' for layer in ('below', 'above', 'top')} | {'below/bias'}
    assert names <= set(wide.gradients) == set(narrow.gradients)
    for name, gradient in wide.gradients.items():
        assert (
            narrow.gradients[name].dtype == np.float32
            and error(narrow.gradients[name], gradient) < 0.02
        )


def test_errors_of_several_layers_of_one_input_add_up_with_those_of_a_shortcut():
    with tf.Graph().as_default(), samples.session() as session:
        layers = Layers(RULES['dfa'](), classes=3)
        x = tf.constant(samples.array('x', (4, 3)), tf.float32)
        with tf.variable_scope('one'):
            one = layers.dense(x, 3)
        with tf.variable_scope('two'):
            two = layers.dense(x, 3)
        e = samples.array('e', (4, 3))
        (dx,) = tf.gradients(layers.finish(one * two + 2.0 * x), x, tf.constant(e, tf.float32))
        start(session)
        dx, B, other = session.run([dx] + [record.direct for record in layers.records])
    assert error(dx, e @ B.T + e @ other.T + 2.0 * e) < TOLERANCE


def descent(rule, hidden, steps=300, rate=0.1):
    """Returns the squared error of a network before and after gradient descent.

    `hidden` tells whether the lower layers are trained.
    """
    with tf.Graph().as_default(), samples.session() as session:
        layers = Layers(RULES[rule](), seed=5, classes=6)
        x = tf.constant(stream('images').standard_normal((40, 9)), tf.float32)
        target = tf.constant(
            np.sin(
                stream('targets').standard_normal((9, 6)).T
                @ stream('images').standard_normal((40, 9)).T
            ).T
        )
        for name, units in (('one', 17), ('two', 15)):
            with tf.variable_scope(name):
                x = layers.dense(x, units, activation='tanh')
        with tf.variable_scope('three'):
            y = layers.finish(layers.dense(x, 6))
        loss = tf.reduce_mean(tf.reduce_sum(tf.square(y - tf.cast(target, tf.float32)), axis=1))
        moving = [v for v in tf.trainable_variables() if hidden or v.op.name.startswith('three')]
        pairs = [
            (v, gradient)
            for v, gradient in zip(moving, tf.gradients(loss, moving))
            if gradient is not None
        ]
        update = tf.group(*[v.assign_sub(rate * gradient) for v, gradient in pairs])
        session.run(tf.global_variables_initializer())
        first = session.run(loss)
        for _ in range(steps):
            session.run(update)
        return first, session.run(loss)


@pytest.mark.slow
@pytest.mark.parametrize('rule', ['dfa', 'pfa'])
def test_lower_layers_learn(rule):
    first, last = descent(rule, hidden=True)
    _, top_alone = descent(rule, hidden=False)
    assert last < 0.5 * top_alone < first
