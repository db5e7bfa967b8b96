"""The entries that a store writes: a record with its checkpoints, or the bulky results of a record.

An entry describes itself, writes itself, and converts itself to the BSON document that the spool
keeps.
"""

import io
import os
from typing import Dict, List, NamedTuple, Optional, Tuple, Union

import bson

from database.bucket import Buckets
from database.spool import Spool, damaged
from database.types import Document


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
    def paths(self) -> List[str]:
        """The paths of the files that are stored with the record, without duplicates."""
        return sorted({path for path in (self.checkpoint, self.recent) if path})

    def describe(self) -> str:
        """Returns a description of the entry for messages."""
        files = f' with {" and ".join(self.paths)}' if self.paths else ''
        return f'the record of step {self.record.get("step")}{files}'

    def write(self, buckets: Buckets) -> None:
        """Writes the record and its files. Writing it again changes nothing.

        Raises:
            PyMongoError: MongoDB does not store it.
            BSONError: The record cannot be encoded.
            OSError: A file cannot be read.
        """
        buckets.write(self.record, self.checkpoint)
        if self.recent:
            buckets.write_recent(self.record, self.recent)
        if self.replacing:
            buckets.main.remove(self.replacing)

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
    def paths(self) -> List[str]:
        """An empty list, because the results are not in a local file."""
        return []

    def describe(self) -> str:
        """Returns a description of the entry for messages."""
        return f'the results {self.filename}'

    def write(self, buckets: Buckets) -> None:
        """Writes the results. Writing them again changes nothing.

        Raises:
            PyMongoError: MongoDB does not store them.
            BSONError: The document cannot be encoded.
        """
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


def kept(spool: Spool) -> Dict[str, Entry]:
    """Returns {path: entry} of the entries in a spool, in their order.

    Archives lie beside the spool: of their paths, only the names count. The folder may have been
    moved, and an entry that others wrote must not name other files of this user, which would be
    uploaded and then removed.

    Raises:
        StoreError: An entry is damaged.
    """
    found = {}
    for path, document in spool.entries():
        try:
            found[path] = _beside(spool, of(document))
        except (KeyError, TypeError, ValueError) as error:
            raise damaged(path, error) from error
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
