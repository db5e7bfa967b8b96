"""Trainings for the experiments: processes of train.py, and what they have recorded."""

import json
import os
import platform
import subprocess
import sys
import time
from typing import IO, Dict, List, NamedTuple, Optional, Tuple

from pymongo.database import Database

from config import params
from config.flags import as_flag
from config.root import ROOT
from config.rows import MEANING, TRAINING, Scope
from config.schema import SEED, Config, ConfigError
from database import unfinished
from database.place import FILES, UNFINISHED
from database.types import Document
from experiments.base import MOST_TIES
from experiments.lines import Line, Measured, Source, State, of_texts, texts
from experiments.validations import Validation
from training import children, machine, places, provenance, validation
from training.errors import Lost, TrainingError
from training.experiment import TARGET
from training.types import Launch

# The environment variables that limit TensorFlow's threads; training/runtime.py uses them, too.
THREADS = ('TF_NUM_INTRAOP_THREADS', 'TF_NUM_INTEROP_THREADS')
NOTES = 'experiments.runs'  # collection with a document for each run that was started
PLACE = ('threads', 'cpu', 'commit')  # of a Source: known before the run starts
RESULTS = 'validation_results.' + TARGET
ANGLES = ('weight_angle', 'projection_angle', 'gradient_angle')


def cpu() -> str:
    """Returns the type of the CPU of this machine, such as 'AMD EPYC 7763 64-Core Processor'."""
    return _one_line(machine.cpu().model or platform.machine())


def _one_line(text: str) -> str:
    return ' '.join(text.split())


def commit() -> str:
    """Returns the commit of the program, with a '+' if there are uncommitted changes.

    Changes of the results themselves do not count. The text is empty outside a git checkout.
    """
    head = provenance.git_text('rev-parse', 'HEAD') or ''
    changed = provenance.git_text('status', '--porcelain', '--', '.', ':!docs/results')
    return head[:12] + ('+' if head and changed else '')


def settings(config: Config) -> str:
    """Returns the settings that differ from their defaults and enter the digest, as JSON."""
    rows = config.rows
    found = {
        name: value
        for name, value in config.differing().items()
        if rows[name].scope in (MEANING, TRAINING) and name != SEED
    }
    return json.dumps(found, sort_keys=True)


class Training:
    """A process of train.py.

    Args:
        config: The settings of the training.
        folder: Folder for its settings file and its output.
        threads: How many threads it may use.
        launch: Starts the command.

    Raises:
        TrainingError: It cannot be started.

    Attributes:
        config: The settings of the training.
        log: Path of its output.
        started: When it was started, by time.monotonic.
    """

    def __init__(
        self, config: Config, folder: str, threads: int, launch: Launch = children.start
    ) -> None:
        self.config = config
        self.log = os.path.join(folder, config.exp_id + '.log')
        self.started = time.monotonic()
        path = os.path.join(folder, config.exp_id + '.pkl')
        params.save(config, path)
        command = [sys.executable, os.path.join(ROOT, 'train.py')]
        command += ['--load_params_file=' + path, '--do_restore'] + _of_the_call(config)
        try:
            self._output: IO[bytes] = open(self.log, 'wb')
            # In a separate session, so that Ctrl-C reaches the program alone, which stops it.
            self._process = launch(
                command,
                cwd=ROOT,
                stdout=self._output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env=dict(os.environ, **dict.fromkeys(THREADS, str(threads))),
            )
        except OSError as error:
            raise TrainingError(
                f'the training {config.exp_id} cannot be started ({error.strerror}; its output '
                f'would be in {self.log})'
            )

    def has_ended(self) -> bool:
        """Returns whether the process has ended."""
        return self._process.poll() is not None

    def stop(self) -> None:
        """Asks the process to save a checkpoint and to stop."""
        if not self.has_ended():
            self._process.terminate()

    def wait(self) -> int:
        """Waits for the process to end, and returns its exit code."""
        code = self._process.wait()
        self._output.close()
        return code

    def message(self) -> str:
        """Returns the last error that the process printed, or else its last line."""
        with open(self.log, errors='replace') as output:
            lines = [line.strip() for line in output if line.strip()]
        errors = [line[len('error: ') :] for line in lines if line.startswith('error: ')]
        return (errors or lines or ['it printed nothing'])[-1]


def _of_the_call(config: Config) -> List[str]:
    """Returns flags for the settings that no settings file holds, such as --gpu."""
    return [
        as_flag(name, value)
        for name, value in config.differing().items()
        if config.rows[name].scope is Scope.CALL
    ]


class Recorded(NamedTuple):
    """What the records of a run contain.

    Attributes:
        measured: What was measured.
        validations: The results of all validations, in order.
        has_ended: Whether the last step was validated.
        runtime: The version of TensorFlow.
        commit: The commit of the program, with a '+' if there were uncommitted changes.
        cpu: The type of the CPU, or '' if the records do not contain it.
        record: The `_id` of the record of the last validation.
    """

    measured: Measured
    validations: List[Validation]
    has_ended: bool
    runtime: str
    commit: str
    cpu: str
    record: str


def recorded(database: 'Database[Document]', config: Config) -> Optional[Recorded]:
    """Reads the records of a run, or returns None if it has not been validated.

    A run of which only a part is in the database does not count; see database/unfinished.py.

    Raises:
        ConfigError: The records are of other settings.
        PyMongoError: MongoDB cannot be read.
    """
    if _is_in_part(database, config):
        return None
    files = database[places.collection(config) + FILES]
    # The largest fields, which do not matter here, are left out.
    fields = {'validation_results': 1, 'step': 1, 'params.digests': 1, 'params.provenance': 1}
    fields.update({'params.train_params.num_steps': 1, 'params.train_params.seed': 1})
    fields.update({'params.environment.cpu.model': 1})
    query = {'exp_id': config.exp_id, RESULTS: {'$exists': True}}
    found = list(files.find(query, fields, sort=[('step', 1), ('_id', 1)]))
    if not found:
        return None
    last = found[-1]
    about = last['params']
    if about['digests']['settings'] != config.digests().settings or (
        about['train_params'][SEED] != config.seed
    ):
        raise ConfigError(
            f'{config.dbname} contains {config.exp_id} with other settings; choose another --dbname'
        )
    steps, seconds = _time(database, config)
    measured = _measured(found, is_whole=steps >= last['step'])
    program = about.get('provenance', {})
    model = about.get('environment', {}).get('cpu', {}).get('model')
    return Recorded(
        measured._replace(seconds=seconds),
        [_validation(record, config.train_epochs) for record in found],
        last['step'] >= about['train_params']['num_steps'],
        str(program.get('runtime')).partition(' on ')[0],
        (program.get('commit') or '')[:12] + ('+' if program.get('uncommitted') else ''),
        _one_line(model or ''),
        str(last['_id']),
    )


def _is_in_part(database: 'Database[Document]', config: Config) -> bool:
    """Returns whether an import or a deletion of a run is not finished."""
    marks = database[places.collection(config) + UNFINISHED]
    return unfinished.doing(marks, config.exp_id) is not None


def _time(database: 'Database[Document]', config: Config) -> Tuple[int, float]:
    """Returns how many steps are recorded, and the seconds that they took."""
    steps = {'$size': {'$ifNull': ['$train_results', []]}}
    total = database[places.collection(config) + FILES].aggregate(
        [
            {'$match': {'exp_id': config.exp_id, 'step': {'$type': 'number'}}},
            {'$project': {'duration': 1, 'steps': steps}},
            {'$match': {'steps': {'$gt': 0}}},
            {
                '$group': {
                    '_id': None,
                    'steps': {'$sum': '$steps'},
                    'seconds': {'$sum': {'$multiply': ['$duration', '$steps']}},
                }
            },
        ]
    )
    for found in total:
        return found['steps'], found['seconds']
    return 0, 0.0


def _measured(records: List[Document], is_whole: bool) -> Measured:
    """Returns what was measured, from the records of the validations in order.

    Args:
        records: The records.
        is_whole: Whether the records of all steps are there.
    """
    last = records[-1]
    results = last['validation_results'][TARGET]
    best = _best(records) if is_whole else None
    at_best = best['validation_results'][TARGET] if best else {}
    return Measured(
        step=last['step'],
        top1=results['top1'],
        top5=results['top5'],
        loss=results['loss'],
        best_step=best['step'] if best else None,
        best_top1=at_best.get('top1'),
        best_top5=at_best.get('top5'),
        best_loss=at_best.get('loss'),
        ties=results.get('ties'),
        images=int(results['images']),
        **_angles(results),
    )


def _angles(results: Document) -> Dict[str, Optional[float]]:
    return {name: validation.mean_angle(results, name + 's') for name in ANGLES}


def _validation(record: Document, epochs: float) -> Validation:
    """Returns the results of a record of a run that trains for `epochs`."""
    results = record['validation_results'][TARGET]
    return Validation(
        epochs * record['step'] / record['params']['train_params']['num_steps'],
        record['step'],
        results['top1'],
        results['top5'],
        results['loss'],
        **_angles(results),
    )


def _best(records: List[Document]) -> Optional[Document]:
    """Returns the first record with the largest top-1, without step 0 and validations with ties."""

    def counts(record: Document) -> bool:
        results = record['validation_results'][TARGET]
        return record['step'] > 0 and results.get('ties', 0) <= MOST_TIES * results['images']

    return max(
        filter(counts, records),
        key=lambda record: float(record['validation_results'][TARGET]['top1']),
        default=None,
    )


def line(
    factors: Dict[str, str], config: Config, state: State, found: Optional[Recorded], own: Source
) -> Line:
    """Returns the line of a run.

    Args:
        factors: {name: value as text} of what distinguishes the run from others.
        config: Its settings.
        state: How it ended.
        found: Its records, or None if there are none.
        own: Where it was trained. Its record, and what is empty in it, come from the records.
    """
    measured = found.measured if found else Measured()
    if found:
        own = own._replace(
            commit=own.commit or found.commit, cpu=own.cpu or found.cpu, record=found.record
        )
    return Line(factors, config.seed, state, measured, own)


class Notes:
    """What processes that share a database tell each other about their runs.

    Args:
        database: The database.
    """

    def __init__(self, database: 'Database[Document]') -> None:
        self._database = database
        self._notes = database[NOTES]

    def begin(self, config: Config, source: Source) -> None:
        """Stores where a run is trained.

        Raises:
            PyMongoError: MongoDB cannot be written.
        """
        self._store(config, {name: getattr(source, name) for name in PLACE})

    def end(self, config: Config, ended: Line) -> None:
        """Stores the line of a run.

        Raises:
            PyMongoError: MongoDB cannot be written.
        """
        own = {name: text for name, text in texts(ended).items() if name not in ended.factors}
        self._store(config, {'line': own})

    def _store(self, config: Config, fields: Document) -> None:
        self._notes.update_one({'_id': _name(config)}, {'$set': fields}, upsert=True)

    def source(self, config: Config) -> Document:
        """Returns {'threads', 'cpu', 'commit'} of a run, or {}.

        Raises:
            PyMongoError: MongoDB cannot be read.
        """
        found = self._notes.find_one({'_id': _name(config)}) or {}
        return {name: found[name] for name in PLACE if name in found}

    def line(self, config: Config, factors: Dict[str, str]) -> Optional[Line]:
        """Returns the stored line of a run, or None.

        A line does not count if the records of its run were deleted, or if only a part is there.

        Raises:
            PyMongoError: MongoDB cannot be read.
        """
        note = self._notes.find_one({'_id': _name(config), 'line': {'$exists': True}})
        files = self._database[places.collection(config) + FILES]
        if (
            note is None
            or _is_in_part(self._database, config)
            or note['line']['record']
            and not files.find_one({'exp_id': config.exp_id}, {'_id': 1})
        ):
            return None
        return of_texts(note['line'])._replace(factors=factors)


def _name(config: Config) -> str:
    return f'{places.collection(config)}/{config.exp_id}'


def has_diverged(code: int) -> bool:
    """Returns whether this exit code of train.py means that the training diverged."""
    return code == Lost.exit_code
