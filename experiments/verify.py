"""Trains some finished runs of an experiment again, and compares the results."""

import os
import random
import tempfile
import uuid
from typing import Dict, List, Sequence

from experiments import lines, sweep
from experiments.base import METRICS, Results, Run
from experiments.lines import Line, State
from experiments.sweep import Where
from training import children, places
from training.types import Launch, Say

COMPARED = tuple(name for name in METRICS if 'seconds' not in name)
DEVIATIONS = 3.0  # standard deviations of a group that a result may differ by on another CPU


def drawn(runs: Sequence[Run], known: Sequence[Line], where: Where, n: int, seed: int) -> List[Run]:
    """Returns n of the runs that have finished, or all if there are fewer.

    Args:
        runs: The runs of an experiment.
        known: Its lines.
        where: Where they are trained.
        n: How many runs to draw.
        seed: The seed of the choice.
    """
    finished = {line.key for line in known if line.state is State.FINISHED}
    choice = [run for run in runs if run.key(where.runtime) in finished]
    return random.Random(seed).sample(choice, min(n, len(choice)))


def verify(
    name: str,
    runs: Sequence[Run],
    where: Where,
    n: int,
    seed: int,
    say: Say = places.say,
    launch: Launch = children.start,
) -> bool:
    """Trains finished runs again under other exp_ids; returns whether all results agree.

    Args:
        name: The name of the experiment.
        runs: Its runs.
        where: Where and how they are trained.
        n: How many runs to train again.
        seed: The seed of the choice of runs.
        say: Prints a line.
        launch: Starts the command of a training.

    Raises:
        ConfigError: The CSV file cannot be read.
        ServerError: MongoDB was away for too long.
        Stopped: A signal asked the program to stop.
    """
    known = lines.File(where.csv).read()
    again = drawn(runs, known, where, n, seed)
    if not again:
        say('there is no finished run to verify')
        return False
    noun = 'run' if len(again) == 1 else 'runs'
    say(f'training {len(again)} {noun} again: {"; ".join(run.name for run in again)}')
    with tempfile.TemporaryDirectory() as folder:
        aside = where._replace(csv=os.path.join(folder, 'verify.csv'))
        repeated = sweep.Sweep(f'{name}_verify_{uuid.uuid4().hex[:8]}', again, aside, say, launch)
        repeated.run()
        found = {line.key: line for line in lines.File(aside.csv).read()}
    results = Results.of(runs, known, where.runtime)
    told = []
    for run in again:
        key = run.key(where.runtime)
        before = next(line for line in known if line.key == key)
        if key in found:
            (group,) = [each for each in results.groups if each.lines.get(key.seed) == before][:1]
            spread = {metric: group.summary(metric).std for metric in COMPARED}
            told.append(difference(before, found[key], spread))
        else:
            told.append('not repeated: ' + repeated.failures.get(run.name, 'it did not end'))
        say(f'{run.name}: {told[-1] or "the same"}')
    return not any(told)


def difference(before: Line, now: Line, spread: Dict[str, float]) -> str:
    """Returns how a repeated run differs from the first one; '' if it does not.

    On the same type of CPU with the same number of threads, the results have to be equal to the
    bit. Otherwise each may differ by DEVIATIONS standard deviations of its group.

    Args:
        before: The line of the run.
        now: The line of the repeated run.
        spread: {metric: standard deviation over the group of the run}.
    """
    if now.state is not before.state:
        return f'{now.state.value} instead of {before.state.value}'
    exact = bool(before.source.cpu) and (before.source.cpu, before.source.threads) == (
        now.source.cpu,
        now.source.threads,
    )
    differing = []
    for metric in COMPARED:
        old, new = getattr(before.measured, metric), getattr(now.measured, metric)
        if repr(old) == repr(new):  # NaN is equal to itself here
            continue
        far = exact or None in (old, new) or not abs(old - new) <= DEVIATIONS * spread[metric]
        if far:
            differing.append(f'{METRICS[metric].title} {new} instead of {old}')
    return ', '.join(differing)
