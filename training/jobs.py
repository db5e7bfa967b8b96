"""The two jobs, train and validate, from a Config to records in MongoDB."""

import dataclasses
import json
import os
import time
import zlib

from config import params, schema
from config.flags import as_flag
from config.schema import Config, ConfigError
from data import DataError
from database import records, server
from database.errors import DamagedError
from database.store import Store
from database.spool import local_folder, spool_of
from models import NETWORKS, NetworkOptions
from training import (
    checkpoints,
    devices,
    loop,
    overview,
    provenance,
    restoring,
    runtime,
    validation,
)
from training.board import Board
from training.errors import CheckpointError, TrainingError
from training.experiment import TARGET, Experiment, check, choices
from training.local import Copies, has_file_system
from training.restoring import Start

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

LOCATING = (
    'load_step',
    'load_query',
    'load_port',
    'load_dbname',
    'load_collname',
    'load_exp_id',
)  # say where a checkpoint is

OF_A_HOST = (
    'task_index',
    'data_dir',
    'gpu',
    'cpu_devices',
)  # settings that differ from host to host

REPLAY_S = 3600  # within which MongoDB must take what waits on disk


def say(text):
    """Print a line at once."""
    print(text, flush=True)


def train(config, explicit=None, ignored=(), settings_file=None):
    """Restore or start, train, and say where the results are. Returns {target: results} of the last
    validation.

    config: config.schema.Config. explicit: names of the settings that were given, which may not
    contradict what is restored;
    None: those that differ from their defaults. ignored: names of flags that were given but do not
    count. settings_file: path to write the settings to that the training has, or None.
    Raises ConfigError, DataError, StoreError, CheckpointError or TrainingError.
    """
    if not config.do_restore:  # or what is missing may come with the checkpoint
        check(config)
    if config.val_exp_id:
        raise ConfigError(
            f'--val_exp_id is for test.py; train.py records under {config.exp_id}, of --alignment '
            'and --exp_id_suffix'
        )
    _check_start(config)
    copies_folder(config)  # a bucket that cannot be is refused before anything else
    if not config.skip_check:
        provenance.check_committed()
    device = devices.choose(config, say)
    if config.dry_run:
        _write_settings(config, settings_file)
        experiment = Experiment(config, device)
        if config.do_restore:
            say('a dry run looks at no record: what --do_restore would bring is not shown')
        _tell(
            config,
            experiment,
            device,
            ignored,
            overview.step_cost(experiment) + overview.variables(experiment, restored=False, new=()),
        )
        return None
    store = None
    try:
        with device.ready(say):
            if device.leads:
                say(server.ensure(config.host, config.port))
                store = open_store(config)
                device.at_loss(store.close)
            experiment, folder, copies, results = _train(
                config, device, store, _explicit(config, explicit), ignored, settings_file
            )
    finally:
        if store:
            store.close()
    if store:
        say(
            f'results: database {config.dbname}, collection {experiment.collection}.files, exp_id '
            f'{config.exp_id} at {config.host}:{config.port}; {experiment.summary(results)}'
        )
        failure = copies.failure if copies else ''
        say(
            'checkpoints: the same records, and '
            f'{copies.folder if copies and not failure else folder}'
        )
        if failure:
            raise TrainingError(
                f'{failure}; all else is written. The same command with --do_restore copies it'
            )
    return results


def _explicit(config, explicit):
    """The names of the settings that were given."""
    return frozenset(config.differing() if explicit is None else explicit)


def _tell(config, experiment, device, ignored, more):
    """Print what is run on what, and more lines. ignored: names of flags that do not count."""
    for line in (
        ['settings that differ from their defaults:']
        + overview.settings(config)
        + overview.ignored(ignored)
        + overview.experiment(experiment, device)
        + more
    ):
        say(line)


def _train(config, device, store, explicit, ignored, settings_file):
    """(the experiment, its folder of local checkpoints, the Copies of them or None, the results of
    the last validation) of a training."""
    folder = cache_folder(config)
    _agree(config, device)
    start, restored = None, restoring.Restored(config, {}, [])
    if store:
        start = restore_point(config, store, folder)
        restored = _restored(config, explicit, start)
        _write_settings(restored.config, settings_file)
    config, first_step = _shared(restored.config, device, start)
    experiment = Experiment(config, device, first_step)
    if start and start.is_foreign and 0 < first_step >= experiment.train_steps:
        raise ConfigError(
            f'{_starting_flag(config)} starts at step {first_step:,}, but this training ends at '
            'step '
            f'{experiment.train_steps:,}: count from 0 by --reset_step, or give more --train_epochs'
        )
    _agree_on_data(config, device, experiment.dataset)
    with loop.session(experiment, device.session_config(), device.target) as session:
        new = (
            checkpoints.restore(
                session,
                experiment,
                start.prefix,
                with_optimizers=not start.is_foreign,
                network_only=start.is_foreign and config.reset_step,
            )
            if start
            else []
        )
        session.run(experiment.level)
        _tell(
            config,
            experiment,
            device,
            ignored,
            restored.lines
            + _beginning(config, start, first_step, experiment)
            + overview.variables(experiment, restored=bool(start), new=set(new)),
        )
        record_params = merged_params(
            config, experiment.settings(), provenance.describe(), _notes(restored.notes, ignored)
        )
        bucket = copies_folder(config)
        copies = Copies(bucket, config.checkpoint_max) if bucket else None
        if store:
            store.describe(digests=config.digests()._asdict(), seed=config.seed)
        board = (
            Board(os.path.join(bucket or folder, 'tensorboard'), first_step, say)
            if config.tensorboard and store
            else None
        )
        run = loop.Run(
            session,
            experiment,
            store,
            folder,
            record_params,
            say,
            device.leads,
            experiment.asking,
            copies,
            board,
            _describing(restoring.Description(folder, config)),
        )
        try:
            return experiment, folder, copies, run.train()
        finally:
            if board:
                board.close()


def _restored(config, explicit, start):
    """The Restored of a training; its settings are checked."""
    if start is None:
        return restoring.Restored(config, {}, [])
    if start.is_foreign:
        return restoring.started(config, start)
    return _checked(restoring.continued(config, explicit, start))


def _checked(restored):
    """A Restored whose settings, of which some are from a record, are legal. Raises ConfigError."""
    config = Config.of(dataclasses.asdict(restored.config), choices())
    check(config)
    devices.check_precision(config)  # it may have come with the checkpoint
    return restored._replace(config=config)


def _starting_flag(config):
    """The flag that names the checkpoint of another experiment, with its value."""
    names = [
        name
        for name in ('load_checkpoint', 'load_exp_id', 'load_collname', 'load_dbname', 'load_port')
        if getattr(config, name) is not None
    ]
    return as_flag(names[0], getattr(config, names[0])) if names else '--load_db'


def _beginning(config, start, first_step, experiment):
    """Lines on where a training begins."""
    if start is None:
        return [
            'starting anew'
            + (f': exp_id {config.exp_id} has no checkpoint' if config.do_restore else '')
        ]
    complete = first_step >= experiment.train_steps and not start.is_foreign
    return [f'restored from {start.prefix}'] + (
        [f'the training is complete: step {first_step:,} of {experiment.train_steps:,}']
        if complete
        else []
    )


def _notes(notes, ignored):
    """What the records of a run tell of how its settings came about: {group: {name: plain value}}."""
    return {'load_params': dict(notes, **({'ignored_flags': list(ignored)} if ignored else {}))}


def _describing(description):
    """The function of a step that notes the settings of its checkpoint; a full disk costs the note
    alone.
    """

    def note(step):
        try:
            description.note(step)
        except OSError as error:
            say(
                f'warning: step {step:,}: {restoring.DESCRIPTION} cannot be written '
                f'({error.strerror}); MongoDB alone tells the '
                'settings of this checkpoint'
            )

    return note


def _write_settings(config, path):
    """Write the settings file that --save_params_file names; None writes nothing."""
    if path:
        params.save(config, path)
        say('settings written to ' + path)


def _check_start(config):
    """Raises ConfigError where two flags name a checkpoint."""
    others = [
        name for name in LOCATING + ('load_db',) if getattr(config, name) not in (None, False)
    ]
    if config.load_checkpoint and others:
        raise ConfigError(
            '--load_checkpoint names a checkpoint by its path, and {} another one: leave out one '
            'of them'.format(' and '.join('--' + name for name in others))
        )


def _agree(config, device):
    """Raises ConfigError where a host has other settings than the first."""
    own = zlib.crc32(
        repr(
            [runtime.describe(), device.replicas]
            + [
                (name, getattr(config, name))
                for name, row in schema.ROWS.items()
                if name not in OF_A_HOST
                and not (row.always and row.group in ('save_params', 'load_params'))
            ]
        ).encode()
    )
    (first,) = device.shared([own])
    if own != first:
        raise ConfigError(
            '--worker_hosts: the settings, the number of devices or the TensorFlow of {} are not '
            'those of {}; give '
            'both the same flags but --task_index'.format(
                *[config.worker_hosts[index] for index in (config.task_index, 0)]
            )
        )


def _shared(config, device, start):
    """(Config, first step) of the first host, on every host: only the first one reads what is
    restored.
    """
    resets = start and start.is_foreign and config.reset_step
    meaning = {
        name: getattr(config, name)
        for name, row in schema.ROWS.items()
        if row.scope is schema.Scope.MEANING
    }
    content = json.dumps(meaning).encode('ascii')
    first_step, size = device.shared(
        [0 if start is None or resets else checkpoints.step_of(start.prefix), len(content)]
    )
    content = bytes(device.shared(list(content[:size].ljust(size))))
    return config.replaced(json.loads(content.decode('ascii'))), first_step


def _agree_on_data(config, device, dataset):
    """Raises DataError where a host has other images than the first, wherever they lie there."""
    if device.hosts == 1:
        return
    own = int(dataset.digest()[:15], 16)
    (first,) = device.shared([own])
    if own != first:
        raise DataError(
            f'--data_dir: the images of {config.worker_hosts[config.task_index]} are not those of '
            f'{config.worker_hosts[0]}: their number, classes, shape, or the '
            'names and sizes of their files differ; give both the same data'
        )


def validate(config, explicit=None, ignored=(), flag_names=None):
    """Restore, evaluate and record. Returns {target: results}.

    flag_names: names of the settings that flags give, not a settings file; None: all of `explicit`.
    Other arguments and errors are those of `train`.
    """
    _check_start(config)
    if not config.val_exp_id:
        raise ConfigError(
            '--val_exp_id is needed: the exp_id under which the validation is recorded'
        )
    if config.dry_run:
        raise ConfigError('--dry_run is for train.py; test.py trains nothing')
    if config.reset_step:
        raise ConfigError('--reset_step is for train.py; test.py trains nothing')
    if config.worker_hosts:
        raise ConfigError(
            '--worker_hosts is for train.py; a validation runs on one host: leave it out, and '
            'TF_CONFIG unset'
        )
    device = devices.choose(config, say)
    say(server.ensure(config.host, config.port))
    start = find_checkpoint(config, cache_folder(config, config.val_exp_id), required=True)
    explicit = _explicit(config, explicit)
    restored = _checked(
        restoring.validated(config, explicit, start, explicit if flag_names is None else flag_names)
    )
    config = restored.config
    store = open_store(config, config.val_exp_id)
    try:
        replaced = validated_before(store, start, config.digests().meaning)
        experiment = Experiment(config, device, training=False)
        with device.ready(), loop.session(
            experiment, device.session_config(), device.target
        ) as session:
            checkpoints.restore(session, experiment, start.prefix, with_optimizers=False)
            for line in overview.ignored(ignored) + restored.lines + [f'restored {start.prefix}']:
                say(line)
            record_params = merged_params(
                config,
                experiment.settings(),
                provenance.describe(),
                _notes(restored.notes, ignored),
                {'save_params': {'exp_id': config.val_exp_id}},
            )
            results = record_validation(
                session, experiment, store, record_params, start.source, replaced
            )
    finally:
        store.close()
    say('step {:,}: {}'.format(results[TARGET]['global_step'], experiment.summary(results)))
    for warning in experiment.warnings(results):
        say(warning)
    say(
        f'results: database {config.dbname}, collection {experiment.collection}.files, exp_id '
        f'{config.val_exp_id} at {config.host}:{config.port}'
    )
    return results


def validated_before(store, start, meaning=None):
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
                'mix with; choose '
                'another --val_exp_id'
            )
        if record['validates'] != start.source or record['step'] != step:
            raise ConfigError(
                f'the exp_id {store.exp_id} holds the validation of another checkpoint, step '
                f'{record["step"]:,} '
                f'of {record["validates"]}; choose another --val_exp_id for {start.title}'
            )
        recorded = record['params'].get('digests', {}).get('meaning')
        if None not in (meaning, recorded) and meaning != recorded:
            raise ConfigError(
                f'the exp_id {store.exp_id} holds a validation of this checkpoint with other '
                'settings; choose '
                'another --val_exp_id'
            )
        replaced.append(record['_id'])
    if replaced:
        say(f'replaces the validation of this checkpoint that exp_id {store.exp_id} holds')
    return replaced


def record_validation(session, experiment, store, record_params, source, replaced=()):
    """Validate restored variables and queue the record. Returns {target: results}, without what
    went into GridFS.

    source: what was restored, the `_id` of its record or a path, or None. replaced: `_id`s of
    records that this one replaces.
    """
    started = time.time()
    results = experiment.validate(session)
    if store:
        _, named = validation.take(
            experiment.plan.save_to_gfs, results, known=experiment.plan.known
        )
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


def restore_point(config, store, folder):
    """The Start of a training, or None. Two runs never mix in one exp_id.

    A training that has a checkpoint of its own goes on from it: what it started from no longer
    counts.
    """
    latest = store.latest_step()
    if next(store.records({'validates': {'$exists': True}}), None):
        raise ConfigError(
            f'exp_id {config.exp_id} holds a validation, whose record a training would mix with; '
            'choose another '
            '--exp_id_suffix'
        )
    if latest is not None and not config.do_restore:
        raise ConfigError(
            f'exp_id {config.exp_id} has records up to step {latest:,} in '
            f'{config.dbname}.{collection(config)} already; continue it with --do_restore, or '
            'choose another --exp_id_suffix or --dbname'
        )
    idle = [name for name in LOCATING if getattr(config, name) is not None]
    if idle and not (config.do_restore or config.load_db):
        raise ConfigError(
            '{} {} no effect without --load_db or --do_restore'.format(
                ' and '.join('--' + name for name in idle), 'has' if len(idle) == 1 else 'have'
            )
        )
    is_here = (
        bool(config.load_checkpoint) and os.path.dirname(_path(config.load_checkpoint)) == folder
    )
    foreign = not is_here and (
        bool(config.load_checkpoint) or config.load_db or _source(config) != _place(config)
    )
    if config.do_restore:
        own = _own_checkpoint(config, folder, latest, wanted=not (foreign or is_here))
        if own and foreign:
            say(
                f'goes on from its own newest checkpoint, {own.title}; the one that it started '
                'from no longer counts'
            )
        if is_here:
            return _checkpoint_here(config, folder, own)
        if own or not foreign:
            _check_beginning(config, store, own, latest)
            return own
    return (
        find_checkpoint(config, folder, required=True)._replace(is_foreign=True)
        if foreign or is_here
        else None
    )


def _checkpoint_here(config, folder, own):
    """The Start of --load_checkpoint, which is one of the experiment's own. own: the newest one in
    MongoDB, or None.
    """
    start = find_checkpoint(config, folder, required=True)
    newest, step = checkpoints.step_of(own.prefix) if own else 0, checkpoints.step_of(start.prefix)
    if step < newest:
        raise ConfigError(
            f'--load_checkpoint={config.load_checkpoint} is at step {step:,}, and exp_id '
            f'{config.exp_id} has a '
            f'checkpoint of step {newest:,} already; to go back give another --exp_id_suffix, '
            'without --do_restore'
        )
    return start


def _check_beginning(config, store, own, latest):
    """Raises ConfigError where the records of an experiment without a checkpoint say that it
    started from another one.
    """
    if own or latest is None:
        return
    began = next(store.records(), {}).get('params', {}).get('load_params', {})
    names = [name for name in ('load_db', 'load_checkpoint', 'load_exp_id') if began.get(name)]
    if names:
        raise ConfigError(
            'exp_id {} has records up to step {:,} and no checkpoint, and it started from another '
            'experiment: give '
            '{} again, or choose another --exp_id_suffix'.format(
                config.exp_id, latest, ' '.join(as_flag(name, began[name]) for name in names)
            )
        )


def _own_checkpoint(config, folder, latest, wanted):
    """The Start of a training that goes on, or None. latest: the highest step of its records, or
    None.

    wanted: whether --load_step and --load_query are about its own checkpoints, not about those of
    another experiment.
    """
    step, query = (config.load_step, schema.query_of(config)) if wanted else (None, {})
    place = _place(config)
    going_back = '; to go back to step {:,} give another --exp_id_suffix with --load_db --load_exp_id={} --load_step={}'
    if step is not None and latest is not None and step < latest:
        raise ConfigError(
            f'exp_id {config.exp_id} has records up to step {latest:,} already'
            + going_back.format(step, config.exp_id, step)
        )
    start = fetch(place, folder, step, query)
    if start is None and (step is not None or query):
        raise _no_checkpoint(config, place)
    newest = fetch(place, folder) if query else start
    if start and newest.source != start.source:
        there, here = checkpoints.step_of(newest.prefix), checkpoints.step_of(start.prefix)
        raise ConfigError(
            f'exp_id {config.exp_id} has a checkpoint of step {there:,} already, which '
            '--load_query does not '
            'match' + going_back.format(here, config.exp_id, here)
        )
    return start


def open_store(config, exp_id=None):
    """The place of an experiment's records, on a server that answers. Raises StoreError."""
    records.check_names(config.dbname, collection(config), exp_id or config.exp_id)
    place = _place(config, exp_id)
    return replayed(
        Store(*place, spool=spool_of(cache_folder(config, exp_id)), exclusive=exp_id is None)
    )


def replayed(store):
    """The store, once what an earlier run left in the spool is written. Raises StoreError where it
    takes too long.
    """
    if store.replayed:
        say(f'writing {store.replayed} records that an earlier run kept while MongoDB was away')
        if not store.flush(REPLAY_S):
            store.close(0)
    return store


def collection(config):
    """The name of a Config's collection, without building its graph."""
    options = NetworkOptions(tuple(config.layers_list), config.activation, config.use_resnet_v2)
    return NETWORKS[config.model].label(options)


def cache_folder(config, exp_id=None):
    """Where an experiment's local files lie:
    <cache_dir>/<host>:<port>/<dbname>/<collection>/<exp_id>, a folder that exists.

    Raises CheckpointError if it cannot be made.
    """
    base = (
        '~/.tfutils' if not config.cache_dir or _is_remote(config.cache_dir) else config.cache_dir
    )
    return make_folder(local_folder(base, _place(config, exp_id)), '--cache_dir')


def copies_folder(config):
    """Where copies of the checkpoints go that --cache_dir asks for: a folder of TensorFlow's file
    systems, or None.

    Raises ConfigError where TensorFlow has no such file system.
    """
    if not _is_remote(config.cache_dir or ''):
        return None
    if not has_file_system(config.cache_dir):
        raise ConfigError(
            f'--cache_dir={config.cache_dir}: {runtime.describe()} has no file system for such a '
            'path; choose a '
            'folder of this machine, or a gs:// bucket'
        )
    return local_folder(config.cache_dir.rstrip('/'), _place(config))


def _place(config, exp_id=None):
    return config.host, config.port, config.dbname, collection(config), exp_id or config.exp_id


def _is_remote(path):
    """Whether a path is one of a file system of TensorFlow's, such as gs://."""
    return '://' in path


def make_folder(folder, setting):
    """The folder, made if it is not there. setting: what names it. Raises CheckpointError if it
    cannot be made.
    """
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise CheckpointError(
            f'{setting}: {folder} cannot be made ({error.strerror}); choose another folder'
        )
    return folder


def _path(given):
    """The whole path of a checkpoint that is named by it."""
    path = os.path.expanduser(given)
    return path if _is_remote(path) else os.path.abspath(path)


def _source(config):
    """The place that the load_* flags name."""
    return (
        config.host,
        config.load_port or config.port,
        config.load_dbname or config.dbname,
        config.load_collname or collection(config),
        config.load_exp_id or config.exp_id,
    )


def find_checkpoint(config, folder, required):
    """The Start that the settings ask for, fetched from MongoDB where it lies there; None if there
    is none and none is required.

    Raises StoreError or CheckpointError.
    """
    if config.load_checkpoint:
        prefix = _path(config.load_checkpoint)
        return Start(
            prefix, prefix, restoring.description(prefix, checkpoints.step_of(prefix)), prefix
        )
    place = _source(config)
    start = fetch(place, folder, config.load_step, schema.query_of(config))
    if start is None and (required or config.load_step is not None or config.load_query):
        raise _no_checkpoint(config, place)
    return start


def _no_checkpoint(config, place):
    return CheckpointError(
        f'there is no {_wanted(config)} in {place[2]}.{place[3]} on port {place[1]}, exp_id '
        f'{place[4]}; check --dbname, --model, --exp_id_suffix and '
        'the load_* flags'
    )


def _wanted(config):
    what = 'checkpoint' if config.load_step is None else f'checkpoint of step {config.load_step}'
    return what + (f' that matches {config.load_query}' if config.load_query else '')


def fetch(place, folder, step=None, query=None):
    """The Start of the newest checkpoint of a place, brought into <folder>/restored; None without
    one.

    One that is damaged is named, and the one before it is taken, unless a step is asked for.
    place: (host, port, dbname, collname, exp_id). step, query: as for Store.find_checkpoint. Raises
    StoreError.
    """
    store, damaged = Store(*place), []
    try:
        while True:
            record = store.find_checkpoint(step, query, without=damaged)
            if record is None:
                if damaged:
                    raise CheckpointError(
                        f'no checkpoint of {place[4]} in {place[2]}.{place[3]} is whole'
                    )
                return None
            try:
                prefix = store.download(record, os.path.join(folder, 'restored'))
                checkpoints.verify(prefix)
                recorded = record.get('params') if isinstance(record.get('params'), dict) else {}
                restoring.describe_fetched(prefix, checkpoints.step_of(prefix), recorded)
                return Start(
                    prefix,
                    record['_id'],
                    recorded,
                    f'the record of step {record["step"]:,} of {record["exp_id"]}',
                )
            except (DamagedError, CheckpointError) as error:
                if step is not None:
                    raise
                say(
                    'warning: the checkpoint of step {:,} is left aside: {}'.format(
                        record['step'], error
                    )
                )
                damaged.append(record['_id'])
    finally:
        store.close()


def merged_params(config, *more):
    """The params dictionary of a record: the settings, and what else is known of them, group by
    group.
    """
    document = dict(params.to_params(config), digests=config.digests()._asdict())
    for groups in more:
        for group, values in groups.items():
            document.setdefault(group, {}).update(values)
    return document
