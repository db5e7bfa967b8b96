"""One experiment's place in MongoDB: records and checkpoints, written in the background, read back
whole.
"""

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

from database import connection, entries, records
from database.archive import unpack
from database.bucket import Bucket, Buckets
from database.claim import Claim, held
from database.entries import Entry, RecordEntry, ResultsEntry
from database.errors import DamagedError, StoreError
from database.place import Place
from database.spool import Spool
from database.types import Document
from database.writer import Writer

# A server that shuts down, starts, is no primary or has no room answers with these; BulkWriteError
# keeps them in its details.
OUTAGE_CODES = {6, 7, 64, 89, 91, 189, 9001, 10107, 11600, 11602, 13435, 13436, 14031}
DUPLICATE_CHUNK = (
    11000  # of an earlier try that the server had not finished when we cleared its chunks
)
DIED = datetime.timedelta(days=1)  # after which an upload that has not ended will not end
MOST_NAMED = 5  # lost records that one sentence names


class Store:
    """The records of one experiment in collection `<collname>.files` of a database, and its recent
    checkpoints.

    Saving only queues: a background thread writes, in order, and repeats what an outage stops.
    Reading sees what is written; call `flush` first to see all. Opening a store writes nothing.
    """

    def __init__(
        self,
        host: str,
        port: int,
        dbname: str,
        collname: str,
        exp_id: str,
        recent_limit: int = 6,
        spool: Optional[str] = None,
        exclusive: bool = False,
    ) -> None:
        """Connects, and queues what an earlier store left in the spool.

        Args:
            host, port: the MongoDB server.
            dbname, collname, exp_id: database, collection (GridFS bucket) and experiment.
            recent_limit: how many recent checkpoints of the experiment are kept.
            spool: folder that keeps, during an outage, what waits; None keeps nothing.
            exclusive: whether no other exclusive store of the experiment may be open; it also
                removes what uploads have left that died more than a day ago.

        Raises:
            StoreError: MongoDB does not answer within 3 s, or refuses us, or the spool is damaged,
                or another process is at the experiment; RecordError: a name is illegal.
        """
        records.check_names(dbname, collname, exp_id)
        if recent_limit < 1:
            raise StoreError(
                f'recent_limit is {recent_limit}: at least 1 recent checkpoint must be kept.'
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
            self._check_databases(dbname, recent)
            if exclusive:
                with self._reading():
                    self._claim = Claim(self._claims, exp_id)
                    for bucket in (self._buckets.main, self._buckets.recent):
                        bucket.sweep(datetime.datetime.now(datetime.timezone.utc) - DIED)
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
        """Queues a record and returns at once; saving the same `_id` again changes nothing.

        Args:
            record: document of `records.build`; it is copied.
            checkpoint: path of a .tar to store as the record's own GridFS file, or None.
            recent: path of a .tar to store, with the record's fields, among the recent checkpoints,
            or None.
            on_written: called with the path of each .tar from the writer's thread, once it is
                safely stored. Until then the file must stay where it is.
            replacing: `_id`s of older records of the experiment that are removed once this one is
            stored.

        Returns:
            The record's `_id`.

        Raises:
            StoreError: the record is another experiment's, or the store is closed.
        """
        if record['exp_id'] != self.exp_id:
            raise StoreError(
                f'The record of step {record["step"]} belongs to experiment '
                f'{record["exp_id"]!r}, not to {self.exp_id!r}: save it in a store of its own.'
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
        """Queues a record's bulky results, as tfutils' --save_to_gfs: one GridFS file `<record
        id>_fileitems`.

        The file is a pickle (protocol 2) of {'train_results': {name: [a value a step]},
        'validation_results': {target: {name: value}}}, in plain data, without what is empty; its
        field `item_for` is the record's `_id`.

        Args:
            record_id: `_id` of the record they belong to.
            train_results, validation_results: dictionaries as above of numbers, arrays, text, lists
            or dictionaries.

        Raises:
            RecordError: a result cannot be stored. StoreError: the store is closed.
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
        """Queues an entry. kept: where the spool keeps it already."""

        def done() -> None:
            for path in entry.paths:
                on_written(path)

        self._writer.add(
            entry.describe(), lambda: entry.write(self._buckets), done, entry.to_bson(), kept
        )

    @property
    def pending(self) -> int:
        """How many records and named results are not written yet."""
        return len(self._writer.pending)

    @property
    def failure(self) -> Optional[str]:
        """One sentence on the trouble that keeps records from being written right now, or None."""
        trouble = self._writer.trouble
        if trouble is None:
            return None
        where = f' in {self._spool.folder}' if self._spool else ''
        return (
            f'MongoDB at {self.place.server} takes no records ({trouble}): {self.pending} '
            f'wait{where} and are tried again.'
        )

    @property
    def errors(self) -> List[str]:
        """One sentence for each record that can never be written, and why."""
        return list(self._writer.errors)

    def flush(self, timeout_s: Optional[float] = None) -> bool:
        """Waits until everything is written, `timeout_s` seconds at most (None: as long as it
        takes).

        Returns:
            Whether everything was.
        """
        return self._writer.flush(timeout_s)

    def close(self, timeout_s: float = 60) -> None:
        """Writes what is queued, `timeout_s` seconds at most, and disconnects; a second call does
        nothing.

        Raises:
            StoreError: something was not written; the message says what, and where its files lie.
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
                f'they lie in {self._spool.folder}, and the same command, started again, writes '
                'them'
                if self._spool
                else 'the files stay where they are'
            )
            raise StoreError(
                f'MongoDB at {self.place.server} ({trouble}) did not take '
                f'{", ".join(lost[:MOST_NAMED])}{more}: {where}.'
            )
        if self.errors:
            raise StoreError(
                f'Not everything was written to MongoDB at {self.place.server}: '
                + ' '.join(self.errors[:MOST_NAMED])
            )

    def _disconnect(self) -> None:
        if self._claim:
            self._claim.release()
        self._client.close()

    def is_claimed(self) -> bool:
        """Whether a process trains the experiment at the moment. Raises StoreError as `count`."""
        with self._reading():
            return self.exp_id in held(self._claims)

    def describe(self, **fields: object) -> None:
        """Notes in the claim of an exclusive store what is done with the experiment, plain data by
        name.

        Raises:
            StoreError: MongoDB does not answer.
        """
        if self._claim:
            with self._reading():
                self._claim.describe(**fields)

    @property
    def taken(self) -> Optional[str]:
        """One sentence where another process has taken the experiment over, or None."""
        return self._claim.taken if self._claim else None

    def find_checkpoint(
        self,
        step: Optional[int] = None,
        query: Optional[Document] = None,
        without: Sequence[bson.ObjectId] = (),
    ) -> Optional[Document]:
        """The newest record with weights, lasting or recent.

        Args:
            step: its step; the highest there is when None.
            query: what else it must match, in MongoDB's language; its `exp_id` counts in place of
            this store's.
            without: `_id`s of those that do not count.

        Returns:
            The document, to hand to `download`, or None where there is none.

        Raises:
            StoreError: the database cannot be read, or refuses the query.
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
        """How many records the experiment has. Raises StoreError when the database cannot be
        read.
        """
        with self._reading():
            return self._buckets.main.files.count_documents({'exp_id': self.exp_id})

    def latest_step(self) -> Optional[int]:
        """The highest step of the experiment's records, or None. Raises StoreError as `count`."""
        with self._reading():
            record = self._buckets.main.files.find_one(
                {'exp_id': self.exp_id}, {'step': 1}, sort=[('step', DESCENDING)]
            )
        return record['step'] if record else None

    def after(self, step: int) -> List[Tuple[int, bson.ObjectId]]:
        """[(step, `_id`)] of the experiment's records after a step, in their order. Raises
        StoreError as `count`.
        """
        with self._reading():
            found = self._buckets.main.files.find(
                {'exp_id': self.exp_id, 'step': {'$gt': step}}, {'step': 1}
            ).sort([('step', 1)])
            return [(record['step'], record['_id']) for record in found]

    def records(self, query: Optional[Document] = None) -> Iterator[Document]:
        """Iterates over the experiment's records that match a MongoDB query, by step, then `_id`.

        Raises:
            StoreError: the database cannot be read, or refuses the query.
        """
        with self._reading():
            yield from self._buckets.main.files.find(
                {'$and': [{'exp_id': self.exp_id}, query or {}]}
            ).sort([('step', 1), ('_id', 1)])

    def download(self, record: Document, folder: str) -> str:
        """Fetches a record's checkpoint, checks it and unpacks it; a file of the same name is
        replaced.

        Args:
            record: what `find_checkpoint` or `records` gave.
            folder: where the files go; it is made when missing.

        Returns:
            The checkpoint's path, without `.index`.

        Raises:
            StoreError: it is not there any more, or cannot be written; DamagedError: it is damaged,
            or no checkpoint.
        """
        try:
            os.makedirs(folder, exist_ok=True)
            with tempfile.NamedTemporaryFile(
                prefix='.download-', suffix='.tar', dir=folder
            ) as archive:
                with self._reading():
                    bucket, file = self._buckets.file_of(record)
                    try:
                        bucket.download(file, archive)
                    except gridfs.errors.GridFSError as error:
                        raise DamagedError(
                            f'Parts of the file {file["filename"]} of record {record["_id"]} are '
                            f'not in the database any more ({connection.reason(error)}).'
                        ) from error
                archive.flush()
                return unpack(archive.name, folder)
        except OSError as error:
            raise StoreError(
                f'The checkpoint of step {record["step"]} cannot be written to {folder}: {error}.'
            ) from error

    def _check_databases(self, *names: str) -> None:
        """MongoDB refuses, at the first write, a database whose name differs from another's in case
        only.
        """
        with self._reading():
            present = self._client.list_database_names()
        for name in names:
            for other in present:
                if name != other and name.lower() == other.lower():
                    raise StoreError(
                        f'MongoDB at {self.place.server} has the database {other} and refuses '
                        f'{name}, which differs in case only: choose another --dbname or '
                        '--exp_id_suffix.'
                    )

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (PyMongoError, gridfs.errors.GridFSError) as error:
            raise StoreError(
                f'MongoDB at {self.place.server} could not be read ({connection.reason(error)}): '
                'check that it runs and lets you in.'
            ) from error


def _leave(path: str) -> None:
    """Lets a file be, whoever it is of."""


def _remove(path: str) -> None:
    """Removes a file, if it is there."""
    with contextlib.suppress(FileNotFoundError):
        os.remove(path)


def _is_outage(error: Exception) -> bool:
    """Whether the server, not the record, is at fault, so that the same write may succeed later."""
    if isinstance(error, ConnectionFailure):
        return True
    if not isinstance(error, OperationFailure):
        return False
    details = error.details or {}
    parts = details.get('writeErrors', []) + details.get('writeConcernErrors', [])
    codes = {error.code} | {part.get('code') for part in parts}
    return bool(codes & (OUTAGE_CODES | {DUPLICATE_CHUNK}))
