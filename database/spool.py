"""The spool: entries kept on disk, in order and one file each, until MongoDB can store them."""

import fcntl
import os
import re
from typing import List, NamedTuple, Pattern

import bson
from bson.errors import BSONError

from database import private
from database.errors import StoreError
from database.place import Place
from database.types import Document

ENTRY = re.compile(r'(\d{8})\.bson')
ANY_ENTRY = re.compile(r'(\d{8})\.bson(?:\.(?:refused|superseded|elsewhere))?')
REFUSED = '.refused'  # suffix of entries that MongoDB has refused; they are tried again
SUPERSEDED = '.superseded'  # of entries whose steps another process has trained again
ELSEWHERE = '.elsewhere'  # of entries of a database that was dropped, or of another server
STUDIES = 'searches'  # the folder of searches, beside those of the experiments of a collection


class StudyFiles(NamedTuple):
    """The files of the study of a search, in the folder STUDIES of its collection.

    Attributes:
        journal: Path of Optuna's journal, from which `search.py` continues it.
        identity: Path of a text that distinguishes it from other studies of the same name.
    """

    journal: str
    identity: str

    @classmethod
    def of(cls, folder: str, name: str) -> 'StudyFiles':
        """Returns the files of the study of a name in a folder."""
        path = os.path.join(folder, name)
        return cls(path + '.journal', path + '.study')


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
        directory = os.open(self.folder, os.O_RDONLY)
        try:
            # A process that has lost its claim may still use the same folder.
            fcntl.flock(directory, fcntl.LOCK_EX)
            return self._keep(entry, directory)
        finally:
            os.close(directory)

    def _keep(self, entry: Document, directory: int) -> str:
        """Writes an entry; `directory` is an open descriptor of the folder."""
        path = os.path.join(self.folder, f'{max([0] + self._numbers(ANY_ENTRY)) + 1:08d}.bson')
        with private.created(path + '.half') as file:
            file.write(bson.encode(entry))
            file.flush()
            os.fsync(file.fileno())
        os.replace(path + '.half', path)
        os.fsync(directory)  # makes the new name durable, too
        return path

    def paths(self, refused: bool = False) -> List[str]:
        """Returns the paths of the entries in the order in which they were written.

        Args:
            refused: Whether to include the entries that MongoDB has refused.
        """
        names = [(number, '') for number in self._numbers()]
        names += [(number, REFUSED) for number in self._numbers(suffix=REFUSED) if refused]
        return [
            os.path.join(self.folder, f'{number:08d}.bson{suffix}')
            for number, suffix in sorted(names)
        ]

    @staticmethod
    def read(path: str) -> Document:
        """Returns the document of an entry.

        Raises:
            StoreError: The entry is damaged.
        """
        try:
            with private.opened(path) as file:
                return bson.decode(file.read())
        except (OSError, BSONError) as error:
            raise damaged(path, error) from error

    def set_aside(self, path: str, suffix: str) -> str:
        """Renames an entry that is not written now, and returns its new path.

        Args:
            path: The path of the entry.
            suffix: REFUSED, SUPERSEDED or ELSEWHERE.
        """
        os.replace(path, path + suffix)
        return path + suffix

    def readmit(self) -> None:
        """Gives the refused entries their names back, so that they are tried again in order."""
        for number in self._numbers(ENTRY, REFUSED):
            path = os.path.join(self.folder, f'{number:08d}.bson')
            os.replace(path + REFUSED, path)

    def _numbers(self, pattern: Pattern[str] = ENTRY, suffix: str = '') -> List[int]:
        """Returns the numbers of the files that match a pattern, before a suffix."""
        names = os.listdir(self.folder) if os.path.isdir(self.folder) else []
        stems = [name[: len(name) - len(suffix)] for name in names if name.endswith(suffix)]
        return [int(match.group(1)) for match in map(pattern.fullmatch, stems) if match]
