"""Weight decay, drops of the learning rate, plain momentum and frozen layers, in whole trainings.

The trainings of the first part are compared with NumPy, the others with the first.
"""

import numpy as np
import pytest

import test_optimizers
import tiers
import tiny
from config.schema import ConfigError
from training import freezing, optimizers

# One step per epoch, of the same eight images.
FC = dict(dataset='fc', layers_list=(7, 5), train_batch_size=8)
DECAY, RATE = 0.1, 0.1


# --- NumPy ----------------------------------------------------------------------------------------


def gradients(variables, images, labels):
    """Returns {variable: gradient of the cross-entropy}, float64, of a sigmoid network."""
    names = ['dense0', 'dense1', 'dense_output']
    inputs = [images.reshape(len(images), -1).astype(np.float64)]
    for name in names:
        y = inputs[-1] @ variables[name + '/forward_kernel'] + variables[name + '/bias']
        inputs.append(y if name == names[-1] else 1 / (1 + np.exp(-y)))
    exponents = np.exp(inputs[-1] - inputs[-1].max(axis=1, keepdims=True))
    dy = exponents / exponents.sum(axis=1, keepdims=True)
    dy[np.arange(len(labels)), labels] -= 1
    dy, found = dy / len(labels), {}
    for name, x in reversed(list(zip(names, inputs[:-1]))):
        found[name + '/forward_kernel'], found[name + '/bias'] = x.T @ dy, dy.sum(axis=0)
        dy = dy @ variables[name + '/forward_kernel'].T * x * (1 - x)
    return found


class PlainMomentum(test_optimizers.Momentum):
    def __call__(self, g, t):
        super().__call__(g, t)
        return -self.rate * self.m


def oracle(exp, start, new, steps, drop_epochs=(), frozen=()):
    """Returns the variables after some steps of an optimiser of tests/training/test_optimizers.

    Args:
        exp: The experiment, for its images.
        start: {variable: array}.
        new: Returns the rule of one variable, with the attribute `rate`.
        steps: The number of steps, and of epochs.
        drop_epochs: See --drop_epochs.
        frozen: The names of variables that stay.
    """
    variables = {name: value.astype(np.float64) for name, value in start.items()}
    rules = {name: new() for name in variables}
    for t in range(1, steps + 1):
        rate = RATE * 0.1 ** sum(t - 1 >= epoch for epoch in drop_epochs)
        found = gradients(variables, exp.dataset.images[:8], exp.dataset.labels[:8])
        for name in set(found) - set(frozen):
            rule = rules[name]
            getattr(rule, 'adam', rule).rate = rate
            variables[name] = variables[name] + rule(found[name] + DECAY * variables[name], t)
    return variables


def of_the_network(values):
    """Returns the forward kernels and biases among variables."""
    return {n: v for n, v in values.items() if n.endswith(('/forward_kernel', '/bias'))}


RULES = dict(test_optimizers.ORACLES, **{'momentum, plain': PlainMomentum})


@pytest.mark.parametrize(
    'name',
    ['momentum, plain', 'adam'] + tiers.at_night(*sorted(set(RULES) - {'momentum, plain', 'adam'})),
)
def test_decay_and_drops_with_every_optimiser(name):
    """The biases start away from 0, so that their decay shows."""
    optimizer, _, plain = name.partition(', ')
    settings = dict(FC, optimizer=optimizer, learning_rate=RATE, drop_epochs=(2, 3))
    exp = tiny.trainer(weight_decay=DECAY, nesterov=not plain, **settings)
    stream = np.random.RandomState(3)
    start = {v.op.name: stream.randn(*v.shape.as_list()) for v in exp.variables}
    start = of_the_network({n: np.float32(v) for n, v in start.items() if '/' in n})
    start = {n: v for n, v in start.items() if n.count('/') == 1}
    history, scalars = tiny.train(exp, 4, start)
    wanted = oracle(exp, start, RULES[name], 4, (2, 3))
    for each, value in wanted.items():
        np.testing.assert_allclose(history[-1][each], value, 2e-5, 2e-5, err_msg=each)
    np.testing.assert_allclose(
        [step['learning_rate'] for step in scalars], [0.1, 0.1, 0.01, 0.001], 1e-6
    )
    squares = sum(np.sum(np.square(value, dtype=np.float64)) for value in start.values())
    np.testing.assert_allclose(scalars[0]['reg_loss'], DECAY / 2 * squares, 1e-5)


def test_a_frozen_layer_is_one_that_the_others_train_around():
    exp = tiny.trainer(weight_decay=DECAY, learning_rate=RATE, freeze=('dense1', 'bias'), **FC)
    start = of_the_network(tiny.train(exp, 0)[0][0])
    frozen = {n for n in start if n.startswith('dense1/') or n.endswith('/bias')}
    history, _ = tiny.train(exp, 3, start)
    wanted = oracle(exp, start, test_optimizers.GD, 3, frozen=frozen)
    for name, value in wanted.items():
        np.testing.assert_allclose(history[-1][name], value, 2e-5, 2e-5, err_msg=name)
    assert tiny.moved(start, of_the_network(history[-1])) == set(start) - frozen


# --- backward kernels -----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize('rule', ['kolen_pollack'] + tiers.at_night('pfa', 'symmetric', 'usf'))
def test_backward_kernels_do_not_decay(rule):
    """A backward kernel moves as it does without weight decay, if W stays."""
    settings = dict(FC, alignment=rule, learning_rate=RATE, freeze=('forward_kernel', 'bias'))
    if rule == 'usf':
        with pytest.raises(ConfigError, match='leaves nothing to train by --optimizer'):
            tiny.trainer(weight_decay=DECAY, **settings)
        return
    (start, plain), (_, decayed) = [
        tiny.train(tiny.trainer(**settings, **more))[0] for more in ({}, dict(weight_decay=DECAY))
    ]
    assert tiny.moved(plain, decayed) == set()
    assert tiny.moved(start, decayed) == tiny.named(start, 'backward_kernel')


# --- frozen, to the bit ---------------------------------------------------------------------------

NOISY = dict(
    use_noisy_global_opt=True,
    noisy_opt_distribution='normal',
    weight_decay=DECAY,
    learning_rate=0.1,
)


@pytest.mark.slow
@pytest.mark.parametrize(
    'rule, optimizer',
    [('feedback', 'adam'), ('symmetric', 'momentum')]
    + tiers.at_night(
        ('kolen_pollack', 'swrats'),
        *[('symmetric', name) for name in sorted(optimizers.OPTIMIZERS) if name != 'momentum'],
    ),
)
@pytest.mark.parametrize('second', [False] + tiers.at_night(True))
def test_what_is_frozen_stays_to_the_bit(rule, optimizer, second):
    """Noise and weight decay would move it."""
    if second and rule == 'feedback':
        pytest.skip('feedback has no alignment loss')
    two = dict(
        alignment_optimizer=optimizer, use_noisy_alignment_opt=True, alignment_learning_rate=0.1
    )
    exp = tiny.trainer(
        **dict(FC, alignment=rule, optimizer=optimizer, freeze=('dense0', 'bias'), **NOISY),
        **(two if second else {}),
    )
    history, _ = tiny.train(exp, 3)
    trained = {name for name in history[0] if name.endswith(('_kernel', '/bias'))}
    frozen = {n for n in trained if n.startswith('dense0/') or n.endswith('/bias')}
    if rule == 'kolen_pollack':  # only backward kernels have noise, and all others move anyway
        assert len(frozen) == 5
    assert tiny.moved(history[0], history[-1]) & trained == trained - frozen


@pytest.mark.slow
def test_frozen_variables_have_slots_so_that_a_run_goes_on_with_others():
    settings = dict(FC, alignment='symmetric', optimizer='momentum', alignment_optimizer='adam')
    all_trained, some_frozen = [
        {v.op.name for v in tiny.trainer(**settings, **more).variables}
        for more in ({}, dict(freeze=('dense0', 'bias')))
    ]
    assert all_trained == some_frozen


@pytest.mark.slow
def test_batch_norm_is_frozen_with_its_layer_and_by_its_role(pixels):
    settings = dict(
        model='small',
        layers_list=(),
        dataset='pixels',
        alignment='symmetric',
        learning_rate=0.5,
        freeze=('first', 'norm'),
        weight_decay=DECAY,
    )
    history, _ = tiny.train(tiny.trainer(**settings), 2)
    assert tiny.moved(history[0], history[-1]) == {
        name
        for name in history[0]
        if ('_kernel' in name and not name.startswith('first/')) or 'moving_' in name
    } | {'last/bias'}


@pytest.fixture
def pixels(monkeypatch):
    """Registers a data set and a network with batch norm."""
    import data
    from models import NETWORKS

    monkeypatch.setitem(data.DATASETS, 'pixels', tiny.dataset('pixels', image_shape=(9, 11, 3)))
    monkeypatch.setitem(NETWORKS, 'small', tiny.SMALL)


@pytest.mark.parametrize(
    'freeze, words',
    [
        (
            'dense7',
            '--freeze=dense7: there is no such layer; choose from the layers (dense0, dense1, '
            'dense_output), or from forward_kernel, bias, norm',
        ),
        ('norm', '--freeze=norm has no effect: nothing of it is trained in this network'),
        ('forward_kernel,bias', '--freeze=forward_kernel,bias leaves nothing to train by --optim'),
    ],
)
def test_what_cannot_be_frozen_is_refused(freeze, words):
    with pytest.raises(ConfigError) as caught:
        tiny.trainer(freeze=tuple(freeze.split(',')), **FC)
    assert words in str(caught.value)


def test_a_message_does_not_name_a_hundred_layers():
    layers = [f'conv{number}' for number in range(150)]
    with pytest.raises(ConfigError) as caught:
        freezing.frozen(['x'], [], layers, {})
    assert 'conv11 and more' in str(caught.value) and len(str(caught.value)) < 250


# --- devices --------------------------------------------------------------------------------------

ALL = dict(
    layers_list=(7, 5),
    optimizer='momentum',
    nesterov=False,
    weight_decay=DECAY,
    drop_epochs=(1,),
    freeze=('dense1',),
    learning_rate=0.5,
)


@pytest.mark.slow
@pytest.mark.parametrize(
    'device',
    [
        dict(cpu_devices=2, gpu='0,1'),
        dict(minibatch_size=4, iterations_per_loop=3),
    ]
    + tiers.at_night(
        dict(xla=True),
        dict(minibatch_size=4),
        dict(iterations_per_loop=3),
        dict(cpu_devices=2, gpu='0,1', minibatch_size=6, iterations_per_loop=2),
    ),
    ids=str,
)
def test_every_device_does_the_same(device):
    """Five steps, with a drop after the third."""
    settings = dict(ALL, alignment='symmetric')
    (first, *_, last), scalars = tiny.reference(5, **settings)
    if 'iterations_per_loop' in device:
        exp = tiny.trainer(**settings, **device)
        most = exp.device.steps_per_call
        values, others = tiny.calls(exp, [most] * (5 // most) + [5 % most])
        found = tiny.differences(([first, last], scalars), ([first, values], others))
    else:
        found = tiny.differences(
            ([first, last], scalars), tiny.train(tiny.trainer(**settings, **device), 5)
        )
    assert tiny.beyond(found, 1e-5) == {}
    assert {name for name in found if name.startswith('dense1/') and '/Mom' not in name} & (
        tiny.moved(first, last)
    ) == set()
