"""The two jobs, `train` and `validate`, from a Config to records in MongoDB."""

import contextlib
import os
import time
from typing import (
    Callable,
    Dict,
    FrozenSet,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
)

from bson import ObjectId
import tensorflow.compat.v1 as tf

from config import params
from config.schema import Config, ConfigError
from data.split import TEST, validated
from database import records, server
from database.claim import ClaimedError, End
from database.store import Store
from database.place import Place
from database.spool import spool_of
from database.types import Document
from training import (
    agreement,
    checkpoints,
    checks,
    devices,
    environment,
    estimate,
    finding,
    loop,
    memory,
    output,
    overview,
    places,
    provenance,
    restoring,
    stopping,
    validation,
)
from training.tensorboard import Board
from training.devices import Device
from training.errors import Stopped, TrainingError
from training.choices import choices
from training.experiment import TARGET, Experiment
from training.local import Copies, set_aside
from training.places import say
from training.restoring import Restored, Source, Start
from training.trainable import Trainable
from training.types import Results


class _Call(NamedTuple):
    """What a call of `train` asks for.

    Attributes:
        config: The settings.
        explicit: Names of the settings that were given.
        ignored: Names of flags that were given but do not count.
        settings_file: Path to write the settings to, or None.
        place: Place of the records.
        bucket: Remote folder for copies of the checkpoints, or None.
        argv: The command line, or None for that of the process.
    """

    config: Config
    explicit: FrozenSet[str]
    ignored: Sequence[str]
    settings_file: Optional[str]
    place: Place
    bucket: Optional[str]
    argv: Optional[Sequence[str]]


class _Trained(NamedTuple):
    """The outcome of a training.

    Attributes:
        experiment: Its graph.
        folder: Folder of its local checkpoints.
        copies: Copies of its checkpoints, or None.
        results: Results of its last validation, or None if there was none.
    """

    experiment: Experiment
    folder: str
    copies: Optional[Copies]
    results: Optional[Results]


def train(
    config: Config,
    explicit: Optional[Iterable[str]] = None,
    ignored: Sequence[str] = (),
    settings_file: Optional[str] = None,
    argv: Optional[Sequence[str]] = None,
) -> Optional[Results]:
    """Starts or resumes a training, runs it to its end, and prints where the results are.

    Args:
        config: Settings of the training.
        explicit: Names of the settings that were given, which must not contradict a restored
            checkpoint; None for all that differ from their defaults.
        ignored: Names of flags that were given but do not count.
        settings_file: Path to write the settings of the training to, or None.
        argv: The command line, for the records; None for that of the process.

    Returns:
        {target: results} of the last validation; None if there was none.

    Raises:
        ConfigError: The settings are impossible, or contradict the records of the experiment.
        DataError: The data cannot be used.
        StoreError: MongoDB cannot be used.
        CheckpointError: A checkpoint cannot be found or restored.
        TrainingError: The training failed or diverged.
        Stopped: A signal asked the training to stop.
    """
    with output.quiet(config.quiet), memory.told(config):
        return _trained(config, explicit, ignored, settings_file, argv)


def _trained(
    config: Config,
    explicit: Optional[Iterable[str]],
    ignored: Sequence[str],
    settings_file: Optional[str],
    argv: Optional[Sequence[str]],
) -> Optional[Results]:
    """See `train`."""
    checks.training(config)
    place = places.of(config)
    bucket = places.copies_folder(config, place)
    if not config.skip_check:
        provenance.check_committed()
    device = devices.choose(config, devices.claim(config, say))
    call = _Call(config, _explicit(config, explicit), ignored, settings_file, place, bucket, argv)
    if config.dry_run:
        _dry_run(call, device)
        return None
    store = None
    with contextlib.ExitStack() as closing, device.ready(say), stopping.Stop(say) as stop:
        # Several hosts stop together, at their first step: they agree on it there.
        between = stop.now if device.hosts == 1 else _go_on
        if device.leads:
            say(server.ensure(place.host, place.port))
        folder = places.cache_folder(config, place)
        if device.leads:
            store = Store(*place, spool=spool_of(folder), exclusive=True)
            closing.callback(_close, store)
            device.at_loss(store.close)
            places.replay(store, between)
            set_aside(folder, store, say)
        trained = _train(call, device, store, folder, between)
    if store:
        _say_where(call, trained)
    return trained.results


def _go_on() -> None:
    """Does nothing: a signal is noticed later."""


def _close(store: Store) -> None:
    """Closes a store. A first signal does not end the process before everything is stored."""
    with stopping.Stop(say):
        store.close()


def _explicit(config: Config, explicit: Optional[Iterable[str]]) -> FrozenSet[str]:
    """Returns the names of the settings that were given."""
    return frozenset(config.differing() if explicit is None else explicit)


def _dry_run(call: _Call, device: Device) -> None:
    """Builds the graph of a training, describes it, and times a few steps. Nothing is kept."""
    _write_settings(call.config, call.settings_file)
    experiment = Experiment(call.config, device)
    if call.config.do_restore:
        say('a dry run does not read MongoDB: what --do_restore would restore is not shown')
    more = overview.variables(experiment, restored=False, new=())
    _tell(call, experiment, overview.step_cost(experiment) + more)
    for line in [overview.images(experiment.dataset)] + estimate.run(experiment, say):
        say(line)


def _say_where(call: _Call, trained: _Trained) -> None:
    """Prints where the results of a training are.

    Raises:
        TrainingError: Copies of checkpoints are missing.
    """
    summary = trained.experiment.summary(trained.results) if trained.results else 'no validation'
    say(f'results: {call.place.text()}; {summary}')
    copies = trained.copies
    failure = copies.failure if copies else ''
    say(
        'checkpoints: in the same records, and in '
        f'{copies.folder if copies and not failure else trained.folder}'
    )
    if failure:
        raise TrainingError(
            f'{failure}; everything else is stored. Run the same command with --do_restore to copy '
            'it'
        )


def _tell(call: _Call, experiment: Experiment, more: List[str]) -> None:
    """Prints the settings, the experiment and its device, and more lines."""
    for line in (
        ['settings that differ from their defaults:']
        + overview.settings(experiment.config)
        + overview.ignored(call.ignored)
        + overview.experiment(experiment, experiment.device)
        + more
    ):
        say(line)


def _train(
    call: _Call,
    device: Device,
    store: Optional[Store],
    folder: str,
    between: Callable[[], None],
) -> _Trained:
    """Trains on a device that is ready.

    Args:
        call: What the caller asks for.
        device: The device.
        store: Open store on the host that leads; None on the others.
        folder: Folder of the local checkpoints.
        between: Called between the parts of the preparation; raises Stopped after a signal.
    """
    agreement.on_settings(call.config, device)
    start = finding.restore_point(call.config, store, folder) if store else None
    restored = _restored(call, start)
    if store:
        _write_settings(restored.config, call.settings_file)
    config, first_step = agreement.on_start(restored.config, device, start)
    between()
    experiment = Experiment(config, device, first_step)
    between()
    if start and start.is_foreign:
        _check_end(config, first_step, experiment.train_steps)
    agreement.on_data(config, device, experiment.dataset)
    with loop.session(experiment, device.session_config(), device.target) as session:
        new = _restore(session, experiment, start)
        between()
        session.run(experiment.level)
        lines = _beginning(config, start, first_step, experiment.train_steps)
        listed = overview.variables if config.verbose else overview.variable_counts
        lines += listed(experiment, restored=bool(start), new=new)
        _tell(call, experiment, restored.lines + lines)
        notes = _notes(restored.notes, call.ignored)
        if store:
            store.describe(digests=config.digests()._asdict(), seed=config.seed)
            store.begin()
        return _run(call, session, experiment, store, folder, first_step, notes)


def _run(
    call: _Call,
    session: tf.Session,
    experiment: Experiment,
    store: Optional[Store],
    folder: str,
    first_step: int,
    notes: Document,
) -> _Trained:
    """Runs the steps of a training, from variables that are restored or new."""
    config, device = experiment.config, experiment.device
    copies = Copies(call.bucket, config.checkpoint_max) if call.bucket else None
    board = None
    if config.tensorboard and store:
        board = Board(os.path.join(call.bucket or folder, 'tensorboard'), first_step, say)
    run = loop.Run(
        session,
        experiment,
        store,
        folder,
        merged_params(
            config,
            experiment.settings(),
            provenance.describe(),
            environment.describe(device, experiment.dataset, call.argv),
            notes,
        ),
        say,
        leads=device.leads,
        asking=experiment.asking,
        copies=copies,
        board=board,
        on_saved=_describing(restoring.Description(folder, config)),
    )
    try:
        return _Trained(experiment, folder, copies, run.train())
    except BaseException as error:
        if store:
            store.end(_end(error))
        raise
    finally:
        if board:
            board.close()


def _end(error: BaseException) -> End:
    """Returns how a training ends that raises an error."""
    if isinstance(error, Stopped):
        return End(str(error), str(error))
    if isinstance(error, KeyboardInterrupt):
        return End('SIGINT', 'SIGINT')
    named = '' if isinstance(error, TrainingError) else type(error).__name__ + ': '
    return End(None, f'{named}{error}'.split('\n')[0])


def _restored(call: _Call, start: Optional[Start]) -> Restored:
    """Returns the checked settings of a training that restores `start`, which may be None."""
    if start is None:
        return Restored(call.config, {}, [])
    if start.is_foreign:
        return restoring.started(call.config, start)
    return _checked(restoring.continued(call.config, call.explicit, start))


def _checked(restored: Restored) -> Restored:
    """Checks settings some of which come from a record, and returns them.

    Raises:
        ConfigError: They are impossible.
    """
    config = Config.of(restored.config.values(), choices())
    checks.restored(config)
    return restored._replace(config=config)


def _restore(session: tf.Session, experiment: Experiment, start: Optional[Start]) -> List[str]:
    """Restores what a training starts from; returns the names of variables that stay new."""
    if start is None:
        return []
    return checkpoints.restore(
        session,
        experiment,
        start.prefix,
        with_optimizers=not start.is_foreign,
        network_only=start.is_foreign and experiment.config.reset_step,
    )


def _check_end(config: Config, first_step: int, train_steps: int) -> None:
    """Checks that the checkpoint of another experiment is before the end of this training.

    Raises:
        ConfigError: It is not.
    """
    if 0 < first_step >= train_steps:
        raise ConfigError(
            f'{finding.starting_flag(config)} starts at step {first_step:,}, but this training '
            f'ends at step {train_steps:,}; count from step 0 with --reset_step, or give a larger '
            '--train_epochs'
        )


def _beginning(
    config: Config, start: Optional[Start], first_step: int, train_steps: int
) -> List[str]:
    """Returns lines that tell where a training begins."""
    if start is None:
        none = f': exp_id {config.exp_id} has no checkpoint' if config.do_restore else ''
        return ['starting from new variables' + none]
    lines = [f'restored from {start.prefix}']
    if first_step >= train_steps and not start.is_foreign:
        lines.append(f'the training is complete: step {first_step:,} of {train_steps:,}')
    return lines


def _notes(notes: Document, ignored: Sequence[str]) -> Dict[str, Document]:
    """Returns how the settings of a run came about, for its records: {group: {name: value}}."""
    return {'load_params': dict(notes, **({'ignored_flags': list(ignored)} if ignored else {}))}


def _describing(description: restoring.Description) -> Callable[[int], None]:
    """Returns a function that describes the checkpoint of a step, and only warns if it cannot."""

    def note(step: int) -> None:
        try:
            description.note(step)
        except OSError as error:
            say(
                f'warning: step {step:,}: {restoring.DESCRIPTION} cannot be written '
                f'({error.strerror}); only MongoDB records the settings of this checkpoint'
            )

    return note


def _write_settings(config: Config, path: Optional[str]) -> None:
    """Writes the settings file that --save_params_file names; None writes nothing."""
    if path:
        params.save(config, path)
        say('settings written to ' + path)


def validate(
    config: Config,
    explicit: Optional[Iterable[str]] = None,
    ignored: Sequence[str] = (),
    flag_names: Optional[Iterable[str]] = None,
    argv: Optional[Sequence[str]] = None,
) -> Results:
    """Restores a checkpoint, validates it, and records the results.

    Args:
        config: Settings of the validation.
        explicit: Names of the settings that were given, which must not contradict the checkpoint;
            None for all that differ from their defaults.
        ignored: Names of flags that were given but do not count.
        flag_names: Names of the settings that flags give, and not a settings file; None for all of
            `explicit`.
        argv: The command line, for the record; None for that of the process.

    Returns:
        {target: results}.

    Raises:
        ConfigError: The settings are impossible, or contradict the checkpoint or the records.
        DataError: The data cannot be used.
        StoreError: MongoDB cannot be used.
        CheckpointError: The checkpoint cannot be found or restored.
        TrainingError: The validation failed.
    """
    checks.validation(config)
    device = devices.choose(config, devices.claim(config, say))
    given = _explicit(config, explicit)
    flags = given if flag_names is None else frozenset(flag_names)
    with output.quiet(config.quiet), memory.told(config), stopping.Stop(say) as stop:
        say(server.ensure(config.host, config.port))
        folder = places.cache_folder(config, places.of(config, config.val_exp_id))
        start = finding.find(config, folder)
        stop.now()
        restored = _checked(restoring.validated(config, given, start, flags))
        results = _validate(restored, start, device, ignored, argv, stop)
    say(f'results: {places.of(restored.config, config.val_exp_id).text()}')
    return results


def _validate(
    restored: Restored,
    start: Start,
    device: Device,
    ignored: Sequence[str],
    argv: Optional[Sequence[str]],
    stop: stopping.Stop,
) -> Results:
    """Validates a checkpoint, records and prints the results; see `validate`.

    Args:
        restored: The settings.
        start: The checkpoint.
        device: The device.
        ignored: See `validate`.
        argv: See `validate`.
        stop: Notices a signal. A validation that is stopped is not recorded.
    """
    config = restored.config
    place = places.of(config, config.val_exp_id)
    spool = spool_of(places.cache_folder(config, place))
    try:
        store = Store(*place, spool=spool, exclusive=True, doing='validating')
    except ClaimedError as error:
        raise ConfigError(f'{error.who}; wait for it, or choose another --val_exp_id') from error
    with contextlib.closing(store):
        places.replay(store, stop.now)
        replaced = validated_before(store, start, config)
        experiment = Experiment(config, device, training=False)
        stop.now()
        notes = _notes(restored.notes, ignored)
        with _restored_session(experiment, start) as session:
            for line in overview.ignored(ignored) + restored.lines + [f'restored {start.prefix}']:
                say(line)
            stop.now()
            results = record_validation(
                session,
                experiment,
                store,
                _validation_params(experiment, notes, argv),
                start.source,
                replaced,
                stop.now,
            )
    say(f'step {results[TARGET]["global_step"]:,}: {experiment.summary(results)}')
    for warning in experiment.warnings(results):
        say(warning)
    return results


@contextlib.contextmanager
def _restored_session(experiment: Experiment, start: Start) -> Iterator[tf.Session]:
    """Yields a session on the device of an experiment, with the variables of a checkpoint."""
    device = experiment.device
    with device.ready(), loop.session(
        experiment, device.session_config(), device.target
    ) as session:
        checkpoints.restore(session, experiment, start.prefix, with_optimizers=False)
        yield session


def _validation_params(
    experiment: Experiment, notes: Document, argv: Optional[Sequence[str]]
) -> Document:
    """Returns the params dictionary for the record of a validation."""
    named = {'save_params': {'exp_id': experiment.config.val_exp_id}}
    return merged_params(
        experiment.config,
        experiment.settings(),
        provenance.describe(),
        environment.describe(experiment.device, experiment.dataset, argv),
        notes,
        named,
    )


def validated_before(store: Store, start: Start, config: Optional[Config] = None) -> List[ObjectId]:
    """Returns the `_id`s of earlier validations of the same checkpoint, which this one replaces.

    Args:
        store: Open store at the place of the validation.
        start: The checkpoint.
        config: Settings of the validation. Those of scope MEANING, and the images, must be the
            recorded ones; None skips this check.

    Raises:
        ConfigError: The experiment is a training, or holds a validation of another checkpoint, on
            other images or with other settings.
    """
    replaced, step = [], checkpoints.step_of(start.prefix)
    if not store.owner and store.is_claimed():
        raise ConfigError(
            f'exp_id {store.exp_id} belongs to a training that is running; choose another '
            '--val_exp_id'
        )
    for record in store.records():
        if 'validates' not in record:
            raise ConfigError(
                f'exp_id {store.exp_id} holds the records of a training; choose another '
                '--val_exp_id for this validation'
            )
        if record['validates'] != start.source or record['step'] != step:
            raise ConfigError(
                f'exp_id {store.exp_id} holds the validation of another checkpoint, step '
                f'{record["step"]:,} of {record["validates"]}; choose another --val_exp_id for '
                f'{start.title}'
            )
        if config:
            _check_alike(store.exp_id, record['params'], config)
        replaced.append(record['_id'])
    if replaced:
        say(f'replacing the validation of this checkpoint that exp_id {store.exp_id} holds')
    return replaced


def _check_alike(exp_id: str, recorded: Document, config: Config) -> None:
    """Checks that a validation has the settings and the images of one that it replaces.

    Args:
        exp_id: Name of its experiment, for the message.
        recorded: Params dictionary of the record that is replaced. Old records name no split: they
            were validated on the test images.
        config: Settings of the validation.

    Raises:
        ConfigError: It has others.
    """
    meaning = recorded.get('digests', {}).get('meaning')
    if meaning is not None and meaning != config.digests().meaning:
        raise ConfigError(
            f'exp_id {exp_id} holds a validation of this checkpoint with other settings; choose '
            'another --val_exp_id'
        )
    before = recorded.get('validation_params', {}).get(TARGET, {}).get('split', TEST)
    now = validated(config.validation_split, config.split)
    if before != now:
        raise ConfigError(
            f'exp_id {exp_id} holds a validation of this checkpoint on the {before} images; choose '
            f'another --val_exp_id for its validation on the {now} images'
        )


def record_validation(
    session: tf.Session,
    experiment: Trainable,
    store: Optional[Store],
    record_params: Document,
    source: Source,
    replaced: Sequence[ObjectId] = (),
    between: Callable[[], None] = _go_on,
) -> Results:
    """Validates restored variables, and queues the record.

    Args:
        session: Session with the variables.
        experiment: Experiment that validates.
        store: Open store, or None to record nothing.
        record_params: Params dictionary for the record.
        source: `_id` of the record of what was restored, or its path, or None.
        replaced: `_id`s of the records that this one replaces.
        between: Called before each batch; an exception that it raises ends the validation.

    Returns:
        {target: results}, without the results that are stored in GridFS.
    """
    started = time.time()
    results = experiment.validate(session, between, in_detail=True)
    if store:
        plan = experiment.plan
        _, named = validation.take(plan.save_to_gfs, results, known=plan.known)
        record = records.build(
            store.exp_id,
            session.run(experiment.global_step),
            environment.updated(record_params),
            time.time() - started,
            validation_results=results,
            validates=source,
        )
        if named:  # first, as in a training
            store.save_named_results(record['_id'], validation_results=named)
        store.save(record, replacing=replaced)
    return results


def merged_params(config: Config, *more: Document) -> Document:
    """Returns the params dictionary of a record: the settings, merged with more groups."""
    document = dict(params.to_params(config), digests=config.digests()._asdict())
    for groups in more:
        for group, values in groups.items():
            document.setdefault(group, {}).update(values)
    return document
