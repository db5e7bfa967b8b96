"""A GridFS bucket whose `.files` documents are records, with or without a file."""

import contextlib
import datetime
import hashlib
import os
import time
from typing import IO, BinaryIO, Iterable, List, NamedTuple, Optional, Tuple

import bson
import gridfs
from pymongo import ASCENDING, DESCENDING
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import AutoReconnect, DocumentTooLarge, DuplicateKeyError
from pymongo.write_concern import WriteConcern

from database import connection, private
from database.connection import reason
from database.errors import DamagedError, StoreError
from database.place import CHUNKS, FILES, UNFINISHED, UPLOADS
from database.types import Document

CHUNK_BYTES = 261120  # as in tfutils
CHUNKS_A_WRITE = 32
# Per document: the limit of MongoDB, minus room for the fields of GridFS.
MOST_BYTES = (16 << 20) - 4096
# An acknowledged write survives a kill -9 of the server and, in a replica set, a change of the
# primary.
JOURNALED = WriteConcern(w='majority', j=True)
INDEXED_S = 60.0  # indexes are made again after this time, in case the collection was dropped
SET_ASIDE = ' (set aside)'  # appended to the field collname of a recent checkpoint


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
            name + FILES, write_concern=JOURNALED
        )
        self._chunks: Collection[Document] = database.get_collection(
            name + CHUNKS, write_concern=JOURNALED
        )
        self.unfinished: Collection[Document] = database.get_collection(
            name + UNFINISHED, write_concern=JOURNALED
        )
        # {_id: `_id` of a file that is being written, renewed: when a part of it was written last}
        self._uploads: Collection[Document] = database[name + UPLOADS]
        self._gridfs = gridfs.GridFSBucket(database, name)
        self._indexed: Optional[float] = None  # when the indexes were made, monotonic

    def insert(
        self,
        record: Document,
        stream: Optional[BinaryIO] = None,
        filename: Optional[str] = None,
    ) -> None:
        """Stores a record, optionally with a file. Storing the same `_id` again changes nothing.

        The document is written after the chunks, so that readers never find an incomplete file.

        Args:
            record: The document, with an `_id`. Its field `sha256`, if any, is the checksum that
                the file must have.
            stream: A binary file, read from its beginning, that becomes the GridFS file; or None.
            filename: The name of the GridFS file.

        Raises:
            DamagedError: The file does not have the SHA-256 of the record. Nothing is written.
            DocumentTooLarge: The document is too large. Nothing is written.
            DuplicateKeyError: A unique index that a user has made refuses the document.
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
            written = self._write_chunks(record['_id'], stream, CHUNK_BYTES)
            if record.get('sha256', written.sha256) != written.sha256:
                self._drop(record['_id'])
                raise DamagedError(
                    f'The archive {getattr(stream, "name", filename)} has changed since it was '
                    'written.'
                )
            record = dict(
                record,
                filename=filename,
                length=written.length,
                chunkSize=CHUNK_BYTES,
                md5=written.md5,
                uploadDate=datetime.datetime.now(datetime.timezone.utc),
            )
        try:
            self.files.insert_one(record)
        except DuplicateKeyError:
            # An earlier attempt, whose reply was lost in an outage, may have stored it.
            if not self.holds(record):
                self._drop(record['_id'])
                raise
        if stream is not None:
            self._uploads.delete_one({'_id': record['_id']})

    def check_rights(self) -> None:
        """Checks that this process may write here, and that acknowledged writes are durable.

        Nothing is created.

        Raises:
            PyMongoError: It may not write, an index of another form is in the way, or the server
                has no journal.
        """
        self.files.delete_many({'_id': bson.ObjectId()})
        if self.files.name in self.files.database.list_collection_names(
            filter={'name': self.files.name}
        ):
            self._ensure_indexes()

    def unique_indexes(self) -> List[str]:
        """Returns the names of the unique indexes of the records that a user has made."""
        found = self.files.index_information()
        return sorted(name for name, index in found.items() if index.get('unique'))

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
            _check(document, self._write_chunks(document['_id'], stream, document['chunkSize']))
        with contextlib.suppress(DuplicateKeyError):
            self.files.insert_one(document)
        self._uploads.delete_one({'_id': document['_id']})

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

    def sweep(self, age: datetime.timedelta) -> None:
        """Deletes the chunks of unfinished files of which no part was written for some time.

        The process that wrote such a file died. All times are those of the server's clock. During
        an import, which writes old files, nothing is deleted.

        Args:
            age: How old an upload, and its last part, must be.
        """
        if self.unfinished.count_documents({}, limit=1):
            return
        before = connection.now(self.files.database.client) - age
        begun = bson.ObjectId.from_datetime(before)
        found = self._chunks.distinct('files_id', {'files_id': {'$lt': begun}})
        whole = {file['_id'] for file in self.files.find({'_id': {'$in': found}}, {'_id': 1})}
        alive = {
            upload['_id']
            for upload in self._uploads.find({'_id': {'$in': found}, 'renewed': {'$gte': before}})
        }
        for file_id in found:
            if file_id not in whole | alive:
                self._drop(file_id)

    def _drop(self, file_id: bson.ObjectId) -> None:
        """Deletes what was written of an unfinished file."""
        self._chunks.delete_many({'files_id': file_id})
        self._uploads.delete_one({'_id': file_id})

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
        sums = _Sums()
        try:
            with self._gridfs.open_download_stream(file['_id']) as source:
                for piece in iter(lambda: source.read(1 << 20), b''):
                    sums.add(piece)
                    target.write(piece)
        except gridfs.errors.GridFSError as error:
            raise DamagedError(
                f'Parts of the file {file["filename"]} of record {file["_id"]} are missing from '
                f'the database ({reason(error)}).'
            ) from error
        _check(file, sums.file)

    def _write_chunks(self, file_id: bson.ObjectId, stream: BinaryIO, chunk_bytes: int) -> '_File':
        """Writes the chunks of a stream, replacing those of an interrupted attempt.

        Raises:
            AutoReconnect: Some chunks are missing at the end; all must be written again.
        """
        self._chunks.delete_many({'files_id': file_id})
        stream.seek(0)
        sums, count = _Sums(), 0
        batch: List[Document] = []
        for number, piece in enumerate(iter(lambda: stream.read(chunk_bytes), b'')):
            sums.add(piece)
            batch.append({'files_id': file_id, 'n': number, 'data': piece})
            if len(batch) == CHUNKS_A_WRITE:
                count += self._write_batch(file_id, batch)
                batch = []
        if batch:
            count += self._write_batch(file_id, batch)
        if self._chunks.count_documents({'files_id': file_id}) != count:
            raise AutoReconnect('parts of the file were deleted while it was written')
        return sums.file

    def _write_batch(self, file_id: bson.ObjectId, batch: List[Document]) -> int:
        """Writes chunks, and records that the upload continues; returns their number."""
        self._uploads.update_one({'_id': file_id}, {'$currentDate': {'renewed': True}}, upsert=True)
        self._chunks.insert_many(batch)
        return len(batch)

    def _ensure_indexes(self) -> None:
        """Creates the indexes of GridFS and one that lists the records of an experiment by step."""
        if self._indexed is None or time.monotonic() - self._indexed > INDEXED_S:
            self.files.create_index([('filename', ASCENDING), ('uploadDate', ASCENDING)])
            self.files.create_index(
                [('exp_id', ASCENDING), ('step', ASCENDING), ('_id', ASCENDING)]
            )
            self._chunks.create_index([('files_id', ASCENDING), ('n', ASCENDING)], unique=True)
            self._indexed = time.monotonic()


class _File(NamedTuple):
    """The content of a file.

    Attributes:
        length: The size in bytes.
        md5: The MD5 in hexadecimal.
        sha256: The SHA-256 in hexadecimal.
    """

    length: int
    md5: str
    sha256: str


class _Sums:
    """Computes the _File of pieces of bytes."""

    def __init__(self) -> None:
        self._length, self._md5, self._sha256 = 0, hashlib.md5(), hashlib.sha256()

    def add(self, piece: bytes) -> None:
        self._length += len(piece)
        self._md5.update(piece)
        self._sha256.update(piece)

    @property
    def file(self) -> _File:
        return _File(self._length, self._md5.hexdigest(), self._sha256.hexdigest())


def _check(file: Document, found: _File) -> None:
    """Raises DamagedError if a file is not the one that its document describes."""
    if (
        found.length != file['length']
        or file.get('md5', found.md5) != found.md5
        or file.get('sha256', found.sha256) != found.sha256
    ):
        raise DamagedError(
            f'The file {file["filename"]} of record {file["_id"]} was read as {found.length} bytes '
            f'with md5 {found.md5} and SHA-256 {found.sha256}, but {file["length"]} bytes with md5 '
            f'{file.get("md5")} and SHA-256 {file.get("sha256", "unknown")} were stored. The '
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
                    dict(record, **_saver_fields()),
                    stream,
                    os.path.basename(checkpoint),
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

    def remove(self, identity: bson.ObjectId) -> None:
        """Deletes a record, with its checkpoints."""
        self.main.remove([identity])
        self.recent.remove([identity])

    def set_recent_aside(self) -> int:
        """Hides the recent checkpoints of an experiment that has no records, and counts them.

        They are left by an experiment of the same name whose database was dropped.
        """
        if self.main.files.count_documents({'exp_id': self._exp_id}, limit=1):
            return 0
        return self.recent.files.update_many(
            dict(self._neighbours(), exp_id=self._exp_id),
            {'$set': {'collname': self._collname + SET_ASIDE}},
        ).modified_count

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

    def steps(self) -> List[int]:
        """Returns the steps of the checkpoints of the experiment, sorted."""
        wanted = {'exp_id': self._exp_id, 'saved_filters': True, 'filename': {'$exists': True}}
        own = self.main.files.distinct('step', wanted)
        return sorted(
            {*own, *self.recent.files.distinct('step', dict(wanted, **self._neighbours()))}
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
