"""A folder of exported experiments: it is written whole or not at all, and has a manifest.

    manifest.json                                     what it holds, and a SHA-256 of each file
    experiments/<collection>/<exp_id>/records.bson    the documents of <collection>.files
    experiments/<collection>/<exp_id>/records/        their archives, <_id>.tar, and named results
    experiments/<collection>/<exp_id>/recent.bson     the documents of the recent checkpoints
    experiments/<collection>/<exp_id>/recent/         their archives
    experiments/<collection>/<exp_id>/labels.bson     its tags and notes
    experiments/<collection>/<exp_id>/ended.bson      how it ended, if before its last step
    experiments/<collection>/<exp_id>/trial.bson      its document in a search, if it is a trial
    studies/<collection>/<study>.journal, .study      what continues a search, if trials are there

A .bson file holds BSON documents one after the other, as `mongodump` writes them.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from typing import BinaryIO, Dict, Iterator, List, NamedTuple

import bson
from bson.errors import BSONError

from database.errors import DamagedError, StoreError
from database.types import Document

MANIFEST, PARTIAL, LOCK = 'manifest.json', '.partial', '.exporting'
FORMAT = 'experiments of credit-alignment, version 1'
RECORDS, RECENT, LABELS = 'records', 'recent', 'labels'
ENDED, TRIAL = 'ended', 'trial'  # only of an experiment that has them
PIECE = 1 << 20


class Listed(NamedTuple):
    """An experiment in the manifest.

    Attributes:
        collection: Name of its collection.
        exp_id: Its name.
        records: The number of its records.
        checkpoints: The number of its checkpoints, with the recent ones.
    """

    collection: str
    exp_id: str
    records: int
    checkpoints: int

    def path(self, *names: str) -> str:
        """Returns the path of one of its files, relative to the folder."""
        return '/'.join(('experiments', self.collection, self.exp_id) + names)

    def documents(self, kind: str) -> str:
        """Returns the path of its documents of a kind, such as RECORDS."""
        return self.path(kind + '.bson')

    def file(self, kind: str, document: Document) -> str:
        """Returns the path of the GridFS file of a document; `kind` is RECORDS or RECENT.

        Raises:
            StoreError: The document was not written by this program or tfutils.
        """
        if not isinstance(document['_id'], bson.ObjectId):
            raise StoreError(
                f'The _id {document["_id"]!r} of a record of {self.exp_id} is not an ObjectId. '
                'Neither this program nor tfutils has written it, so it cannot be carried.'
            )
        suffix = '.tar' if 'exp_id' in document else ''
        return self.path(kind, f'{document["_id"]}{suffix}')


class Digest(NamedTuple):
    """What the manifest says about a file.

    Attributes:
        size: Its number of bytes.
        sha256: Its checksum in hexadecimal.
    """

    size: int
    sha256: str


class Manifest(NamedTuple):
    """What an exported folder holds.

    Attributes:
        database: Name of the database that the experiments come from.
        checkpoints: Whether their checkpoints are there, too.
        experiments: The experiments.
        files: {path: Digest} of all other files.
    """

    database: str
    checkpoints: bool
    experiments: List[Listed]
    files: Dict[str, Digest]

    def to_json(self) -> Document:
        """Returns the manifest as it is written."""
        return {
            'format': FORMAT,
            'database': self.database,
            'checkpoints': self.checkpoints,
            'experiments': [dict(each._asdict()) for each in self.experiments],
            'files': {path: dict(digest._asdict()) for path, digest in self.files.items()},
        }


class Writing:
    """A folder that is being written, under the name <folder>.partial.

    Args:
        folder: Path of the folder.

    Attributes:
        folder: Path of the folder.
        files: {path: Digest} of the files that are written.
        finished: Whether the folder has its name.
    """

    def __init__(self, folder: str) -> None:
        self.folder, self._partial = folder, folder + PARTIAL
        self.files: Dict[str, Digest] = {}
        self.finished = False

    @contextlib.contextmanager
    def file(self, path: str) -> Iterator[BinaryIO]:
        """Context manager: a new file, which is safely on the disk afterwards.

        Args:
            path: Its path relative to the folder.
        """
        whole = os.path.join(self._partial, path)
        os.makedirs(os.path.dirname(whole), exist_ok=True)
        with open(whole, 'x+b') as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            file.seek(0)
            self.files[path] = _digest(file)

    def finish(self, manifest: Manifest) -> None:
        """Writes the manifest and gives the folder its name."""
        with self.file(MANIFEST) as file:
            file.write((json.dumps(manifest.to_json(), indent=1) + '\n').encode('utf-8'))
        for parent, _, _ in os.walk(self._partial):
            _sync(parent)
        os.remove(os.path.join(self._partial, LOCK))
        os.rename(self._partial, self.folder)
        self.finished = True
        _sync(os.path.dirname(self.folder))


@contextlib.contextmanager
def writing(folder: str) -> Iterator[Writing]:
    """Context manager: a new folder, which is removed unless it is finished.

    What an interrupted export has left under <folder>.partial is removed first.

    Args:
        folder: Path of the folder; it must not exist.

    Raises:
        StoreError: It exists, cannot be written, or another process is writing it.
    """
    folder = os.path.abspath(os.path.expanduser(folder))
    partial = folder + PARTIAL
    if os.path.lexists(folder):
        raise StoreError(f'{folder} exists already. Choose another folder with --to.')
    try:
        if os.path.isdir(partial) and not os.path.exists(os.path.join(partial, LOCK)):
            raise StoreError(
                f'{partial}, where the export would be prepared, exists and was not left by an '
                'export. Move it away, or choose another folder with --to.'
            )
        os.makedirs(partial, exist_ok=True)
        with _locked(partial):
            _empty(partial)
            new = Writing(folder)
            try:
                yield new
            finally:
                if not new.finished:
                    _empty(partial)
                    os.remove(os.path.join(partial, LOCK))
                    os.rmdir(partial)
    except OSError as error:
        raise StoreError(
            f'{error.filename or folder} cannot be written ({error.strerror or error}). Nothing '
            'was exported; choose another folder with --to.'
        ) from error


@contextlib.contextmanager
def _locked(partial: str) -> Iterator[None]:
    with open(os.path.join(partial, LOCK), 'w') as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreError(
                f'Another process is exporting to {partial}. Wait for it, or choose another folder '
                'with --to.'
            )
        yield


def _empty(partial: str) -> None:
    """Removes all from a partial folder but the lock."""
    for name in os.listdir(partial):
        path = os.path.join(partial, name)
        if name != LOCK:
            (shutil.rmtree if os.path.isdir(path) else os.remove)(path)


def _sync(folder: str) -> None:
    """Makes the names in a folder durable."""
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def read(folder: str) -> Manifest:
    """Returns the manifest of an exported folder, after a comparison of all files with it.

    Args:
        folder: Path of the folder.

    Raises:
        StoreError: The folder was not written by an export, or cannot be read.
        DamagedError: A file is missing or damaged.
    """
    try:
        with open(os.path.join(folder, MANIFEST), encoding='utf-8') as file:
            found = json.load(file)
        if not isinstance(found, dict) or found.get('format') != FORMAT:
            raise ValueError(f'its format is not {FORMAT!r}')
        manifest = Manifest(
            str(found['database']),
            bool(found['checkpoints']),
            [
                Listed(
                    str(each['collection']),
                    str(each['exp_id']),
                    int(each['records']),
                    int(each['checkpoints']),
                )
                for each in found['experiments']
            ],
            {
                path: Digest(digest['size'], digest['sha256'])
                for path, digest in found['files'].items()
            },
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        told = getattr(error, 'strerror', None) or error
        raise StoreError(
            f'{folder} is not a folder of exported experiments ({MANIFEST}: {told}). Give a folder '
            'that `python runs.py export` has written.'
        ) from error
    for path, digest in manifest.files.items():
        _compare(folder, path, digest)
    return manifest


def _compare(folder: str, path: str, digest: Digest) -> None:
    """Raises DamagedError if a file is not the one in the manifest."""
    try:
        with opened(folder, path) as file:
            found = _digest(file)
    except OSError as error:
        raise DamagedError(
            f'{os.path.join(folder, path)} cannot be read ({error.strerror}). Nothing was '
            'imported; copy or export the experiments again.'
        ) from error
    if found != digest:
        raise DamagedError(
            f'{os.path.join(folder, path)} is damaged: it has {found.size} bytes with SHA-256 '
            f'{found.sha256}, but {digest.size} bytes with {digest.sha256} were exported. Nothing '
            'was imported; copy or export the experiments again.'
        )


def _digest(file: BinaryIO) -> Digest:
    size, sha256 = 0, hashlib.sha256()
    for piece in iter(lambda: file.read(PIECE), b''):
        size += len(piece)
        sha256.update(piece)
    return Digest(size, sha256.hexdigest())


def opened(folder: str, path: str) -> BinaryIO:
    """Opens a file of a folder for reading.

    Raises:
        DamagedError: The path leaves the folder.
        OSError: It cannot be opened.
    """
    if path.startswith('/') or '..' in path.split('/'):
        raise DamagedError(f'{folder} names {path}, which is outside of it. It was not imported.')
    return open(os.path.join(folder, path), 'rb')


def documents(folder: str, path: str) -> Iterator[Document]:
    """Iterates over the documents of a .bson file of a folder.

    Raises:
        DamagedError: It is not BSON.
    """
    try:
        with opened(folder, path) as file:
            yield from bson.decode_file_iter(file)
    except (OSError, BSONError) as error:
        raise DamagedError(
            f'{os.path.join(folder, path)} cannot be read ({error}). Export the experiments again.'
        ) from error
