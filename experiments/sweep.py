"""Trains the runs of an experiment that have no line in its CSV file yet.

Several processes, on several machines, may do so at the same time, if they share a database: a run
that another process has claimed is skipped, and waited for at the end.
"""

import collections
import time
from typing import Callable, Deque, Dict, List, NamedTuple, Optional, Sequence, TypeVar

from pymongo.errors import PyMongoError

from config.declared import RuleSettings
from config.schema import ROWS, Config
from database import claim, connection
from database.claim import Claim
from database.errors import ServerError, StoreError
from database.place import CLAIMS
from experiments import base, lines, trained, validations
from experiments.base import Run
from experiments.lines import Line, Source, State
from experiments.trained import Recorded, Training
from training import children, places
from training.output import duration
from training.stopping import Stop
from training.types import Launch, Say

POLL_S = 0.2  # seconds between two looks at the trainings
WAIT_S = 2.0  # seconds between two looks at the runs of other processes
PATIENCE_S = 600.0  # seconds that MongoDB may be away
CHOSEN = 'experiments' + CLAIMS  # collection of the runs that processes have chosen

Found = TypeVar('Found')


class Where(NamedTuple):
    """Where and how the runs of an experiment are trained.

    Attributes:
        host: Host of MongoDB.
        port: Port of MongoDB.
        dbname: Database for the records.
        cache_dir: The cache folder, or None for the default.
        workers: How many trainings run at a time.
        threads: How many threads each of them uses.
        runtime: The version of TensorFlow.
        csv: Path of the CSV file.
    """

    host: str
    port: int
    dbname: str
    cache_dir: Optional[str]
    workers: int
    threads: int
    runtime: str
    csv: str


def placed(run: Run, name: str, where: Where) -> Config:
    """Returns the Config of a run with the place of its records.

    Its exp_id contains the name of the experiment, the seed, the digest of its settings and the
    version of TensorFlow, so that different runs never share one.
    """
    key = run.key(where.runtime)
    version = where.runtime.replace('TensorFlow ', 'tf')
    return run.config.replaced(
        dict(
            exp_id_suffix=f'_{name}_seed{key.seed}_{key.digest[:8]}_{version}',
            host=where.host,
            port=where.port,
            dbname=where.dbname,
            cache_dir=where.cache_dir,
        )
    )


def defaults(settings: RuleSettings) -> Dict[str, str]:
    """Returns {name: default as text} of all settings, for lines from before they varied."""
    found = {name: lines.text(row.default) for name, row in ROWS.items()}
    return dict(found, **{name: lines.text(row.default) for name, row in settings.rows.items()})


class _Chosen(NamedTuple):
    """A run that this process trains.

    Attributes:
        run: The run.
        claim: The claim on it.
        training: Its process.
        source: Where it is trained.
        is_new: Whether no earlier process has trained it.
    """

    run: Run
    claim: Claim
    training: Training
    source: Source
    is_new: bool


class Sweep:
    """Trains the runs of an experiment that are missing.

    Args:
        name: The name of the experiment.
        runs: The runs.
        where: Where and how they are trained.
        say: Prints a line.
        launch: Starts the command of a training.

    Attributes:
        failures: {name of a run: message} of the runs that failed.
    """

    def __init__(
        self,
        name: str,
        runs: Sequence[Run],
        where: Where,
        say: Say = places.say,
        launch: Launch = children.start,
    ) -> None:
        self.failures: Dict[str, str] = {}
        self._name, self._runs, self._where, self._say = name, runs, where, say
        self._launch = launch
        self._file = lines.File(where.csv)
        self._validations = validations.File(where.csv)
        self._running: List[_Chosen] = []
        self._durations: List[float] = []  # of the trainings that this process has ended
        self._cpu = trained.cpu()

    def missing(self) -> List[Run]:
        """Returns the runs that have no line.

        Raises:
            ConfigError: The CSV file cannot be read.
        """
        had = {line.key for line in self._file.read()}
        return [run for run in self._runs if run.key(self._where.runtime) not in had]

    def run(self) -> None:
        """Trains until no run is missing but those that failed, and those are in `failures`.

        A signal stops the trainings, which save a checkpoint first.

        Raises:
            ConfigError: The CSV file cannot be used, or the database has other runs of a name.
            ServerError: MongoDB was away for too long.
            Stopped: A signal asked the program to stop.
        """
        with connection.connect(self._where.host, self._where.port) as client, Stop(
            self._say
        ) as stop:
            self._database = client[self._where.dbname]
            self._notes = trained.Notes(self._database)
            try:
                self._train(stop)
            finally:
                self._stop_all()
        missing = {run.name for run in self.missing()}  # another process may have been luckier
        self.failures = {name: told for name, told in self.failures.items() if name in missing}

    def _train(self, stop: Stop) -> None:
        """Trains the missing runs, as many at a time as there are workers."""
        pending: Deque[Run] = collections.deque(self.missing())
        waiting: List[Run] = []
        looked, told = 0.0, False
        while pending or waiting or self._running:
            stop.now()
            for chosen in [each for each in self._running if each.training.has_ended()]:
                self._running.remove(chosen)
                if self._end(chosen, stop):
                    self._progress(chosen.run)
                else:
                    waiting.append(chosen.run)
            while pending and len(self._running) < self._where.workers:
                run = pending.popleft()
                if not self._patiently(lambda: self._begin(run), stop):
                    waiting.append(run)
            if not pending and waiting and time.monotonic() - looked > WAIT_S:
                if not self._running and not told:
                    named = '; '.join(run.name for run in waiting)
                    self._say(f'waiting for runs of other processes: {named}')
                told, looked = told or not self._running, time.monotonic()
                pending, waiting = collections.deque(waiting), []
                continue
            time.sleep(POLL_S)

    def _begin(self, run: Run) -> bool:
        """Starts a run, unless it has ended. Returns False if another process is training it."""
        config = placed(run, self._name, self._where)
        try:
            chosen = Claim(self._database[CHOSEN], f'{places.collection(config)}/{config.exp_id}')
        except StoreError:
            return self._has_line(run)
        try:
            if self._has_line(run) or self._take_over(run, config):
                chosen.release()
                return True
            if config.exp_id in claim.held(self._database[places.collection(config) + CLAIMS]):
                chosen.release()
                return False
            source = self._source(config)
            is_new = trained.recorded(self._database, config) is None
            self._notes.begin(config, source)
            folder = places.cache_folder(config, places.of(config, self._name))
            training = Training(config, folder, self._where.threads, self._launch)
        except BaseException:
            chosen.release()
            raise
        self._running.append(_Chosen(run, chosen, training, source, is_new))
        return True

    def _has_line(self, run: Run) -> bool:
        key = run.key(self._where.runtime)
        return any(line.key == key for line in self._file.read())

    def _take_over(self, run: Run, config: Config) -> bool:
        """Writes the line of a run if it has ended according to the database; returns whether."""
        found = self._notes.line(config, run.factors)
        records = trained.recorded(self._database, config)
        if found is None:
            if records is None or not records.has_ended:
                return False
            source = self._source(config)._replace(threads=None, cpu='', commit='')
            source = source._replace(**self._notes.source(config))
            found = trained.line(run.factors, config, State.FINISHED, records, source)
        self._append(run, found, records)
        return True

    def _source(self, config: Config) -> Source:
        """Returns where this process trains a run."""
        return Source(
            self._where.threads,
            self._cpu,
            self._where.runtime,
            trained.commit(),
            config.exp_id,
            '',
            trained.settings(config),
            config.digests().settings,
        )

    def _append(self, run: Run, line: Line, records: Optional[Recorded]) -> None:
        """Writes the validations of a run and then its line, so that a line has its validations."""
        if records is not None:
            self._validations.store(line.key, records.validations)
        self._file.append(line, defaults(run.config.rule_settings))

    def _end(self, chosen: _Chosen, stop: Stop) -> bool:
        """Writes the line of a run whose process has ended, or notes its failure.

        Returns:
            Whether the run has ended; False if the training of another process was faster.
        """
        code, config = chosen.training.wait(), chosen.training.config
        has_diverged = trained.has_diverged(code)
        try:
            records = self._patiently(lambda: trained.recorded(self._database, config), stop)
            if has_diverged or code == 0 and records and records.has_ended:
                state = State.LOST if has_diverged else State.FINISHED
                line = trained.line(chosen.run.factors, config, state, records, chosen.source)
                if chosen.is_new:
                    line = _timed(line, chosen.training)
                self._append(chosen.run, line, records)
                self._patiently(lambda: self._notes.end(config, line), stop)
                self._durations.append(time.monotonic() - chosen.training.started)
                return True
            claims = self._database[places.collection(config) + CLAIMS]
            if code and config.exp_id in self._patiently(lambda: claim.held(claims), stop):
                return False
        finally:
            chosen.claim.release()
        told = chosen.training.message() if code else 'its results are not in the database'
        self.failures[chosen.run.name] = f'exit code {code}, {told} (output: {chosen.training.log})'
        return True

    def _progress(self, run: Run) -> None:
        """Prints the result of a run, and the time that the others will take."""
        found = [line for line in self._file.read() if line.key == run.key(self._where.runtime)]
        missing = len(self.missing()) - len(self.failures)
        told = f'{len(self._runs) - missing} of {len(self._runs)}: {run.name}: '
        if found:
            measured = found[0].measured
            told += f'{found[0].state.value}, top-1 {base.number(measured.top1, 4)}'
        else:
            told += 'failed, ' + self.failures.get(run.name, '')
        if missing and self._durations:
            mean = sum(self._durations) / len(self._durations)
            batches = -(-missing // self._where.workers)
            told += f'; about {duration(mean * batches)} left'
        self._say(told)

    def _patiently(self, action: Callable[[], Found], stop: Stop) -> Found:
        """Returns the result of an action, which is repeated while MongoDB is away.

        Raises:
            ServerError: MongoDB was away for too long.
        """
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return action()
            except PyMongoError as error:
                if time.monotonic() > deadline:
                    raise ServerError(
                        f'MongoDB at {self._where.host}:{self._where.port} does not answer '
                        f'({connection.reason(error)}); the same command continues'
                    )
                stop.now()
                time.sleep(WAIT_S)

    def _stop_all(self) -> None:
        """Stops the trainings, which save a checkpoint, and waits for them."""
        for chosen in self._running:
            chosen.training.stop()
        for chosen in self._running:
            chosen.training.wait()
            chosen.claim.release()
        self._running = []


def _timed(line: Line, training: Training) -> Line:
    """Returns a line with the time that its process took."""
    took = round(time.monotonic() - training.started, 1)
    return line._replace(measured=line.measured._replace(process_seconds=took))
