"""The device that a Config gets, and minibatches that are computed one after the other."""

import os
import subprocess
import sys
import typing

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tiers
import tiny
from config.root import ROOT
from config.schema import ConfigError
from training import devices, optimizers, runtime


@pytest.mark.parametrize(
    'settings, words',
    [
        (dict(gpu='-1'), '--gpu=-1: .*--cpu_devices=1$'),
        (dict(gpu=''), '--gpu=: .*--cpu_devices=1$'),
        (dict(gpu='all'), '--gpu=all'),
        (dict(gpu='0,'), '--gpu=0,'),
    ],
)
def test_a_device_that_is_not_there_is_refused(settings, words):
    before = os.environ['CUDA_VISIBLE_DEVICES']
    with pytest.raises(ConfigError, match=words):
        devices.claim(tiny.config(**settings))
    assert os.environ['CUDA_VISIBLE_DEVICES'] == before


@pytest.mark.parametrize(
    'settings, parts',
    [
        ({}, 1),
        (dict(minibatch_size=12), 1),
        (dict(minibatch_size=6), 2),
        (dict(minibatch_size=3), 4),
        (dict(minibatch_size=1), 12),
    ],
)
def test_the_parts_of_a_batch(settings, parts):
    device = devices.choose(tiny.config(train_batch_size=12, **settings))
    assert (device.minibatches, device.replicas) == (parts, 1)


BATCH = 15


def means(minibatches):
    """Returns the means of a replica function on a device, and the trace that its updates leave."""
    stream = np.random.RandomState(7)
    images, labels = stream.randn(BATCH, 3, 2).astype(np.float32), np.arange(BATCH)
    with tf.Graph().as_default(), tf.Session() as session:
        trace = tf.get_variable(
            'trace', initializer=np.float64(0), trainable=False, use_resource=True
        )
        calls = []

        def replica(batch, part):
            del part
            calls.append([tensor.shape.as_list() for tensor in (batch['images'], batch['labels'])])
            scale = tf.get_variable('scale', initializer=2.0, use_resource=True)
            first = tf.cast(batch['labels'][0], tf.float64)
            loss = tf.reduce_mean(scale * scale * batch['images'])
            update = trace.assign(trace.read_value() * 100 + first, read_value=False)
            return [
                loss,
                tf.gradients(loss, [scale])[0],
                tf.reduce_mean(batch['images'], axis=0),
            ], [update]

        batch = dict(images=tf.constant(images), labels=tf.constant(labels))
        with tf.variable_scope('', reuse=tf.AUTO_REUSE):
            tensors, updates = devices.OneDevice(minibatches).mean(replica, batch)
        session.run(tf.global_variables_initializer())
        results = session.run([tensors, updates])[0]
        return results, session.run(trace), calls, images.astype(np.float64)


@pytest.mark.parametrize(
    'minibatches, trace',
    [(1, 0), (3, 510), (5, 3060912), (15, sum(i * 100.0 ** (14 - i) for i in range(15)))],
)
def test_the_mean_over_parts_is_the_mean(minibatches, trace):
    (loss, gradient, mean), traced, calls, images = means(minibatches)
    size = BATCH // minibatches
    assert calls[0] == [[size, 3, 2], [size]] and all(call == calls[0] for call in calls)
    np.testing.assert_allclose([loss, gradient], [4 * images.mean(), 4 * images.mean()], rtol=2e-6)
    np.testing.assert_allclose(mean, images.mean(axis=0), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(
        traced, trace, rtol=1e-12
    )  # the update of each part once, in the order of the parts


class Found(typing.NamedTuple):
    """A nested result with a dictionary whose keys are not sorted, and with None for one tensor."""

    numbers: dict
    gradients: list


@pytest.mark.parametrize(
    'device',
    [
        devices.OneDevice(),
        devices.OneDevice(minibatches=3),
        devices.Towers(['1', '0'], minibatches=3, cpu_devices=2),
    ],
    ids=['one', 'parts', 'towers'],
)
def test_a_mean_has_the_form_of_what_a_replica_gives(device):
    images = np.random.RandomState(7).randn(12, 5).astype(np.float32)

    def replica(batch, part):
        del part
        mean, square = [tf.reduce_mean(x) for x in (batch['images'], tf.square(batch['images']))]
        by_column = tf.reduce_mean(batch['images'], axis=0)
        return Found({'square': square, 'mean': mean}, [[None, by_column], []]), []

    with tf.Graph().as_default(), tf.Session(config=device.session_config()) as session:
        found, _ = device.mean(replica, dict(images=tf.constant(images)))
        assert isinstance(found, Found) and found.gradients[0][0] is None
        assert found.gradients[1] == [] and set(found.numbers) == {'square', 'mean'}
        numbers, by_column = session.run([found.numbers, found.gradients[0][1]])
    assert numbers == pytest.approx(
        {'square': np.square(images).mean(), 'mean': images.mean()}, rel=1e-5
    )
    np.testing.assert_allclose(by_column, images.mean(axis=0), rtol=1e-5, atol=1e-6)


# Settings for which one call of several steps must equal the same number of single calls.
CALLS = {
    'backpropagation': {},
    'minibatches': dict(alignment='kolen_pollack', minibatch_size=4),
    'schedules': dict(
        alignment='information',
        alpha_schedule_type='linear',
        alpha_schedule_rate=0.5,
        constant_lr=False,
        delay_epochs=1.0,
    ),
    'draws': dict(alignment='brsf'),
    'noise': dict(
        alignment='mirror',
        input_distribution='normal',
        alignment_optimizer='adam',
        use_noisy_global_opt=True,
        use_noisy_alignment_opt=True,
        noisy_opt_distribution='uniform',
    ),
}
CALLS.update(
    {
        'optimizer ' + name: dict(alignment='symmetric', optimizer=name, grad_clip=True)
        for name in optimizers.OPTIMIZERS
    }
)
RATE = dict(learning_rate=0.05)  # large enough that all variables change


def one_by_one(case, steps=7):
    """Returns (variables, [scalars of each step]) after this many calls of one step each."""
    history, scalars = tiny.reference(7, **dict(CALLS[case], **RATE))
    return history[steps], scalars[:steps]


def called(calls, **settings):
    """Returns (variables, [scalars of each step]) after calls of these numbers of steps."""
    return tiny.calls(tiny.trainer(**dict(settings, **RATE)), calls)


# The loop does not depend on the optimiser. Three of these cases use one without slots; one with
# power variables and one with branches represent the others.
BY_DAY = sorted(set(CALLS) - {f'optimizer {name}' for name in optimizers.OPTIMIZERS}) + [
    'optimizer momentum',
    'optimizer adam',
    'optimizer swrats',
]


@pytest.mark.slow
@pytest.mark.parametrize(
    'case',
    BY_DAY + tiers.at_night(*sorted(set(CALLS) - set(BY_DAY))),
)
def test_a_call_of_several_steps_does_what_as_many_calls_do(case):
    variables, scalars = one_by_one(case)
    others, other_scalars = called([3, 1, 3], iterations_per_loop=5, **CALLS[case])
    assert (
        set(variables) == set(others)
        and variables['global_step'] == others['global_step'] == len(scalars) == 7
    )
    assert tiny.moved(variables, others) == set()
    assert [{name: float(value) for name, value in step.items()} for step in other_scalars] == [
        {name: float(value) for name, value in step.items()} for step in scalars
    ]
    # Each step has a new batch.
    assert len({float(step['model_loss']) for step in other_scalars}) == 7


NOISY = [  # the draws depend on the step and the part, and not on the device
    dict(alignment='mirror', input_distribution='normal'),
    dict(alignment='activation', input_distribution='uniform'),
    dict(alignment='information', input_distribution='normal'),
] + tiers.at_night(
    dict(alignment='mirror', input_distribution='uniform'),
    dict(
        alignment='mirror', input_distribution='normal', minibatch_size=4, cpu_devices=2, gpu='0,1'
    ),
    dict(alignment='mirror', input_distribution='normal', xla=True),
)


@pytest.mark.slow
@pytest.mark.parametrize('settings', NOISY)
def test_a_rule_on_noise_is_resumed_to_the_bit(settings):
    settings = dict(settings, learning_rate=0.1, optimizer='adam')
    history, scalars = tiny.train(tiny.trainer(**settings), steps=5)
    resumed, more = tiny.train(tiny.trainer(first_step=2, **settings), steps=3, start=history[2])
    backward = tiny.named(history[0], 'backward_kernel')
    assert len(backward) == 2 and tiny.moved(history[2], history[5]) >= backward
    assert [tiny.moved(*variables) for variables in zip(history[2:], resumed)] == [set()] * 4
    assert [float(step['alignment_loss']) for step in more] == [
        float(step['alignment_loss']) for step in scalars[2:]
    ]


def test_a_call_does_no_more_than_its_most():
    variables, scalars = called([100, 2], iterations_per_loop=4)
    assert len(scalars) == 6 == variables['global_step']


UNCOMPILED = {'noise', 'draws'}  # XLA draws different numbers
COMPILED = [  # the last one combines SWATS and RAdam
    ('optimizer momentum', 1),
    ('optimizer adam', 1),
    ('minibatches', 3),
    ('schedules', 3),
    ('optimizer swrats', 3),
] + ([] if runtime.XLA_NESTS_LOOPS else [('minibatches', 1)])


@pytest.mark.slow
@pytest.mark.parametrize(
    'case, most',
    COMPILED
    + tiers.at_night(
        *[(case, 1) for case in sorted(set(CALLS) - UNCOMPILED) if (case, 1) not in COMPILED]
    ),
)
def test_a_compiled_step_gives_the_same_numbers(case, most):
    settings = dict(CALLS[case], iterations_per_loop=most, xla=True)
    if case == 'minibatches' and most > 1 and not runtime.XLA_NESTS_LOOPS:
        with pytest.raises(
            ConfigError,
            match='--xla, --minibatch_size and --iterations_per_loop cannot be combined',
        ):
            called([], **settings)
        return
    variables, scalars = one_by_one(case, 3)
    others, other_scalars = called([most] * (3 // most), **settings)
    for name in variables:
        np.testing.assert_allclose(
            others[name],
            variables[name],
            rtol=0,
            atol=1e-4 * np.abs(variables[name]).max(),
            err_msg=name,
        )
    for step, other in zip(scalars, other_scalars):
        assert {name: float(value) for name, value in other.items()} == pytest.approx(
            {name: float(value) for name, value in step.items()}, rel=1e-5
        )


@pytest.mark.slow
def test_a_compiled_step_is_compiled():
    exp = tiny.trainer(xla=True)
    of_clusters = [op for op in exp.graph.get_operations() if '_xla_compile_id' in op.node_def.attr]
    assert {'MatMul', 'ResourceApplyGradientDescent'} <= {op.type for op in of_clusters}
    assert not any(
        '_xla_compile_id' in op.node_def.attr for op in tiny.trainer().graph.get_operations()
    )


ONE_CORE = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from training import runtime
import tensorflow.compat.v1 as tf
numbers = tf.data.Dataset.range(10 ** 6).map(lambda x: 2 * x, 4).batch(3).prefetch(2)
iterator = tf.data.make_initializable_iterator(numbers)
batch = iterator.get_next()
with tf.Session(config=runtime.session_config()) as session:
    for _ in range(20):
        session.run(iterator.initializer)
        print(session.run(batch).tolist())
"""


@pytest.mark.slow
@pytest.mark.parametrize('asked', [{}, {'TF_NUM_INTEROP_THREADS': '1'}], ids=['usual', 'one'])
@pytest.mark.skipif(
    not hasattr(os, 'sched_setaffinity'), reason='this system cannot restrict a process to a core'
)
def test_an_iterator_is_started_again_on_one_core(asked):
    """TensorFlow 1.13.2 would wait forever by its default."""
    done = subprocess.run(
        [sys.executable, '-c', ONE_CORE],
        cwd=ROOT,
        env=dict(os.environ, **asked),
        stdout=subprocess.PIPE,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0 and done.stdout.splitlines() == ['[0, 2, 4]'] * 20
