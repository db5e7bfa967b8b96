"""Mixed precision and image formats: which type is used where, and how close the numbers are.

The numbers are compared with float32 in NHWC.
"""

import itertools

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import data
import kinds
import tiers
import tiny
from alignment.rules import RULES
from config.schema import ConfigError
from models.roles import Role
from training import checkpoints, devices, losses, runtime
from training.experiment import Experiment

PRECISIONS = (
    {'float16': 2e-3, 'bfloat16': 2e-2} if runtime.HAS_BFLOAT16 else {'float16': 2e-3}
)  # {precision: its rounding error, roughly}
RESNET = dict(
    model='resnet18', layers_list=(), dataset='pixels', train_batch_size=6, eval_batch_size=5
)
SMALL = dict(RESNET, model='small')
SCALE = set(losses.LossScale.names)


@pytest.fixture(autouse=True, scope='module')
def pixels():
    """Registers a data set whose images a ResNet can process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(data.DATASETS, 'pixels', tiny.dataset('pixels', image_shape=(33, 35, 3)))
        yield


@pytest.fixture
def scale(monkeypatch):
    """Sets attributes of LossScale and builds experiments again with them."""

    def change(**attributes):
        monkeypatch.setattr(tiny, 'EXPERIMENTS', {})
        for name, value in attributes.items():
            monkeypatch.setattr(losses.LossScale, name, value)

    return change


def types(exp, operations):
    """Returns the types that these operations output, in the training and in the validation."""
    return {
        op.outputs[0].dtype.base_dtype.name
        for op in exp.graph.get_operations()
        if op.type in operations
    }


def compared(one, exp):
    """Returns the largest differences between a step of an experiment and another one.

    Both are results of `tiny.train`. The differences are those of the scalars and of each
    variable's change, relative to the largest number of each.
    """
    (history, scalars), (others, other_scalars) = one, tiny.train(exp)
    found = {
        name: abs(float(other_scalars[-1][name]) - float(value)) / max(abs(float(value)), 1e-6)
        for name, value in scalars[-1].items()
    }
    for name in set(history[0]) - {'global_step'}:
        move, another = [
            variables[-1][name].astype(np.float64) - variables[0][name]
            for variables in (history, others)
        ]
        if np.abs(move).max() > 1e-7:
            found[name] = np.linalg.norm(another - move) / np.linalg.norm(move)
    return found


EVERY_RULE = list(itertools.product(sorted(PRECISIONS), [None, *RULES]))
BY_DAY = list(itertools.product(['float16'], [None, *kinds.REPRESENTATIVES])) + [
    (precision, rule) for precision, rule in EVERY_RULE if rule in (None, 'information')
]


@pytest.mark.slow
@pytest.mark.parametrize(
    'precision, rule',
    [case for case in EVERY_RULE if case in BY_DAY]
    + tiers.at_night(*[case for case in EVERY_RULE if case not in BY_DAY]),
)
def test_a_step_is_that_of_float32_but_for_rounding(precision, rule):
    settings = dict(alignment=rule, learning_rate=0.1)
    found = compared(tiny.reference(**settings), tiny.trainer(precision=precision, **settings))
    assert {
        name: error for name, error in found.items() if not error < 10 * PRECISIONS[precision]
    } == {}
    assert found['dense0/forward_kernel'] > PRECISIONS[precision] / 100  # it is a different type


@pytest.mark.slow
@pytest.mark.parametrize('precision', sorted(PRECISIONS))
def test_a_network_computes_in_it(precision):
    settings = dict(SMALL, alignment='information', learning_rate=0.1)
    exp, other = tiny.experiment(**settings), tiny.experiment(precision=precision, **settings)
    assert types(exp, ['Conv2D', 'MaxPool', 'MatMul', 'Relu', 'Conv2DBackpropInput']) == {'float32'}
    assert types(other, ['MaxPool', 'MaxPoolGrad']) == {
        precision,
        'float32',
    }  # the network for the measures is float32
    forward = [
        op
        for op in other.graph.get_operations()
        if op.type == 'Conv2D'
        and 'gradients' not in op.name
        and op.outputs[0].dtype.base_dtype.name == precision
    ]
    assert len(forward) == 2 * 2  # in a step and in a validation
    assert types(other, ['SparseSoftmaxCrossEntropyWithLogits', 'L2Loss', 'Atan2']) == {'float32'}
    assert {
        v.dtype.base_dtype.name for v in other.variables if v.op.name not in SCALE | {'global_step'}
    } == {'float32'}
    found = compared(tiny.train(exp), other)
    assert {
        name: found[name]
        for name in ('model_loss', 'alignment_loss')
        if not found[name] < 10 * PRECISIONS[precision]
    } == {}
    assert found['last/forward_kernel'] < 10 * PRECISIONS[precision]


@pytest.mark.slow
def test_angles_are_those_of_float32():
    settings = dict(alignment='symmetric', learning_rate=0.1)
    results = []
    for precision in ['float32'] + sorted(PRECISIONS):
        exp = tiny.experiment(precision=precision, **settings)
        with tiny.session(exp) as session:
            results.append(exp.validate(session)['topn_val'])
    for result in results[1:]:
        for angles in ('weight_angles', 'gradient_angles', 'projection_angles'):
            assert {layer: float(value) for layer, value in result[angles].items()} == {
                layer: float(value) for layer, value in results[0][angles].items()
            }
        assert (
            result['loss'] == pytest.approx(results[0]['loss'], rel=1e-2)
            and result['loss'] != results[0]['loss']
        )


def test_bfloat16_is_refused_where_it_is_not_computed_in(monkeypatch):
    monkeypatch.setattr(runtime, 'HAS_BFLOAT16', False)
    with pytest.raises(
        ConfigError,
        match='--precision=bfloat16: TensorFlow .* does not support it; use float16',
    ):
        devices.choose(tiny.config(precision='bfloat16'))


# --- the scale of the loss ------------------------------------------------------------------------


@pytest.mark.slow
def test_gradients_too_small_for_float16_count(scale):
    settings = dict(
        alignment='feedback', loss_rate=1e-7, learning_rate=1e5
    )  # gradients are around 1e-9
    single, scaled = tiny.reference(**settings), tiny.trainer(precision='float16', **settings)
    assert compared(single, scaled)['dense0/forward_kernel'] < 0.2
    scale(first=1.0)
    unscaled = tiny.trainer(precision='float16', **settings)
    assert compared(single, unscaled)['dense0/forward_kernel'] > 0.9


@pytest.mark.slow
@pytest.mark.parametrize(
    'settings',
    [
        dict(optimizer='momentum'),
        dict(optimizer='adam'),
        dict(
            alignment_optimizer='adam',
            optimizer='swats',
            grad_clip=True,
            use_noisy_alignment_opt=True,
            noisy_opt_distribution='normal',
        ),
    ],
)
def test_a_step_that_overflows_moves_nothing_and_halves_the_scale(scale, settings):
    scale(first=2.0**60)
    exp = tiny.trainer(alignment='symmetric', precision='float16', **settings)
    history, scalars = tiny.train(exp, 60)
    assert {exp.roles[name] for name in SCALE} == {Role.LOSS_SCALE}
    held = [not tiny.moved(before, after) - SCALE for before, after in zip(history, history[1:])]
    assert (
        5 < sum(held) < 55 and all(held[:5]) and not any(held[-5:])
    )  # from here on, the scale is small enough
    assert [
        float(after['loss_scale'] / before['loss_scale'])
        for before, after in zip(history, history[1:])
    ] == [0.5 if still else 1.0 for still in held]
    assert [variables['global_step'] for variables in history] == list(range(61))
    assert all(np.isfinite(float(value)) for step in scalars for value in step.values())
    assert 'dense0/backward_kernel' in tiny.moved(history[-2], history[-1])


def test_the_scale_doubles_when_it_is_steady_and_never_falls_below_one(scale):
    scale(first=2.0, steady_steps=3)
    history, _ = tiny.train(tiny.trainer(precision='float16'), 7)
    assert [(float(v['loss_scale']), int(v['loss_scale_steps'])) for v in history] == [
        (2, 0),
        (2, 1),
        (2, 2),
        (4, 0),
        (4, 1),
        (4, 2),
        (8, 0),
        (8, 1),
    ]
    with tf.Graph().as_default(), tf.Session() as session, tf.variable_scope(
        '', reuse=tf.AUTO_REUSE
    ):
        small = losses.LossScale()
        gradient = tf.placeholder(tf.float32, [2])
        updated = tf.get_variable('updated', initializer=0.0)
        step = small.guard(
            [tf.ones([3]), gradient], lambda: updated.assign_add(1.0, read_value=False)
        )
        session.run(tf.global_variables_initializer())
        seen = []
        for value in (np.inf, np.nan, -np.inf, 1e38):
            session.run(step, {gradient: [0.0, value]})
            seen.append(session.run([tf.global_variables()[0], updated]))
    assert [tuple(pair) for pair in seen] == [(1.0, 0.0), (1.0, 0.0), (1.0, 0.0), (1.0, 1.0)]


@pytest.mark.slow
@pytest.mark.parametrize(
    'settings', [dict(iterations_per_loop=3), dict(xla=True), dict(minibatch_size=4)]
)
def test_the_scale_goes_wherever_a_step_goes(settings):
    base = dict(
        alignment='information',
        precision='float16',
        optimizer='momentum',
        learning_rate=0.1,
    )
    if 'xla' in settings and not runtime.XLA_BRANCHES:
        with pytest.raises(
            ConfigError, match='--xla and --precision=float16 cannot be combined on'
        ):
            tiny.trainer(**dict(base, **settings))
        return
    steps = []
    for exp in (tiny.trainer(**base), tiny.trainer(**dict(base, **settings))):
        with tiny.session(exp) as session:
            session.run(exp.step.initializer)
            taken = exp.run_steps(session, 3)
            while len(taken) < 3:
                taken += exp.run_steps(session, 1)
            steps.append((taken, tiny.values(session, exp)))
    (taken, variables), (others, other_variables) = steps
    for step, other in zip(taken, others):
        assert {n: float(v) for n, v in other.items()} == pytest.approx(
            {n: float(v) for n, v in step.items()}, rel=1e-2
        )
    assert other_variables['loss_scale_steps'] == variables['loss_scale_steps'] == 3


@pytest.mark.slow
def test_a_checkpoint_goes_from_one_precision_to_another(tmp_path):
    single, half = [
        tiny.trainer(alignment='feedback', precision=precision)
        for precision in ('float32', 'float16')
    ]
    for there, here, new in ((single, half, sorted(SCALE)), (half, single, [])):
        with tiny.session(there) as session:
            there_values = tiny.values(session, there)
            prefix = checkpoints.save(session, there, str(tmp_path / there.config.precision), 3)
        with tiny.session(here) as session:
            checkpoints.load(
                session, here, {name: value + 1 for name, value in there_values.items()}
            )
            assert checkpoints.restore(session, here, prefix) == new
            assert (
                tiny.moved(
                    {n: v for n, v in there_values.items() if n not in SCALE},
                    tiny.values(session, here),
                )
                == set()
            )


# --- the format of images -------------------------------------------------------------------------


def built(data_format, **settings):
    """Returns an Experiment with images in this format."""
    return Experiment(tiny.config(**settings), devices.OneDevice(data_format=data_format))


@pytest.mark.slow
@pytest.mark.parametrize(
    'network',
    [SMALL, dict(RESNET, model='lenet')]
    + tiers.at_night(dict(RESNET, use_resnet_v2=True), dict(RESNET, model='resnet8')),
    ids=['small', 'lenet', 'resnet18v2', 'resnet8'],
)
def test_channels_first_gives_the_same_step(network):
    settings = dict(network, alignment='information', learning_rate=0.1)
    exp, other = [built(data_format, **settings) for data_format in ('NHWC', 'NCHW')]
    formats = {
        op.get_attr('data_format')
        for op in other.graph.get_operations()
        if 'data_format' in op.node_def.attr and op.outputs[0].shape.ndims == 4
    }
    assert formats == {b'NCHW'} and exp.variables[1].shape == other.variables[1].shape
    if (
        not runtime.IS_TF2
    ):  # TensorFlow 1.13.2 has no NCHW convolution on CPUs, so only the graph is checked
        return
    found = compared(tiny.train(exp), other)
    assert {name: error for name, error in found.items() if not error < 2e-4} == {}
    measured = []
    for each in (exp, other):
        with tiny.session(each) as session:
            measured.append(each.validate(session)['topn_val'])
    for name in ('weight_angles', 'projection_angles', 'gradient_angles', 'actsq_norm'):
        assert {layer: float(v) for layer, v in measured[1][name].items()} == pytest.approx(
            {layer: float(v) for layer, v in measured[0][name].items()}, rel=1e-4, abs=1e-3
        )
    assert measured[1]['loss'] == pytest.approx(measured[0]['loss'], rel=1e-5)


def test_the_format_is_that_of_the_device():
    assert devices.choose(tiny.config()).data_format == 'NHWC'
    assert devices.choose(tiny.config(), found=1).data_format == 'NCHW'
