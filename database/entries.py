"""What a store has to write: a record with its checkpoints, or the bulky results of one.

An entry says what it is, writes itself, and has a form in BSON, in which the spool keeps it.
"""

import io
from typing import Dict, List, NamedTuple, Optional, Tuple, Union

import bson

from database.bucket import Buckets
from database.spool import Spool, damaged
from database.types import Document


class RecordEntry(NamedTuple):
    """A record, its checkpoints, and which records it replaces.

    Attributes:
        record: the document.
        checkpoint: path of the .tar that becomes the record's own file, or None.
        recent: path of the .tar that goes among the recent checkpoints, or None.
        replacing: the `_id`s of the records that are removed once this one is stored.
        remove: whether the files are removed once they are stored, by whoever stores them.
    """

    record: Document
    checkpoint: Optional[str] = None
    recent: Optional[str] = None
    replacing: Tuple[bson.ObjectId, ...] = ()
    remove: bool = False

    @property
    def paths(self) -> List[str]:
        """The files that are stored with it, each once."""
        return sorted({path for path in (self.checkpoint, self.recent) if path})

    def describe(self) -> str:
        """What it is, for messages."""
        files = f' with {" and ".join(self.paths)}' if self.paths else ''
        return f'the record of step {self.record.get("step")}{files}'

    def write(self, buckets: Buckets) -> None:
        """Writes it; again changes nothing. Raises pymongo's and bson's errors, and OSError."""
        buckets.write(self.record, self.checkpoint)
        if self.recent:
            buckets.write_recent(self.record, self.recent)
        if self.replacing:
            buckets.main.remove(self.replacing)

    def to_bson(self) -> Document:
        """As the spool keeps it."""
        paths = {
            name: path
            for name, path in (('checkpoint', self.checkpoint), ('recent', self.recent))
            if path
        }
        return dict(paths, record=self.record, replacing=list(self.replacing), remove=self.remove)


class ResultsEntry(NamedTuple):
    """The bulky results of a record: a GridFS file.

    Attributes:
        document: what its document in `<collection>.files` holds beside the fields of GridFS.
        content: the bytes of the file.
        filename: its name.
    """

    document: Document
    content: bytes
    filename: str

    @property
    def paths(self) -> List[str]:
        """None: it is not in a file yet."""
        return []

    def describe(self) -> str:
        """What it is, for messages."""
        return f'the results {self.filename}'

    def write(self, buckets: Buckets) -> None:
        """Writes it; again changes nothing. Raises pymongo's and bson's errors."""
        buckets.main.insert(self.document, io.BytesIO(self.content), self.filename)

    def to_bson(self) -> Document:
        """As the spool keeps it."""
        return dict(self._asdict())


Entry = Union[RecordEntry, ResultsEntry]


def of(document: Document) -> Entry:
    """The entry that `to_bson` made a document of. Raises KeyError, TypeError or ValueError for
    another one.
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
    """{path: entry} of what a spool keeps, in its order. Raises StoreError for one that is
    damaged.
    """
    found = {}
    for path, document in spool.entries():
        try:
            found[path] = of(document)
        except (KeyError, TypeError, ValueError) as error:
            raise damaged(path, error) from error
    return found
