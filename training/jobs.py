"""The two jobs, train and validate, from a Config to records in MongoDB."""

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
from database import records, server
from database.store import Store
from database.place import Place
from database.spool import spool_of
from database.types import Document
from training import (
    agreement,
    checkpoints,
    checks,
    devices,
    finding,
    loop,
    overview,
    places,
    provenance,
    restoring,
    validation,
)
from training.tensorboard import Board
from training.devices import Device
from training.errors import TrainingError
from training.choices import choices
from training.experiment import TARGET, Experiment
from training.local import Copies
from training.places import say
from training.restoring import Restored, Source, Start
from training.trainable import Trainable
from training.types import Results


class _Call(NamedTuple):
    """What a call of `train` asks for.

    explicit: names of the settings that were given. ignored: names of flags that do not count.
    settings_file: path to write the settings to, or None. place: of its records. bucket: folder for
    copies of the checkpoints, or None.
    """

    config: Config
    explicit: FrozenSet[str]
    ignored: Sequence[str]
    settings_file: Optional[str]
    place: Place
    bucket: Optional[str]


class _Trained(NamedTuple):
    """What a training leaves. results: of the last validation, or None where there was none."""

    experiment: Experiment
    folder: str
    copies: Optional[Copies]
    results: Optional[Results]


def train(
    config: Config,
    explicit: Optional[Iterable[str]] = None,
    ignored: Sequence[str] = (),
    settings_file: Optional[str] = None,
) -> Optional[Results]:
    """Restore or start, train, and say where the results are. Returns {target: results} of the last
    validation.

    explicit: names of the settings that were given, which may not contradict what is restored;
    None: those that differ from their defaults. ignored: names of flags that were given but do not
    count. settings_file: path to write the settings to that the training has, or None.
    Raises ConfigError, DataError, StoreError, CheckpointError or TrainingError.
    """
    checks.training(config)
    place = places.of(config)
    bucket = places.copies_folder(config, place)
    if not config.skip_check:
        provenance.check_committed()
    device = devices.choose(config, devices.claim(config, say))
    call = _Call(config, _explicit(config, explicit), ignored, settings_file, place, bucket)
    if config.dry_run:
        _dry_run(call, device)
        return None
    store = None
    with contextlib.ExitStack() as closing, device.ready(say):
        if device.leads:
            say(server.ensure(place.host, place.port))
        folder = places.cache_folder(config, place)
        if device.leads:
            store = Store(*place, spool=spool_of(folder), exclusive=True)
            closing.callback(store.close)
            device.at_loss(store.close)
            places.replay(store)
        trained = _train(call, device, store, folder)
    if store:
        _say_where(call, trained)
    return trained.results


def _explicit(config: Config, explicit: Optional[Iterable[str]]) -> FrozenSet[str]:
    """The names of the settings that were given."""
    return frozenset(config.differing() if explicit is None else explicit)


def _dry_run(call: _Call, device: Device) -> None:
    """Builds a training and says what it is."""
    _write_settings(call.config, call.settings_file)
    experiment = Experiment(call.config, device)
    if call.config.do_restore:
        say('a dry run looks at no record: what --do_restore would bring is not shown')
    more = overview.variables(experiment, restored=False, new=())
    _tell(call, experiment, overview.step_cost(experiment) + more)


def _say_where(call: _Call, trained: _Trained) -> None:
    """Says where the results of a training are. Raises TrainingError where copies are missing."""
    summary = trained.experiment.summary(trained.results) if trained.results else 'no validation'
    say(f'results: {call.place.text()}; {summary}')
    copies = trained.copies
    failure = copies.failure if copies else ''
    say(
        'checkpoints: the same records, and '
        f'{copies.folder if copies and not failure else trained.folder}'
    )
    if failure:
        raise TrainingError(
            f'{failure}; all else is written. The same command with --do_restore copies it'
        )


def _tell(call: _Call, experiment: Experiment, more: List[str]) -> None:
    """Print what is run on what, and more lines."""
    for line in (
        ['settings that differ from their defaults:']
        + overview.settings(experiment.config)
        + overview.ignored(call.ignored)
        + overview.experiment(experiment, experiment.device)
        + more
    ):
        say(line)


def _train(call: _Call, device: Device, store: Optional[Store], folder: str) -> _Trained:
    """A training on a device that is ready. store: open, of the host that leads; folder: of local
    checkpoints.
    """
    agreement.on_settings(call.config, device)
    start = finding.restore_point(call.config, store, folder) if store else None
    restored = _restored(call, start)
    if store:
        _write_settings(restored.config, call.settings_file)
    config, first_step = agreement.on_start(restored.config, device, start)
    experiment = Experiment(config, device, first_step)
    if start and start.is_foreign:
        _check_end(config, first_step, experiment.train_steps)
    agreement.on_data(config, device, experiment.dataset)
    with loop.session(experiment, device.session_config(), device.target) as session:
        new = _restore(session, experiment, start)
        session.run(experiment.level)
        lines = _beginning(config, start, first_step, experiment.train_steps)
        lines += overview.variables(experiment, restored=bool(start), new=new)
        _tell(call, experiment, restored.lines + lines)
        notes = _notes(restored.notes, call.ignored)
        if store:
            store.describe(digests=config.digests()._asdict(), seed=config.seed)
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
    """The steps of a training, from variables that are restored or new."""
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
        merged_params(config, experiment.settings(), provenance.describe(), notes),
        say,
        leads=device.leads,
        asking=experiment.asking,
        copies=copies,
        board=board,
        on_saved=_describing(restoring.Description(folder, config)),
    )
    try:
        return _Trained(experiment, folder, copies, run.train())
    finally:
        if board:
            board.close()


def _restored(call: _Call, start: Optional[Start]) -> Restored:
    """The Restored of a training; its settings are checked."""
    if start is None:
        return Restored(call.config, {}, [])
    if start.is_foreign:
        return restoring.started(call.config, start)
    return _checked(restoring.continued(call.config, call.explicit, start))


def _checked(restored: Restored) -> Restored:
    """A Restored whose settings, of which some are from a record, are legal. Raises ConfigError."""
    config = Config.of(restored.config.values(), choices())
    checks.restored(config)
    return restored._replace(config=config)


def _restore(session: tf.Session, experiment: Experiment, start: Optional[Start]) -> List[str]:
    """Restore what a training starts from; the names of the variables that are new all the same."""
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
    """Raises ConfigError where a training starts from another experiment's end."""
    if 0 < first_step >= train_steps:
        raise ConfigError(
            f'{finding.starting_flag(config)} starts at step {first_step:,}, but this training '
            f'ends at step {train_steps:,}: count from 0 by --reset_step, or give more '
            '--train_epochs'
        )


def _beginning(
    config: Config, start: Optional[Start], first_step: int, train_steps: int
) -> List[str]:
    """Lines on where a training begins."""
    if start is None:
        none = f': exp_id {config.exp_id} has no checkpoint' if config.do_restore else ''
        return ['starting anew' + none]
    lines = [f'restored from {start.prefix}']
    if first_step >= train_steps and not start.is_foreign:
        lines.append(f'the training is complete: step {first_step:,} of {train_steps:,}')
    return lines


def _notes(notes: Document, ignored: Sequence[str]) -> Dict[str, Document]:
    """What the records of a run tell of how its settings came about: {group: {name: value}}."""
    return {'load_params': dict(notes, **({'ignored_flags': list(ignored)} if ignored else {}))}


def _describing(description: restoring.Description) -> Callable[[int], None]:
    """The function of a step that notes the settings of its checkpoint; a full disk costs the note
    alone.
    """

    def note(step: int) -> None:
        try:
            description.note(step)
        except OSError as error:
            say(
                f'warning: step {step:,}: {restoring.DESCRIPTION} cannot be written '
                f'({error.strerror}); MongoDB alone tells the settings of this checkpoint'
            )

    return note


def _write_settings(config: Config, path: Optional[str]) -> None:
    """Write the settings file that --save_params_file names; None writes nothing."""
    if path:
        params.save(config, path)
        say('settings written to ' + path)


def validate(
    config: Config,
    explicit: Optional[Iterable[str]] = None,
    ignored: Sequence[str] = (),
    flag_names: Optional[Iterable[str]] = None,
) -> Results:
    """Restore, evaluate and record. Returns {target: results}.

    flag_names: names of the settings that flags give, not a settings file; None: all of `explicit`.
    Other arguments and errors are those of `train`.
    """
    checks.validation(config)
    device = devices.choose(config, devices.claim(config, say))
    say(server.ensure(config.host, config.port))
    folder = places.cache_folder(config, places.of(config, config.val_exp_id))
    start = finding.find(config, folder)
    given = _explicit(config, explicit)
    flags = given if flag_names is None else frozenset(flag_names)
    restored = _checked(restoring.validated(config, given, start, flags))
    place = places.of(restored.config, config.val_exp_id)
    store = Store(*place, spool=spool_of(places.cache_folder(restored.config, place)))
    with contextlib.closing(store):
        places.replay(store)
        replaced = validated_before(store, start, restored.config.digests().meaning)
        experiment = Experiment(restored.config, device, training=False)
        notes = _notes(restored.notes, ignored)
        with _restored_session(experiment, start) as session:
            for line in overview.ignored(ignored) + restored.lines + [f'restored {start.prefix}']:
                say(line)
            results = record_validation(
                session,
                experiment,
                store,
                _validation_params(experiment, notes),
                start.source,
                replaced,
            )
    say('step {:,}: {}'.format(results[TARGET]['global_step'], experiment.summary(results)))
    for warning in experiment.warnings(results):
        say(warning)
    say(f'results: {place.text()}')
    return results


@contextlib.contextmanager
def _restored_session(experiment: Experiment, start: Start) -> Iterator[tf.Session]:
    """A session on the device of an experiment, with the variables of a checkpoint."""
    device = experiment.device
    with device.ready(), loop.session(
        experiment, device.session_config(), device.target
    ) as session:
        checkpoints.restore(session, experiment, start.prefix, with_optimizers=False)
        yield session


def _validation_params(experiment: Experiment, notes: Document) -> Document:
    """What the record of a validation tells of its settings."""
    named = {'save_params': {'exp_id': experiment.config.val_exp_id}}
    return merged_params(
        experiment.config, experiment.settings(), provenance.describe(), notes, named
    )


def validated_before(store: Store, start: Start, meaning: Optional[str] = None) -> List[ObjectId]:
    """The `_id`s of the records of a store that hold validations of the same checkpoint, which this
    one replaces.

    meaning: the digest of the settings, which must be theirs, too; None where there is none.
    Raises ConfigError where the experiment is a training, or holds the validation of another
    checkpoint.
    """
    replaced, step = [], checkpoints.step_of(start.prefix)
    if store.is_claimed():
        raise ConfigError(
            f'{store.exp_id} is the exp_id of a training that runs at the moment; choose another '
            '--val_exp_id'
        )
    for record in store.records():
        if 'validates' not in record:
            raise ConfigError(
                f'{store.exp_id} is the exp_id of a training, whose records a validation would '
                'mix with; choose another --val_exp_id'
            )
        if record['validates'] != start.source or record['step'] != step:
            raise ConfigError(
                f'the exp_id {store.exp_id} holds the validation of another checkpoint, step '
                f'{record["step"]:,} of {record["validates"]}; choose another --val_exp_id for '
                f'{start.title}'
            )
        recorded = record['params'].get('digests', {}).get('meaning')
        if None not in (meaning, recorded) and meaning != recorded:
            raise ConfigError(
                f'the exp_id {store.exp_id} holds a validation of this checkpoint with other '
                'settings; choose another --val_exp_id'
            )
        replaced.append(record['_id'])
    if replaced:
        say(f'replaces the validation of this checkpoint that exp_id {store.exp_id} holds')
    return replaced


def record_validation(
    session: tf.Session,
    experiment: Trainable,
    store: Optional[Store],
    record_params: Document,
    source: Source,
    replaced: Sequence[ObjectId] = (),
) -> Results:
    """Validate restored variables and queue the record. Returns {target: results}, without what
    went into GridFS.

    source: what was restored, the `_id` of its record or a path, or None. replaced: `_id`s of
    records that this one replaces.
    """
    started = time.time()
    results = experiment.validate(session)
    if store:
        plan = experiment.plan
        _, named = validation.take(plan.save_to_gfs, results, known=plan.known)
        record = records.build(
            store.exp_id,
            session.run(experiment.global_step),
            record_params,
            time.time() - started,
            validation_results=results,
            validates=source,
        )
        store.save(record, replacing=replaced)
        if named:
            store.save_named_results(record['_id'], validation_results=named)
    return results


def merged_params(config: Config, *more: Document) -> Document:
    """The params dictionary of a record: the settings, and what else is known of them, group by
    group.
    """
    document = dict(params.to_params(config), digests=config.digests()._asdict())
    for groups in more:
        for group, values in groups.items():
            document.setdefault(group, {}).update(values)
    return document
