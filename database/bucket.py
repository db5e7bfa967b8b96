"""A GridFS bucket whose `.files` documents are records, with or without a file."""

import contextlib
import datetime
import hashlib
import os
from typing import IO, BinaryIO, Iterable, List, Optional, Tuple

import bson
import gridfs
from pymongo import ASCENDING, DESCENDING
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import DocumentTooLarge, DuplicateKeyError
from pymongo.write_concern import WriteConcern

from database import private
from database.connection import reason
from database.errors import DamagedError, StoreError
from database.types import Document

CHUNK_BYTES = 261120  # as in tfutils
CHUNKS_A_WRITE = 32
# Per document: the limit of MongoDB, minus room for the fields of GridFS.
MOST_BYTES = (16 << 20) - 4096
# An acknowledged write survives a kill -9 of the server and, in a replica set, a change of the
# primary.
JOURNALED = WriteConcern(w='majority', j=True)


class Bucket:
    """The collections `<name>.files` and `<name>.chunks` of a database.

    Nothing is created before the first `insert`.

    Args:
        database: The pymongo database.
        name: The name of the bucket.

    Attributes:
        files: The collection of records, for any query.
        unfinished: The collection of the experiments whose import or deletion is not finished; see
            database/unfinished.py.
    """

    def __init__(self, database: Database[Document], name: str) -> None:
        self.files: Collection[Document] = database.get_collection(
            name + '.files', write_concern=JOURNALED
        )
        self._chunks: Collection[Document] = database.get_collection(
            name + '.chunks', write_concern=JOURNALED
        )
        self.unfinished: Collection[Document] = database.get_collection(
            name + '.unfinished', write_concern=JOURNALED
        )
        self._gridfs = gridfs.GridFSBucket(database, name)
        self._indexed = False

    def insert(
        self,
        record: Document,
        stream: Optional[BinaryIO] = None,
        filename: Optional[str] = None,
    ) -> None:
        """Stores a record, optionally with a file. Storing the same `_id` again changes nothing.

        The document is written after the chunks, so that readers never find an incomplete file.

        Args:
            record: The document, with an `_id`.
            stream: A binary file, read from its beginning, that becomes the GridFS file; or None.
            filename: The name of the GridFS file.

        Raises:
            DocumentTooLarge: The document is too large. Nothing is written.
            bson.errors.InvalidDocument: The document cannot be encoded. Nothing is written.
            PyMongoError: MongoDB does not store it.
        """
        size = len(bson.encode(record))
        if size > MOST_BYTES:
            raise DocumentTooLarge(
                f'{size} bytes without its file; at most {MOST_BYTES} are allowed'
            )
        self._ensure_indexes()
        if self.holds(record):
            return
        if stream is not None:
            length, md5 = self._write_chunks(record['_id'], stream, CHUNK_BYTES)
            record = dict(
                record,
                filename=filename,
                length=length,
                chunkSize=CHUNK_BYTES,
                md5=md5,
                uploadDate=datetime.datetime.now(datetime.timezone.utc),
            )
        try:
            self.files.insert_one(record)
        except DuplicateKeyError:
            pass  # stored by an earlier attempt whose reply was lost in an outage

    def restore(self, document: Document, stream: Optional[BinaryIO] = None) -> None:
        """Stores a document of `files` of any bucket as it is, and the bytes of its file.

        An existing document with the same `_id` is kept.

        Args:
            document: The document, with the fields of GridFS if it has a file.
            stream: The file, read from its beginning; None if it has none.

        Raises:
            DamagedError: The file is not the one that the document describes.
            PyMongoError: MongoDB does not store it.
        """
        self._ensure_indexes()
        if stream is not None:
            length, md5 = self._write_chunks(document['_id'], stream, document['chunkSize'])
            _check(document, length, md5)
        with contextlib.suppress(DuplicateKeyError):
            self.files.insert_one(document)

    def holds(self, record: Document) -> bool:
        """Returns whether a record with this `_id` is stored."""
        return bool(self.files.count_documents({'_id': record['_id']}, limit=1))

    def is_empty(self) -> bool:
        """Returns whether it has neither documents nor parts of files."""
        return self.files.find_one({}, {'_id': 1}) is self._chunks.find_one({}, {'_id': 1}) is None

    def remove(self, ids: Iterable[bson.ObjectId]) -> None:
        """Deletes records by `_id`, together with their files and named results."""
        ids = list(ids) + [
            file['_id'] for file in self.files.find({'item_for': {'$in': list(ids)}}, {'_id': 1})
        ]
        self.files.delete_many({'_id': {'$in': ids}})
        self._chunks.delete_many({'files_id': {'$in': ids}})

    def drop_chunks(self, ids: Iterable[bson.ObjectId]) -> None:
        """Deletes the bytes of files by `_id`. Their documents stay."""
        self._chunks.delete_many({'files_id': {'$in': list(ids)}})

    def sweep(self, before: datetime.datetime) -> None:
        """Deletes the chunks of unfinished files that were started before a datetime (UTC).

        A file that old is unfinished because the process that wrote it died. During an import,
        which writes old files, nothing is deleted.
        """
        if self.unfinished.count_documents({}, limit=1):
            return
        begun = bson.ObjectId.from_datetime(before)
        found = self._chunks.distinct('files_id', {'files_id': {'$lt': begun}})
        whole = {file['_id'] for file in self.files.find({'_id': {'$in': found}}, {'_id': 1})}
        for file_id in found:
            if file_id not in whole:
                self._chunks.delete_many({'files_id': file_id})

    def prune(self, query: Document, keep: int) -> None:
        """Deletes the files that match a query, except the `keep` newest uploads."""
        newest_first = self.files.find(query, {'_id': 1}).sort(
            [('uploadDate', DESCENDING), ('_id', DESCENDING)]
        )
        for file in newest_first.skip(keep):
            self.files.delete_one({'_id': file['_id']})
            self._chunks.delete_many({'files_id': file['_id']})

    def download(self, file: Document, target: IO[bytes]) -> None:
        """Copies the bytes of a file to a binary stream and checks them.

        Args:
            file: The document of the file in `files`.
            target: The binary stream to write to.

        Raises:
            DamagedError: The bytes differ from those that were stored, or parts of the file are
                missing.
            PyMongoError: MongoDB cannot be read.
        """
        md5, length = hashlib.md5(), 0
        try:
            with self._gridfs.open_download_stream(file['_id']) as source:
                for piece in iter(lambda: source.read(1 << 20), b''):
                    md5.update(piece)
                    length += len(piece)
                    target.write(piece)
        except gridfs.errors.GridFSError as error:
            raise DamagedError(
                f'Parts of the file {file["filename"]} of record {file["_id"]} are missing from '
                f'the database ({reason(error)}).'
            ) from error
        _check(file, length, md5.hexdigest())

    def _write_chunks(
        self, file_id: bson.ObjectId, stream: BinaryIO, chunk_bytes: int
    ) -> Tuple[int, str]:
        """Writes the chunks of a stream, replacing those of an interrupted attempt.

        Returns:
            (size in bytes, md5 in hexadecimal) of the stream.
        """
        self._chunks.delete_many({'files_id': file_id})
        stream.seek(0)
        md5, length = hashlib.md5(), 0
        batch: List[Document] = []
        for number, piece in enumerate(iter(lambda: stream.read(chunk_bytes), b'')):
            md5.update(piece)
            length += len(piece)
            batch.append({'files_id': file_id, 'n': number, 'data': piece})
            if len(batch) == CHUNKS_A_WRITE:
                self._chunks.insert_many(batch)
                batch = []
        if batch:
            self._chunks.insert_many(batch)
        return length, md5.hexdigest()

    def _ensure_indexes(self) -> None:
        """Creates the indexes of GridFS and one that lists the records of an experiment by step."""
        if not self._indexed:
            self.files.create_index([('filename', ASCENDING), ('uploadDate', ASCENDING)])
            self.files.create_index(
                [('exp_id', ASCENDING), ('step', ASCENDING), ('_id', ASCENDING)]
            )
            self._chunks.create_index([('files_id', ASCENDING), ('n', ASCENDING)], unique=True)
            self._indexed = True


def _check(file: Document, length: int, md5: str) -> None:
    """Raises DamagedError if a file is not the one that its document describes."""
    if length != file['length'] or file.get('md5', md5) != md5:
        raise DamagedError(
            f'The file {file["filename"]} of record {file["_id"]} was read as {length} bytes with '
            f'md5 {md5}, but {file["length"]} bytes with md5 {file.get("md5")} were stored. The '
            'database is damaged; use another checkpoint.'
        )


class Buckets:
    """The two buckets that hold the records and checkpoints of an experiment.

    Args:
        main: The bucket of its collection.
        recent: The bucket of its recent checkpoints.
        collname: Name of its collection.
        exp_id: Name of the experiment.
        recent_limit: How many recent checkpoints are kept.

    Attributes:
        main: The bucket of its collection, which is kept.
        recent: The bucket of its recent checkpoints, each with the fields of its record.
    """

    def __init__(
        self, main: Bucket, recent: Bucket, collname: str, exp_id: str, recent_limit: int
    ) -> None:
        self.main, self.recent = main, recent
        self._collname, self._exp_id, self._recent_limit = collname, exp_id, recent_limit

    def write(self, record: Document, checkpoint: Optional[str]) -> None:
        """Writes a record. Writing it again changes nothing.

        Args:
            record: The document.
            checkpoint: Path of the archive to store with it, or None.
        """
        if self.main.holds(record):
            return
        if checkpoint:
            with private.opened(checkpoint) as stream:
                self.main.insert(
                    dict(record, **_saver_fields()), stream, os.path.basename(checkpoint)
                )
        else:
            self.main.insert(dict(record, saved_filters=False))

    def write_recent(self, record: Document, path: str) -> None:
        """Writes a recent checkpoint and removes the oldest ones beyond the limit.

        Writing it again changes nothing.

        Args:
            record: The document of its record.
            path: Path of the archive.
        """
        if self.recent.holds(record):
            return
        with private.opened(path) as stream:
            self.recent.insert(
                dict(record, collname=self._collname, **_saver_fields()),
                stream,
                os.path.basename(path),
            )
        self.recent.prune(
            dict(self._neighbours(), exp_id=self._exp_id, _id={'$ne': record['_id']}),
            self._recent_limit - 1,
        )

    def newest(self, wanted: Document) -> Optional[Document]:
        """Returns the document in either bucket that matches a query and has the highest step.

        If several have that step, it is the one uploaded last. Returns None if there is no match.
        """
        found = [
            _newest(self.main.files, wanted),
            _newest(self.recent.files, dict(wanted, **self._neighbours())),
        ]
        return max(
            (record for record in found if record),
            key=lambda record: (record['step'], record['uploadDate']),
            default=None,
        )

    def file_of(self, record: Document) -> Tuple[Bucket, Document]:
        """Returns the bucket of the file of a record, and the document of the file there.

        Raises:
            StoreError: The record has no file.
        """
        for bucket in (self.main, self.recent):
            file = bucket.files.find_one({'_id': record['_id'], 'filename': {'$exists': True}})
            if file:
                return bucket, file
        raise StoreError(
            f'Record {record["_id"]} (step {record["step"]}) has no weights, or they have been '
            'removed. Choose another step.'
        )

    def _neighbours(self) -> Document:
        """Returns the condition that excludes recent checkpoints of another collection.

        The databases of (a_b, c, d) and (a, b_c, d) have the same name.
        """
        # None matches records of the original, which do not have the field.
        return {'collname': {'$in': [self._collname, None]}}


def _saver_fields() -> Document:
    """Returns the fields that tfutils stores with weights. Our Saver is never sharded."""
    return {'saved_filters': True, '_saver_write_version': 2, '_saver_num_data_files': 1}


def _newest(files: Collection[Document], wanted: Document) -> Optional[Document]:
    """Returns the last uploaded document of the highest step, or a false value if there is none.

    It makes two queries so that the first one can use the index.
    """
    top = files.find_one(wanted, {'step': 1}, sort=[('step', DESCENDING)])
    return top and files.find_one(
        {'$and': [wanted, {'step': top['step']}]}, sort=[('uploadDate', DESCENDING)]
    )
