"""Where a run stores its output: in MongoDB, in a folder of this machine, and in a bucket."""

import os
import time
from typing import Callable, List, Optional

from config.schema import Config
from database import private, records, server
from database.place import Place
from database.spool import local_folder
from database.store import Store
from models import NETWORKS, NetworkOptions
from training import runtime
from training.errors import CheckpointError
from training.local import has_file_system
from training.output import say as say

REPLAY_S = 3600  # seconds that MongoDB has to store what is in the spool


def collection(config: Config) -> str:
    """Returns the name of a Config's collection, without building its graph."""
    options = NetworkOptions(tuple(config.layers_list), config.activation, config.use_resnet_v2)
    return NETWORKS[config.model].label(options)


def of(config: Config, exp_id: Optional[str] = None) -> Place:
    """Returns the place of a Config's records, by default under the exp_id of its training."""
    return Place(
        config.host, config.port, config.dbname, collection(config), exp_id or config.exp_id
    )


def source(config: Config) -> Place:
    """Returns the place that the load_* flags name; the rest is the same as for the experiment."""
    return Place(
        config.host,
        config.load_port or config.port,
        config.load_dbname or config.dbname,
        config.load_collname or collection(config),
        config.load_exp_id or config.exp_id,
    )


def cache_folder(config: Config, place: Place) -> str:
    """Creates and returns the folder of an experiment's local files.

    It is <cache_dir>/<host>:<port>/<dbname>/<collection>/<exp_id>.

    Raises:
        StoreError: A name is not allowed.
        CheckpointError: The folder cannot be created.
    """
    records.check_names(place.dbname, place.collname, place.exp_id)
    base = config.cache_dir
    if not base or is_remote(base):
        base = server.DEFAULT_ROOT
    return make_folder(local_folder(base, place), '--cache_dir')


def copies_folder(config: Config, place: Place) -> Optional[str]:
    """Returns the remote folder for copies of the checkpoints, or None if --cache_dir is local."""
    if not config.cache_dir or not is_remote(config.cache_dir):
        return None
    return local_folder(config.cache_dir.rstrip('/'), place)


def refusals(config: Config) -> List[str]:
    """Lists why the checkpoints cannot be copied to --cache_dir, as sentences."""
    folder = config.cache_dir or ''
    if not is_remote(folder) or has_file_system(folder):
        return []
    return [
        f'--cache_dir={folder}: {runtime.describe()} has no file system for such a path; choose a '
        'folder of this machine, or a gs:// bucket'
    ]


def make_folder(folder: str, setting: str) -> str:
    """Creates a folder if it does not exist, and returns it.

    Args:
        folder: Path of the folder.
        setting: What named it, for the message.

    Raises:
        CheckpointError: It cannot be created.
    """
    try:
        private.make_folders(folder)
    except (OSError, ValueError) as error:  # a ValueError: the path holds NUL or is no text
        reason = error.strerror if isinstance(error, OSError) else error
        raise CheckpointError(
            f'{setting}: {folder if folder.isprintable() else ascii(folder)} cannot be created '
            f'({reason}); choose another folder'
        )
    return folder


def is_remote(path: str) -> bool:
    """Returns whether a path has the scheme of a TensorFlow file system, such as gs://."""
    return '://' in path


def absolute(path: str) -> str:
    """Returns a path as an absolute one, with ~ expanded; a remote path is only expanded."""
    path = os.path.expanduser(path)
    return path if is_remote(path) else os.path.abspath(path)


def replay(store: Store, between: Callable[[], None] = lambda: None) -> None:
    """Waits until what an earlier run left in the spool is stored in MongoDB.

    It first prints what the store has found at its start.

    Args:
        store: Open store.
        between: Called every second; an exception that it raises ends the wait. The rest stays in
            the spool.

    Raises:
        StoreError: It takes longer than REPLAY_S.
    """
    for notice in store.notices:
        say('warning: ' + notice)
    if store.replayed:
        say(f'storing {store.replayed} records that an earlier run kept while MongoDB was away')
        deadline = time.monotonic() + REPLAY_S
        while not store.flush(1.0):
            between()
            if not store.pending or time.monotonic() > deadline:
                store.close(0)
                return
