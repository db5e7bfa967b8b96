"""The two jobs, train and validate, from a Config to records in MongoDB."""
import os
import time
import zlib

from config import params, schema
from config.schema import ConfigError
from database import records, server
from database.errors import DamagedError
from database.mongo import Store
from database.spool import local_folder, spool_of
from models import NETWORKS, NetworkOptions
from training import checkpoints, devices, loop, overview, provenance, runtime, validation
from training.board import Board
from training.checkpoints import CheckpointError
from training.experiment import TARGET, Experiment, check

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

LOCATING = ('load_step', 'load_query', 'load_port', 'load_dbname', 'load_collname', 'load_exp_id')  # say where a checkpoint is

OF_A_HOST = ('task_index', 'data_dir', 'gpu', 'cpu_devices')  # settings that differ from host to host

REPLAY_S = 3600  # within which MongoDB must take what waits on disk


def say(text):
    """Print a line at once."""
    print(text, flush=True)


def train(config):
    """Restore or start, train, and say where the results are. Returns {target: results} of the last validation.

    config: config.schema.Config. Raises ConfigError, DataError, StoreError, CheckpointError or TrainingError.
    """
    check(config)
    if config.val_exp_id:
        raise ConfigError('--val_exp_id is for test.py; train.py records under {}, of --alignment and --exp_id_suffix'.format(
            config.exp_id))
    if not config.skip_check:
        provenance.check_committed()
    device = devices.choose(config)
    if config.dry_run:
        experiment = Experiment(config, device)
        _tell(config, experiment, device, overview.step_cost(experiment)
              + overview.variables(experiment, restored=False, new=()))
        return None
    store = None
    try:
        with device.ready(say):
            if device.leads:
                store = open_store(config)
                device.at_loss(store.close)
            experiment, folder, results = _train(config, device, store)
    finally:
        if store:
            store.close()
    if store:
        say('results: database {}, collection {}.files, exp_id {} at {}:{}; {}'.format(
            config.dbname, experiment.collection, config.exp_id, config.host, config.port, experiment.summary(results)))
        say('checkpoints: the same records, and {}'.format(folder))
    return results


def _tell(config, experiment, device, more):
    """Print what is run on what, and more lines."""
    for line in (['settings that differ from their defaults:'] + overview.settings(config)
                 + overview.experiment(experiment, device) + more):
        say(line)


def _train(config, device, store):
    """(the experiment, its folder of local checkpoints, the results of the last validation) of a training."""
    folder = cache_folder(config)
    prefix, _ = restore_point(config, store, folder) if store else (None, None)
    first_step = _agree(config, device, checkpoints.step_of(prefix) if prefix else 0)
    experiment = Experiment(config, device, first_step)
    with loop.session(experiment, device.session_config(), device.target) as session:
        new = checkpoints.restore(session, experiment, prefix, with_optimizers=config.do_restore) if prefix else []
        session.run(experiment.level)
        _tell(config, experiment, device, ['restored from {}'.format(prefix) if prefix else 'starting anew']
              + overview.variables(experiment, restored=bool(prefix), new=set(new)))
        record_params = merged_params(config, experiment.settings(), provenance.describe())
        copies = copies_folder(config)
        board = Board(os.path.join(copies or folder, 'tensorboard'), first_step, say) if config.tensorboard and store else None
        run = loop.Run(session, experiment, store, folder, record_params, say, device.leads, experiment.asking, copies, board)
        try:
            return experiment, copies or folder, run.train()
        finally:
            if board:
                board.close()


def _agree(config, device, step):
    """The step from which the first host goes on. Raises ConfigError where a host has other settings than the first."""
    own = zlib.crc32(repr([runtime.describe(), device.replicas] + [
        (name, getattr(config, name)) for name, row in schema.ROWS.items()
        if name not in OF_A_HOST and not (row.always and row.group in ('save_params', 'load_params'))]).encode())
    first_step, first = device.shared([step, own])
    if own != first:
        raise ConfigError('--worker_hosts: the settings, the number of devices or the TensorFlow of {} are not those of {}; give '
                          'both the same flags but --task_index'.format(*[config.worker_hosts[index] for index in (
                              config.task_index, 0)]))
    return first_step


def validate(config):
    """Restore, evaluate and record. Returns {target: results}.

    config: config.schema.Config. Raises as `train`.
    """
    check(config)
    if not config.val_exp_id:
        raise ConfigError('--val_exp_id is needed: the exp_id under which the validation is recorded')
    if config.dry_run:
        raise ConfigError('--dry_run is for train.py; test.py trains nothing')
    if config.worker_hosts:
        raise ConfigError('--worker_hosts is for train.py; a validation runs on one host: leave it out, and TF_CONFIG unset')
    device = devices.choose(config)
    store = open_store(config, config.val_exp_id)
    try:
        prefix, source = find_checkpoint(config, cache_folder(config, config.val_exp_id), required=True)
        experiment = Experiment(config, device, training=False)
        with device.ready(), loop.session(experiment, device.session_config(), device.target) as session:
            checkpoints.restore(session, experiment, prefix, with_optimizers=False)
            say('restored {}'.format(prefix))
            record_params = merged_params(config, experiment.settings(), provenance.describe(),
                                          {'save_params': {'exp_id': config.val_exp_id}})
            results = record_validation(session, experiment, store, record_params, source)
    finally:
        store.close()
    say('step {:,}: {}'.format(results[TARGET]['global_step'], experiment.summary(results)))
    say('results: database {}, collection {}.files, exp_id {} at {}:{}'.format(
        config.dbname, experiment.collection, config.val_exp_id, config.host, config.port))
    return results


def record_validation(session, experiment, store, record_params, source):
    """Validate restored variables and queue the record. Returns {target: results}, without what went into GridFS.

    source: what was restored, the `_id` of its record or a path, or None.
    """
    started = time.time()
    results = experiment.validate(session)
    if store:
        _, named = validation.take(experiment.plan.save_to_gfs, results, known=experiment.plan.known)
        record = records.build(store.exp_id, session.run(experiment.global_step), record_params, time.time() - started,
                               validation_results=results, validates=source)
        store.save(record)
        if named:
            store.save_named_results(record['_id'], validation_results=named)
    return results


def restore_point(config, store, folder):
    """(path prefix, what it is) of the checkpoint to start from, or (None, None). Two runs never mix in one exp_id."""
    latest = store.latest_step()
    if latest is not None and not config.do_restore:
        raise ConfigError('exp_id {} has records up to step {:,} in {}.{} already; continue it with --do_restore, or '
                          'choose another --exp_id_suffix or --dbname'.format(
                              config.exp_id, latest, config.dbname, collection(config)))
    going_back = config.do_restore and config.load_step is not None
    if latest is not None and going_back and config.load_step < latest:
        raise ConfigError('exp_id {e} has records up to step {:,} already; to go back to step {:,} give another '
                          '--exp_id_suffix with --load_db --load_exp_id={e} --load_step={}'.format(
                              latest, config.load_step, config.load_step, e=config.exp_id))
    idle = [name for name in LOCATING if getattr(config, name) is not None]
    if idle and not (config.do_restore or config.load_db):
        raise ConfigError('{} {} no effect without --load_db or --do_restore'.format(
            ' and '.join('--' + name for name in idle), 'has' if len(idle) == 1 else 'have'))
    if config.do_restore or config.load_db or config.load_checkpoint:
        return find_checkpoint(config, folder, required=config.load_db)
    return None, None


def open_store(config, exp_id=None):
    """The place of an experiment's records; a private server is started if none answers on localhost. Raises StoreError."""
    records.check_names(config.dbname, collection(config), exp_id or config.exp_id)
    say(server.ensure(config.host, config.port))
    place = _place(config, exp_id)
    return replayed(Store(*place, spool=spool_of(cache_folder(config, exp_id)), exclusive=exp_id is None))


def replayed(store):
    """The store, once what an earlier run left in the spool is written. Raises StoreError where it takes too long."""
    if store.replayed:
        say('writing {} records that an earlier run kept while MongoDB was away'.format(store.replayed))
        if not store.flush(REPLAY_S):
            store.close(0)
    return store


def collection(config):
    """The name of a Config's collection, without building its graph."""
    options = NetworkOptions(tuple(config.layers_list), config.activation, config.use_resnet_v2)
    return NETWORKS[config.model].label(options)


def cache_folder(config, exp_id=None):
    """Where an experiment's local files lie: <cache_dir>/<host>:<port>/<dbname>/<collection>/<exp_id>, a folder that exists.

    Raises CheckpointError if it cannot be made.
    """
    base = '~/.tfutils' if not config.cache_dir or _is_remote(config.cache_dir) else config.cache_dir
    return make_folder(local_folder(base, _place(config, exp_id)), '--cache_dir')


def copies_folder(config):
    """Where copies of the checkpoints go that --cache_dir asks for: a folder of TensorFlow's file systems, or None."""
    return local_folder(config.cache_dir.rstrip('/'), _place(config)) if _is_remote(config.cache_dir or '') else None


def _place(config, exp_id=None):
    return config.host, config.port, config.dbname, collection(config), exp_id or config.exp_id


def _is_remote(path):
    """Whether a path is one of a file system of TensorFlow's, such as gs://."""
    return '://' in path


def make_folder(folder, setting):
    """The folder, made if it is not there. setting: what names it. Raises CheckpointError if it cannot be made."""
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise CheckpointError('{}: {} cannot be made ({}); choose another folder'.format(setting, folder, error.strerror))
    return folder


def find_checkpoint(config, folder, required):
    """(path prefix, what it is) of the checkpoint that the settings ask for, fetched from MongoDB where it lies there.

    what it is: the `_id` of its record, or its path. (None, None) if there is none and none is required.
    Raises StoreError or CheckpointError.
    """
    if config.load_checkpoint:
        prefix = os.path.expanduser(config.load_checkpoint)
        return prefix, prefix if _is_remote(prefix) else os.path.abspath(prefix)
    place = (config.host, config.load_port or config.port, config.load_dbname or config.dbname,
             config.load_collname or collection(config), config.load_exp_id or config.exp_id)
    prefix, record = fetch(place, folder, config.load_step, schema.query_of(config))
    if prefix is None and (required or config.load_step is not None or config.load_query):
        raise CheckpointError('there is no {} in {}.{} on port {}, exp_id {}; check --dbname, --model, --exp_id_suffix and '
                              'the load_* flags'.format(_wanted(config), place[2], place[3], place[1], place[4]))
    return prefix, record


def _wanted(config):
    what = 'checkpoint' if config.load_step is None else 'checkpoint of step {}'.format(config.load_step)
    return what + (' that matches {}'.format(config.load_query) if config.load_query else '')


def fetch(place, folder, step=None, query=None):
    """(path prefix, `_id`) of the newest checkpoint of a place, brought into <folder>/restored; (None, None) without one.

    One that is damaged is named, and the one before it is taken, unless a step is asked for.
    place: (host, port, dbname, collname, exp_id). step, query: as for Store.find_checkpoint. Raises StoreError.
    """
    store, damaged = Store(*place), []
    try:
        while True:
            record = store.find_checkpoint(step, query, without=damaged)
            if record is None:
                if damaged:
                    raise CheckpointError('no checkpoint of {} in {}.{} is whole'.format(place[4], place[2], place[3]))
                return None, None
            try:
                prefix = store.download(record, os.path.join(folder, 'restored'))
                checkpoints.contents(prefix)
                return prefix, record['_id']
            except (DamagedError, CheckpointError) as error:
                if step is not None:
                    raise
                say('warning: the checkpoint of step {:,} is left aside: {}'.format(record['step'], error))
                damaged.append(record['_id'])
    finally:
        store.close()


def merged_params(config, *more):
    """The params dictionary of a record: the settings, and what else is known of them, group by group."""
    document = params.to_params(config)
    for groups in more:
        for group, values in groups.items():
            document.setdefault(group, {}).update(values)
    return document
