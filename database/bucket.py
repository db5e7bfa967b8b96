"""A GridFS bucket whose `.files` documents are records, with or without a file behind them."""

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

from database.errors import DamagedError, StoreError
from database.types import Document

CHUNK_BYTES = 261120  # as tfutils' GridFS wrote
CHUNKS_A_WRITE = 32
MOST_BYTES = (16 << 20) - 4096  # of a document: MongoDB's limit, less room for what GridFS adds
# An acknowledged write survives a kill -9 of the server and, in a replica set, a change of the
# primary.
JOURNALED = WriteConcern(w='majority', j=True)


class Bucket:
    """The collections `<name>.files` and `<name>.chunks` of a database.

    Attributes:
        files: the collection of records; `find` whatever you like in it.
    """

    def __init__(self, database: Database[Document], name: str) -> None:
        """Args: a pymongo database and the bucket's name; nothing is created before the first
        `insert`.
        """
        self.files: Collection[Document] = database.get_collection(
            name + '.files', write_concern=JOURNALED
        )
        self._chunks: Collection[Document] = database.get_collection(
            name + '.chunks', write_concern=JOURNALED
        )
        self._gridfs = gridfs.GridFSBucket(database, name)
        self._indexed = False

    def insert(
        self,
        record: Document,
        stream: Optional[BinaryIO] = None,
        filename: Optional[str] = None,
    ) -> None:
        """Stores a record, with the bytes of a stream as its GridFS file; storing its `_id` again
        changes nothing.

        The document comes after the chunks, so that nobody finds half a file.

        Args:
            record: document with an `_id`.
            stream: binary file, read from its beginning, or None.
            filename: the GridFS file's name.

        Raises:
            pymongo's errors as they come; DocumentTooLarge and bson's InvalidDocument before
            anything is written.
        """
        size = len(bson.encode(record))
        if size > MOST_BYTES:
            raise DocumentTooLarge(f'{size} bytes without its file, and {MOST_BYTES} is the most')
        self._ensure_indexes()
        if self.holds(record):
            return
        if stream is not None:
            length, md5 = self._write_chunks(record['_id'], stream)
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
            pass  # an earlier try, whose answer was lost in an outage

    def holds(self, record: Document) -> bool:
        """Whether the record is stored, by its `_id`."""
        return bool(self.files.count_documents({'_id': record['_id']}, limit=1))

    def remove(self, ids: Iterable[bson.ObjectId]) -> None:
        """Deletes records by `_id`, their files, and the named results of theirs."""
        ids = list(ids) + [
            file['_id'] for file in self.files.find({'item_for': {'$in': list(ids)}}, {'_id': 1})
        ]
        self.files.delete_many({'_id': {'$in': ids}})
        self._chunks.delete_many({'files_id': {'$in': ids}})

    def sweep(self, before: datetime.datetime) -> None:
        """Deletes the chunks of files that were begun before a datetime (UTC) and never finished:
        their writer has died.
        """
        begun = bson.ObjectId.from_datetime(before)
        found = self._chunks.distinct('files_id', {'files_id': {'$lt': begun}})
        whole = {file['_id'] for file in self.files.find({'_id': {'$in': found}}, {'_id': 1})}
        for file_id in found:
            if file_id not in whole:
                self._chunks.delete_many({'files_id': file_id})

    def prune(self, query: Document, keep: int) -> None:
        """Deletes the files that match a query but for the `keep` uploaded last."""
        newest_first = self.files.find(query, {'_id': 1}).sort(
            [('uploadDate', DESCENDING), ('_id', DESCENDING)]
        )
        for file in newest_first.skip(keep):
            self.files.delete_one({'_id': file['_id']})
            self._chunks.delete_many({'files_id': file['_id']})

    def download(self, file: Document, target: IO[bytes]) -> None:
        """Copies a file's bytes to a binary stream and checks them.

        Args:
            file: its document in `files`.
            target: where the bytes go.

        Raises:
            DamagedError: the bytes are not those that were stored.
            gridfs.errors.GridFSError, pymongo's errors: they cannot be read.
        """
        md5, length = hashlib.md5(), 0
        with self._gridfs.open_download_stream(file['_id']) as source:
            for piece in iter(lambda: source.read(1 << 20), b''):
                md5.update(piece)
                length += len(piece)
                target.write(piece)
        if length != file['length'] or file.get('md5', md5.hexdigest()) != md5.hexdigest():
            raise DamagedError(
                f'The file {file["filename"]} of record {file["_id"]} came as {length} bytes with '
                f'md5 {md5.hexdigest()}, but {file["length"]} bytes with md5 {file.get("md5")} '
                'were stored: the database is damaged; take another checkpoint.'
            )

    def _write_chunks(self, file_id: bson.ObjectId, stream: BinaryIO) -> Tuple[int, str]:
        """Writes a stream's chunks in place of whatever an interrupted try left; returns its bytes
        and md5.
        """
        self._chunks.delete_many({'files_id': file_id})
        stream.seek(0)
        md5, length = hashlib.md5(), 0
        batch: List[Document] = []
        for number, piece in enumerate(iter(lambda: stream.read(CHUNK_BYTES), b'')):
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
        """Those of GridFS, and the one by which an experiment's records are found in the order of
        their steps.
        """
        if not self._indexed:
            self.files.create_index([('filename', ASCENDING), ('uploadDate', ASCENDING)])
            self.files.create_index(
                [('exp_id', ASCENDING), ('step', ASCENDING), ('_id', ASCENDING)]
            )
            self._chunks.create_index([('files_id', ASCENDING), ('n', ASCENDING)], unique=True)
            self._indexed = True


class Buckets:
    """Where an experiment's records and checkpoints lie.

    Attributes:
        main: the Bucket of its collection, which lasts.
        recent: the Bucket of its recent checkpoints, each with the fields of its record.
    """

    def __init__(
        self, main: Bucket, recent: Bucket, collname: str, exp_id: str, recent_limit: int
    ) -> None:
        """recent_limit: how many recent checkpoints are kept."""
        self.main, self.recent = main, recent
        self._collname, self._exp_id, self._recent_limit = collname, exp_id, recent_limit

    def write(self, record: Document, checkpoint: Optional[str]) -> None:
        """Writes a record, with its checkpoint, the path of a .tar, where there is one; again
        changes nothing.
        """
        if self.main.holds(record):
            return
        if checkpoint:
            with open(checkpoint, 'rb') as stream:
                self.main.insert(
                    dict(record, **_saver_fields()), stream, os.path.basename(checkpoint)
                )
        else:
            self.main.insert(dict(record, saved_filters=False))

    def write_recent(self, record: Document, path: str) -> None:
        """Writes a .tar among the recent checkpoints, and removes those that are too many; again
        changes nothing.
        """
        if self.recent.holds(record):
            return
        with open(path, 'rb') as stream:
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
        """Of the documents, in both, that match a query, the one of the highest step that was
        uploaded last; None without any.
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
        """The bucket, and the document there, of a record's file. Raises StoreError where it has
        none.
        """
        for bucket in (self.main, self.recent):
            file = bucket.files.find_one({'_id': record['_id'], 'filename': {'$exists': True}})
            if file:
                return bucket, file
        raise StoreError(
            f'Record {record["_id"]} (step {record["step"]}) holds no weights, or holds them no '
            'more: choose another step.'
        )

    def _neighbours(self) -> Document:
        """Tells our recent checkpoints from those of a_b, c, d and a, b_c, d, whose database has
        the same name.
        """
        return {
            'collname': {'$in': [self._collname, None]}
        }  # None: the original did not write the field


def _saver_fields() -> Document:
    """What tfutils notes beside the weights; our Saver is never sharded."""
    return {'saved_filters': True, '_saver_write_version': 2, '_saver_num_data_files': 1}


def _newest(files: Collection[Document], wanted: Document) -> Optional[Document]:
    """Of the documents of the highest step the one uploaded last; two look-ups, so that the index
    serves the first.
    """
    top = files.find_one(wanted, {'step': 1}, sort=[('step', DESCENDING)])
    return top and files.find_one(
        {'$and': [wanted, {'step': top['step']}]}, sort=[('uploadDate', DESCENDING)]
    )
