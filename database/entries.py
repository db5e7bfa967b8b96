"""The entries that a store writes: a record with its checkpoints, or the bulky results of a record.

An entry describes itself, writes itself, and converts itself to the BSON document that the spool
keeps.
"""

import io
import os
from typing import Callable, Collection, Dict, List, NamedTuple, Optional, Tuple, Union

import bson
from pymongo.errors import DuplicateKeyError

from database import owner
from database.archive import packed
from database.bucket import Buckets
from database.errors import DamagedError, StoreError
from database.owner import Owner, TakenError
from database.spool import ELSEWHERE, SUPERSEDED, Spool, damaged
from database.types import Document

DAMAGED = '.damaged'  # suffix of an archive that changed after it was packed

Check = Callable[[], None]


class RecordEntry(NamedTuple):
    """A record, its checkpoints, and the records that it replaces.

    Attributes:
        record: The document of the record.
        checkpoint: Path of the archive that becomes the GridFS file of the record, or None.
        recent: Path of the archive to store as a recent checkpoint, or None.
        replacing: The `_id`s of the records to remove once this one is stored.
        remove: Whether the local files are to be removed once they are stored.
    """

    record: Document
    checkpoint: Optional[str] = None
    recent: Optional[str] = None
    replacing: Tuple[bson.ObjectId, ...] = ()
    remove: bool = False

    @property
    def record_id(self) -> bson.ObjectId:
        """The `_id` of the record."""
        return self.record['_id']

    @property
    def owner(self) -> Optional[Owner]:
        """The process that made the record; None if it is unknown."""
        return owner.of(self.record)

    @property
    def paths(self) -> List[str]:
        """The paths of the files that are stored with the record, without duplicates."""
        return sorted({path for path in (self.checkpoint, self.recent) if path})

    def describe(self) -> str:
        """Returns a description of the entry for messages."""
        files = f' with {" and ".join(self.paths)}' if self.paths else ''
        return f'the record of step {self.record.get("step")}{files}'

    def write(self, buckets: Buckets, check: Check = lambda: None) -> None:
        """Writes the record and its files. Writing it again changes nothing.

        Args:
            buckets: The buckets of the experiment.
            check: Raises TakenError if this process must not write any more.

        Raises:
            TakenError: Another process has continued the experiment. What this call has written is
                removed, if that process has trained the step again.
            DamagedError: An archive is damaged. The record is stored without it.
            PyMongoError: MongoDB does not store it.
            BSONError: The record cannot be encoded.
            OSError: A file cannot be read.
        """
        check()
        is_new = not buckets.main.holds(self.record)
        try:
            self._write_files(buckets)
        except DuplicateKeyError:
            if not self.replacing:
                raise
            # A user's index allows one record per step, and this step was trained again.
            buckets.main.remove(self.replacing)
            self._write_files(buckets)
        try:
            check()
        except TakenError as error:
            if is_new and error.step is not None and self.record['step'] > error.step:
                buckets.remove(self.record['_id'])
            raise
        if self.replacing:
            buckets.main.remove(self.replacing)

    def _write_files(self, buckets: Buckets) -> None:
        """Writes the record and its files; a damaged archive is packed again, if that is possible.

        Raises:
            DamagedError: An archive is damaged. The record is stored without it.
        """
        try:
            self._write(buckets)
        except DamagedError as error:
            if self._pack_again():
                self._write(buckets)
                return
            buckets.write(self.record, None)
            for path in self.paths:
                if os.path.exists(path):
                    os.replace(path, path + DAMAGED)
            raise DamagedError(
                f'{str(error)[:-1]}, so the record of step {self.record.get("step")} is stored '
                f'without its checkpoint. The archive is kept as {self.paths[0]}{DAMAGED}.'
            ) from error

    def _write(self, buckets: Buckets) -> None:
        checkpoint, recent = [
            None if path and os.path.exists(path + DAMAGED) and not os.path.exists(path) else path
            for path in (self.checkpoint, self.recent)
        ]
        buckets.write(self.record, checkpoint)
        if recent:
            buckets.write_recent(self.record, recent)

    def _pack_again(self) -> bool:
        """Packs the files of the checkpoint again; returns whether that is what was packed first.

        They are still beside the archive unless newer checkpoints have replaced them.
        """
        path = self.paths[0]
        again = path + '.again'
        try:
            if packed(path[: -len('.tar')], again).sha256 != self.record.get('sha256'):
                return False
            os.replace(again, path)
            return True
        except (OSError, StoreError):
            return False
        finally:
            if os.path.exists(again):
                os.remove(again)

    def to_bson(self) -> Document:
        """Returns the document that the spool keeps."""
        paths = {
            name: path
            for name, path in (('checkpoint', self.checkpoint), ('recent', self.recent))
            if path
        }
        return dict(paths, record=self.record, replacing=list(self.replacing), remove=self.remove)


class ResultsEntry(NamedTuple):
    """The bulky results of a record, stored as a GridFS file.

    Attributes:
        document: The fields of its document in `<collection>.files`, without those of GridFS.
        content: The bytes of the file.
        filename: The name of the file.
    """

    document: Document
    content: bytes
    filename: str

    @property
    def record_id(self) -> bson.ObjectId:
        """The `_id` of their record."""
        return self.document['item_for']

    @property
    def owner(self) -> Optional[Owner]:
        """The process that made the results; None if it is unknown."""
        return owner.of(self.document)

    @property
    def paths(self) -> List[str]:
        """An empty list, because the results are not in a local file."""
        return []

    def describe(self) -> str:
        """Returns a description of the entry for messages."""
        return f'the results {self.filename}'

    def write(self, buckets: Buckets, check: Check = lambda: None) -> None:
        """Writes the results. Writing them again changes nothing.

        Args:
            buckets: The buckets of the experiment.
            check: Raises TakenError if this process must not write any more.

        Raises:
            TakenError: Another process has continued the experiment.
            PyMongoError: MongoDB does not store them.
            BSONError: The document cannot be encoded.
        """
        check()
        buckets.main.insert(self.document, io.BytesIO(self.content), self.filename)

    def to_bson(self) -> Document:
        """Returns the document that the spool keeps."""
        return dict(self._asdict())


Entry = Union[RecordEntry, ResultsEntry]


def of(document: Document) -> Entry:
    """Returns the entry of a document that `to_bson` returned.

    Raises:
        KeyError: The document lacks a field.
        TypeError: A field of the document has the wrong type.
        ValueError: A field of the document has the wrong value.
    """
    if 'content' in document:
        return ResultsEntry(document['document'], document['content'], document['filename'])
    return RecordEntry(
        dict(document['record']),
        document.get('checkpoint'),
        document.get('recent'),
        tuple(document.get('replacing', ())),
        document.get('remove', False),
    )


def _fail(error: StoreError) -> None:
    raise error


def kept(
    spool: Spool, refused: bool = False, unreadable: Callable[[StoreError], object] = _fail
) -> Dict[str, Entry]:
    """Returns {path: entry} of the entries in a spool, in their order.

    The archives are beside the spool, so only their names are used. The folder may have been
    moved, and an entry that others wrote must not name other files of this user, which would be
    uploaded and then removed.

    Args:
        spool: The spool.
        refused: Whether to include the entries that MongoDB has refused.
        unreadable: Called with the error of each damaged entry, which is then left out; by default,
            the first error is raised.

    Raises:
        StoreError: An entry is damaged.
    """
    found = {}
    for path in spool.paths(refused):
        try:
            found[path] = _beside(spool, of(spool.read(path)))
        except StoreError as error:
            unreadable(error)
        except (KeyError, TypeError, ValueError) as error:
            unreadable(damaged(path, error))
    return found


def _beside(spool: Spool, entry: Entry) -> Entry:
    """Returns an entry whose archives are in the folder that holds the spool."""
    if not isinstance(entry, RecordEntry):
        return entry
    folder = os.path.dirname(os.path.abspath(spool.folder))

    def beside(path: Optional[str]) -> Optional[str]:
        if path is not None and not path.endswith('.tar'):
            raise ValueError(f'{os.path.basename(path)!r} is not the name of an archive')
        return path and os.path.join(folder, os.path.basename(path))

    return entry._replace(checkpoint=beside(entry.checkpoint), recent=beside(entry.recent))


def aside(
    entry: Entry, mine: Owner, starts: Dict[int, int], records_aside: Collection[bson.ObjectId]
) -> str:
    """Returns the suffix for an entry of a spool that must not be stored any more; '' for others.

    Args:
        entry: The entry.
        mine: The owner that has claimed the experiment now.
        starts: The result of `Owners.starts`.
        records_aside: The `_id`s of the records that are set aside.
    """
    its = entry.owner
    if its and its.life != mine.life:
        return ELSEWHERE
    if isinstance(entry, ResultsEntry):
        return SUPERSEDED if entry.record_id in records_aside else ''
    number = its.number if its else 0
    return SUPERSEDED if owner.supersedes(starts, number, entry.record['step']) else ''


def is_of_another(entry: Entry, exp_id: str, records_of_others: Collection[bson.ObjectId]) -> bool:
    """Returns whether an entry belongs to another experiment, which shares the spool's folder.

    Args:
        entry: The entry.
        exp_id: The name of this experiment.
        records_of_others: The `_id`s of the records of others, from the entries before.
    """
    if isinstance(entry, ResultsEntry):
        return entry.record_id in records_of_others
    return bool(entry.record['exp_id'] != exp_id)
