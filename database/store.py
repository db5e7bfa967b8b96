"""The store of one experiment: writes records and checkpoints in the background and reads them."""

import collections
import contextlib
import copy
import dataclasses
import datetime
import os
import pickle
import tempfile
from typing import Callable, Counter, Dict, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

import bson
import gridfs
from bson.errors import BSONError
from pymongo import DESCENDING
from pymongo.errors import ConnectionFailure, DuplicateKeyError, OperationFailure, PyMongoError

from database import connection, entries, owner, private, records, unfinished
from database.archive import unpack
from database.bucket import JOURNALED, Bucket, Buckets
from database.claim import TRAINING, Claim, End, held
from database.entries import Entry, RecordEntry, ResultsEntry
from database.errors import NoRoomError, StoreError
from database.owner import Owner, Owners, TakenError
from database.place import CLAIMS, OWNERS, RECENT, Place
from database.spool import ELSEWHERE, REFUSED, SUPERSEDED, Spool
from database.types import Document
from database.writer import Writer

# A server returns these codes while it starts or shuts down, if it is not the primary, or if its
# disk is full. A BulkWriteError contains them in its details.
OUTAGE_CODES = {6, 7, 64, 89, 91, 189, 9001, 10107, 11600, 11602, 13435, 13436, 14031}
# A server returns these codes if this process may not write to the collection or is not logged in
# any more, or if an index of another form is in the way. Then it refuses every record, until
# somebody puts that right: the records wait, as in an outage.
REFUSAL_CODES = {13, 18, 67, 85, 86, 391, 8000}
# A chunk of an earlier attempt, which the server was still writing when we deleted its chunks.
DUPLICATE_CHUNK = 11000
DIED = datetime.timedelta(days=1)  # an upload of which no part was written for this long is dead
RECENT_CHECKPOINTS = 6  # how many of them an experiment keeps
MOST_NAMED = 5  # how many lost records a message names
WHY_ASIDE = {
    SUPERSEDED: 'another process has trained their steps again since',
    ELSEWHERE: 'their database was dropped, or was on another server',
}


@dataclasses.dataclass
class _State:
    """What has happened in a store so far.

    Attributes:
        closed: Whether it is closed.
        told_trouble: The outage that `Store.news` has reported.
        told_errors: How many of its errors `Store.news` has reported.
        begun: The step after which this process trains; None if it does not train.
        reached: The highest step of the records that were saved.
    """

    closed: bool = False
    told_trouble: Optional[str] = None
    told_errors: int = 0
    begun: Optional[int] = None
    reached: int = -1


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
            open, and to stop writing if another process has claimed it since. This also checks
            that records can be written, and removes unfinished uploads of which no part was written
            for a day.
        doing: What this process does with the experiment, for the message that others get.

    Attributes:
        place: The place of the experiment.
        exp_id: Name of the experiment.
        owner: This process as the owner of the experiment; None unless `exclusive` is set.
        replayed: How many entries of the spool were queued at the start.
        notices: What was found at the start, in sentences.

    Raises:
        ClaimedError: Another process has claimed the experiment.
        StoreError: MongoDB does not answer within 3 s, refuses access or could not store records,
            the spool is damaged, or the import or deletion of the experiment is not finished.
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
        doing: str = TRAINING,
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
            Bucket(self._client[recent], RECENT),
            collname,
            exp_id,
            recent_limit,
        )
        self._claims = self._client[dbname][collname + CLAIMS]
        self._owners = Owners(
            self._client[dbname].get_collection(collname + OWNERS, write_concern=JOURNALED),
            exp_id,
        )
        self._claim: Optional[Claim] = None
        self._spool = Spool(spool) if spool else None
        self.notices: List[str] = []
        self._state = _State()
        try:
            with self._reading():
                connection.check_case(self._client, self.place.server, (dbname, recent))
                unfinished.check(self._buckets.main.unfinished, self.place)
            if exclusive:
                self._begin_exclusive(doing)
            left = self._left(self._spool) if self._spool else {}
        except StoreError:
            self._disconnect()
            raise
        self._writer = Writer(_is_outage, connection.reason, self._spool, _suffix)
        for path, entry in left.items():
            removes = isinstance(entry, RecordEntry) and entry.remove
            self._add(entry, _remove if removes else _leave, path)
        self.replayed = len(left)

    @property
    def owner(self) -> Optional[Owner]:
        """This process as the owner of the experiment; None unless the store is exclusive."""
        return self._claim.owner if self._claim else None

    def _begin_exclusive(self, doing: str) -> None:
        """Claims the experiment, and checks that its records can be written.

        Raises:
            StoreError: Another process has claimed it, or records cannot be written.
        """
        main, recent = self._buckets.main, self._buckets.recent
        with self._reading():
            last = main.files.find_one(
                {'exp_id': self.exp_id, 'claim.number': {'$type': 'number'}},
                {owner.FIELD: 1},
                sort=[('claim.number', DESCENDING)],
            )
        try:
            for bucket in (main, recent):
                bucket.check_rights()
            self._claim = Claim(
                self._claims,
                self.exp_id,
                doing,
                self._owners,
                owner.of(last or {}),
            )
        except OperationFailure as error:
            raise StoreError(
                f'MongoDB at {self.place.server} would not store the records of {self.exp_id} in '
                f'database {self.place.dbname} ({connection.reason(error)}). A training needs the '
                f'role readWrite there and in {recent.files.database.name}, a server with a '
                'journal, and no index of another form with the name of one of ours.'
            ) from error
        except PyMongoError as error:
            raise self._unreadable(error) from error
        with self._reading():
            unfinished.check(main.unfinished, self.place)
            for bucket in (main, recent):
                bucket.sweep(DIED)
            aside = self._buckets.set_recent_aside()
            unique = [name for name in main.unique_indexes() if name != '_id_']
        if aside:
            self.notices.append(
                f'The {aside} recent checkpoints of an earlier experiment {self.exp_id}, whose '
                f'records are gone, are set aside in database {recent.files.database.name}'
            )
        if unique:
            self.notices.append(
                f'The collection {self.place.collname}.files has the unique index '
                f'{" and ".join(unique)}. A record that it refuses is kept in the spool and named'
            )

    def _left(self, spool: Spool) -> Dict[str, Entry]:
        """Returns the entries that an earlier store left, except those that it sets aside.

        Raises:
            StoreError: The spool is damaged, or cannot be changed.
        """
        mine = self.owner
        if not mine:
            return entries.kept(spool)
        try:
            spool.readmit()
            with self._reading():
                starts = self._owners.starts()
            found = entries.kept(spool)
            aside: Counter[str] = collections.Counter()
            records_aside: Set[bson.ObjectId] = set()
            foreign: Set[bson.ObjectId] = set()
            # Results come before their record, which decides about them.
            for path, entry in sorted(
                found.items(), key=lambda kept: isinstance(kept[1], ResultsEntry)
            ):
                if entries.is_of_another(entry, self.exp_id, foreign):
                    foreign.add(entry.record_id)
                    del found[path]
                    continue
                suffix = entries.aside(entry, mine, starts, records_aside)
                if suffix:
                    spool.set_aside(path, suffix)
                    records_aside.add(entry.record_id)
                    aside[suffix] += 1
                    del found[path]
        except OSError as error:
            raise StoreError(f'The spool {spool.folder} cannot be used: {error}.') from error
        self.notices += [
            f'{count} records in {spool.folder} are not stored, because {WHY_ASIDE[suffix]}; they '
            f'are kept there as *.bson{suffix}'
            for suffix, count in sorted(aside.items())
        ]
        return found

    def save(
        self,
        record: Document,
        checkpoint: Optional[str] = None,
        recent: Optional[str] = None,
        on_written: Optional[Callable[[str], object]] = None,
        replacing: Sequence[bson.ObjectId] = (),
        sha256: Optional[str] = None,
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
            sha256: The SHA-256 of the archive, in hexadecimal, from `archive.packed`; None if it
                is unknown.

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
        self._state.reached = max(self._state.reached, record['step'])
        self._add(
            RecordEntry(
                self._signed(
                    dict(
                        copy.deepcopy(record), _id=identity, **{'sha256': sha256} if sha256 else {}
                    )
                ),
                os.path.abspath(checkpoint) if checkpoint else None,
                os.path.abspath(recent) if recent else None,
                tuple(replacing),
                remove=on_written is not None,
            ),
            on_written or _leave,
        )
        return identity

    def _signed(self, record: Document) -> Document:
        """Adds to a record its owner and the digest of its content."""
        if not self.owner:
            return record
        record[owner.FIELD] = self.owner.to_bson()
        with contextlib.suppress(BSONError, OverflowError):  # the writer reports such a record
            record['digest'] = records.digest(record)
        return record

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
                dict(
                    {'_id': bson.ObjectId(), 'item_for': record_id},
                    **({owner.FIELD: self.owner.to_bson()} if self.owner else {}),
                ),
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
            entry.describe(),
            lambda: entry.write(self._buckets, self._check_owner),
            done,
            entry.to_bson(),
            kept,
        )

    def _check_owner(self) -> None:
        """Raises TakenError if another process has claimed the experiment since this one."""
        if self._claim:
            self._claim.check()

    def news(self) -> List[str]:
        """Returns messages about unwritten records that were not reported yet."""
        trouble, errors = self._writer.trouble, self.errors
        found = [self.failure or ''] if trouble and trouble != self._state.told_trouble else []
        new = errors[self._state.told_errors :]
        more = len(new) - MOST_NAMED
        found += new[:MOST_NAMED] + ([f'{more} more records are refused.'] if more > 0 else [])
        self._state.told_trouble, self._state.told_errors = trouble, len(errors)
        return [message for message in found if message]

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
        if self._state.closed:
            return
        self._state.closed = True
        self._writer.close(timeout_s)
        lost = self._writer.pending
        if not lost and not self.errors:
            self._remove_late()
        self._disconnect()
        if self.taken and (lost or self.errors):
            raise StoreError(
                f'{self.taken}. Not stored: {len(lost) + len(self.errors)} of its records, whose '
                'steps the other process trains again'
                + (f'; they are kept in {self._spool.folder}.' if self._spool else '.')
            )
        if lost:
            trouble = self._writer.trouble or 'it did not answer in time'
            more = f' and {len(lost) - MOST_NAMED} more' if len(lost) > MOST_NAMED else ''
            where = (
                'They are lost with this process, but the same command with --do_restore makes '
                'them again from the newest checkpoint'
                if not self._writer.is_kept
                else f'They are kept in {self._spool.folder}; run the same command again to write '
                'them'
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

    def _remove_late(self) -> None:
        """Removes records of earlier owners at steps that this process has trained again.

        The ones that were there at the beginning are replaced one by one. An earlier process that
        was suspended may have written another one since, and was killed before it removed it.
        """
        if self._state.begun is None or not self.owner or self.taken:
            return
        files = self._buckets.main.files
        with contextlib.suppress(PyMongoError):
            late = files.find(
                {
                    'exp_id': self.exp_id,
                    'step': {'$gt': self._state.begun, '$lte': self._state.reached},
                    'claim.number': {'$lt': self.owner.number},
                },
                {'_id': 1},
            )
            ids = [record['_id'] for record in late]
            if ids:
                self._buckets.main.remove(ids)

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

    def checkpoint_steps(self) -> List[int]:
        """Returns the steps of the checkpoints of the experiment, with the recent ones, sorted.

        Raises:
            StoreError: The database cannot be read.
        """
        with self._reading():
            return self._buckets.steps()

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

    def begin_after(self, step: int) -> List[Tuple[int, bson.ObjectId]]:
        """Notes that this process trains the steps after a step, and calls `after`.

        Records of those steps that an earlier process has not written yet are then not written.
        Records that an earlier process has replaced are removed, in case it was killed before it
        removed them. So are results of `save_named_results` without a record.

        Raises:
            StoreError: The database cannot be read or written.
        """
        if self.owner:
            with self._reading():
                self._owners.begin(self.owner, step)
                ids = self._replaced() + self._alone()
                if ids:
                    self._buckets.main.remove(ids)
            self._state.begun = step
        return self.after(step)

    def _replaced(self) -> List[bson.ObjectId]:
        """Returns the `_id`s of the records that later processes have replaced."""
        length = {'$cond': [{'$isArray': '$train_results'}, {'$size': '$train_results'}, 0]}
        signed = {'step': {'$type': 'number'}, owner.FIELD: {'$exists': True}}
        found = self._buckets.main.files.aggregate(
            [
                {'$match': dict(signed, exp_id=self.exp_id)},
                {'$project': {'step': 1, owner.FIELD: 1, 'length': length}},
            ]
        )
        return owner.replaced(
            owner.Steps(record['_id'], record['step'], record['length'], its)
            for record, its in ((record, owner.of(record)) for record in found)
            if its
        )

    def _alone(self) -> List[bson.ObjectId]:
        """Returns the `_id`s of the results of earlier processes that have no record."""
        if not self.owner or self._writer.pending:  # their records can still be written
            return []
        files = self._buckets.main.files
        # Results have no exp_id. With this condition, the index of the records finds them.
        of_results = {'exp_id': None, 'item_for': {'$exists': True}}
        mine = dict(of_results, **{f'{owner.FIELD}.life': self.owner.life})
        found = list(files.find(mine, {'item_for': 1, owner.FIELD: 1}))
        named = {'_id': {'$in': [document['item_for'] for document in found]}}
        stored = {document['_id'] for document in files.find(named, {'_id': 1})}
        return [
            document['_id']
            for document in found
            if document['item_for'] not in stored
            and document[owner.FIELD]['number'] < self.owner.number
        ]

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
            StoreError: The checkpoint has been removed from MongoDB.
            NoRoomError: The checkpoint cannot be written.
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
            raise NoRoomError(
                f'The checkpoint of step {record["step"]} cannot be written to {folder}: {error}.'
            ) from error

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (PyMongoError, gridfs.errors.GridFSError) as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> StoreError:
        return StoreError(
            f'MongoDB at {self.place.server} could not be read ({connection.reason(error)}). '
            'Check that it is running and that you have access to it.'
        )


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
    if isinstance(error, DuplicateKeyError):  # of a document; that of a chunk is a BulkWriteError
        return False
    parts = details.get('writeErrors', []) + details.get('writeConcernErrors', [])
    codes = {error.code} | {part.get('code') for part in parts}
    no_journal = 2 in codes and 'journal' in str(error)
    return no_journal or bool(codes & (OUTAGE_CODES | REFUSAL_CODES | {DUPLICATE_CHUNK}))


def _suffix(error: Exception) -> str:
    """Returns how the spool marks an entry that is not written because of an error."""
    return SUPERSEDED if isinstance(error, TakenError) else REFUSED
