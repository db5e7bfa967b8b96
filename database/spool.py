"""What MongoDB does not take, on disk until it does: one file for each thing to write, in order."""

import os
import re
from typing import List, Tuple

import bson
from bson.errors import BSONError

from database.errors import StoreError
from database.place import Place
from database.types import Document

ENTRY = re.compile(r'(\d{8})\.bson')
REFUSED = '.refused'  # ends the name of what MongoDB will never take


def local_folder(root: str, place: Place) -> str:
    """Where an experiment's local files lie."""
    folder = database_folder(root, place.server, place.dbname)
    return os.path.join(folder, place.collname, place.exp_id)


def database_folder(root: str, address: str, dbname: str) -> str:
    """Where the local files of all experiments of a database lie. address: host:port."""
    return os.path.join(os.path.expanduser(root), address, dbname)


def spool_of(folder: str) -> str:
    """Where, in an experiment's folder, records wait for MongoDB."""
    return os.path.join(folder, 'spool')


def damaged(path: str, error: Exception) -> StoreError:
    """The error that tells of an entry that cannot be read."""
    return StoreError(
        f'{path}, a record that waits for MongoDB, cannot be read ({error}): move it away to go '
        'on without it.'
    )


class Spool:
    """A folder of entries, BSON documents in files `00000001.bson`, `00000002.bson`, ...

    An entry is there whole or not at all, also after the power failed.
    """

    def __init__(self, folder: str) -> None:
        """folder: where the entries lie; it is made with the first one."""
        self.folder = folder

    def keep(self, entry: Document) -> str:
        """Write an entry, a document, behind all others; returns its path. Raises OSError where the
        disk takes none.
        """
        os.makedirs(self.folder, exist_ok=True)
        path = os.path.join(self.folder, f'{max([0] + self._numbers()) + 1:08d}.bson')
        with open(path + '.half', 'wb') as file:
            file.write(bson.encode(entry))
            file.flush()
            os.fsync(file.fileno())
        os.replace(path + '.half', path)
        directory = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(directory)  # its name, too
        finally:
            os.close(directory)
        return path

    def entries(self) -> List[Tuple[str, Document]]:
        """[(path, document)] in the order in which they were kept. Raises StoreError for one that
        is damaged.
        """
        found = []
        for number in sorted(self._numbers()):
            path = os.path.join(self.folder, f'{number:08d}.bson')
            try:
                with open(path, 'rb') as file:
                    found.append((path, bson.decode(file.read())))
            except (OSError, BSONError) as error:
                raise damaged(path, error) from error
        return found

    def refuse(self, path: str) -> str:
        """Set an entry aside that can never be written; returns its new path."""
        os.replace(path, path + REFUSED)
        return path + REFUSED

    def _numbers(self) -> List[int]:
        names = os.listdir(self.folder) if os.path.isdir(self.folder) else []
        return [int(match.group(1)) for match in map(ENTRY.fullmatch, names) if match]
