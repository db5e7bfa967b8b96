"""The two calls of tfutils: training and testing from a params dictionary.

The dictionary holds either plain data or a user's own functions. Plain data are the settings of
config/schema.py by group, as in a .pkl file or a record. If model_params has a 'func', it is the
dictionary of a tfutils script; training/tfutils/functions.py documents the arguments of each
function.
"""

import contextlib
import os
from typing import Callable, FrozenSet, Iterator, Optional, TypeVar, Union, cast

import tensorflow.compat.v1 as tf

from config import params as plain
from config.query import EXECUTING
from config.schema import Config, ConfigError
from database import records, server
from database.place import Place
from database.store import Store
from database.types import Document
from database.spool import local_folder, spool_of
from training import checkpoints, environment, finding, jobs, loop, places, provenance, runtime
from training.devices import Device, OneDevice
from training.errors import CheckpointError
from training.choices import choices
from training.places import say
from training.restoring import Start
from training.tfutils.functions import LOAD, SAVE, TRAIN, FunctionExperiment, Group, Groups, checked
from training.types import Results

Job = TypeVar('Job')  # the result of a job


def train_from_params(
    save_params: Group,
    model_params: Group,
    train_params: Optional[Group] = None,
    loss_params: Optional[Group] = None,
    learning_rate_params: Optional[Group] = None,
    optimizer_params: Optional[Group] = None,
    validation_params: Optional[Group] = None,
    load_params: Optional[Group] = None,
    log_device_placement: bool = False,
    dont_run: bool = False,
    skip_check: bool = True,
) -> Union[Results, FunctionExperiment, None]:
    """Trains a network.

    Each argument not described below is the group of that name. An experiment that has a checkpoint
    is resumed if do_restore is True, which is the default for a dictionary of functions. The last
    step is always validated and saved.

    Args:
        save_params: Where results are stored, and how often.
        model_params: The model; 'func' is present if the dictionary holds functions.
        train_params: The training data, targets and number of steps.
        loss_params: The loss.
        learning_rate_params: The learning rate.
        optimizer_params: The optimiser.
        validation_params: The validations by target.
        load_params: The checkpoint to start from.
        log_device_placement: Whether TensorFlow logs the devices of operations. It is only for
            functions.
        dont_run: Whether to build the graph only. It is only for functions.
        skip_check: Whether to skip the check that the code is committed.

    Returns:
        {target: results} of the last validation, or None if there was none. With dont_run, the
        FunctionExperiment that was built.

    Raises:
        ConfigError: The settings are not valid.
        DataError: The data cannot be used.
        StoreError: MongoDB cannot store the results.
        CheckpointError: A checkpoint is missing or does not fit.
        TrainingError: The training failed.
    """
    groups = _groups(
        save_params=save_params,
        load_params=load_params,
        model_params=model_params,
        train_params=train_params,
        loss_params=loss_params,
        learning_rate_params=learning_rate_params,
        optimizer_params=optimizer_params,
        validation_params=validation_params,
    )
    if not skip_check:
        provenance.check_committed()
    if not _holds_functions(model_params):
        _refuse_advanced(dont_run=dont_run, log_device_placement=log_device_placement)
        return _plain(jobs.train, groups)
    experiment = FunctionExperiment(groups, _device(groups))
    return (
        experiment
        if dont_run
        else _train(experiment, groups, _session_config(log_device_placement))
    )


def test_from_params(
    load_params: Group,
    model_params: Group,
    validation_params: Group,
    save_params: Optional[Group] = None,
    loss_params: Optional[Group] = None,
    train_params: Optional[Group] = None,
    log_device_placement: bool = False,
    dont_run: bool = False,
    skip_check: bool = True,
) -> Union[Results, FunctionExperiment]:
    """Restores a checkpoint, validates it, and records the results if save_params has an exp_id.

    The arguments and errors are the same as for `train_from_params`. Parts of the place in MongoDB
    that save_params does not give are taken from load_params.

    Returns:
        {target: results}. With dont_run, the FunctionExperiment that was built.
    """
    groups = _groups(
        save_params=save_params,
        load_params=load_params,
        model_params=model_params,
        train_params=train_params,
        loss_params=loss_params,
        validation_params=validation_params,
    )
    if not skip_check:
        provenance.check_committed()
    if not _holds_functions(model_params):
        _refuse_advanced(dont_run=dont_run, log_device_placement=log_device_placement)
        return _plain(jobs.validate, groups)
    if not validation_params:
        raise ConfigError('validation_params is empty, so there is nothing to test')
    groups.pop('train_params', None)
    experiment = FunctionExperiment(groups, _device(groups), training=False)
    return (
        experiment if dont_run else _test(experiment, groups, _session_config(log_device_placement))
    )


# The name comes from tfutils; this keeps pytest from collecting it as a test.
setattr(test_from_params, '__test__', False)


def _plain(job: Callable[[Config, FrozenSet[str]], Job], groups: Groups) -> Job:
    """Runs a job with settings that are plain data, and returns its result."""
    legal = choices()
    values = plain.values_of(groups, legal)
    return job(Config.of(values, legal), frozenset(values))


def _train(
    experiment: FunctionExperiment, groups: Groups, session_config: tf.ConfigProto
) -> Optional[Results]:
    save, load = checked(groups, 'save_params', SAVE), checked(groups, 'load_params', LOAD)
    place = _place(save, {}, 'save_params')
    folder = _cache_folder(save['cache_dir'], place)
    with _opened(place if save['do_save'] else None, save, folder) as store, loop.session(
        experiment, session_config
    ) as session:
        say(_restore(session, experiment, folder, place, load, store))
        results = loop.Run(session, experiment, store, folder, _described(experiment), say).train()
    say(_where(place) if store else 'nothing was recorded (do_save is False)')
    return results


def _test(
    experiment: FunctionExperiment, groups: Groups, session_config: tf.ConfigProto
) -> Results:
    save, load = checked(groups, 'save_params', SAVE), checked(groups, 'load_params', LOAD)
    source = _place(load, save, 'load_params')
    place = (
        _place(save, dict(load, exp_id=None), 'save_params') if groups.get('save_params') else None
    )
    folder = _cache_folder(save['cache_dir'] or load['cache_dir'], place or source)
    with _opened(place if save['do_save'] else None, save, folder) as store, loop.session(
        experiment, session_config
    ) as session:
        start = _find(load, source, folder, store)
        replaced = jobs.validated_before(store, start) if store else ()
        say(_load(session, experiment, start.prefix, load))
        results = jobs.record_validation(
            session, experiment, store, _described(experiment), start.source, replaced
        )
    say(experiment.summary(results))
    say(_where(place) if store and place else 'nothing was recorded')
    return results


def _restore(
    session: tf.Session,
    experiment: FunctionExperiment,
    folder: str,
    place: Place,
    load: Group,
    store: Optional[Store],
) -> str:
    """Restores a checkpoint if there is one, and returns a sentence about it.

    A checkpoint of the experiment itself takes precedence over the one in load_params.
    """
    recorded = store.latest_step() if store else None
    if not load['do_restore']:
        if recorded is not None:
            raise ConfigError(
                f'exp_id {place.exp_id} already has records up to step {recorded:,}; resume it '
                'with do_restore=True, or choose another exp_id'
            )
        return 'starting a new training'
    own = finding.fetch(store, folder) if store else None
    if own:
        return _load(session, experiment, own.prefix, dict(LOAD), whole=True)
    source = _place(load, place._asdict(), 'load_params')
    if source == place and not (load['from_ckpt'] or _query(load)):
        return 'starting a new training'
    return _load(session, experiment, _find(load, source, folder, store).prefix, load)


def _find(load: Group, source: Place, folder: str, store: Optional[Store]) -> Start:
    """Returns the Start that load_params names.

    Args:
        load: The group load_params with its defaults.
        source: The place in MongoDB that load_params names.
        folder: The folder of local checkpoints.
        store: The store of the run, or None. It is used if it is the store at `source`.

    Raises:
        CheckpointError: There is no such checkpoint.
    """
    if load['from_ckpt']:
        prefix = os.path.expanduser(load['from_ckpt'])
        return Start(prefix, os.path.abspath(prefix), {}, prefix)
    server.ensure(source.host, source.port)
    start = finding.fetch_from(source, folder, query=_query(load), store=store)
    if start is None:
        raise CheckpointError(f'there is no checkpoint in {source.text()}; check load_params')
    return start


def _query(load: Group) -> Document:
    query = load['query'] or load['load_query'] or {}
    if not isinstance(query, dict):
        raise ConfigError(f'load_params: query must be a dictionary, not {query!r}')
    if any(name in repr(query) for name in EXECUTING):
        raise ConfigError(
            f'load_params: query must not contain {", ".join(EXECUTING)}, which run code'
        )
    return query


def _load(
    session: tf.Session,
    experiment: FunctionExperiment,
    prefix: str,
    load: Group,
    whole: bool = False,
) -> str:
    """Restores a checkpoint and returns a sentence that names the variables that are new.

    Args:
        session: The session of the experiment.
        experiment: The experiment whose variables are restored.
        prefix: The path of the checkpoint.
        load: The group load_params with its defaults.
        whole: Whether the checkpoint must contain every variable.

    Raises:
        CheckpointError: A variable is missing although `whole` is True.
    """
    new = checkpoints.restore_some(
        session,
        experiment,
        prefix,
        load['to_restore'],
        load['load_param_dict'],
        load['restore_global_step'],
    )
    if whole and new:
        raise CheckpointError(
            f'{prefix} does not fit this model: it lacks {", ".join(new)}; choose another exp_id'
        )
    return f'restored {prefix}{"; new: " + ", ".join(new) if new else ""}'


def _groups(**groups: Optional[Group]) -> Groups:
    for name, group in groups.items():
        if isinstance(group, list):
            raise ConfigError(
                f'{name}: training several models at once is not supported; give one dictionary'
            )
        if group is not None and not isinstance(group, dict):
            raise ConfigError(f'{name} must be a dictionary, not {type(group).__name__}')
    return {name: group for name, group in groups.items() if group is not None}


def _holds_functions(model_params: Optional[Group]) -> bool:
    return callable((model_params or {}).get('func'))


def _refuse_advanced(**switches: bool) -> None:
    for name, value in switches.items():
        if value:
            raise ConfigError(f'{name} can only be used with a params dictionary of functions')


def _device(groups: Groups) -> Device:
    """Returns the device for model_params['devices'] and train_params['minibatch_size']."""
    devices = groups['model_params'].get('devices') or ['/gpu:0']
    devices = [devices] if isinstance(devices, str) else devices
    if len(devices) > 1:
        raise ConfigError(
            f'model_params: devices={devices}: a params dictionary of functions trains on one '
            'device; give only one'
        )
    train = checked(groups, 'train_params', TRAIN)
    part, batch = train['minibatch_size'], (train['data_params'] or {}).get('batch_size')
    if part is None:
        return OneDevice()
    if not batch or batch % part:
        raise ConfigError(
            f'train_params: minibatch_size={part} must divide the batch_size of data_params, '
            f'{batch}'
        )
    return OneDevice(minibatches=batch // part)


def _place(given: Group, otherwise: Group, group: str) -> Place:
    """Returns the Place with each part from `given`, or else from `otherwise`.

    Raises:
        ConfigError: A part is in neither of them.
    """
    parts: Document = {
        name: otherwise.get(name) if given.get(name) is None else given[name]
        for name in Place._fields
    }
    missing = [name for name, value in parts.items() if value is None]
    if missing:
        raise ConfigError(f'{group} lacks {", ".join(missing)}')
    return Place(**parts)


@contextlib.contextmanager
def _opened(place: Optional[Place], save: Group, folder: str) -> Iterator[Optional[Store]]:
    """Context manager: opens the Store at a place and closes it; yields None without a place."""
    if place is None:
        yield None
        return
    say(server.ensure(place.host, place.port))
    store = Store(
        *place,
        recent_limit=save['cache_max_num'],
        spool=spool_of(folder),
        exclusive=True,
    )
    with contextlib.closing(store):
        places.replay(store)
        yield store


def _cache_folder(cache_dir: Optional[str], place: Place) -> str:
    """Returns the folder of local checkpoints: cache_dir, or the default folder of tfutils.

    Raises:
        ConfigError: cache_dir is a bucket.
    """
    home = os.environ.get('TFUTILS_HOME') or os.path.expanduser('~/.tfutils')
    folder = cache_dir or local_folder(home, place)
    if '://' in folder:
        raise ConfigError(
            f'cache_dir={folder} must be a folder on this machine; only train.py can copy '
            'checkpoints to a bucket'
        )
    return places.make_folder(os.path.expanduser(folder), 'cache_dir')


def _described(experiment: FunctionExperiment) -> Document:
    """Returns the settings as plain data for a record.

    Raises:
        StoreError: A setting cannot be stored.
    """
    groups = dict(
        experiment.described, **provenance.describe(), **environment.describe(experiment.device)
    )
    load = groups.get('load_params') or {}
    pattern = getattr(load.get('to_restore'), 'pattern', None)
    if pattern:
        groups['load_params'] = dict(load, to_restore=pattern)
    return cast(Document, records.plain(groups, 'params'))


def _session_config(log_device_placement: bool) -> tf.ConfigProto:
    config = runtime.session_config()
    config.log_device_placement = log_device_placement
    return config


def _where(place: Place) -> str:
    return 'results: ' + place.text()
