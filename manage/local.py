"""The local files of an experiment: its checkpoints, and records that wait for MongoDB."""

import os
import re
import shutil
from typing import Optional

from database import entries, records
from database.errors import RecordError, StoreError
from database.place import Place
from database.spool import Spool, local_folder, spool_of

CHECKPOINT = re.compile(r'checkpoint-(\d+)\.(index|data-\d{5}-of-\d{5})')


def folder_of(cache_dir: str, place: Place) -> Optional[str]:
    """Returns the folder of the local files of an experiment, or None if there is none."""
    try:
        records.check_names(place.dbname, place.collname, place.exp_id)
    except RecordError:  # such names never had a folder, and might lead to another one
        return None
    folder = local_folder(cache_dir, place)
    return folder if os.path.isdir(folder) else None


def size(folder: Optional[str]) -> int:
    """Returns how many bytes the files of a folder have, or 0 without a folder."""
    return sum(
        os.lstat(os.path.join(parent, name)).st_size
        for parent, _, names in os.walk(folder or os.devnull)
        for name in names
    )


def waiting(folder: Optional[str]) -> int:
    """Returns how many records and results wait in the spool of a folder for MongoDB.

    Raises:
        StoreError: One of them is damaged.
    """
    return len(entries.kept(Spool(spool_of(folder)), refused=True)) if folder else 0


def remove(folder: str) -> None:
    """Removes the folder of an experiment.

    Raises:
        StoreError: It cannot be removed.
    """
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise _cannot_remove(error, folder) from error


def remove_checkpoints(folder: str, before: int) -> None:
    """Removes the checkpoints of a folder before a step.

    Raises:
        StoreError: A file cannot be removed.
    """
    try:
        # The index goes first: without it, the rest is no checkpoint.
        for name in sorted(os.listdir(folder), key=lambda name: not name.endswith('.index')):
            match = CHECKPOINT.fullmatch(name)
            if match and int(match.group(1)) < before:
                os.remove(os.path.join(folder, name))
    except OSError as error:
        raise _cannot_remove(error, folder) from error


def _cannot_remove(error: OSError, folder: str) -> StoreError:
    return StoreError(
        f'{error.filename or folder} cannot be removed ({error.strerror or error}). Remove it by '
        'hand, and run the same command again.'
    )
