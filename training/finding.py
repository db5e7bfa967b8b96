"""Which checkpoint a run starts from: where the settings name one, it is looked for, fetched, and
read once.
"""

import contextlib
import os
from typing import List, Optional, Sequence

from bson import ObjectId

from config.flags import as_flag
from config.query import query_of
from config.schema import Config, ConfigError
from database.errors import DamagedError
from database.store import Store
from database.types import Document
from database.place import Place
from training import checkpoints, places, restoring
from training.errors import CheckpointError
from training.places import say
from training.restoring import Start

# Settings that say where a checkpoint is.
LOCATING = (
    'load_step',
    'load_query',
    'load_port',
    'load_dbname',
    'load_collname',
    'load_exp_id',
)


def refusals(config: Config) -> List[str]:
    """Which flags name two checkpoints: sentences."""
    others = located(config) + (['load_db'] if config.load_db else [])
    if not (config.load_checkpoint and others):
        return []
    return [
        '--load_checkpoint names a checkpoint by its path, and {} another one: leave out one of '
        'them'.format(' and '.join('--' + name for name in others))
    ]


def idle(config: Config) -> List[str]:
    """Which flags say where a checkpoint is that a training does not look for: sentences."""
    names = located(config)
    if not names or config.load_checkpoint or config.load_db or config.do_restore:
        return []
    return [f'{no_effect(names)} without --load_db or --do_restore']


def located(config: Config) -> List[str]:
    """Names of the settings that say where a checkpoint is, as far as they are given."""
    return [name for name in LOCATING if getattr(config, name) is not None]


def no_effect(names: Sequence[str]) -> str:
    """The beginning of a sentence: '--load_step and --load_query have no effect'."""
    flags = ' and '.join('--' + name for name in names)
    return f'{flags} {"has" if len(names) == 1 else "have"} no effect'


def restore_point(config: Config, store: Store, folder: str) -> Optional[Start]:
    """The Start of a training, or None. Two runs never mix in one exp_id.

    A training that has a checkpoint of its own goes on from it: what it started from no longer
    counts. store: open at the training's place. folder: of its local checkpoints.
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
                f'goes on from its own newest checkpoint, {own.title}; the one that it started '
                'from no longer counts'
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
    """The Start that the settings ask for, fetched into a folder from MongoDB where it lies there.

    store: one that is open, and is asked itself if the checkpoint is at its place. Raises
    StoreError, and CheckpointError where there is none.
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
    """`fetch` from any place. store: one that is open, which serves if it is at that place."""
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
    """The Start of the newest checkpoint of a store, brought into <folder>/restored; None without
    one.

    One that is damaged is named, and the one before it is taken, unless a step is asked for.
    step, query: as for Store.find_checkpoint. Raises StoreError.
    """
    damaged: List[ObjectId] = []
    while True:
        record = store.find_checkpoint(step, query, without=damaged)
        if record is None:
            break
        try:
            return _download(store, record, folder)
        except (DamagedError, CheckpointError) as error:
            if step is not None:
                raise
            say(f'warning: the checkpoint of step {record["step"]:,} is left aside: {error}')
            damaged.append(record['_id'])
    if damaged:
        place = store.place
        raise CheckpointError(
            f'no checkpoint of {place.exp_id} in {place.dbname}.{place.collname} is whole'
        )
    return None


def _download(store: Store, record: Document, folder: str) -> Start:
    """The Start of a record with a checkpoint. Raises DamagedError or CheckpointError where it is
    not whole.
    """
    prefix = store.download(record, os.path.join(folder, 'restored'))
    checkpoints.verify(prefix)
    params = record.get('params')
    recorded = params if isinstance(params, dict) else {}
    restoring.describe_fetched(prefix, checkpoints.step_of(prefix), recorded)
    title = f'the record of step {record["step"]:,} of {record["exp_id"]}'
    return Start(prefix, record['_id'], recorded, title)


def starting_flag(config: Config) -> str:
    """The flag that names the checkpoint of another experiment, with its value."""
    for name in ('load_checkpoint', 'load_exp_id', 'load_collname', 'load_dbname', 'load_port'):
        if getattr(config, name) is not None:
            return as_flag(name, getattr(config, name))
    return '--load_db'


def _check_records(config: Config, store: Store, latest: Optional[int]) -> None:
    """Raises ConfigError where the experiment's records do not go together with a training that the
    settings ask for. latest: the highest step of them, or None.
    """
    if next(store.records({'validates': {'$exists': True}}), None):
        raise ConfigError(
            f'exp_id {config.exp_id} holds a validation, whose record a training would mix with; '
            'choose another --exp_id_suffix'
        )
    if latest is not None and not config.do_restore:
        raise ConfigError(
            f'exp_id {config.exp_id} has records up to step {latest:,} in '
            f'{store.place.dbname}.{store.place.collname} already; continue it with --do_restore, '
            'or choose another --exp_id_suffix or --dbname'
        )


def _checkpoint_here(config: Config, store: Store, folder: str, own: Optional[Start]) -> Start:
    """The Start of --load_checkpoint, which is one of the experiment's own. own: the newest one in
    MongoDB, or None.
    """
    start = find(config, folder, store)
    newest, step = checkpoints.step_of(own.prefix) if own else 0, checkpoints.step_of(start.prefix)
    if step < newest:
        raise ConfigError(
            f'--load_checkpoint={config.load_checkpoint} is at step {step:,}, and exp_id '
            f'{config.exp_id} has a checkpoint of step {newest:,} already; to go back give '
            'another --exp_id_suffix, without --do_restore'
        )
    return start


def _check_beginning(
    config: Config, store: Store, own: Optional[Start], latest: Optional[int]
) -> None:
    """Raises ConfigError where the records of an experiment without a checkpoint say that it
    started from another one.
    """
    if own or latest is None:
        return
    first: Document = next(store.records(), {})
    began = first.get('params', {}).get('load_params', {})
    names = [name for name in ('load_db', 'load_checkpoint', 'load_exp_id') if began.get(name)]
    if names:
        raise ConfigError(
            'exp_id {} has records up to step {:,} and no checkpoint, and it started from another '
            'experiment: give {} again, or choose another --exp_id_suffix'.format(
                config.exp_id, latest, ' '.join(as_flag(name, began[name]) for name in names)
            )
        )


def _own_checkpoint(
    config: Config, store: Store, folder: str, latest: Optional[int], wanted: bool
) -> Optional[Start]:
    """The Start of a training that goes on, or None. latest: the highest step of its records, or
    None.

    wanted: whether --load_step and --load_query are about its own checkpoints, not about those of
    another experiment.
    """
    step, query = (config.load_step, query_of(config.load_query)) if wanted else (None, {})

    def going_back(to: int) -> str:
        return (
            f'; to go back to step {to:,} give another --exp_id_suffix with --load_db '
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
