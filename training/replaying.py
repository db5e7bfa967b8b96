"""Trains again from one kept checkpoint of an experiment to the next, and compares to the bit.

`runs.py check --replay` runs it as `python -m training.replaying`. Nothing is stored.
"""

if __name__ == '__main__':
    import missing_packages  # noqa: F401 (imported first: it reports missing packages)

import argparse
import contextlib
import os
import sys
import tempfile
from typing import Dict, List, NamedTuple, Optional, Sequence

import numpy as np

from config.schema import Config, ConfigError
from data import DataError
from database.errors import StoreError
from database.place import Place
from database.store import Store
from database.types import Document
from training import checkpoints, devices, loop, machine, restoring, runtime
from training.choices import choices
from training.errors import CheckpointError, TrainingError
from training.experiment import Experiment
from training.places import say
from training.types import Values

MOST_NAMED = 5  # differences in one sentence


class Pair(NamedTuple):
    """Two checkpoints of an experiment, of which nothing was trained with other settings between.

    Attributes:
        first: The document of the earlier one.
        last: The document of the later one.
        losses: {step: numbers of the step} between them, as they are recorded.
    """

    first: Document
    last: Document
    losses: Dict[int, Document]


def closest(store: Store) -> Optional[Pair]:
    """Returns the kept checkpoints with the fewest steps between them, or None without two.

    Raises:
        StoreError: MongoDB cannot be read.
    """
    found = list(store.records({'validates': {'$exists': False}}))
    losses = {
        record['step'] - number: result
        for record in found
        for number, result in enumerate(reversed(record.get('train_results', [])))
    }
    kept = [each for each in map(store.find_checkpoint, store.checkpoint_steps()) if each]
    pairs = [
        Pair(first, last, {})
        for first, last in zip(kept, kept[1:])
        if _digests(first) == _digests(last) and first['step'] < last['step']
    ]
    if not pairs:
        return None
    pair = min(pairs, key=lambda pair: pair.last['step'] - pair.first['step'])
    steps = range(pair.first['step'] + 1, pair.last['step'] + 1)
    return pair._replace(losses={step: losses[step] for step in steps if step in losses})


def _digests(document: Document) -> object:
    return document.get('params', {}).get('digests')


def differences(store: Store, pair: Pair, folder: str) -> List[str]:
    """Trains from the first checkpoint of a pair to the last one.

    Args:
        store: Open store of the experiment.
        pair: The checkpoints.
        folder: Folder for downloads.

    Returns:
        What differs from the records, or from the last checkpoint, one sentence each.

    Raises:
        ConfigError: The recorded settings cannot be used here.
        DataError: The images cannot be used.
        StoreError: A checkpoint cannot be read.
        CheckpointError: A checkpoint is damaged, or does not fit the recorded settings.
    """
    first, last = pair.first['step'], pair.last['step']
    config = Config.of(restoring.recorded(pair.last['params']), choices())
    device = devices.choose(config, devices.claim(config, say))
    experiment = Experiment(config, device, first)
    prefixes = [
        store.download(each, os.path.join(folder, name))
        for name, each in (('first', pair.first), ('last', pair.last))
    ]
    with device.ready(say), loop.session(
        experiment, device.session_config(), device.target
    ) as session:
        checkpoints.restore(session, experiment, prefixes[0])
        session.run(experiment.level)
        session.run(experiment.training_step.initializer)
        found, step = [], first
        while step < last:
            for scalars in experiment.run_steps(session, last - step):
                step += 1
                found += _losses(step, scalars, pair.losses.get(step, {}))
        values = session.run({v.op.name: v for v in experiment.variables})
    return found + _variables(values, checkpoints.values(prefixes[1]))


def _losses(step: int, scalars: Document, recorded: Document) -> List[str]:
    """Compares the numbers of a step; those that are stored elsewhere are left out."""
    return [
        f'step {step:,}: {name} is {float(np.mean(scalars[name]))!r}, but {recorded[name]!r} is '
        'recorded'
        for name in sorted(set(scalars) & set(recorded))
        if float(np.mean(scalars[name])) != recorded[name]
    ]


def _variables(values: Values, stored: Values) -> List[str]:
    names = [
        name
        for name in sorted(set(values) | set(stored))
        if name not in values
        or name not in stored
        or np.asarray(values[name]).tobytes() != np.asarray(stored[name]).tobytes()
    ]
    if not names:
        return []
    more = f' and {len(names) - MOST_NAMED} more' if len(names) > MOST_NAMED else ''
    return [f'variables that differ: {", ".join(names[:MOST_NAMED])}{more}']


def compare(place: Place) -> int:
    """Trains a part of an experiment again, prints what differs, and returns the exit code."""
    with contextlib.closing(Store(*place)) as store:
        pair = closest(store)
        if pair is None:
            say('Nothing to train again: two kept checkpoints are needed, with the same settings.')
            return 1
        with tempfile.TemporaryDirectory(prefix='replay-') as folder:
            found = differences(store, pair, folder)
    steps = f'the steps {pair.first["step"] + 1:,} to {pair.last["step"]:,}'
    for line in found[:MOST_NAMED]:
        say(f'{line}.')
    if not found:
        say(f'Trained again: {steps} of {place.exp_id} give the same losses and weights to the bit')
        return 0
    say(f'Trained again: {steps} of {place.exp_id} differ ({len(found):,} differences){_why(pair)}')
    return 1


def _why(pair: Pair) -> str:
    """Returns words about a difference of programs or machines, or ''."""
    params = pair.last['params']
    recorded = params.get('environment', {})
    reasons = []
    if params.get('provenance', {}).get('runtime') != runtime.describe():
        reasons.append('another TensorFlow')
    if recorded.get('cpu', {}).get('flags') != machine.cpu().flags:
        reasons.append('another type of CPU')
    return f'; they were trained with {" and ".join(reasons)}' if reasons else ''


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Runs the command line and returns the exit code."""
    parser = argparse.ArgumentParser(prog='python -m training.replaying', description=__doc__)
    for name in Place._fields:
        parser.add_argument('--' + name, required=True, type=int if name == 'port' else str)
    try:
        return compare(Place(**vars(parser.parse_args(argv))))
    except (ConfigError, DataError, StoreError, CheckpointError, TrainingError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1


if __name__ == '__main__':
    sys.exit(main())
