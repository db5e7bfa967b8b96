"""The store of one experiment: writes records and checkpoints in the background and reads them."""

import contextlib
import copy
import datetime
import os
import pickle
import tempfile
from typing import Callable, Iterator, List, Mapping, Optional, Sequence, Tuple

import bson
import gridfs
from pymongo import DESCENDING
from pymongo.errors import ConnectionFailure, OperationFailure, PyMongoError

from database import connection, entries, private, records, unfinished
from database.archive import unpack
from database.bucket import Bucket, Buckets
from database.claim import Claim, End, held
from database.entries import Entry, RecordEntry, ResultsEntry
from database.errors import StoreError
from database.place import Place
from database.spool import Spool
from database.types import Document
from database.writer import Writer

# A server returns these codes while it starts or shuts down, if it is not the primary, or if its
# disk is full. A BulkWriteError contains them in its details.
OUTAGE_CODES = {6, 7, 64, 89, 91, 189, 9001, 10107, 11600, 11602, 13435, 13436, 14031}
# A chunk of an earlier attempt, which the server was still writing when we deleted its chunks.
DUPLICATE_CHUNK = 11000
DIED = datetime.timedelta(days=1)  # age at which an unfinished upload is considered dead
RECENT_CHECKPOINTS = 6  # how many of them an experiment keeps
MOST_NAMED = 5  # how many lost records a message names


class Store:
    """The records of one experiment in the collection `<collname>.files`, and its checkpoints.

    Saving only queues: a background thread writes in order and retries after an outage. Reading
    returns only what is already written; call `flush` first to see everything. The constructor
    connects and queues the entries that an earlier store left in the spool. Without such entries
    and unless `exclusive` is set, opening a store writes nothing.

    Args:
        host: Name or address of the MongoDB server.
        port: TCP port of the server.
        dbname: Name of the database.
        collname: Name of the collection (the GridFS bucket).
        exp_id: Name of the experiment.
        recent_limit: How many recent checkpoints of the experiment are kept.
        spool: Folder that keeps waiting entries during an outage, or None to keep nothing.
        exclusive: Whether to claim the experiment, so that no other exclusive store of it can be
            open. This also removes unfinished uploads that are more than a day old.

    Attributes:
        place: The place of the experiment.
        exp_id: Name of the experiment.
        replayed: How many entries of the spool were queued at the start.

    Raises:
        StoreError: MongoDB does not answer within 3 s or refuses access, the spool is damaged,
            another process has claimed the experiment, or its import or deletion is not finished.
        RecordError: A name is illegal.
    """

    def __init__(
        self,
        host: str,
        port: int,
        dbname: str,
        collname: str,
        exp_id: str,
        recent_limit: int = RECENT_CHECKPOINTS,
        spool: Optional[str] = None,
        exclusive: bool = False,
    ) -> None:
        records.check_names(dbname, collname, exp_id)
        if recent_limit < 1:
            raise StoreError(
                f'recent_limit is {recent_limit}, but at least 1 recent checkpoint must be kept.'
            )
        self.place = Place(host, port, dbname, collname, exp_id)
        self.exp_id = exp_id
        self._client = connection.connect(host, port)
        recent = records.recent_database(dbname, collname, exp_id)
        self._buckets = Buckets(
            Bucket(self._client[dbname], collname),
            Bucket(self._client[recent], 'fs'),
            collname,
            exp_id,
            recent_limit,
        )
        self._claims = self._client[dbname][collname + '.claims']
        self._claim: Optional[Claim] = None
        self._spool = Spool(spool) if spool else None
        try:
            with self._reading():
                connection.check_case(self._client, self.place.server, (dbname, recent))
            if exclusive:
                with self._reading():
                    self._claim = Claim(self._claims, exp_id)
                    for bucket in (self._buckets.main, self._buckets.recent):
                        bucket.sweep(datetime.datetime.now(datetime.timezone.utc) - DIED)
            with self._reading():
                unfinished.check(self._buckets.main.unfinished, self.place)
            left = entries.kept(self._spool) if self._spool else {}
        except StoreError:
            self._disconnect()
            raise
        self._closed = False
        self._writer = Writer(_is_outage, connection.reason, self._spool)
        for path, entry in left.items():
            removes = isinstance(entry, RecordEntry) and entry.remove
            self._add(entry, _remove if removes else _leave, path)
        self.replayed = len(left)

    def save(
        self,
        record: Document,
        checkpoint: Optional[str] = None,
        recent: Optional[str] = None,
        on_written: Optional[Callable[[str], object]] = None,
        replacing: Sequence[bson.ObjectId] = (),
    ) -> bson.ObjectId:
        """Queues a record and returns at once. Saving the same `_id` again changes nothing.

        Args:
            record: The document, from `records.build`. It is copied.
            checkpoint: Path of an archive to store as the GridFS file of the record, or None.
            recent: Path of an archive to store as a recent checkpoint, with the fields of the
                record, or None.
            on_written: Called in the thread of the writer with the path of each archive once it is
                safely stored. The archive must not be moved before.
            replacing: The `_id`s of older records of the experiment to remove once this one is
                stored.

        Returns:
            The `_id` of the record.

        Raises:
            StoreError: The record belongs to another experiment, or the store is closed.
        """
        if record['exp_id'] != self.exp_id:
            raise StoreError(
                f'The record of step {record["step"]} belongs to experiment '
                f'{record["exp_id"]!r}, not to {self.exp_id!r}. Use the store of its experiment.'
            )
        identity = record.get('_id') or bson.ObjectId()
        self._add(
            RecordEntry(
                dict(copy.deepcopy(record), _id=identity),
                os.path.abspath(checkpoint) if checkpoint else None,
                os.path.abspath(recent) if recent else None,
                tuple(replacing),
                remove=on_written is not None,
            ),
            on_written or _leave,
        )
        return identity

    def save_named_results(
        self,
        record_id: bson.ObjectId,
        train_results: Optional[Mapping[str, object]] = None,
        validation_results: Optional[Mapping[str, object]] = None,
    ) -> None:
        """Queues the bulky results of a record as one GridFS file, like --save_to_gfs of tfutils.

        The file `<record id>_fileitems` is a pickle (protocol 2) of plain data:
        {'train_results': {name: [one value per step]}, 'validation_results': {target: {name:
        value}}}, without empty parts. Its field `item_for` is the `_id` of the record.

        Args:
            record_id: The `_id` of the record.
            train_results: {name: [one value per step]}; values are numbers, arrays, text, lists or
                dictionaries.
            validation_results: {target: {name: value}}, with values of the same kinds.

        Raises:
            RecordError: A result cannot be stored.
            StoreError: The store is closed.
        """
        given = dict(train_results=train_results, validation_results=validation_results)
        results = {kind: records.plain(values, kind) for kind, values in given.items() if values}
        self._add(
            ResultsEntry(
                {'_id': bson.ObjectId(), 'item_for': record_id},
                pickle.dumps(results, protocol=2),
                f'{record_id}_fileitems',
            ),
            _leave,
        )

    def _add(
        self, entry: Entry, on_written: Callable[[str], object], kept: Optional[str] = None
    ) -> None:
        """Queues an entry; `kept` is the path of the spool file it was loaded from, if any."""

        def done() -> None:
            for path in entry.paths:
                on_written(path)

        self._writer.add(
            entry.describe(), lambda: entry.write(self._buckets), done, entry.to_bson(), kept
        )

    @property
    def pending(self) -> int:
        """The number of records and named results that are not written yet."""
        return len(self._writer.pending)

    @property
    def failure(self) -> Optional[str]:
        """A message about the current outage, which keeps records from being written, or None."""
        trouble = self._writer.trouble
        if trouble is None:
            return None
        where = f' in {self._spool.folder}' if self._spool else ''
        return (
            f'MongoDB at {self.place.server} cannot store records at the moment ({trouble}). '
            f'The number of records waiting{where} is {self.pending}; they are retried '
            'automatically.'
        )

    @property
    def errors(self) -> List[str]:
        """One message for each record that can never be written, with the reason."""
        return list(self._writer.errors)

    def flush(self, timeout_s: Optional[float] = None) -> bool:
        """Waits until everything is written.

        Args:
            timeout_s: How many seconds to wait at most, or None to wait without a limit.

        Returns:
            Whether everything is written and no record has failed for good.
        """
        return self._writer.flush(timeout_s)

    def close(self, timeout_s: float = 60) -> None:
        """Writes what is queued and disconnects. A second call does nothing.

        Args:
            timeout_s: How many seconds to wait at most for the queue.

        Raises:
            StoreError: Something was not written. The message says what, and where it is kept.
        """
        if self._closed:
            return
        self._closed = True
        self._writer.close(timeout_s)
        self._disconnect()
        lost = self._writer.pending
        if lost:
            trouble = self._writer.trouble or 'it did not answer in time'
            more = f' and {len(lost) - MOST_NAMED} more' if len(lost) > MOST_NAMED else ''
            where = (
                f'They are kept in {self._spool.folder}; run the same command again to write them'
                if self._spool
                else 'Their files stay in place'
            )
            raise StoreError(
                f'MongoDB at {self.place.server} ({trouble}) did not store '
                f'{", ".join(lost[:MOST_NAMED])}{more}. {where}.'
            )
        if self.errors:
            raise StoreError(
                f'Not everything was written to MongoDB at {self.place.server}. '
                + ' '.join(self.errors[:MOST_NAMED])
            )

    def _disconnect(self) -> None:
        if self._claim:
            self._claim.release()
        self._client.close()

    def is_claimed(self) -> bool:
        """Returns whether a process has claimed the experiment now.

        Raises:
            StoreError: The database cannot be read.
        """
        with self._reading():
            return self.exp_id in held(self._claims)

    def describe(self, **fields: object) -> None:
        """Stores a description of the current training in the claim, as plain data by name.

        It does nothing if the store is not exclusive.

        Args:
            **fields: The fields to store.

        Raises:
            StoreError: MongoDB does not answer.
        """
        if self._claim:
            with self._reading():
                self._claim.describe(**fields)

    def begin(self) -> None:
        """Notes in the claim that the training runs; how an earlier process ended is forgotten.

        It does nothing if the store is not exclusive.

        Raises:
            StoreError: MongoDB does not answer.
        """
        if self._claim:
            with self._reading():
                self._claim.begin()

    def end(self, end: End) -> None:
        """Notes in the claim how the training ends before its last step.

        If MongoDB does not answer, this is not recorded. It does nothing if the store is not
        exclusive.
        """
        if self._claim:
            with contextlib.suppress(PyMongoError):
                self._claim.end(end)

    @property
    def taken(self) -> Optional[str]:
        """A message if another process has taken over the experiment, or None."""
        return self._claim.taken if self._claim else None

    def find_checkpoint(
        self,
        step: Optional[int] = None,
        query: Optional[Document] = None,
        without: Sequence[bson.ObjectId] = (),
    ) -> Optional[Document]:
        """Finds the newest record with weights, including recent checkpoints.

        Args:
            step: The step of the record, or None for the highest step.
            query: A further condition as a MongoDB query. Its `exp_id` replaces that of the store.
            without: The `_id`s of records to ignore.

        Returns:
            The document, which can be passed to `download`, or None if there is no match.

        Raises:
            StoreError: The database cannot be read, or refuses the query.
        """
        wanted: Document = dict({'exp_id': self.exp_id}, **query or {})
        wanted.update(
            {'saved_filters': True, 'filename': {'$exists': True}},
            **({} if step is None else {'step': step}),
        )
        if without:
            wanted = {'$and': [wanted, {'_id': {'$nin': list(without)}}]}
        with self._reading():
            return self._buckets.newest(wanted)

    def count(self) -> int:
        """Returns the number of records of the experiment.

        Raises:
            StoreError: The database cannot be read.
        """
        with self._reading():
            return self._buckets.main.files.count_documents({'exp_id': self.exp_id})

    def latest_step(self) -> Optional[int]:
        """Returns the highest step of the records of the experiment, or None without records.

        Raises:
            StoreError: The database cannot be read.
        """
        with self._reading():
            record = self._buckets.main.files.find_one(
                {'exp_id': self.exp_id}, {'step': 1}, sort=[('step', DESCENDING)]
            )
        return record['step'] if record else None

    def after(self, step: int) -> List[Tuple[int, bson.ObjectId]]:
        """Returns [(step, `_id`)] of the records of the experiment after a step, sorted by step.

        Raises:
            StoreError: The database cannot be read.
        """
        with self._reading():
            found = self._buckets.main.files.find(
                {'exp_id': self.exp_id, 'step': {'$gt': step}}, {'step': 1}
            ).sort([('step', 1)])
            return [(record['step'], record['_id']) for record in found]

    def records(self, query: Optional[Document] = None) -> Iterator[Document]:
        """Iterates over the records of the experiment, sorted by step, then by `_id`.

        Args:
            query: A MongoDB query that the records must match, or None for all.

        Yields:
            The documents.

        Raises:
            StoreError: The database cannot be read, or refuses the query.
        """
        with self._reading():
            yield from self._buckets.main.files.find(
                {'$and': [{'exp_id': self.exp_id}, query or {}]}
            ).sort([('step', 1), ('_id', 1)])

    def download(self, record: Document, folder: str) -> str:
        """Downloads the checkpoint of a record, checks it and unpacks it.

        Existing files of the same name are replaced.

        Args:
            record: A document from `find_checkpoint` or `records`.
            folder: The folder for the files. It is created if it is missing.

        Returns:
            The path of the checkpoint, without `.index`.

        Raises:
            StoreError: The checkpoint has been removed from MongoDB, or cannot be written.
            DamagedError: The checkpoint is damaged, or the file is not a checkpoint.
        """
        try:
            private.make_folders(folder)
            with tempfile.NamedTemporaryFile(
                prefix='.download-', suffix='.tar', dir=folder
            ) as archive:
                with self._reading():
                    bucket, file = self._buckets.file_of(record)
                    bucket.download(file, archive)
                archive.flush()
                return unpack(archive.name, folder)
        except OSError as error:
            raise StoreError(
                f'The checkpoint of step {record["step"]} cannot be written to {folder}: {error}.'
            ) from error

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (PyMongoError, gridfs.errors.GridFSError) as error:
            raise StoreError(
                f'MongoDB at {self.place.server} could not be read ({connection.reason(error)}). '
                'Check that it is running and that you have access to it.'
            ) from error


def _leave(path: str) -> None:
    """Does nothing: the local file stays in place."""


def _remove(path: str) -> None:
    """Removes a local file, if it exists."""
    with contextlib.suppress(FileNotFoundError):
        os.remove(path)


def _is_outage(error: Exception) -> bool:
    """Returns whether the server caused the error, so that the same write may succeed later."""
    if isinstance(error, ConnectionFailure):
        return True
    if not isinstance(error, OperationFailure):
        return False
    details = error.details or {}
    parts = details.get('writeErrors', []) + details.get('writeConcernErrors', [])
    codes = {error.code} | {part.get('code') for part in parts}
    return bool(codes & (OUTAGE_CODES | {DUPLICATE_CHUNK}))
