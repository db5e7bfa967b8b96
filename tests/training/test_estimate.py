"""What --dry_run estimates: counted by a walk through the plan, and compared with a training."""

import os
import random
import re

import numpy as np
import pytest

import tiny
from config.schema import ConfigError
from database.store import RECENT_CHECKPOINTS
from training import estimate, loop
from training.errors import TrainingError
from training.experiment import TARGET
import tensorflow.compat.v1 as tf


def plan(**changes):
    return tiny.experiment().plan._replace(**changes)


def walked(given):
    """Counts what the loop does at each step, as training/loop.py decides it."""
    validations, lasting, recent = int(given.validate_first), int(given.initial_weights), 0
    for step in range(1, given.steps + 1):
        last = step == given.steps
        validations += last or loop.due(step, given.validate_every)
        if last or loop.due(step, given.weights_every):
            lasting += 1
        elif loop.due(step, given.recent_every):
            recent += 1
    return validations, lasting, recent


@pytest.mark.parametrize('seed', range(40))
def test_validations_and_checkpoints_are_counted(seed):
    rng = random.Random(seed)
    every = [rng.choice([None, rng.randrange(1, 12)]) for _ in range(3)]
    given = plan(
        steps=rng.randrange(1, 70),
        validate_every=every[0],
        weights_every=every[1],
        recent_every=every[2],
        validate_first=rng.random() < 0.5,
        initial_weights=rng.random() < 0.5,
    )
    assert estimate.events(given) == walked(given)


def test_a_training_without_steps_validates_once():
    given = plan(steps=0, validate_first=False, initial_weights=True)
    assert estimate.events(given) == (1, 1, 0)


class Clock:
    """A clock that goes on by as many seconds as the experiment does work."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Work:
    """An experiment whose first step takes 7 s, each other one `step_s`, and a batch `batch_s`."""

    def __init__(self, exp, clock, step_s, batch_s=0.0, steps_per_call=1, hosts=1):
        self._exp, self._clock, self.step_s, self.batch_s = exp, clock, step_s, batch_s
        self.calls, self.per_call = [], steps_per_call
        self.device = type('Device', (), dict(hosts=hosts, leads=True, gpus=0))()
        self.level, self.training_step, self.plan = exp.level, exp.training_step, exp.plan
        self.built_validation = exp.built_validation._replace(steps=5)

    def asking(self, session, number):
        return number

    def run_steps(self, session, most):
        count = min(most, self.per_call)
        self._clock.now += self.step_s * count if self.calls else 7.0
        self.calls.append(count)
        return [{}] * count

    def find_damage(self, *_):
        return None

    find_validation_damage = find_damage

    def run(self, fetches, *_):
        """Stands for session.run: only fetching the totals of a batch takes time."""
        if self.built_validation.totals in (fetches if isinstance(fetches, tuple) else ()):
            self._clock.now += self.batch_s


@pytest.mark.parametrize('step_s, per_call, hosts, steps, calls', [
    (0.125, 1, 1, 10, [1] + 10 * [1]),  # ten steps, one a call
    (0.125, 100, 1, 10, [1, 1, 9]),  # one tells how many fit, and the rest is done in a call
    (0.125, 4, 1, 10, [1, 1, 4, 4, 1]),
    (4.0, 100, 1, 5, [1, 1, 4]),  # no more than 20 s
    (9.0, 1, 1, 2, [1, 1, 1]),
    (15.0, 1, 1, 1, [1, 1]),  # a second step would end after 20 s
    (50.0, 100, 1, 1, [1, 1]),
    (4.0, 100, 2, 5, [1, 1, 1, 1, 1, 1]),  # hosts ask each other before each step
])  # fmt: skip
def test_ten_steps_are_timed_or_those_of_20_s(step_s, per_call, hosts, steps, calls):
    clock = Clock()
    work = Work(tiny.experiment(), clock, step_s, 0.5, per_call, hosts)
    timing = estimate.measure(work, work, clock)
    assert (timing.steps, timing.step_s) == (steps, step_s) and work.calls == calls
    assert timing.validation_s == 5 * 0.5  # five batches, and measures that take no time


def test_a_quick_batch_is_timed_again_and_a_slow_one_is_not(monkeypatch):
    for seconds, count in ((0.5, 2), (1.5, 1)):
        clock, ran = Clock(), []
        work = Work(tiny.experiment(), clock, 0.1, seconds)
        real = work.run

        def counting(fetches, *rest, real=real, ran=ran):
            before = clock.now
            real(fetches, *rest)
            ran.append(clock.now > before)

        work.run = counting
        estimate.measure(work, work, clock)
        assert ran.count(True) == count


def test_the_lines_follow_from_what_was_measured(monkeypatch):
    exp = tiny.experiment(train_epochs=200.0, epochs_per_checkpoint=50.0)  # 600 steps, 5 of each
    monkeypatch.setattr(estimate.environment, 'peak_memory', lambda: 1234567890)
    each = sum(
        np.prod(v.shape.as_list(), dtype=int) * v.dtype.as_numpy_dtype().itemsize
        for v in exp.variables
    )
    assert estimate.lines(exp, estimate.Timing(10, 60.0, 1800.0)) == [
        'time of a step: 60,000.0 ms, 0 images/s (mean of 10 steps)',
        'time of a validation: 1,800.0 s (estimated from one batch)',
        'time of the whole training: 12.5 hours, 0 images/s; validations, 5 in all, are 2.5 hours '
        'of it',
        'memory of this process: 1.2 GB at most so far',
        f'a checkpoint: {estimate.size(each)}; kept: 5 in the cache folder '
        f'({estimate.size(5 * each)}), 5 in the database ({estimate.size(5 * each)})',
    ]
    quick = estimate.lines(exp, estimate.Timing(10, 0.001, 0.25))
    assert quick[0] == 'time of a step: 1.0 ms, 12,000 images/s (mean of 10 steps)'
    assert quick[2].startswith('time of the whole training: 0.0005 hours (1.9 s), 3,892 images/s; ')


@pytest.mark.parametrize('timing, why, told', [
    (estimate.Timing(1, 15.0, 3.0), '', 'time: not measured (1 step in 20 s)'),
    (estimate.NOTHING, 'no TPU answers', 'time: not measured (no TPU answers)'),
])  # fmt: skip
def test_fewer_than_two_steps_are_not_measured(timing, why, told):
    lines = estimate.lines(tiny.experiment(), timing, why)
    assert lines[0] == told and len(lines) == 3 and 'a checkpoint: ' in lines[2]


def test_recent_checkpoints_are_counted_apart():
    given = plan(steps=100, weights_every=50, recent_every=5, keep=5, initial_weights=True)
    line = estimate._checkpoints(given, 10**6)
    assert '5 in the cache folder (5.0 MB), 3 in the database (3.0 MB), ' in line
    assert f'{RECENT_CHECKPOINTS} recent ones in a separate database (6.0 MB)' in line


def test_it_measures_and_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exp = tiny.experiment(alignment='symmetric', iterations_per_loop=4)
    said = []
    lines = estimate.run(exp, said.append)
    assert re.fullmatch(
        r'time of a step: [\d,]+\.\d ms, [\d,]+ images/s \(mean of 10 steps\)', lines[0]
    )
    assert said == [] and os.listdir(str(tmp_path)) == []
    with tiny.session(exp) as session:  # as before, from new variables
        assert session.run(exp.global_step) == 0 and TARGET in exp.validate(session)


def test_a_device_that_does_not_answer_is_waited_for_shortly_and_named(monkeypatch):
    class Away:
        answers_within, leads, hosts, gpus = 600, True, 2, 0

        def ready(self, say):
            raise ConfigError(f'no host answers after {self.answers_within} s')

    exp = tiny.experiment()
    monkeypatch.setattr(exp, 'device', Away())
    line = estimate.run(exp, lambda text: None)[0]
    assert line == f'time: not measured (no host answers after {estimate.ANSWER_S} s)'


def test_too_little_memory_is_told_in_a_sentence(monkeypatch):
    exp = tiny.experiment()

    def steps(session, most):
        raise tf.errors.ResourceExhaustedError(None, None, 'OOM when allocating tensor')

    monkeypatch.setattr(exp, 'run_steps', steps)
    with pytest.raises(TrainingError, match='^dry run: out of memory'):
        estimate.run(exp, lambda text: None)
