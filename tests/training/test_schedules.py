"""Compares the schedules with plain Python, at and around every boundary."""

import math

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from training import schedules

STEPS_PER_EPOCH = 7  # odd, so that no boundary is at a round number


def values(schedule, steps):
    """Returns the values of a schedule at each step: float32 [len(steps), ...]."""
    with tf.Graph().as_default(), tf.Session() as session:
        step = tf.placeholder(tf.int64, [])
        outputs = tf.stack(schedule(step))
        assert outputs.dtype == tf.float32
        return np.array([session.run(outputs, {step: value}) for value in steps])


def around(*epochs):
    """Returns the steps at, just before and just after the given epochs."""
    return sorted(
        {max(0, int(epoch * STEPS_PER_EPOCH) + offset) for epoch in epochs for offset in (-1, 0, 1)}
    )


def drops(epoch, stretch=1, shift=0):
    return 0.1 ** sum(epoch >= stretch * boundary + shift for boundary in (30, 60, 80))


def learning_rate(**options):
    return schedules.LearningRate(
        **dict(dict(base=0.125, steps_per_epoch=STEPS_PER_EPOCH, batch_size=96), **options)
    )


def coefficient(**options):
    return schedules.Coefficient(
        **dict(dict(value=2e-3, steps_per_epoch=STEPS_PER_EPOCH, train_epochs=20), **options)
    )


def test_whole_epochs_are_exact():
    for steps_per_epoch in (7, 49, 5004):
        whole = np.arange(1, 100)
        got = values(
            lambda step: [schedules.epochs(step, steps_per_epoch)], whole * steps_per_epoch
        )
        np.testing.assert_array_equal(got[:, 0], whole)


@pytest.mark.parametrize('steps_per_epoch', [7, 5004])
def test_epoch_boundaries_are_exact(steps_per_epoch):
    schedule = learning_rate(steps_per_epoch=steps_per_epoch, constant=False, warmup_epochs=0)
    steps = [boundary * steps_per_epoch - before for boundary in (30, 60, 80) for before in (1, 0)]
    np.testing.assert_allclose(
        values(schedule, steps) / 0.125, [1, 0.1, 0.1, 0.01, 0.01, 0.001], rtol=1e-6
    )


@pytest.mark.parametrize('rescale, expected', [(False, 0.125), (True, 0.125 * 96 / 256)])
def test_constant_learning_rate(rescale, expected):
    np.testing.assert_allclose(
        values(learning_rate(rescale=rescale), [0, 1, 10**6]), expected, rtol=1e-6
    )


@pytest.mark.parametrize('warmup_epochs', [0, 5, 2.5, 40])
@pytest.mark.parametrize('k', [None, 1, 3])
@pytest.mark.parametrize('delay', [None, 0, 3])
def test_step_schedule(warmup_epochs, k, delay):
    stretch = 1 + (k or 0)

    def oracle(step):
        epoch = max(step / STEPS_PER_EPOCH - (delay or 0), 0)
        ramp = min(epoch / (stretch * warmup_epochs), 1) if warmup_epochs else 1
        return 0.125 * 96 / 256 * min(ramp, drops(epoch, stretch))

    steps = around(
        0, *[stretch * epoch + (delay or 0) for epoch in (warmup_epochs, 30, 35, 60, 80, 95)]
    )
    schedule = learning_rate(
        rescale=True,
        constant=False,
        warmup_epochs=warmup_epochs,
        alternate_step_freq=k,
        delay_epochs=delay,
    )
    np.testing.assert_allclose(values(schedule, steps), [oracle(step) for step in steps], rtol=1e-5)


@pytest.mark.parametrize('steps_per_epoch', [7, 937])
@pytest.mark.parametrize('drop_epochs', [(3,), (50, 75), (1, 2, 4, 40)])
def test_drops_at_given_epochs(drop_epochs, steps_per_epoch):
    """They are epochs of the training, whatever delays or stretches other schedules."""
    steps = sorted({epoch * steps_per_epoch + d for epoch in (0, *drop_epochs) for d in (0, 1, -1)})
    expected = [
        0.125 * 96 / 256 * 0.1 ** sum(step >= epoch * steps_per_epoch for epoch in drop_epochs)
        for step in steps[1:]
    ]
    for others in ({}, dict(alternate_step_freq=2, delay_epochs=4)):
        schedule = learning_rate(
            steps_per_epoch=steps_per_epoch, rescale=True, drop_epochs=drop_epochs, **others
        )
        np.testing.assert_allclose(values(schedule, steps[1:]), expected, rtol=1e-6)


@pytest.mark.parametrize('k', [None, 2])
def test_alignment_drops_with_a_delayed_task_and_does_not_warm_up(k):
    stretch = 1 + (k or 0)
    steps = around(0, 5, *[stretch * epoch + 4 for epoch in (30, 60, 80)])
    schedule = learning_rate(constant=False, alternate_step_freq=k, drops_delayed_by=4)
    expected = [0.125 * drops(step / STEPS_PER_EPOCH, stretch, 4) for step in steps]
    np.testing.assert_allclose(values(schedule, steps), expected, rtol=1e-6)


@pytest.mark.parametrize('constant', [True, False])
@pytest.mark.parametrize('warmup_epochs', [0, 5])
def test_manual_learning_rate_before_any_drop(constant, warmup_epochs):
    steps = around(0, 5, 30, 100)
    schedule = learning_rate(
        manual=True, constant=constant, rescale=True, warmup_epochs=warmup_epochs
    )
    expected = [
        0.125 * 96 / 256 * (min(step / STEPS_PER_EPOCH / warmup_epochs, 1) if warmup_epochs else 1)
        for step in steps
    ]
    np.testing.assert_allclose(values(schedule, steps), expected, rtol=1e-6)


@pytest.mark.parametrize('drop', [1, 3])
def test_manual_drop_comes_after_its_boundary(drop):
    schedule = learning_rate(manual=True, drop=drop, boundary_step=11)
    before, after = 0.125 * 0.1 ** (drop - 1), 0.125 * 0.1**drop
    np.testing.assert_allclose(
        values(schedule, [0, 11, 12, 999]), [before, before, after, after], rtol=1e-6
    )


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(manual=True, drop=1), 'boundary_step'),
        (dict(drop=-1), 'drop'),
        (dict(delay_epochs=1, drops_delayed_by=1), 'not both'),
        (dict(warmup_epochs=-1), 'warmup_epochs'),
        (dict(alternate_step_freq=0), 'alternate_step_freq'),
        (dict(steps_per_epoch=0), 'steps_per_epoch'),
    ],
)
def test_learning_rate_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        learning_rate(**options)


@pytest.mark.parametrize(
    'kind, cycle',
    [
        (kind, cycle)
        for kind in sorted(schedules.KINDS, key=str)
        for cycle in (None, 0, 3.5)
        if cycle or kind != 'cyclic'
    ],
)
@pytest.mark.parametrize('rate', [0.25, -0.25])
def test_coefficient(kind, cycle, rate):
    change = {
        None: lambda p: 2e-3,
        'linear': lambda p: 2e-3 + rate * p,
        'cyclic': lambda p: 2e-3 + rate * p,
        'exponential': lambda p: 2e-3 * math.exp(rate * p),
    }[kind]

    def oracle(step):
        epoch = step / STEPS_PER_EPOCH
        if epoch < 0.1 * 20 or epoch > 0.75 * 20:
            return 0.0
        p = epoch - 0.1 * 20
        if cycle:
            phase = p % cycle
            p = min(phase, cycle - phase)  # = triangle * cycle / 2
        return change(p)

    steps = around(0, 2, 2 + 3.5 / 2, 2 + 3.5, 6, 9.25, 15, 20, 25)
    schedule = coefficient(kind=kind, cycle=cycle, rate=rate, start=0.1, stop=0.75)
    np.testing.assert_allclose(
        values(schedule, steps), [oracle(step) for step in steps], rtol=2e-5, atol=1e-6
    )


def test_coefficient_stops_strictly_after_its_last_epoch():
    np.testing.assert_allclose(
        values(coefficient(), [0, 20 * STEPS_PER_EPOCH, 20 * STEPS_PER_EPOCH + 1]),
        [2e-3, 2e-3, 0],
        rtol=1e-6,
    )


@pytest.mark.parametrize('rate', [1e6, -1e6])
@pytest.mark.parametrize('value', [0.0, 1e-3])
def test_a_wild_exponential_is_finite(value, rate):
    schedule = coefficient(kind='exponential', value=value, rate=rate, start=0.2, stop=0.6)
    assert np.all(np.isfinite(values(schedule, around(0, 4, 10, 12, 20, 10**6))))


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(kind='cyclic'), 'needs a cycle'),
        (dict(kind='linear', cycle=-1), 'cycle'),
        (dict(kind='quadratic'), 'cyclic, exponential, linear'),
    ],
)
def test_coefficient_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        coefficient(**options)


@pytest.mark.parametrize('delay', [None, 3])
@pytest.mark.parametrize('k', [None, 1, 4])
@pytest.mark.parametrize('constant', [True, False])
def test_loss_rates(delay, k, constant):
    def oracle(step):
        epoch = step / STEPS_PER_EPOCH
        factor = 1 if constant else drops(epoch)
        delayed = delay is not None and epoch < delay
        alignments_turn = k is not None and step % (k + 1) == 0
        return [
            0.0 if delayed or alignments_turn else 0.7 * factor,
            0.3 * factor if k is None or alignments_turn or delayed else 0.0,
        ]

    steps = around(0, 1, 3, 5, 30, 60, 80)
    schedule = schedules.LossRates(
        steps_per_epoch=STEPS_PER_EPOCH,
        loss_rate=0.7,
        alignment_rate=0.3,
        delay_epochs=delay,
        alternate_step_freq=k,
        constant=constant,
    )
    np.testing.assert_allclose(values(schedule, steps), [oracle(step) for step in steps], rtol=1e-5)
