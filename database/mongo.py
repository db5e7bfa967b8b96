"""One experiment's place in MongoDB: records and checkpoints, written in the background, read back
whole.
"""

import contextlib
import copy
import datetime
import io
import os
import pickle
import tempfile

import bson
import gridfs
from pymongo import DESCENDING
from pymongo.errors import ConnectionFailure, OperationFailure, PyMongoError

from database import records, server
from database.archive import pack, unpack
from database.bucket import Bucket
from database.claim import Claim, held
from database.errors import DamagedError, StoreError
from database.spool import Spool
from database.writer import Writer

__all__ = ['Store', 'StoreError', 'pack']

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
        self, host, port, dbname, collname, exp_id, recent_limit=6, spool=None, exclusive=False
    ):
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
                'recent_limit is %d: at least 1 recent checkpoint must be kept.' % recent_limit
            )
        self.exp_id = exp_id
        self._dbname, self._collname, self._recent_limit = dbname, collname, recent_limit
        self._address = '%s:%d' % (host, port)
        self._client = server.connect(host, port)
        recent = records.recent_database(dbname, collname, exp_id)
        self._main = Bucket(self._client[dbname], collname)
        self._recent = Bucket(self._client[recent], 'fs')
        self._claim = None
        self._spool = Spool(spool) if spool else None
        try:
            self._check_databases(dbname, recent)
            if exclusive:
                with self._reading():
                    self._claim = Claim(self._client[dbname][collname + '.claims'], exp_id)
                    for bucket in (self._main, self._recent):
                        bucket.sweep(datetime.datetime.now(datetime.timezone.utc) - DIED)
            left = self._spool.entries() if spool else []
        except StoreError:
            self._disconnect()
            raise
        self._closed = False
        self._writer = Writer(_is_outage, server.reason, self._spool)
        for path, entry in left:
            self._add(entry, _remove if entry.get('remove') else None, path)
        self.replayed = len(left)

    def save(self, record, checkpoint=None, recent=None, on_written=None, replacing=()):
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
                'The record of step {} belongs to experiment {!r}, not to {!r}: save it in a '
                'store of its own.'.format(record['step'], record['exp_id'], self.exp_id)
            )
        record = dict(copy.deepcopy(record), _id=record.get('_id') or bson.ObjectId())
        paths = {
            name: os.path.abspath(path)
            for name, path in (('checkpoint', checkpoint), ('recent', recent))
            if path
        }
        self._add(
            dict(paths, record=record, replacing=list(replacing), remove=on_written is not None),
            on_written,
        )
        return record['_id']

    def save_named_results(self, record_id, train_results=None, validation_results=None):
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
        filename = f'{record_id}_fileitems'
        document = {'_id': bson.ObjectId(), 'item_for': record_id}
        self._add(
            dict(document=document, content=pickle.dumps(results, protocol=2), filename=filename)
        )

    def _add(self, entry, on_written=None, kept=None):
        """Queues an entry, as the spool keeps it; kept: where it does already."""
        paths = sorted({entry[name] for name in ('checkpoint', 'recent') if entry.get(name)})
        name = (
            'the results ' + entry['filename']
            if 'content' in entry
            else (
                'the record of step {}'.format(entry['record']['step'])
                + (' with {}'.format(' and '.join(paths)) if paths else '')
            )
        )

        def done():
            for path in paths if on_written else ():
                on_written(path)

        self._writer.add(name, lambda: self._write(entry), done, entry, kept)

    @property
    def pending(self):
        """How many records and named results are not written yet."""
        return len(self._writer.pending)

    @property
    def failure(self):
        """One sentence on the trouble that keeps records from being written right now, or None."""
        trouble = self._writer.trouble
        if trouble is None:
            return None
        return 'MongoDB at %s takes no records (%s): %d wait%s and are tried again.' % (
            self._address,
            trouble,
            self.pending,
            ' in ' + self._spool.folder if self._spool else '',
        )

    @property
    def errors(self):
        """One sentence for each record that can never be written, and why."""
        return list(self._writer.errors)

    def flush(self, timeout_s=None):
        """Waits until everything is written, `timeout_s` seconds at most (None: as long as it
        takes).

        Returns:
            Whether everything was.
        """
        return self._writer.flush(timeout_s)

    def close(self, timeout_s=60):
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
            more = ' and %d more' % (len(lost) - MOST_NAMED) if len(lost) > MOST_NAMED else ''
            where = (
                f'they lie in {self._spool.folder}, and the same command, started again, writes '
                'them'
                if self._spool
                else 'the files stay where they are'
            )
            raise StoreError(
                'MongoDB at {} ({}) did not take {}{}: {}.'.format(
                    self._address, trouble, ', '.join(lost[:MOST_NAMED]), more, where
                )
            )
        if self.errors:
            raise StoreError(
                'Not everything was written to MongoDB at {}: {}'.format(
                    self._address, ' '.join(self.errors[:MOST_NAMED])
                )
            )

    def _disconnect(self):
        if self._claim:
            self._claim.release()
        self._client.close()

    def is_claimed(self):
        """Whether a process trains the experiment at the moment. Raises StoreError as `count`."""
        with self._reading():
            return self.exp_id in held(self._client[self._dbname][self._collname + '.claims'])

    def describe(self, **fields):
        """Notes in the claim of an exclusive store what is done with the experiment, plain data by
        name.

        Raises:
            StoreError: MongoDB does not answer.
        """
        if self._claim:
            with self._reading():
                self._claim.describe(**fields)

    @property
    def taken(self):
        """One sentence where another process has taken the experiment over, or None."""
        return self._claim.taken if self._claim else None

    def find_checkpoint(self, step=None, query=None, without=()):
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
        wanted = dict({'exp_id': self.exp_id}, **query or {})
        wanted.update(
            {'saved_filters': True, 'filename': {'$exists': True}},
            **({} if step is None else {'step': step}),
        )
        if without:
            wanted = {'$and': [wanted, {'_id': {'$nin': list(without)}}]}
        with self._reading():
            found = [
                _newest(self._main.files, wanted),
                _newest(self._recent.files, dict(wanted, **self._neighbours())),
            ]
        return max(
            (record for record in found if record),
            key=lambda record: (record['step'], record['uploadDate']),
            default=None,
        )

    def count(self):
        """How many records the experiment has. Raises StoreError when the database cannot be read."""
        with self._reading():
            return self._main.files.count_documents({'exp_id': self.exp_id})

    def latest_step(self):
        """The highest step of the experiment's records, or None. Raises StoreError as `count`."""
        with self._reading():
            record = self._main.files.find_one(
                {'exp_id': self.exp_id}, {'step': 1}, sort=[('step', DESCENDING)]
            )
        return record['step'] if record else None

    def after(self, step):
        """[(step, `_id`)] of the experiment's records after a step, in their order. Raises
        StoreError as `count`.
        """
        with self._reading():
            found = self._main.files.find(
                {'exp_id': self.exp_id, 'step': {'$gt': step}}, {'step': 1}
            ).sort([('step', 1)])
            return [(record['step'], record['_id']) for record in found]

    def records(self, query=None):
        """Iterates over the experiment's records that match a MongoDB query, by step, then `_id`.

        Raises:
            StoreError: the database cannot be read, or refuses the query.
        """
        with self._reading():
            yield from self._main.files.find({'$and': [{'exp_id': self.exp_id}, query or {}]}).sort(
                [('step', 1), ('_id', 1)]
            )

    def download(self, record, folder):
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
                    bucket, file = self._stored_file(record)
                    try:
                        bucket.download(file, archive)
                    except gridfs.errors.GridFSError as error:
                        raise DamagedError(
                            'Parts of the file {} of record {} are not in the database any more '
                            '({}).'.format(file['filename'], record['_id'], server.reason(error))
                        ) from error
                archive.flush()
                return unpack(archive.name, folder)
        except OSError as error:
            raise StoreError(
                'The checkpoint of step {} cannot be written to {}: {}.'.format(
                    record['step'], folder, error
                )
            ) from error

    def _stored_file(self, record):
        for bucket in (self._main, self._recent):
            file = bucket.files.find_one({'_id': record['_id'], 'filename': {'$exists': True}})
            if file:
                return bucket, file
        raise StoreError(
            'Record {} (step {}) holds no weights, or holds them no more: choose another step.'.format(
                record['_id'], record['step']
            )
        )

    def _write(self, entry):
        """Writes an entry; again changes nothing."""
        if 'content' in entry:
            self._main.insert(entry['document'], io.BytesIO(entry['content']), entry['filename'])
            return
        self._write_main(entry['record'], entry.get('checkpoint'))
        if entry.get('recent'):
            self._write_recent(entry['record'], entry['recent'])
        if entry.get('replacing'):
            self._main.remove(entry['replacing'])

    def _write_main(self, record, checkpoint):
        if self._main.holds(record):
            return
        if checkpoint:
            with open(checkpoint, 'rb') as stream:
                self._main.insert(
                    dict(record, **_saver_fields()), stream, os.path.basename(checkpoint)
                )
        else:
            self._main.insert(dict(record, saved_filters=False))

    def _write_recent(self, record, recent):
        if self._recent.holds(record):
            return
        with open(recent, 'rb') as stream:
            self._recent.insert(
                dict(record, collname=self._collname, **_saver_fields()),
                stream,
                os.path.basename(recent),
            )
        self._recent.prune(
            dict(self._neighbours(), exp_id=self.exp_id, _id={'$ne': record['_id']}),
            self._recent_limit - 1,
        )

    def _neighbours(self):
        """Tells our recent checkpoints from those of a_b, c, d and a, b_c, d, whose database has
        the same name.
        """
        return {
            'collname': {'$in': [self._collname, None]}
        }  # None: the original did not write the field

    def _check_databases(self, *names):
        """MongoDB refuses, at the first write, a database whose name differs from another's in case
        only.
        """
        with self._reading():
            present = self._client.list_database_names()
        for name in names:
            for other in present:
                if name != other and name.lower() == other.lower():
                    raise StoreError(
                        f'MongoDB at {self._address} has the database {other} and refuses {name}, '
                        'which differs in case only: '
                        'choose another --dbname or --exp_id_suffix.'
                    )

    @contextlib.contextmanager
    def _reading(self):
        try:
            yield
        except (PyMongoError, gridfs.errors.GridFSError) as error:
            raise StoreError(
                f'MongoDB at {self._address} could not be read ({server.reason(error)}): check '
                'that it runs and lets you in.'
            ) from error


def _remove(path):
    """Removes a file, if it is there."""
    with contextlib.suppress(FileNotFoundError):
        os.remove(path)


def _saver_fields():
    """What tfutils notes beside the weights; our Saver is never sharded."""
    return {'saved_filters': True, '_saver_write_version': 2, '_saver_num_data_files': 1}


def _newest(files, wanted):
    """Of the documents of the highest step the one uploaded last; two look-ups, so that the index
    serves the first.
    """
    top = files.find_one(wanted, {'step': 1}, sort=[('step', DESCENDING)])
    return top and files.find_one(
        {'$and': [wanted, {'step': top['step']}]}, sort=[('uploadDate', DESCENDING)]
    )


def _is_outage(error):
    """Whether the server, not the record, is at fault, so that the same write may succeed later."""
    if isinstance(error, ConnectionFailure):
        return True
    if not isinstance(error, OperationFailure):
        return False
    details = error.details or {}
    parts = details.get('writeErrors', []) + details.get('writeConcernErrors', [])
    codes = {error.code} | {part.get('code') for part in parts}
    return bool(codes & (OUTAGE_CODES | {DUPLICATE_CHUNK}))
