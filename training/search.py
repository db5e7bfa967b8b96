"""A search for good settings.

It uses Optuna's tree-structured Parzen estimator (Bergstra et al. 2011, NeurIPS 24).
"""

import contextlib
import io
import itertools
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import uuid
import zlib
from typing import (
    TYPE_CHECKING,
    Callable,
    Dict,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    Union,
)

from pymongo.errors import DuplicateKeyError, PyMongoError

import data
from config import params
from config.flags import as_flag
from config.root import ROOT
from config.rows import shown
from config.schema import LOADING, SEED, Config, ConfigError, Scope, raise_problems, rows_of
from database import connection, private, server
from database.claim import held, is_gone, machine, process_here
from database.errors import StoreError
from database.place import CLAIMS, SEARCHES
from database.spool import STUDIES, StudyFiles
from database.store import Store
from database.types import Document
from training import children, finding, places, stopping
from training.errors import Lost, TrainingError
from training.types import Launch
from training.choices import check, choices
from training.experiment import TARGET

if TYPE_CHECKING:
    import optuna
    from pymongo import MongoClient
    from pymongo.collection import Collection

FIRST_SEED = 0  # for the proposals of the first worker of a study
STOP_S = 120.0  # seconds that a training has to stop
LOOK_S = 1.0  # seconds between two queries for the validations of a training
LOST = 0.0  # the top-1 of a training that diverges, so that the estimator learns to avoid it
UNPRUNED_TRIALS = 5  # trials that must end before any trial is stopped early
FINAL = 'complete', 'pruned', 'lost'
# Flags that are not passed on to a trial.
NOT_OF_A_TRIAL = ('dry_run', 'do_restore', 'val_exp_id', 'override')

Value = Union[None, bool, int, float, str]  # a value of a searched setting


class Dimension(NamedTuple):
    """A setting that is searched, and its values.

    Attributes:
        name: The name of the setting.
        low: The lower bound of a range, or None.
        high: The upper bound of a range, or None.
        log: Whether values are proposed evenly in the logarithm.
        values: The values to choose from, or None for a range.
    """

    name: str
    low: Optional[float]
    high: Optional[float]
    log: bool
    values: Optional[Tuple[Value, ...]]


class Outcome(NamedTuple):
    """The result of a training.

    Attributes:
        state: One of FINAL.
        step: The step of its last validation.
        top1: The top-1 of its last validation; LOST if it diverged.
        message: Its error message, or None.
    """

    state: str
    step: int
    top1: float
    message: Optional[str] = None


def dimension(text: str) -> Dimension:
    """Parses 'learning_rate=0.001:1:log', 'train_batch_size=8:64' or 'optimizer=gd,adam'.

    Raises:
        ConfigError: There is no such setting, it cannot be searched, or the values do not fit it.
    """
    name, _, values = text.partition('=')
    row = rows_of(choices()).get(name)
    if row is None or row.group in LOADING or row.kind is list:
        raise ConfigError(
            f'--space={text}: {name or "this"} is not a setting that can be searched; write '
            'name=low:high[:log] or name=one,another'
        )
    number = re.fullmatch(r'([^:,]+):([^:,]+)(:log)?', values)
    try:
        if number and row.kind in (int, float):
            low, high = row.kind(number.group(1)), row.kind(number.group(2))
            if low < high and (low > 0 or not number.group(3)):
                return Dimension(name, low, high, bool(number.group(3)), None)
        elif values and not number:
            found = tuple(_value(row.kind, value) for value in values.split(','))
            if len(set(found)) == len(found):
                return Dimension(name, None, None, False, found)
            raise ConfigError(f'--space={text}: give each value only once')
    except ConfigError:
        raise
    except ValueError:
        pass
    raise ConfigError(
        f'--space={text}: {values!r} is not a range or list for {name}; write low:high or '
        'low:high:log with low < high (above 0 for log), or one,another'
    )


def _value(kind: Callable[[str], Value], text: str) -> Value:
    if kind is bool and text not in ('true', 'false'):
        raise ValueError(text)
    return text == 'true' if kind is bool else kind(text)


class Search:
    """One worker of a study.

    The study is a journal in the folder of local files. It can be resumed at any time.

    Args:
        config: The settings that all trainings share.
        space: The settings that are searched.
        study: The name of the study.
        trials: The total number of trainings.
        prune: Whether trainings that fall behind are stopped early.
        launch: Starts the command of a training.

    Raises:
        ConfigError: Optuna is missing, no setting is searched or one is named twice, the name of
            the study cannot be the name of a file, or the study belongs to another search.
        DataError: The images cannot be used.
    """

    def __init__(
        self,
        config: Config,
        space: Sequence[Dimension],
        study: str,
        trials: int,
        prune: bool,
        launch: Launch = children.start,
    ) -> None:
        try:
            import optuna
        except ModuleNotFoundError as error:
            raise ConfigError(
                f'search.py needs the package {error.name}; install it with pip install -e '
                '.[search]'
            )
        raise_problems(refusals(config, space, study))
        config, self._compared_on = held_out(config)
        self._optuna, self._config, self._space, self._name = optuna, config, space, study
        self._prune, self._launch = prune, launch
        self._grid = _grid(space)
        self._trials = min(trials, len(self._grid)) if self._grid else trials
        self._folder = places.cache_folder(config, places.of(config, STUDIES))
        self._files = StudyFiles.of(self._folder, study)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._stop = stopping.Stop(places.say)
        self._study = self._open()
        self._identity = self._identify()

    def run(self) -> None:
        """Trains until the study has all of its trials; prints each result and the best trial.

        Raises:
            Stopped: A signal asked the search to stop; its training is stopped and saved.
        """
        with self._stop:
            self._run()

    def _run(self) -> None:
        """See `run`."""
        places.say(server.ensure(self._config.host, self._config.port))
        places.say(self._compared_on)
        self._forget_the_dead()
        while len(self._ended()) + len(self._running()) < self._trials:
            self._stop.now()
            untried = self._untried()
            if untried:
                self._study.enqueue_trial(untried[0])
            self._try(self._study.ask())
        ended = self._ended()
        if not ended:
            places.say(
                f'study {self._name}: all of its {self._trials} trials are running in other workers'
            )
            return
        usable = [trial for trial in ended if trial.user_attrs.get('top1', LOST) > LOST]
        if not usable:
            places.say(f'study {self._name}: none of {len(ended)} trials produced a usable network')
            return
        best = max(usable, key=lambda trial: trial.user_attrs['top1'])
        places.say(
            f'study {self._name}: {len(ended)} trials, '
            f'{sum(trial.user_attrs["outcome"] == "pruned" for trial in ended)} of them stopped '
            f'early, {len(self._running())} more running; best is trial {best.number}: '
            f'top-1 {best.user_attrs["top1"]:.4f}'
        )
        places.say(
            'its settings: ' + ' '.join(as_flag(name, value) for name, value in best.params.items())
        )
        places.say('a training with these settings: ' + self._command(best.params))

    def _command(self, values: Dict[str, Value]) -> str:
        """Returns the command line that trains with some values of the space."""
        config = self._settings('best', values)
        return ' '.join(
            ['python', 'train.py']
            + [
                shlex.quote(as_flag(name, value))
                for name, value in config.differing().items()
                if name not in NOT_OF_A_TRIAL
            ]
        )

    def _settings(self, number: Union[int, str], values: Dict[str, Value]) -> Config:
        """Returns the Config of a trial.

        Raises:
            ConfigError: The values cannot be combined with the other settings.
        """
        suffix = f'{self._config.exp_id_suffix}_{self._name}_{number}'
        config = Config.of(dict(self._config.values(), exp_id_suffix=suffix, **values), choices())
        check(config)
        return config

    def _untried(self) -> List[Dict[str, Value]]:
        """Returns the combinations of a finite space that are still untried, in order.

        The list is empty for an infinite space.
        """
        failed = self._optuna.trial.TrialState.FAIL
        had = [
            trial.params
            for trial in self._study.get_trials(deepcopy=False)
            if trial.state != failed
        ]
        return [values for values in self._grid if values not in had]

    def _identify(self) -> str:
        """Returns a text that distinguishes this study from others of its name.

        It is stored beside the journal.
        """
        path = self._files.identity
        own = f'{path}.{os.getpid()}'
        try:
            with private.created(own) as file:
                file.write(uuid.uuid4().hex.encode())
            try:
                os.link(own, path)  # the text of the first worker becomes the text of all
            except FileExistsError:
                pass
            finally:
                os.remove(own)
            with private.opened(path) as file:
                return file.read().decode('ascii')
        except OSError as error:
            raise ConfigError(f'--cache_dir: {path} cannot be used ({error.strerror})')

    def _open(self) -> 'optuna.Study':
        """Opens the study.

        Raises:
            ConfigError: The study was made with other settings or another space.
        """
        optuna, path = self._optuna, self._files.journal
        if os.path.islink(path):
            raise ConfigError(f'{path} is a link; remove it, or choose another --study')
        # constant_liar spreads the proposals to workers that ask at the same time. Only the first
        # worker has a fixed seed, so that workers do not propose the same values.
        seed = None if os.path.exists(path) and os.path.getsize(path) else FIRST_SEED
        with _readable(path):
            study = optuna.create_study(
                study_name=self._name,
                storage=optuna.storages.JournalStorage(
                    optuna.storages.journal.JournalFileBackend(path)
                ),
                direction='maximize',
                load_if_exists=True,
                sampler=optuna.samplers.TPESampler(seed=seed, constant_liar=True),
                pruner=optuna.pruners.MedianPruner(UNPRUNED_TRIALS)
                if self._prune
                else optuna.pruners.NopPruner(),
            )
        config = self._config
        settings = (
            config.digests().settings,
            config.seed,
            config.exp_id_suffix,
            config.data_dir,
            [
                getattr(config, name)
                for name in finding.LOCATING + ('load_db', 'load_checkpoint', 'reset_step')
            ],
        )
        about = zlib.crc32(repr((settings, [tuple(each) for each in self._space])).encode())
        if study.user_attrs.setdefault('about', about) != about:
            raise ConfigError(
                f'the study {self._name} in {path} was made with other settings or another '
                '--space; choose another --study'
            )
        study.set_user_attr('about', about)
        private.protect(path)
        return study

    def _ended(self) -> List['optuna.trial.FrozenTrial']:
        return [
            trial
            for trial in self._study.get_trials(deepcopy=False)
            if trial.user_attrs.get('outcome') in FINAL
        ]

    def _running(self) -> List['optuna.trial.FrozenTrial']:
        running = self._optuna.trial.TrialState.RUNNING
        return self._study.get_trials(deepcopy=False, states=(running,))

    def _forget_the_dead(self) -> None:
        """Marks trials as failed if their workers, on this machine, died without reporting."""
        for trial in self._running():
            if is_gone(trial.user_attrs.get('machine'), trial.user_attrs.get('process')):
                self._study.tell(trial.number, state=self._optuna.trial.TrialState.FAIL)
                values = {
                    each.name: trial.params[each.name]
                    for each in self._space
                    if each.name in trial.params
                }
                if len(values) == len(self._space):
                    config = self._settings(trial.number, values)
                    if self._is_of_another(config):
                        continue
                    self._stop_orphan(config)
                    self._note(config, trial, values, state='failed')

    def _is_of_another(self, config: Config) -> bool:
        """Returns whether MongoDB has a trial of this name of another study of the same name."""
        with connection.connect(config.host, config.port) as client:
            other = {'_id': config.exp_id, 'identity': {'$ne': self._identity}}
            return self._documents(client, config).find_one(other) is not None

    def _stop_orphan(self, config: Config) -> None:
        """Stops the training of a trial whose worker died, if it still runs on this machine.

        Its experiment keeps its records and a checkpoint, from which it can be continued.

        Raises:
            TrainingError: It does not stop.
        """
        with connection.connect(config.host, config.port) as client:
            claims = client[config.dbname][places.collection(config) + CLAIMS]
            process = process_here(claims, config.exp_id)
            if process is None:
                return
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM)
            if not connection.wait(lambda: config.exp_id not in held(claims), STOP_S):
                raise TrainingError(
                    f'process {process} still trains {config.exp_id} for a search that has ended, '
                    'and does not stop; stop it, and run the same command again'
                )
        places.say(
            f'stopped process {process}, which still trained {config.exp_id} although its search '
            'had ended'
        )

    def _try(self, trial: 'optuna.Trial') -> None:
        """Trains once, and reports the result to the study and to MongoDB."""
        trial.set_user_attr('machine', machine())
        trial.set_user_attr('process', os.getpid())
        values = {each.name: self._suggest(trial, each) for each in self._space}
        states = self._optuna.trial.TrialState
        if self._grid and any(
            other.number < trial.number and other.params == values and other.state != states.FAIL
            for other in self._study.get_trials(deepcopy=False)
        ):
            self._study.tell(trial, state=states.FAIL)  # another worker was faster
            return
        try:
            config = self._settings(trial.number, values)
            self._claim(config)
            self._note(config, trial, values, state='running')
        except BaseException:
            self._study.tell(trial, state=states.FAIL)
            raise
        try:
            outcome = self._train(trial, config)
        except BaseException:  # also Ctrl-C: no other worker will end this trial
            self._study.tell(trial, state=states.FAIL)
            with contextlib.suppress(ConfigError, StoreError, PyMongoError):
                self._note(config, trial, values, state='failed')
            raise
        trial.set_user_attr('outcome', outcome.state)
        trial.set_user_attr('top1', outcome.top1)
        if outcome.state == 'pruned':
            self._study.tell(trial, state=states.PRUNED)
        else:
            self._study.tell(trial, outcome.top1)
        self._note(
            config,
            trial,
            values,
            state=outcome.state,
            step=outcome.step,
            value=outcome.top1,
            message=outcome.message,
        )
        places.say(
            f'trial {trial.number} of {self._trials}: top-1 {outcome.top1:.4f} at step '
            f'{outcome.step:,}, {outcome.state}: '
            + ' '.join(as_flag(name, value) for name, value in values.items())
        )

    def _note(
        self,
        config: Config,
        trial: Union['optuna.Trial', 'optuna.trial.FrozenTrial'],
        values: Dict[str, Value],
        **outcome: object,
    ) -> None:
        """Stores the state of a trial in MongoDB, but never over a trial of another study.

        Raises:
            ConfigError: MongoDB contains a trial of another study with this name.
        """
        document = dict(
            dict(step=None, value=None, message=None),
            study=self._name,
            identity=self._identity,
            trial=trial.number,
            params=values,
            digests=config.digests()._asdict(),
            **outcome,
        )
        own = {'_id': config.exp_id, 'identity': self._identity}
        with connection.connect(config.host, config.port) as client:
            try:
                self._documents(client, config).replace_one(own, document, upsert=True)
            except DuplicateKeyError:
                raise self._taken(config)

    def _claim(self, config: Config) -> None:
        """Checks that the name of a trial is free.

        Raises:
            ConfigError: MongoDB contains a trial of another study, or a training with other
                settings, with this name.
        """
        with contextlib.closing(Store(*places.of(config))) as store:
            recorded = list(store.records())[-1:]
        with connection.connect(config.host, config.port) as client:
            noted = self._documents(client, config).find_one({'_id': config.exp_id})
        is_other = noted and noted.get('identity') != self._identity or recorded and not noted
        for record in recorded:
            held = record['params']
            is_other = (
                is_other
                or held.get('digests') != config.digests()._asdict()
                or held['train_params'][SEED] != config.seed
            )
        if is_other:
            raise self._taken(config)

    def _taken(self, config: Config) -> ConfigError:
        return ConfigError(
            f'{config.dbname} already contains {config.exp_id} of another search: choose '
            'another --study; or, to resume that search, give its --cache_dir, or import its '
            f'trials with its journal (this search has the journal {self._files.journal})'
        )

    @staticmethod
    def _documents(client: 'MongoClient[Document]', config: Config) -> 'Collection[Document]':
        return client[config.dbname][places.collection(config) + SEARCHES]

    @staticmethod
    def _suggest(trial: 'optuna.Trial', each: Dimension) -> Value:
        low, high = each.low, each.high
        if low is None or high is None:
            return trial.suggest_categorical(each.name, each.values or ())
        if isinstance(low, int):
            return trial.suggest_int(each.name, int(low), int(high), log=each.log)
        return trial.suggest_float(each.name, low, high, log=each.log)

    def _train(self, trial: 'optuna.Trial', config: Config) -> Outcome:
        """Trains in a separate process.

        Raises:
            TrainingError: The training fails for another reason than divergence.
        """
        settings, log = [
            os.path.join(self._folder, config.exp_id + ending) for ending in ('.pkl', '.log')
        ]
        params.save(config, settings)
        command = [
            sys.executable,
            os.path.join(ROOT, 'train.py'),
            '--load_params_file=' + settings,
            '--do_restore',
        ] + [
            as_flag(name, value)
            for name, value in config.differing().items()
            if config.rows[name].scope is Scope.CALL and name not in NOT_OF_A_TRIAL
        ]
        with contextlib.closing(Store(*places.of(config))) as store, io.TextIOWrapper(
            private.created(log), 'utf-8'
        ) as output:
            process = self._launch(command, stdout=output, stderr=subprocess.STDOUT)
            try:
                pruned, seen = self._follow(process, trial, store)
            finally:
                if process.poll() is None:
                    process.terminate()
                process.wait()
        step, top1 = seen[-1] if seen else (0, LOST)
        if pruned or seen and process.returncode == 0:
            return Outcome('pruned' if process.returncode else 'complete', step, top1)
        with open(log, errors='replace') as output:
            said = [line.strip() for line in output if line.startswith('error: ')] or [
                'it recorded no validation'
            ]
        if process.returncode == Lost.exit_code:
            return Outcome('lost', step, LOST, said[-1])
        raise TrainingError(
            f'trial {trial.number} ended with exit code {process.returncode} ({said[-1]}); its '
            f'output is in {log}'
        )

    def _follow(
        self, process: 'subprocess.Popen[bytes]', trial: 'optuna.Trial', store: Store
    ) -> Tuple[bool, List[Tuple[int, float]]]:
        """Waits for a training to end, and stops it early if it falls behind.

        Returns:
            (whether it was stopped, [(step, top-1)]).
        """
        seen: List[Tuple[int, float]] = []
        pruned = False
        while True:
            ended = process.poll() is not None
            for record in store.records(
                {
                    'validation_results.' + TARGET: {'$exists': True},
                    'step': {'$gt': seen[-1][0] if seen else 0},
                }
            ):
                seen.append((record['step'], _top1(record['validation_results'][TARGET])))
                trial.report(seen[-1][1], seen[-1][0])
            if ended:
                return pruned, seen
            if self._prune and not pruned and seen and trial.should_prune():
                pruned = True
                process.terminate()  # it saves a checkpoint, and can be resumed
            self._stop.now()
            time.sleep(LOOK_S)


@contextlib.contextmanager
def _readable(path: str) -> Iterator[None]:
    """Context manager: whatever Optuna says about a damaged journal becomes a sentence."""
    try:
        yield
    except (OSError, ValueError, KeyError, IndexError, TypeError, AssertionError) as error:
        raise ConfigError(
            f'the journal of the study, {path}, cannot be read ({type(error).__name__}: '
            f'{shown(str(error))}); if its last line is cut off, remove that line, else choose '
            'another --study'
        )


def _grid(space: Sequence[Dimension]) -> List[Dict[str, Value]]:
    """Returns every combination of the values of a space; [] if the space is infinite."""
    if not all(each.values for each in space):
        return []
    names = [each.name for each in space]
    return [
        dict(zip(names, values))
        for values in itertools.product(*[each.values or () for each in space])
    ]


def held_out(config: Config) -> Tuple[Config, str]:
    """Holds out training images to compare trials on, so that no setting is chosen by test images.

    The test images are not even read.

    Args:
        config: The settings that all trials share.

    Returns:
        (the settings, a line on what trials are compared on). Without --validation_split, a tenth
        of the training images is held out, if the data set can do that.

    Raises:
        DataError: The images cannot be read.
    """
    name = config.dataset
    if not issubclass(data.DATASETS[name], data.InMemory):
        return config, (
            f'trials are compared on the validation images of --dataset={name}, which cannot hold '
            'out training images: the top-1 of the best trial is an optimistic estimate'
        )
    dataset = data.load(name, config.data_dir, validation_split=config.validation_split or 1)
    images = dataset.train_images + dataset.validation_images
    count = config.validation_split or max(1, images // 10)
    return config.replaced({'validation_split': count}), (
        f'trials are compared on {count:,} of the {images:,} training images of {name} '
        f'(--validation_split={count}); the test images are not read'
    )


def refusals(config: Config, space: Sequence[Dimension], study: str) -> List[str]:
    """Returns the reasons why a search cannot be started, one sentence each."""
    problems = []
    names = [each.name for each in space]
    if not names or len(set(names)) < len(names):
        problems.append(
            '--space: name each setting to search once, for example '
            '--space=learning_rate=0.001:1:log'
        )
    if not re.fullmatch(r'[\w-]{1,100}', study):
        problems.append(
            f'--study={shown(study)} must consist of at most 100 letters, digits, - and _'
        )
    if 'validation_split' in names:
        problems.append(
            '--space=validation_split: trials can only be compared on the same images; give '
            '--validation_split instead'
        )
    if config.split:
        problems.append(
            f'--split={config.split} is for test.py; a search compares trials on the images of '
            '--validation_split'
        )
    if config.dry_run:
        problems.append('--dry_run is for train.py; a search cannot use it')
    located = finding.located(config)
    if located and not config.load_db:
        problems.append(f'{finding.no_effect(located)} in a search without --load_db')
    idle = [name for name in ('do_restore', 'val_exp_id') if getattr(config, name)]
    if idle:
        problems.append(
            f'{finding.no_effect(idle)} in a search: it always resumes, and it records trainings'
        )
    hidden = sorted({'top1', 'ties', 'images'} & set(config.save_to_gfs))
    if hidden:
        problems.append(
            f'--save_to_gfs={",".join(hidden)}: a search compares trainings by these results, so '
            'they must stay in the records'
        )
    return problems


def _top1(results: Document) -> float:
    """Returns the score of a trial: its top-1, but 0 for a network with equal logits everywhere.

    Equal logits of all classes would count as correct for every image.
    """
    return LOST if results.get('ties') == results['images'] else results['top1']
