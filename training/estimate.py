"""Estimates what a training would take, from a few of its steps: what --dry_run prints.

Nothing is kept of these steps: they run in a separate Session, from new variables.
"""

import contextlib
import math
import signal
import time
from typing import Callable, List, NamedTuple, Optional

import tensorflow.compat.v1 as tf

from config.schema import ConfigError
from database.store import RECENT_CHECKPOINTS
from training import environment, loop
from training.experiment import Experiment
from training.trainable import Plan
from training.types import Say
from training.validation import reading

MOST_STEPS = 10  # that are timed
MOST_S = 20.0  # seconds after which no other step is started
LEAST_STEPS = 2  # fewer say little about the others
ANSWER_S = 20  # seconds to wait for a TPU, or for other hosts
QUICK_S = 1.0  # a first validation batch below this is mostly start-up, and another one is timed


class Timing(NamedTuple):
    """What was measured.

    Attributes:
        steps: Number of timed steps, not counting the first one, which is slower.
        step_s: Mean seconds of one of them; None if there were none.
        validation_s: Seconds of a whole validation, from one of its batches; None if it was not
            timed.
    """

    steps: int
    step_s: Optional[float]
    validation_s: Optional[float]


NOTHING = Timing(0, None, None)


class Events(NamedTuple):
    """How often a training validates and saves.

    Attributes:
        validations: Number of validations.
        lasting: Number of checkpoints that are kept for good.
        recent: Number of recent checkpoints.
    """

    validations: int
    lasting: int
    recent: int


def events(plan: Plan) -> Events:
    """Counts the validations and checkpoints of a training that runs from step 0 to its end."""
    steps = int(plan.steps)
    if not steps:  # it validates once, and saves what it starts from
        return Events(1, int(plan.initial_weights), 0)

    def count(every: Optional[int]) -> int:
        return steps // every if every else 0

    def at_end(every: Optional[int]) -> bool:
        return bool(every) and steps % (every or 1) == 0

    validations = count(plan.validate_every) + (not at_end(plan.validate_every))
    lasting = count(plan.weights_every) + (not at_end(plan.weights_every))
    recent = count(plan.recent_every)
    if plan.recent_every and plan.weights_every:  # where both are due, the lasting one is saved
        both = plan.recent_every * plan.weights_every
        recent -= count(both // math.gcd(plan.recent_every, plan.weights_every))
    if at_end(plan.recent_every) and not at_end(plan.weights_every):
        recent -= 1
    return Events(
        validations + int(plan.validate_first), lasting + int(plan.initial_weights), recent
    )


def checkpoint_bytes(experiment: Experiment) -> int:
    """Returns the size of all variables, which is nearly the size of a checkpoint."""
    return sum(
        variable.shape.num_elements() * variable.dtype.base_dtype.size
        for variable in experiment.variables
    )


def run(experiment: Experiment, say: Say) -> List[str]:
    """Times a few steps and a validation batch, and returns lines about the whole training.

    Args:
        experiment: The experiment, with its training step and its validation.
        say: Prints a line.

    Raises:
        TrainingError: The training would fail: an image is damaged, or the memory does not suffice.
    """
    device = experiment.device
    device.answers_within = min(device.answers_within, ANSWER_S)
    with contextlib.ExitStack() as ready:
        try:
            ready.enter_context(device.ready(say))
        except ConfigError as error:
            return lines(experiment, NOTHING, str(error))
        with loop.session(experiment, device.session_config(), device.target) as session:
            timing = measure(session, experiment)
    return lines(experiment, timing)


def measure(
    session: tf.Session, experiment: Experiment, clock: Callable[[], float] = time.perf_counter
) -> Timing:
    """Times up to MOST_STEPS steps, or those of MOST_S seconds, and a validation batch.

    Args:
        session: Session with new variables.
        experiment: The experiment. All hosts of its device measure together.
        clock: Returns a time in seconds.
    """
    device, steps, spent = experiment.device, 0, 0.0
    session.run(experiment.level)
    session.run(experiment.training_step.initializer)
    _steps(session, experiment, 1)  # allocates memory, compiles, and fills the queue of images
    while steps < MOST_STEPS:
        fitting = int((MOST_S - spent) * steps / spent) if spent else 1
        over = steps > 0 and fitting < 1 and device.leads
        if experiment.asking(session, signal.SIGTERM if over else None):  # hosts end together
            break
        most = min(fitting, MOST_STEPS - steps) if device.hosts == 1 else 1
        started = clock()
        steps += _steps(session, experiment, max(most, 1))
        spent += clock() - started
    validation_s = _time_validation(session, experiment, clock) if device.leads else None
    experiment.asking(session, None)  # no host leaves while another one needs it
    return Timing(steps, spent / steps, validation_s)


def _steps(session: tf.Session, experiment: Experiment, most: int) -> int:
    """Runs one call of the device of up to `most` steps, and returns their number."""

    def damage(in_files: bool) -> Optional[str]:
        return experiment.find_damage(0, MOST_STEPS + 1, in_files)

    with reading('dry run', experiment.plan.source, damage):
        return len(experiment.run_steps(session, most))


def _time_validation(
    session: tf.Session, experiment: Experiment, clock: Callable[[], float]
) -> float:
    """Returns the seconds of a validation: of a batch, times their number, and of the measures."""
    validation = experiment.built_validation

    def seconds(*fetches: object) -> float:
        started = clock()
        session.run(fetches)
        return clock() - started

    with reading('dry run', experiment.plan.source, experiment.find_validation_damage):
        session.run(validation.initializer)
        batch = seconds(validation.totals)
        if batch < QUICK_S and validation.steps > 1:
            batch = seconds(validation.totals)
        measures = seconds(validation.measures, validation.measured_images)
    return validation.steps * batch + measures


def lines(experiment: Experiment, timing: Timing, why: str = '') -> List[str]:
    """Returns lines about the time, the memory and the checkpoints of a whole training.

    Args:
        experiment: The experiment.
        timing: What was measured.
        why: Why nothing was measured.
    """
    plan, peak = experiment.plan, environment.peak_memory()
    memory = 'not known' if peak is None else f'{size(peak)} at most so far'
    return _time(plan, timing, why) + [
        f'memory of this process: {memory}'
        + (' (without that of the GPUs)' if experiment.device.gpus else '')
        + (' (without that of the TPU)' if experiment.config.tpu_name else ''),
        _checkpoints(plan, checkpoint_bytes(experiment)),
    ]


def _time(plan: Plan, timing: Timing, why: str) -> List[str]:
    if timing.step_s is None or timing.steps < LEAST_STEPS:
        done = f'{timing.steps} step in {MOST_S:.0f} s' if timing.steps else 'no step was run'
        return [f'time: not measured ({why or done})']
    step_s, validations = timing.step_s, events(plan).validations
    training_s = plan.steps * step_s
    told = [f'time of a step: {1000 * step_s:,.1f} ms, {plan.batch_size / step_s:,.0f} images/s']
    told[0] += f' (mean of {timing.steps} steps)'
    if timing.validation_s is None:
        return told + [
            f'time of the whole training: {hours(training_s)} without its validations, which only '
            'the first host measures'
        ]
    validating_s = validations * timing.validation_s
    images_s = plan.batch_size * plan.steps / max(training_s + validating_s, 1e-9)
    return told + [
        f'time of a validation: {timing.validation_s:,.1f} s (estimated from one batch)',
        f'time of the whole training: {hours(training_s + validating_s)}, {images_s:,.0f} '
        f'images/s; validations, {validations:,} in all, are {hours(validating_s)} of it',
    ]


def _checkpoints(plan: Plan, each: int) -> str:
    """Returns a line on how many checkpoints are kept, where, and how large they are."""
    _, lasting, recent = events(plan)
    local = min(plan.keep, lasting + recent)
    kept = [
        f'{local:,} in the cache folder ({size(local * each)})',
        f'{lasting:,} in the database ({size(lasting * each)})',
    ]
    if recent:
        newest = min(recent, RECENT_CHECKPOINTS)
        kept.append(f'{newest:,} recent ones in a separate database ({size(newest * each)})')
    return f'a checkpoint: {size(each)}; kept: {", ".join(kept)}'


def hours(seconds: float) -> str:
    """Returns a duration in hours, and in seconds or minutes if it is short."""
    if seconds < 90:
        return f'{seconds / 3600:.4f} hours ({seconds:.1f} s)'
    if seconds < 5400:
        return f'{seconds / 3600:.3f} hours ({seconds / 60:.1f} min)'
    return f'{seconds / 3600:,.1f} hours'


def size(count: int) -> str:
    """Returns a number of bytes in the largest unit that gives at least 1."""
    for unit, factor in (('GB', 1e9), ('MB', 1e6), ('kB', 1e3)):
        if count >= factor:
            return f'{count / factor:,.1f} {unit}'
    return f'{count:,} bytes'
