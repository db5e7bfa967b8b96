"""A GridFS bucket whose `.files` documents are records, with or without a file behind them."""

import datetime
import hashlib

import bson
import gridfs
from pymongo import ASCENDING, DESCENDING
from pymongo.errors import DocumentTooLarge, DuplicateKeyError
from pymongo.write_concern import WriteConcern

from database.errors import DamagedError

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

    def __init__(self, database, name):
        """Args: a pymongo database and the bucket's name; nothing is created before the first
        `insert`.
        """
        self.files = database.get_collection(name + '.files', write_concern=JOURNALED)
        self._chunks = database.get_collection(name + '.chunks', write_concern=JOURNALED)
        self._gridfs = gridfs.GridFSBucket(database, name)
        self._indexed = False

    def insert(self, record, stream=None, filename=None):
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
            raise DocumentTooLarge(
                '%d bytes without its file, and %d is the most' % (size, MOST_BYTES)
            )
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

    def holds(self, record):
        """Whether the record is stored, by its `_id`."""
        return bool(self.files.count_documents({'_id': record['_id']}, limit=1))

    def remove(self, ids):
        """Deletes records by `_id`, their files, and the named results of theirs."""
        ids = list(ids) + [
            file['_id'] for file in self.files.find({'item_for': {'$in': list(ids)}}, {'_id': 1})
        ]
        self.files.delete_many({'_id': {'$in': ids}})
        self._chunks.delete_many({'files_id': {'$in': ids}})

    def sweep(self, before):
        """Deletes the chunks of files that were begun before a datetime (UTC) and never finished:
        their writer has died.
        """
        begun = bson.ObjectId.from_datetime(before)
        found = self._chunks.distinct('files_id', {'files_id': {'$lt': begun}})
        whole = {file['_id'] for file in self.files.find({'_id': {'$in': found}}, {'_id': 1})}
        for file_id in found:
            if file_id not in whole:
                self._chunks.delete_many({'files_id': file_id})

    def prune(self, query, keep):
        """Deletes the files that match a query but for the `keep` uploaded last."""
        newest_first = self.files.find(query, {'_id': 1}).sort(
            [('uploadDate', DESCENDING), ('_id', DESCENDING)]
        )
        for file in newest_first.skip(keep):
            self.files.delete_one({'_id': file['_id']})
            self._chunks.delete_many({'files_id': file['_id']})

    def download(self, file, target):
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
                'The file %s of record %s came as %d bytes with md5 %s, but %d bytes with md5 %s '
                'were '
                'stored: the database is damaged; take another checkpoint.'
                % (
                    file['filename'],
                    file['_id'],
                    length,
                    md5.hexdigest(),
                    file['length'],
                    file.get('md5'),
                )
            )

    def _write_chunks(self, file_id, stream):
        """Writes a stream's chunks in place of whatever an interrupted try left; returns its bytes
        and md5.
        """
        self._chunks.delete_many({'files_id': file_id})
        stream.seek(0)
        md5, length, batch = hashlib.md5(), 0, []
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

    def _ensure_indexes(self):
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
