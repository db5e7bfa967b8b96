"""The spool: entries kept on disk, in order and one file each, until MongoDB can store them."""

import os
import re
from typing import List, Tuple

import bson
from bson.errors import BSONError

from database import private
from database.errors import StoreError
from database.place import Place
from database.types import Document

ENTRY = re.compile(r'(\d{8})\.bson')
REFUSED = '.refused'  # suffix of entries that MongoDB will never accept


def local_folder(root: str, place: Place) -> str:
    """Returns the folder of the local files of an experiment."""
    folder = database_folder(root, place.server, place.dbname)
    return os.path.join(folder, place.collname, place.exp_id)


def database_folder(root: str, address: str, dbname: str) -> str:
    """Returns the folder of the local files of a database; `address` is host:port."""
    return os.path.join(os.path.expanduser(root), address, dbname)


def spool_of(folder: str) -> str:
    """Returns the spool folder inside the folder of an experiment."""
    return os.path.join(folder, 'spool')


def damaged(path: str, error: Exception) -> StoreError:
    """Returns the error that reports an entry that cannot be read."""
    return StoreError(
        f'{path}, a record waiting for MongoDB, cannot be read ({error}). Move the file away to '
        'continue without it.'
    )


class Spool:
    """A folder of entries: BSON documents in files `00000001.bson`, `00000002.bson`, ...

    Entries are written atomically: after a power failure, an entry is either complete or absent.

    Args:
        folder: The folder of the entries. It is created with the first entry.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def keep(self, entry: Document) -> str:
        """Writes an entry after all others and returns its path.

        Args:
            entry: The document of the entry.

        Raises:
            OSError: The file cannot be written.
        """
        private.make_folders(self.folder)
        path = os.path.join(self.folder, f'{max([0] + self._numbers()) + 1:08d}.bson')
        with private.created(path + '.half') as file:
            file.write(bson.encode(entry))
            file.flush()
            os.fsync(file.fileno())
        os.replace(path + '.half', path)
        directory = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(directory)  # makes the new name durable, too
        finally:
            os.close(directory)
        return path

    def entries(self) -> List[Tuple[str, Document]]:
        """Returns [(path, document)] in the order in which the entries were written.

        Raises:
            StoreError: An entry is damaged.
        """
        found = []
        for number in sorted(self._numbers()):
            path = os.path.join(self.folder, f'{number:08d}.bson')
            try:
                with private.opened(path) as file:
                    found.append((path, bson.decode(file.read())))
            except (OSError, BSONError) as error:
                raise damaged(path, error) from error
        return found

    def refuse(self, path: str) -> str:
        """Renames an entry that MongoDB will never accept, and returns its new path."""
        os.replace(path, path + REFUSED)
        return path + REFUSED

    def _numbers(self) -> List[int]:
        names = os.listdir(self.folder) if os.path.isdir(self.folder) else []
        return [int(match.group(1)) for match in map(ENTRY.fullmatch, names) if match]
