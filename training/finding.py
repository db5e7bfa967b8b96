"""Finds the checkpoint that a run starts from, downloads it if necessary, and verifies it."""

import contextlib
import os
from typing import List, Optional, Sequence

from bson import ObjectId

from config.flags import as_flag
from config.query import query_of
from config.schema import Config, ConfigError
from database import layout
from database.errors import DamagedError, NoRoomError
from database.store import Store
from database.types import Document
from database.place import Place
from training import checkpoints, places, restoring
from training.errors import CheckpointError
from training.places import say
from training.restoring import Start

# The settings that locate a checkpoint in MongoDB.
LOCATING = (
    'load_step',
    'load_query',
    'load_port',
    'load_dbname',
    'load_collname',
    'load_exp_id',
)


def refusals(config: Config) -> List[str]:
    """Lists the flags that name two different checkpoints, as sentences."""
    others = located(config) + (['load_db'] if config.load_db else [])
    if not (config.load_checkpoint and others):
        return []
    flags = ' and '.join('--' + name for name in others)
    return [
        f'--load_checkpoint names a checkpoint by its path, but {flags} would look for another one '
        'in MongoDB; leave out one or the other'
    ]


def idle(config: Config) -> List[str]:
    """Lists the flags that locate a checkpoint, if the training restores none, as sentences."""
    names = located(config)
    if not names or config.load_checkpoint or config.load_db or config.do_restore:
        return []
    return [f'{no_effect(names)} without --load_db or --do_restore']


def located(config: Config) -> List[str]:
    """Returns the names of the given settings that locate a checkpoint in MongoDB."""
    return [name for name in LOCATING if getattr(config, name) is not None]


def no_effect(names: Sequence[str]) -> str:
    """Returns the beginning of a sentence: '--load_step and --load_query have no effect'."""
    flags = ' and '.join('--' + name for name in names)
    return f'{flags} {"has" if len(names) == 1 else "have"} no effect'


def restore_point(config: Config, store: Store, folder: str) -> Optional[Start]:
    """Returns the Start of a training, or None; two trainings never mix their records.

    A training that already has a checkpoint continues from it, and not from the checkpoint of
    another experiment that it started from.

    Args:
        config: Settings of the training.
        store: Open store at the place of the training.
        folder: Folder of the local checkpoints of the training.

    Raises:
        ConfigError: The records of the experiment contradict the settings.
        CheckpointError: The checkpoint that the settings name is missing or damaged.
        StoreError: MongoDB cannot be read.
    """
    latest = store.latest_step()
    _check_records(config, store, latest)
    path = config.load_checkpoint or ''
    is_here = bool(path) and os.path.dirname(places.absolute(path)) == folder
    foreign = not is_here and (bool(path) or config.load_db or places.source(config) != store.place)
    if config.do_restore:
        own = _own_checkpoint(config, store, folder, latest, wanted=not (foreign or is_here))
        if own and foreign:
            say(
                f'continuing from the newest checkpoint of this experiment, {own.title}, and not '
                'from the one that it started from'
            )
        if is_here:
            return _checkpoint_here(config, store, folder, own)
        if own or not foreign:
            _check_beginning(config, store, own, latest)
            return own
    if foreign or is_here:
        return find(config, folder, store)._replace(is_foreign=True)
    return None


def find(config: Config, folder: str, store: Optional[Store] = None) -> Start:
    """Returns the Start that the settings ask for, and downloads it if it is in MongoDB.

    Args:
        config: Settings of the run.
        folder: Folder for downloads; the checkpoint is put into <folder>/restored.
        store: Open store, which is used if the checkpoint is at its place.

    Raises:
        CheckpointError: There is no such checkpoint, or it is damaged.
        StoreError: MongoDB cannot be read.
    """
    if config.load_checkpoint:
        prefix = places.absolute(config.load_checkpoint)
        recorded = restoring.description(prefix, checkpoints.step_of(prefix))
        return Start(prefix, prefix, recorded, prefix)
    place, query = places.source(config), query_of(config.load_query)
    start = fetch_from(place, folder, config.load_step, query, store)
    if start is None:
        raise _no_checkpoint(config, place)
    return start


def fetch_from(
    place: Place,
    folder: str,
    step: Optional[int] = None,
    query: Optional[Document] = None,
    store: Optional[Store] = None,
) -> Optional[Start]:
    """Calls `fetch` for any place; `store` is an open one, which is used if it is at that place."""
    if store and store.place == place:
        return fetch(store, folder, step, query)
    with contextlib.closing(Store(*place)) as other:
        return fetch(other, folder, step, query)


def fetch(
    store: Store,
    folder: str,
    step: Optional[int] = None,
    query: Optional[Document] = None,
) -> Optional[Start]:
    """Downloads the newest checkpoint of a store and returns its Start; None if there is none.

    A damaged checkpoint is reported, and the one before it is used, unless `step` is given.

    Args:
        store: Open store.
        folder: Folder for downloads; the checkpoint is put into <folder>/restored.
        step: As for Store.find_checkpoint.
        query: As for Store.find_checkpoint.

    Raises:
        CheckpointError: All checkpoints are damaged, or the files of the one at `step` are.
        DamagedError: The archive of the checkpoint at `step` is damaged.
        NoRoomError: A checkpoint cannot be written to the folder.
        StoreError: MongoDB cannot be read.
    """
    damaged: List[ObjectId] = []
    full: Optional[NoRoomError] = None
    while True:
        record = store.find_checkpoint(step, query, without=damaged)
        if record is None:
            break
        try:
            return _download(store, record, folder)
        except (DamagedError, NoRoomError, CheckpointError) as error:
            if step is not None:
                raise
            say(f'warning: the checkpoint of step {record["step"]:,} is skipped: {error}')
            damaged.append(record['_id'])
            full = error if isinstance(error, NoRoomError) else full
    if full:  # the first one may be whole
        raise full
    if damaged:
        place = store.place
        raise CheckpointError(
            f'all checkpoints that were found for exp_id {place.exp_id} in '
            f'{place.dbname}.{place.collname} are damaged; start from a checkpoint of another '
            'experiment, or train again under another --exp_id_suffix'
        )
    return None


def _download(store: Store, record: Document, folder: str) -> Start:
    """Downloads the checkpoint of a record and returns its Start.

    Raises:
        DamagedError: The archive is damaged.
        CheckpointError: The files in the archive are damaged, or a newer version of this program
            wrote the record.
        StoreError: MongoDB cannot be read.
    """
    title = f'the record of step {record["step"]:,} of {record["exp_id"]}'
    if layout.version(record) > layout.VERSION:
        raise CheckpointError(
            f'{title} has layout {layout.version(record)}, and this version of the program reads '
            f'layouts up to {layout.VERSION}; use the version that wrote it, or a newer one'
        )
    prefix = store.download(record, os.path.join(folder, 'restored'))
    checkpoints.verify(prefix, record['step'])
    params = record.get('params')
    recorded = params if isinstance(params, dict) else {}
    restoring.describe_fetched(prefix, checkpoints.step_of(prefix), recorded)
    return Start(prefix, record['_id'], recorded, title)


def starting_flag(config: Config) -> str:
    """Returns the flag that names the checkpoint of another experiment, with its value."""
    for name in ('load_checkpoint', 'load_exp_id', 'load_collname', 'load_dbname', 'load_port'):
        if getattr(config, name) is not None:
            return as_flag(name, getattr(config, name))
    return '--load_db'


def _check_records(config: Config, store: Store, latest: Optional[int]) -> None:
    """Checks that a training with these settings may add to the records of the experiment.

    Args:
        config: Settings of the training.
        store: Open store at its place.
        latest: Highest step of the records, or None.

    Raises:
        ConfigError: The records are of a validation, or of a training that is not continued.
    """
    if next(store.records({'validates': {'$exists': True}}), None):
        raise ConfigError(
            f'exp_id {config.exp_id} holds the record of a validation; choose another '
            '--exp_id_suffix for this training'
        )
    if latest is not None and not config.do_restore:
        raise ConfigError(
            f'exp_id {config.exp_id} has records up to step {latest:,} in '
            f'{store.place.dbname}.{store.place.collname} already; continue it with --do_restore, '
            'or choose another --exp_id_suffix or --dbname'
        )


def _checkpoint_here(config: Config, store: Store, folder: str, own: Optional[Start]) -> Start:
    """Returns the Start of --load_checkpoint, a checkpoint of the experiment itself.

    Args:
        config: Settings of the training.
        store: Open store at its place.
        folder: Folder of its local checkpoints.
        own: Newest checkpoint of the experiment in MongoDB, or None.

    Raises:
        ConfigError: MongoDB holds a newer checkpoint.
    """
    start = find(config, folder, store)
    newest, step = checkpoints.step_of(own.prefix) if own else 0, checkpoints.step_of(start.prefix)
    if step < newest:
        raise ConfigError(
            f'--load_checkpoint={config.load_checkpoint} is at step {step:,}, and exp_id '
            f'{config.exp_id} has a checkpoint of step {newest:,} already; to go back, give '
            'another --exp_id_suffix and leave out --do_restore'
        )
    return start


def _check_beginning(
    config: Config, store: Store, own: Optional[Start], latest: Optional[int]
) -> None:
    """Checks that an experiment without a checkpoint did not start from another experiment.

    Raises:
        ConfigError: Its records say that it started from another experiment.
    """
    if own or latest is None:
        return
    first: Document = next(store.records(), {})
    began = first.get('params', {}).get('load_params', {})
    names = [name for name in ('load_db', 'load_checkpoint', 'load_exp_id') if began.get(name)]
    if names:
        flags = ' '.join(as_flag(name, began[name]) for name in names)
        raise ConfigError(
            f'exp_id {config.exp_id} has records up to step {latest:,} but no checkpoint, and it '
            f'started from another experiment; give {flags} again, or choose another '
            '--exp_id_suffix'
        )


def _own_checkpoint(
    config: Config, store: Store, folder: str, latest: Optional[int], wanted: bool
) -> Optional[Start]:
    """Returns the Start of a training that is continued; None if it has no checkpoint.

    Args:
        config: Settings of the training.
        store: Open store at its place.
        folder: Folder of its local checkpoints.
        latest: Highest step of its records, or None.
        wanted: Whether --load_step and --load_query refer to its own checkpoints, and not to the
            checkpoints of another experiment.

    Raises:
        ConfigError: The settings ask for a checkpoint that is not the newest.
        CheckpointError: There is no checkpoint as the settings ask for.
    """
    step, query = (config.load_step, query_of(config.load_query)) if wanted else (None, {})

    def going_back(to: int) -> str:
        return (
            f'; to go back to step {to:,}, give another --exp_id_suffix with --load_db '
            f'--load_exp_id={config.exp_id} --load_step={to}'
        )

    if step is not None and latest is not None and step < latest:
        raise ConfigError(
            f'exp_id {config.exp_id} has records up to step {latest:,} already' + going_back(step)
        )
    start = fetch(store, folder, step, query)
    if start is None:
        if step is not None or query:
            raise _no_checkpoint(config, store.place)
        return None
    newest = (fetch(store, folder) if query else None) or start
    if newest.source != start.source:
        there, here = checkpoints.step_of(newest.prefix), checkpoints.step_of(start.prefix)
        raise ConfigError(
            f'exp_id {config.exp_id} has a checkpoint of step {there:,} already, which '
            '--load_query does not match' + going_back(here)
        )
    return start


def _no_checkpoint(config: Config, place: Place) -> CheckpointError:
    what = 'checkpoint' if config.load_step is None else f'checkpoint of step {config.load_step}'
    what += f' that matches {config.load_query}' if config.load_query else ''
    return CheckpointError(
        f'there is no {what} in {place.dbname}.{place.collname} on port {place.port}, exp_id '
        f'{place.exp_id}; check --dbname, --model, --exp_id_suffix and the load_* flags'
    )
