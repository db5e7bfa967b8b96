"""Compares every optimiser with a float64 NumPy oracle, over several steps on a small quadratic."""

import math
import types

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from models.roles import Role, Slot
from training import checkpoints, optimizers

SHAPES = {'a/kernel': [3, 5], 'bias': [7], 'conv': [2, 3, 4, 5]}


def starts():
    stream = np.random.RandomState(7)
    return {name: stream.randn(*shape).astype(np.float32) for name, shape in SHAPES.items()}


def curvatures():
    stream = np.random.RandomState(8)
    return {name: (0.5 + stream.rand(*shape)).astype(np.float32) for name, shape in SHAPES.items()}


def train(make, steps, use_resource=True, prefix=None):
    """Minimises sum(c x^2) / 2, and returns the variables after each step and the last slots.

    The slots are {name: {slot: array}}. `prefix` is a checkpoint to continue from.
    """
    with tf.Graph().as_default():
        variables = [
            tf.get_variable(name, initializer=value, use_resource=use_resource)
            for name, value in sorted(starts().items())
        ]
        step = tf.train.get_or_create_global_step()
        optimizer = make(tf.cast(step + 0, tf.int64))
        gradients = [curvatures()[variable.op.name] * variable for variable in variables]
        with tf.control_dependencies([optimizers.apply(optimizer, zip(gradients, variables))]):
            count = step.assign_add(1).op
        slots = {
            variable.op.name: {
                slot: optimizer.get_slot(variable, slot) for slot in optimizer.get_slot_names()
            }
            for variable in variables
        }
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            if prefix:
                roles = {
                    v.op.name: Role.FORWARD if v.op.name in SHAPES else Slot('any')
                    for v in tf.global_variables()
                }
                assert (
                    checkpoints.restore(
                        session,
                        types.SimpleNamespace(variables=tf.global_variables(), roles=roles),
                        prefix,
                    )
                    == []
                )
            history = []
            for _ in range(steps):
                session.run(count)
                history.append(
                    {
                        variable.op.name: value
                        for variable, value in zip(variables, session.run(variables))
                    }
                )
            return history, session.run(slots)


def oracle(new, steps):
    """Does the same as `train` in float64.

    `new()` returns the rule of one variable, a function of the gradient and t = 1, 2, ...
    """
    rules = {name: new() for name in SHAPES}
    values = {name: value.astype(np.float64) for name, value in starts().items()}
    history = []
    for t in range(1, steps + 1):
        values = {name: x + rules[name](curvatures()[name] * x, t) for name, x in values.items()}
        history.append(values)
    return history, rules


def assert_same(history, expected, rtol=2e-5):
    for t, (got, want) in enumerate(zip(history, expected), 1):
        for name in SHAPES:
            np.testing.assert_allclose(
                got[name], want[name], rtol=rtol, atol=rtol, err_msg=f'{name} at {t}'
            )


class GD:
    rate = 0.1

    def __call__(self, g, t):
        return -self.rate * g


class Momentum(GD):
    m = 0.0

    def __call__(self, g, t):
        self.m = 0.9 * self.m + g
        return -self.rate * (g + 0.9 * self.m)


class Adagrad(GD):
    total = 0.1

    def __call__(self, g, t):
        self.total = self.total + g**2
        return -self.rate * g / np.sqrt(self.total)


class RMSProp(GD):
    mean = 1.0

    def __call__(self, g, t):
        self.mean = 0.9 * self.mean + 0.1 * g**2
        return -self.rate * g / np.sqrt(self.mean + 1e-10)


class Adam(GD):
    m, v = 0.0, 0.0
    beta1, beta2, epsilon = 0.9, 0.999, 1e-9

    def moments(self, g):
        self.m = self.beta1 * self.m + (1 - self.beta1) * g
        self.v = self.beta2 * self.v + (1 - self.beta2) * g**2

    def __call__(self, g, t):
        self.moments(g)
        return (
            -self.rate
            * math.sqrt(1 - self.beta2**t)
            / (1 - self.beta1**t)
            * self.m
            / (np.sqrt(self.v) + self.epsilon)
        )


class TensorFlowAdam(Adam):
    epsilon = 1e-8


class RAdam(Adam):
    def __call__(self, g, t):
        self.moments(g)
        rho_inf = 2 / (1 - self.beta2) - 1
        rho = rho_inf - 2 * t * self.beta2**t / (1 - self.beta2**t)
        momentum = self.m / (1 - self.beta1**t)
        if rho < 5:
            return -self.rate * momentum
        r = math.sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))
        return (
            -self.rate
            * r
            * momentum
            * math.sqrt(1 - self.beta2**t)
            / (np.sqrt(self.v) + self.epsilon)
        )


class SWATS(GD):
    def __init__(self, adam=Adam, epsilon=1e-9):
        self.adam, self.epsilon = adam(), epsilon
        self.adam.epsilon = epsilon
        self.switched_at, self.mean, self.momentum = None, 0.0, 0.0

    def __call__(self, g, t):
        beta1, beta2 = self.adam.beta1, self.adam.beta2
        if self.switched_at:
            self.momentum = beta1 * self.momentum + g
            return -(1 - beta1) * self.mean * self.momentum
        p = self.adam(g, t)
        if np.sum(p * g):
            gamma = -np.sum(p * p) / np.sum(p * g)
            self.mean = beta2 * self.mean + (1 - beta2) * gamma
            rate = self.mean / (1 - beta2**t)
            if t > 1 and abs(rate - gamma) < self.epsilon:
                self.switched_at, self.mean = t, rate
        return p


ORACLES = {
    'gd': GD,
    'momentum': Momentum,
    'adagrad': Adagrad,
    'rmsprop': RMSProp,
    'adam': TensorFlowAdam,
    'radam': RAdam,
    'swats': SWATS,
    'swrats': lambda: SWATS(RAdam),
}


def build(name):
    return lambda step: optimizers.build(name, tf.constant(0.1), step)


@pytest.mark.parametrize('name', sorted(optimizers.OPTIMIZERS))
def test_optimizer_is_its_formula(name):
    history, _ = train(build(name), 12)
    assert_same(history, oracle(ORACLES[name], 12)[0])


def test_momentum_without_nesterovs_correction():
    """The update is that of PyTorch's SGD."""

    class Plain(Momentum):
        def __call__(self, g, t):
            super().__call__(g, t)
            return -self.rate * self.m

    options = optimizers.Options(nesterov=False)
    history, _ = train(
        lambda step: optimizers.build('momentum', tf.constant(0.1), step, options), 12
    )
    assert_same(history, oracle(Plain, 12)[0])


@pytest.mark.parametrize('name', ['radam', 'swrats'])
def test_reference_variables_update_alike(name):
    history, _ = train(build(name), 3, use_resource=False)
    assert_same(history, oracle(ORACLES[name], 3)[0])


@pytest.mark.slow
def test_updates_are_deterministic():
    first, second = train(build('swrats'), 9)[0][-1], train(build('swrats'), 9)[0][-1]
    for name in SHAPES:
        np.testing.assert_array_equal(first[name], second[name])


def test_radam_passes_from_plain_momentum_to_rectified():
    with tf.Graph().as_default(), tf.Session() as session:
        rho, r = session.run(optimizers.rectification(0.999, tf.range(1.0, 5001.0)))
    t = np.arange(1.0, 5001.0)
    expected = 1999 - 2 * t * 0.999**t / (1 - 0.999**t)
    np.testing.assert_allclose(rho, expected, rtol=1e-6, atol=1e-3)  # float32, between 1999 and 1
    assert rho[4] < 5 <= rho[5]  # so that the twelve steps of the formula test cover both cases
    assert np.all(np.isfinite(r)) and np.all(np.diff(r[4:]) >= -1e-6) and 0.96 < r[-1] < 1


def test_weight_keeps_its_digits():
    with tf.Graph().as_default(), tf.Session() as session:
        got = session.run(optimizers.weight(0.999, tf.constant([1.0, 2.0, 1e3, 1e6])))
    np.testing.assert_allclose(
        got, -np.expm1(np.array([1, 2, 1e3, 1e6]) * math.log(0.999)), rtol=1e-6
    )


SWITCHES = {
    'a/kernel': 2,
    'bias': 13,
    'conv': 12,
}  # the steps at which Adam becomes SGD if epsilon is 6e-5


@pytest.mark.parametrize(
    'rectified, adam, epsilon, switches',
    [
        (False, Adam, 6e-5, SWITCHES),
        (True, RAdam, 2.4e-5, {'a/kernel': None, 'bias': 2, 'conv': None}),
    ],
)
def test_swats_switches_each_variable_at_its_own_step(rectified, adam, epsilon, switches):
    steps = 20
    history, slots = train(
        lambda step: optimizers.SWATS(tf.constant(0.01), step, rectified, epsilon=epsilon), steps
    )

    def new():
        rule = SWATS(adam, epsilon)
        rule.adam.rate = 0.01
        return rule

    expected, rules = oracle(new, steps)
    assert {name: rule.switched_at for name, rule in rules.items()} == switches
    assert_same(history, expected)
    for name, rule in rules.items():
        assert slots[name]['sgd'] == bool(rule.switched_at)
        np.testing.assert_allclose(slots[name]['rate'], rule.mean, rtol=2e-5)
        np.testing.assert_allclose(
            slots[name]['momentum'],
            np.broadcast_to(rule.momentum, SHAPES[name]),
            rtol=1e-4,
            atol=1e-6,
        )


def original_checkpoint(folder, step, values, rules):
    """Returns the path of a checkpoint as the original's SWATS would leave it after a step.

    Its slots are phase, m, v, momentum, Lambda and p_k.
    """
    stream, arrays = np.random.RandomState(9), {'global_step': np.int64(step)}
    for name, rule in rules.items():
        arrays[name] = values[name]
        whole = np.ones(SHAPES[name])
        slots = [
            bool(rule.switched_at) * whole,
            rule.adam.m,
            rule.adam.v,
            rule.momentum * whole,
            rule.mean * whole,
            stream.randn(*SHAPES[name]),
        ]
        arrays.update(
            {'{}/SWATS{}'.format(name, f'_{i}' if i else ''): slot for i, slot in enumerate(slots)}
        )
    with tf.Graph().as_default(), tf.Session() as session:
        for name, array in arrays.items():
            tf.get_variable(
                name, initializer=array if name == 'global_step' else array.astype(np.float32)
            )
        session.run(tf.global_variables_initializer())
        return tf.train.Saver().save(session, str(folder / 'checkpoint'), global_step=step)


@pytest.mark.slow
@pytest.mark.parametrize('rectified, adam', [(False, Adam), (True, RAdam)], ids=['SWATS', 'SWRATS'])
def test_a_training_of_the_originals_swats_goes_on(tmp_path, rectified, adam):
    """After step 12, one variable has long been in its SGD phase, one has just switched.

    Another one switches at the next step.
    """
    epsilon = 6e-5

    def new():
        rule = SWATS(adam, epsilon)
        rule.adam.rate = 0.01
        return rule

    whole, switched = oracle(new, 20)
    half, rules = oracle(new, 12)
    if not rectified:
        assert {name: rule.switched_at for name, rule in rules.items()} == dict(SWITCHES, bias=None)
    prefix = original_checkpoint(tmp_path, 12, half[-1], rules)
    history, slots = train(
        lambda step: optimizers.SWATS(
            tf.constant(0.01),
            step,
            rectified,
            epsilon=epsilon,
            name='SWRATS' if rectified else 'SWATS',
        ),
        8,
        prefix=prefix,
    )
    assert_same(history, whole[12:])
    assert {name: bool(values['sgd']) for name, values in slots.items()} == {
        name: bool(rule.switched_at) for name, rule in switched.items()
    }


@pytest.mark.parametrize('name', sorted(optimizers.OPTIMIZERS))
def test_a_zero_gradient_moves_nothing(name):
    with tf.Graph().as_default(), tf.Session() as session:
        variable = tf.get_variable('x', initializer=np.ones([3, 2], np.float32))
        step = tf.placeholder(tf.int64, [])
        optimizer = optimizers.build(name, tf.constant(0.1), step)
        update = optimizers.apply(optimizer, [(tf.zeros_like(variable), variable)])
        session.run(tf.global_variables_initializer())
        for t in range(8):
            session.run(update, {step: t})
        np.testing.assert_array_equal(session.run(variable), np.ones([3, 2]))
        assert all(np.all(np.isfinite(value)) for value in session.run(tf.global_variables()))


@pytest.mark.parametrize(
    'name, endings',
    [
        ('gd', []),
        ('momentum', ['x/Momentum']),
        ('rmsprop', ['x/RMSProp', 'x/RMSProp_1']),
        ('adam', ['beta1_power', 'beta2_power', 'x/Adam', 'x/Adam_1']),
        ('adagrad', ['x/Adagrad']),
        ('radam', ['x/RAdam', 'x/RAdam_1']),
        ('swats', ['x/SWATS', 'x/SWATS/momentum', 'x/SWATS/rate', 'x/SWATS/sgd', 'x/SWATS_1']),
        (
            'swrats',
            ['x/SWRATS', 'x/SWRATS/momentum', 'x/SWRATS/rate', 'x/SWRATS/sgd', 'x/SWRATS_1'],
        ),
    ],
)
def test_slots_have_the_names_of_checkpoints(name, endings):
    with tf.Graph().as_default():
        variable = tf.get_variable('x', [3, 5])
        optimizers.apply(
            optimizers.build(name, tf.constant(0.1), tf.constant(0, tf.int64)),
            [(variable + 0, variable)],
        )
        assert sorted(slot.op.name for slot in tf.global_variables()) == sorted(endings + ['x'])
        assert [v.op.name for v in tf.trainable_variables()] == ['x']


def test_apply_skips_none_and_waits_for_every_gradient():
    with tf.Graph().as_default(), tf.Session() as session:
        x, y, z = [
            tf.get_variable(name, initializer=value)
            for name, value in [('x', 2.0), ('y', 3.0), ('z', 5.0)]
        ]
        gradients = tf.gradients(x * y, [x, y, z])
        update = optimizers.apply(
            optimizers.build('gd', tf.constant(0.5), None), zip(gradients, [x, y, z])
        )
        session.run(tf.global_variables_initializer())
        session.run(update)
        assert session.run([x, y, z]) == [0.5, 2.0, 5.0]
        applied = [op for op in session.graph.get_operations() if 'ApplyGradientDescent' in op.type]
        assert len(applied) == 2
        assert all({gradients[0].op, gradients[1].op} <= ancestors(op) for op in applied)


def ancestors(op):
    """Returns all operations that run before this one."""
    seen, pending = set(), [op]
    while pending:
        for parent in [tensor.op for tensor in pending[0].inputs] + list(pending[0].control_inputs):
            if parent not in seen:
                seen.add(parent)
                pending.append(parent)
        pending.pop(0)
    return seen


@pytest.mark.parametrize('name', ['radam', 'swats'])
@pytest.mark.parametrize('use_resource', [True, False])
def test_sparse_gradients_are_refused(name, use_resource):
    with tf.Graph().as_default():
        table = tf.get_variable('table', [5, 3], use_resource=use_resource)
        (gradient,) = tf.gradients(tf.gather(table, [1, 2]), [table])
        optimizer = optimizers.build(name, tf.constant(0.1), tf.constant(0, tf.int64))
        with pytest.raises(NotImplementedError, match='sparse gradients: table has one'):
            optimizers.apply(optimizer, [(gradient, table)])


def clipped(gradients, method, value):
    with tf.Graph().as_default(), tf.Session() as session:
        tensors = [None if gradient is None else tf.constant(gradient) for gradient in gradients]
        results = optimizers.clip(tensors, method, value)
        assert [result is None for result in results] == [
            gradient is None for gradient in gradients
        ]
        return session.run([result for result in results if result is not None])


def some_gradients():
    return [np.full([3, 5], 2.0, np.float32), None, np.array([-3, 0, 0.5], np.float32)]


def test_clip_by_value():
    a, b = clipped(some_gradients(), 'value', 1.5)
    np.testing.assert_array_equal(a, np.full([3, 5], 1.5))
    np.testing.assert_array_equal(b, [-1.5, 0, 0.5])


@pytest.mark.parametrize('value', [1.0, 100.0])
def test_clip_by_norm_is_global(value):
    a, _, b = some_gradients()
    norm = math.sqrt(np.sum(a**2) + np.sum(b**2))
    for got, gradient in zip(clipped(some_gradients(), 'norm', value), (a, b)):
        np.testing.assert_allclose(got, gradient * min(1, value / norm), rtol=1e-6)


@pytest.mark.parametrize('bad', [np.inf, np.nan])
def test_a_bad_gradient_does_not_spoil_the_others(bad):
    a, b = clipped([np.full([2, 3], bad, np.float32), np.array([0.25], np.float32)], 'norm', 1.0)
    assert not np.any(np.isfinite(a))
    np.testing.assert_allclose(b, [0.25])


def draws(distribution, seed=0, steps=(0,), names=('a', 'b')):
    with tf.Graph().as_default(), tf.Session() as session:
        variables = [tf.get_variable(name, [101, 203]) for name in names]
        step = tf.placeholder(tf.int64, [])
        deltas = optimizers.noise(variables, tf.constant(0.5), step, distribution, 0.09, seed)
        return [session.run(deltas, {step: value}) for value in steps]


@pytest.mark.parametrize('distribution', sorted(optimizers.DISTRIBUTIONS))
def test_noise_has_its_moments_and_is_scaled_by_the_learning_rate(distribution):
    for delta in draws(distribution)[0]:
        assert delta.shape == (101, 203) and delta.dtype == np.float32
        assert abs(delta.mean()) < 5e-3
        np.testing.assert_allclose(delta.std(), 0.5 * 0.3, rtol=0.02)
    if distribution == 'uniform':
        np.testing.assert_allclose(np.abs(delta).max(), 0.5 * math.sqrt(12 * 0.09) / 2, rtol=1e-3)


@pytest.mark.parametrize('distribution', sorted(optimizers.DISTRIBUTIONS))
def test_noise_depends_on_seed_step_and_name_alone(distribution):
    (a0, b0), (a1, _) = draws(distribution, steps=(0, 1))
    np.testing.assert_array_equal(draws(distribution, names=('b', 'a'))[0][1], a0)
    np.testing.assert_array_equal(draws(distribution, steps=(1,))[0][0], a1)
    for other in (b0, a1, draws(distribution, seed='1:alignment')[0][0]):
        assert abs(np.corrcoef(a0.ravel(), other.ravel())[0, 1]) < 0.05


@pytest.mark.parametrize(
    'call',
    [
        lambda: optimizers.build('sgd', None, None),
        lambda: optimizers.clip([], 'sgd', 1.0),
        lambda: optimizers.noise([], None, None, 'sgd', 1.0),
    ],
)
def test_unknown_names_are_listed(call):
    with pytest.raises(
        ValueError, match="'sgd': choose one of .*(gd, momentum|norm, value|normal, uniform)"
    ):
        call()
