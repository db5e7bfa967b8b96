"""Where a run keeps what it makes: its place in MongoDB, its folder on this machine, and a bucket
for copies.
"""

import os
from typing import List, Optional

from config.schema import Config
from database import records, server
from database.place import Place
from database.spool import local_folder
from database.store import Store
from models import NETWORKS, NetworkOptions
from training import runtime
from training.errors import CheckpointError
from training.local import has_file_system

REPLAY_S = 3600  # within which MongoDB must take what waits on disk


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


def collection(config: Config) -> str:
    """The name of a Config's collection, without building its graph."""
    options = NetworkOptions(tuple(config.layers_list), config.activation, config.use_resnet_v2)
    return NETWORKS[config.model].label(options)


def of(config: Config, exp_id: Optional[str] = None) -> Place:
    """The place of a Config's records. exp_id: default, that of its training."""
    return Place(
        config.host, config.port, config.dbname, collection(config), exp_id or config.exp_id
    )


def source(config: Config) -> Place:
    """The place that the load_* flags name; what they leave out is the experiment's own."""
    return Place(
        config.host,
        config.load_port or config.port,
        config.load_dbname or config.dbname,
        config.load_collname or collection(config),
        config.load_exp_id or config.exp_id,
    )


def cache_folder(config: Config, place: Place) -> str:
    """Where an experiment's local files lie:
    <cache_dir>/<host>:<port>/<dbname>/<collection>/<exp_id>, a folder that exists.

    Raises StoreError for names that no experiment can have, and CheckpointError if the folder
    cannot be made.
    """
    records.check_names(place.dbname, place.collname, place.exp_id)
    base = config.cache_dir
    if not base or is_remote(base):
        base = server.DEFAULT_ROOT
    return make_folder(local_folder(base, place), '--cache_dir')


def copies_folder(config: Config, place: Place) -> Optional[str]:
    """Where copies of the checkpoints go that --cache_dir asks for: a folder of TensorFlow's file
    systems, or None.
    """
    if not config.cache_dir or not is_remote(config.cache_dir):
        return None
    return local_folder(config.cache_dir.rstrip('/'), place)


def refusals(config: Config) -> List[str]:
    """Why there can be no copies where --cache_dir asks for them: sentences."""
    folder = config.cache_dir or ''
    if not is_remote(folder) or has_file_system(folder):
        return []
    return [
        f'--cache_dir={folder}: {runtime.describe()} has no file system for such a path; choose a '
        'folder of this machine, or a gs:// bucket'
    ]


def make_folder(folder: str, setting: str) -> str:
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


def is_remote(path: str) -> bool:
    """Whether a path is one of a file system of TensorFlow's, such as gs://."""
    return '://' in path


def absolute(path: str) -> str:
    """The whole path of what a user names."""
    path = os.path.expanduser(path)
    return path if is_remote(path) else os.path.abspath(path)


def replay(store: Store) -> None:
    """Waits until what an earlier run left in the spool is written. Raises StoreError where it
    takes too long.
    """
    if store.replayed:
        say(f'writing {store.replayed} records that an earlier run kept while MongoDB was away')
        if not store.flush(REPLAY_S):
            store.close(0)
