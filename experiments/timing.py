"""Estimates how long runs take, from short trainings in a separate database."""

import tempfile
import time
import uuid
from typing import Dict, List, Optional, Sequence, Tuple

from pymongo.database import Database

from config.schema import Config
from database import connection
from database.place import FILES
from database.types import Document
from experiments import lines, sweep
from experiments.base import Run
from experiments.lines import State
from experiments.sweep import Where
from experiments.trained import Training
from training import places
from training.errors import TrainingError
from training.stopping import Stop
from training.types import Say

LONGEST_S = 60.0  # a training is stopped after this time
STEPS = 300  # or after this many steps
LOOK_S = 0.5


def estimates(
    name: str, runs: Sequence[Run], missing: Sequence[Run], where: Where, say: Say = places.say
) -> Dict[str, float]:
    """Returns {name of a missing run: its seconds}.

    The time of a run is that of the finished runs that differ in the seed alone, or else of a short
    training with its settings.

    Args:
        name: The name of the experiment.
        runs: All runs.
        missing: The runs to train.
        where: Where and how they are trained.
        say: Prints a line.

    Raises:
        TrainingError: A short training failed.
        Stopped: A signal asked the program to stop.
    """
    known = _known(runs, where)
    found: Dict[str, float] = {}
    for run in missing:
        digest = run.config.digests().settings
        if digest not in known:
            say(f'timing a short training: {run.name}')
            known[digest] = timed(name, run, where)
        found[run.name] = known[digest]
    return found


def _known(runs: Sequence[Run], where: Where) -> Dict[str, float]:
    """Returns {digest: mean seconds of the finished runs}."""
    digests = {run.config.digests().settings for run in runs}
    times: Dict[str, List[float]] = {}
    for line in lines.File(where.csv).read():
        if line.source.digest in digests and line.state is State.FINISHED:
            seconds = line.measured.process_seconds or line.measured.seconds
            if seconds is not None:
                times.setdefault(line.source.digest, []).append(seconds)
    return {digest: sum(each) / len(each) for digest, each in times.items()}


def timed(name: str, run: Run, where: Where) -> float:
    """Returns the seconds that a run takes, from the start of a training with its settings.

    Raises:
        TrainingError: The training failed.
        Stopped: A signal asked the program to stop.
    """
    scratch = f'{where.dbname}_timing_{uuid.uuid4().hex[:8]}'
    with tempfile.TemporaryDirectory() as cache, connection.connect(
        where.host, where.port
    ) as client, Stop() as stop:
        config = sweep.placed(run, name, where._replace(dbname=scratch, cache_dir=cache))
        folder = places.cache_folder(config, places.of(config, name))
        training = Training(config, folder, where.threads)
        try:
            starting = _follow(training, client[scratch], stop)
        finally:
            training.stop()
            code = training.wait()
            records = _records(client[scratch], config)
            for database in client.list_database_names():
                if database.startswith(scratch):
                    client.drop_database(database)
        total = _total(config, records)
        if total is None:
            raise TrainingError(f'{run.name}: exit code {code}, {training.message()}')
        return starting + total


def _follow(training: Training, database: 'Database[Document]', stop: Stop) -> float:
    """Waits until a training can be stopped; returns the seconds before its first step."""
    began = time.monotonic()
    starting: Optional[float] = None
    while not training.has_ended() and time.monotonic() - began < LONGEST_S:
        stop.now()
        steps = [record['step'] for record in _records(database, training.config)]
        if steps and starting is None:
            starting = time.monotonic() - began
        if max(steps, default=0) >= STEPS:
            break
        time.sleep(LOOK_S)
    return time.monotonic() - began if starting is None else starting


def _records(database: 'Database[Document]', config: Config) -> Sequence[Document]:
    files = database[places.collection(config) + FILES]
    fields = {'step': 1, 'duration': 1, 'train_results.loss': 1, 'params.train_params.num_steps': 1}
    return list(files.find({'exp_id': config.exp_id}, fields, sort=[('step', 1)]))


def _total(config: Config, records: Sequence[Document]) -> Optional[float]:
    """Returns the seconds of all steps and validations, or None if no step is recorded."""
    validating, step, steps = _costs(records)
    if step is None:
        return None
    return steps * step + validating * config.train_epochs / config.epochs_per_checkpoint


def _costs(records: Sequence[Document]) -> Tuple[float, Optional[float], int]:
    """Returns the seconds of a validation and of a step, and the number of steps."""
    stepping = [record['duration'] for record in records if record.get('train_results')]
    validating = [record['duration'] for record in records if not record.get('train_results')]
    steps = records[-1]['params']['train_params']['num_steps'] if records else 0
    return (validating or [0.0])[0], min(stepping) if stepping else None, steps
