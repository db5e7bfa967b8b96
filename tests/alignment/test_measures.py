"""What a validation reports of errors, over a whole network, and of tensors as vectors.

The oracle computes the backward pass twice in NumPy: through the kernels of the rule, and through
the forward kernels of all layers.
"""

import functools

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import kinds
import samples
from alignment import angles, measures
from alignment.rules import RULES
from database.layout import SIGNALS
from drawn import start
from models.layers import Layers
from reference import stream
from training import checkpoints

IMAGES, CLASSES = (5, 9, 8, 2), 7
NAMES = ['first', 'second', 'third', 'fourth']
RELATIVE = 2e-4
SLOPES = {  # the derivative of a non-linearity, by its output
    'tanh': lambda output: 1 - output**2,
    'relu': lambda output: output > 0,
    'sigmoid': lambda output: output * (1 - output),
    None: np.ones_like,
}
FOLLOWED_BY = dict(zip(NAMES, ['tanh', 'relu', 'sigmoid', None]))


# --- tensors --------------------------------------------------------------------------------------


def value(function, *arrays):
    return samples.numbers(
        lambda: function(*[angles.Vector(tf.constant(array, tf.float32)) for array in arrays])
    )


@pytest.mark.parametrize('scale', [1e-30, 1.0, 1e30], ids=str)
def test_a_norm_neither_overflows_nor_underflows(scale):
    x = samples.array('norm', (3, 7))
    found = value(lambda vector: vector.norm, scale * x)
    np.testing.assert_allclose(found, scale * np.linalg.norm(x), 1e-6)
    assert value(lambda vector: vector.norm, 0 * x) == 0


def test_zeros_have_no_sign():
    b = [3.0, -2.0, 0.0, 1e-30, -5.0, 0.0, 4.0]
    assert value(angles.sign_agreement, [1.0, -1.0, 7.0, 1.0, 2.0, 0.0, 0.0], b) == np.float32(0.6)
    assert value(angles.sign_agreement, b, b) == 1
    assert value(angles.sign_agreement, [-x for x in b], b) == 0


@pytest.mark.parametrize('bad', [0.0, np.inf, np.nan], ids=str)
def test_where_a_measure_is_undefined_it_is_nan(bad):
    vector, other = np.full(6, bad), np.arange(6.0)
    for function in (angles.cosine, angles.sign_agreement):
        assert np.isnan(value(function, vector, other)) and np.isnan(value(function, other, vector))
    assert np.isnan(value(lambda x: angles.participation_ratio(x, 2), vector))


@pytest.mark.parametrize('scale', [1e-25, 1.0, 1e25], ids=str)
@pytest.mark.parametrize('shape', [(5, 3, 7), (7, 3), (1, 5), (6, 1)], ids=str)
def test_an_effective_rank_is_that_of_the_singular_values(shape, scale):
    x = samples.array('rank', shape)
    found = value(lambda vector: angles.participation_ratio(vector, shape[0]), scale * x)
    np.testing.assert_allclose(found, rank(x), 1e-5)


def test_an_effective_rank_counts_equal_directions():
    rows = np.eye(5)[[0, 0, 1, 2, 2, 1]]  # three directions, of two images each
    assert value(lambda x: angles.participation_ratio(x, 6), rows) == pytest.approx(3, rel=1e-6)
    single = np.outer(np.arange(1.0, 5.0), np.arange(1.0, 8.0))
    assert value(lambda x: angles.participation_ratio(x, 4), single) == pytest.approx(1, rel=1e-6)


# --- networks -------------------------------------------------------------------------------------


class Network:
    """Two convolutions and two dense layers under a rule, as float64 arrays, and their measures.

    Attributes:
        layers: {layer: (W, the kernel that its error goes back through, x, y, output)}.
    """

    def __init__(self, name, same_kernels=False, **settings):
        self.rule = RULES[name](seed=11, **settings) if name else None
        self.images = stream('images').standard_normal(IMAGES)
        self.labels = stream('labels').randint(0, CLASSES, IMAGES[0])
        with tf.Graph().as_default(), tf.Session() as session:
            used = self._build(self.rule)
            backprop = self._build(None) if self.rule else used
            found = dict(measures.measure(used), **measures.compare(used, backprop))
            start(session)
            if same_kernels:
                _equate(session)
            arrays, self.found = session.run(
                [
                    {
                        r.name: [r.W, _kernel(r), r.x, r.y, r.output, error]
                        for r, error in zip(used.records, used.errors)
                    },
                    {name: found[name] for name in SIGNALS},
                ]
            )
            self.linear = {r.name: samples.oracle_of(r.linear) for r in used.records}
        self.layers = {
            name: [array.astype(np.float64) for array in arrays[name][:5]] for name in NAMES
        }

    def _build(self, rule):
        with tf.variable_scope('', reuse=tf.AUTO_REUSE):
            layers = Layers(rule, classes=CLASSES, seed=11)
            x = tf.constant(self.images, tf.float32)
            with tf.variable_scope('first'):
                x = layers.conv2d(x, 3, size=3, stride=2, use_bias=True, activation='tanh')
            with tf.variable_scope('second'):
                x = layers.conv2d(x, 4, size=2, activation='relu')
            with tf.variable_scope('third'):
                x = layers.dense(layers.flatten(x), 6, activation='sigmoid')
            with tf.variable_scope('fourth'):
                logits = layers.finish(layers.dense(x, CLASSES))
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=self.labels, logits=logits)
        undivided = rule is not None and rule.sends_whole_error
        return measures.back(layers.records, tf.reduce_mean(losses), logits, undivided)

    @property
    def at_logits(self):
        """The gradient of the mean loss with respect to the logits."""
        logits = self.layers['fourth'][4]
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        return (shares - np.eye(CLASSES)[self.labels]) / len(self.labels)

    def sent(self, name, dy, through_W):
        """Returns the input gradient of a layer, through W or as the rule sends it."""
        W, B, x, y, _ = self.layers[name]
        if through_W or self.rule is None or not self.rule.is_direct:
            return self.linear[name].reconstruct(dy, W if through_W else B, x)
        e = self.at_logits
        if y.ndim == 4:
            positions = 1 if self.rule.sends_whole_error else y.shape[1] * y.shape[2]
            e = np.broadcast_to(e[:, None, None, :] / positions, y.shape[:3] + (CLASSES,))
        return self.linear[name].reconstruct(e, B, x)

    def errors(self, through_W):
        """Returns {layer: dy}, of a pass that goes back through W or as the rule sends it."""
        found = {}
        dx = self.at_logits
        for name in reversed(NAMES):
            _, _, _, y, output = self.layers[name]
            found[name] = dx.reshape(y.shape) * SLOPES[FOLLOWED_BY[name]](output)
            dx = self.sent(name, found[name], through_W)
        return found

    def check(self, measure, wanted, relative=RELATIVE):
        """Compares a measure of all layers with {layer: number}."""
        found = self.found[measure]
        assert set(found) == set(wanted)
        for name in wanted:
            np.testing.assert_allclose(found[name], wanted[name], relative, 1e-6, err_msg=name)


def _kernel(record):
    kernels = (record.B, record.direct, record.W)
    return next(kernel for kernel in kernels if kernel is not None)


def _equate(session):
    """Gives every backward kernel the values of the forward kernel of its layer."""
    variables = {v.op.name: v for v in tf.global_variables()}
    for name in NAMES:
        W = session.run(variables[name + '/forward_kernel'])
        # Checkpoints store a dense backward kernel transposed.
        B = W.T if W.ndim == 2 else W
        checkpoints.assign(session, {variables[name + '/backward_kernel']: B})


def rank(x):
    squares = np.linalg.svd(x.reshape(len(x), -1), compute_uv=False) ** 2
    return squares.sum() ** 2 / (squares**2).sum()


def unit(x):
    return x / np.linalg.norm(x)


def ratio(a, b):
    return np.linalg.norm(a) / np.linalg.norm(b)


network = functools.lru_cache(maxsize=None)(Network)  # several tests use one of them
FAST = 'symmetric'
VARIANTS = [
    pytest.param(rule, marks=pytest.mark.slow) if isinstance(rule, str) and rule != FAST else rule
    for rule in kinds.rules(backprop=False)
] + [pytest.param(('dfa', 'undivided'), id='dfa-undivided')]


def of(variant):
    if isinstance(variant, tuple):
        return network('dfa', undivided_error=True)
    return network(variant)


@pytest.mark.parametrize('variant', VARIANTS)
def test_errors_are_compared_with_those_of_a_whole_backward_pass_through_W(variant):
    made = of(variant)
    used, backprop = made.errors(False), made.errors(True)
    made.check(
        'gradient_cosines',
        {n: np.vdot(unit(used[n]), unit(backprop[n])) for n in NAMES},
    )
    for name in NAMES:
        there = backprop[name] != 0
        assert there.all() == (name in ('third', 'fourth'))  # a ReLU sets errors to 0
        one, other = used[name][there], backprop[name][there]
        same = np.sign(one) == np.sign(other)
        # The sign of the smallest elements depends on rounding.
        sure = np.minimum(np.abs(unit(one)), np.abs(unit(other))) > 1e-6
        share = made.found['gradient_sign_agreements'][name]
        assert np.mean(same & sure) - 1e-6 < share < np.mean(same | ~sure) + 1e-6
        assert np.mean(~sure) < 0.02
    assert made.found['gradient_cosines']['fourth'] == pytest.approx(1, abs=1e-6)
    assert made.found['gradient_cosines']['first'] < 0.9


@pytest.mark.parametrize('variant', [pytest.param(None, id='None'), *VARIANTS])
def test_sizes_and_ranks_are_those_of_all_images(variant):
    made = of(variant)
    used, backprop = made.errors(False), made.errors(True)
    images = IMAGES[0]
    sizes = {
        name: np.sqrt(np.mean([np.sum((images * image) ** 2) for image in backprop[name]]))
        for name in NAMES
    }
    made.check('backprop_gradient_sizes', sizes)
    made.check('error_ranks', {name: rank(used[name]) for name in NAMES})
    outputs = {name: made.layers[name][4] for name in NAMES}
    made.check(
        'activity_norms',
        {name: np.mean([np.linalg.norm(image) for image in outputs[name]]) for name in NAMES},
    )


@pytest.mark.parametrize('variant', VARIANTS)
def test_ratios_are_those_of_the_kernels_and_gradients_as_used(variant):
    made = of(variant)
    used = made.errors(False)
    has_B = not made.rule.is_direct
    made.check(
        'norm_ratios', {n: ratio(made.layers[n][1], made.layers[n][0]) for n in NAMES if has_B}
    )
    made.check(
        'gradient_norm_ratios',
        {n: ratio(made.sent(n, used[n], False), made.sent(n, used[n], True)) for n in NAMES},
    )


def test_under_backpropagation_nothing_is_compared():
    found = network(None).found
    for name in ('norm_ratios', 'gradient_norm_ratios', 'gradient_cosines'):
        assert found[name] == found['gradient_sign_agreements'] == {}


@pytest.mark.slow
@pytest.mark.parametrize('name', ['kolen_pollack', 'feedback'])
def test_with_kernels_that_are_equal_the_error_is_that_of_backpropagation(name):
    made = Network(name, same_kernels=True)
    for measure in SIGNALS[:4]:
        made.check(measure, dict.fromkeys(NAMES, 1), 1e-6)
