"""All that MongoDB holds of one experiment, to carry it to another place or to delete it."""

import contextlib
import os
from typing import Dict, Iterator, List, NamedTuple, Optional

import bson

from database import layout, records, unfinished
from database.bucket import Bucket, Buckets
from database.claim import Claim, ClaimedError, End, ends, held
from database.connection import Client
from database.errors import StoreError
from database.owner import Owners
from database.place import CLAIMS, OWNERS, RECENT, Place
from database.types import Document

BATCH = 1000  # how many `_id`s a command of MongoDB contains
WEIGHTS = layout.OF_FILES
WITH_FILE: Document = {'filename': {'$exists': True}}


class Amount(NamedTuple):
    """How much MongoDB holds of an experiment.

    Attributes:
        records: The number of its records.
        checkpoints: The number of its checkpoints, with the recent ones.
        size: The bytes of these checkpoints.
    """

    records: int
    checkpoints: int
    size: int


class Experiment:
    """One experiment in MongoDB. Opening it writes nothing.

    Args:
        client: A client of its server.
        place: The place of the experiment.

    Attributes:
        place: The place of the experiment.
        main: The bucket of its collection.
        recent: The bucket of its recent checkpoints.
        owners: The numbers of the processes that have trained it.
    """

    def __init__(self, client: Client, place: Place) -> None:
        self.place = place
        self.main = Bucket(client[place.dbname], place.collname)
        recent = records.recent_database(place.dbname, place.collname, place.exp_id)
        self.recent = Bucket(client[recent], RECENT)
        self._claims = client[place.dbname][place.collname + CLAIMS]
        self.owners = Owners(client[place.dbname][place.collname + OWNERS], place.exp_id)

    @property
    def _recent_query(self) -> Document:
        """The query of its recent checkpoints; see Buckets for the field collname."""
        return {
            'exp_id': self.place.exp_id,
            'collname': {'$in': [self.place.collname, None]},
        }

    def record_ids(self) -> List[bson.ObjectId]:
        """Returns the `_id`s of its records, sorted."""
        found = self.main.files.find({'exp_id': self.place.exp_id}, {'_id': 1}).sort('_id')
        return [document['_id'] for document in found]

    def documents(self) -> Iterator[Document]:
        """Iterates over its records, and then over their named results."""
        yield from self._by_id(self.main, self._all_ids())

    def recent_documents(self) -> Iterator[Document]:
        """Iterates over the documents of its recent checkpoints."""
        yield from self._by_id(self.recent, self._recent_ids())

    def identities(self) -> Dict[str, List[bson.ObjectId]]:
        """Returns the `_id`s of all of its documents, which tell whether it has changed."""
        return {'main': self._all_ids(), 'recent': self._recent_ids()}

    def is_held(self) -> bool:
        """Returns whether a process has claimed it."""
        return self.place.exp_id in held(self._claims)

    def claim(self) -> Optional[Document]:
        """Returns the document of its claim, which stays if a training ended early, or None."""
        return self._claims.find_one({'_id': self.place.exp_id})

    def end(self) -> Optional[End]:
        """Returns how its last process ended before the last step, or None if it did not."""
        return ends(self._claims).get(self.place.exp_id)

    def amount(self) -> Amount:
        """Returns how much MongoDB holds of it."""
        files = list(
            self.main.files.find(dict(WITH_FILE, exp_id=self.place.exp_id), {'length': 1})
        ) + list(self.recent.files.find(dict(WITH_FILE, **self._recent_query), {'length': 1}))
        sizes = [file.get('length', 0) for file in files]
        return Amount(len(self.record_ids()), len(sizes), sum(sizes))

    def checkpoints(self) -> List[Document]:
        """Returns the documents of its checkpoints, with the recent ones, sorted by step.

        They have the fields `_id`, `step`, `filename` and `length`.
        """
        wanted = {'step': 1, 'filename': 1, 'length': 1}
        found = list(self.main.files.find(dict(WITH_FILE, exp_id=self.place.exp_id), wanted))
        found += list(self.recent.files.find(dict(WITH_FILE, **self._recent_query), wanted))
        return sorted(found, key=lambda file: file.get('step', -1))

    @contextlib.contextmanager
    def claimed(self, doing: str) -> Iterator[Claim]:
        """Context manager: the claim of this process, so that nothing can be trained into it.

        Args:
            doing: What the process does, for the message that others get.

        Raises:
            StoreError: A process has claimed it.
        """
        try:
            claim = Claim(self._claims, self.place.exp_id, doing)
        except ClaimedError as error:
            raise StoreError(f'{error.who}. Wait for it, or stop it.') from error
        try:
            self.owners.fence()
            yield claim
        finally:
            claim.release()

    def delete(self) -> None:
        """Deletes all that MongoDB holds of it, but its tags and notes; for one who has claimed it.

        After an interruption it can be deleted again. Until then, nothing opens it.
        """
        with unfinished.marked(self.main.unfinished, self.place.exp_id, unfinished.DELETE):
            self._remove(self.recent, self._recent_ids())
            self._remove(self.main, self._all_ids())
            self.owners.end_life()
            # It may hold those of another experiment: see records.recent_database.
            if self.recent.is_empty():
                self.recent.files.database.client.drop_database(self.recent.files.database)

    def keep_last_checkpoint(self) -> Amount:
        """Deletes all checkpoints but the newest, for one who has claimed it. Records are kept.

        Returns:
            What is left of it.

        Raises:
            DamagedError: The newest checkpoint is damaged. Then nothing is deleted.
        """
        place = self.place
        buckets = Buckets(self.main, self.recent, place.collname, place.exp_id, 1)
        last = buckets.newest(dict(WITH_FILE, exp_id=place.exp_id, saved_filters=True))
        if last is None:
            return self.amount()
        bucket, file = buckets.file_of(last)
        verify(bucket, file)
        self._remove(self.recent, _without(self._recent_ids(), file, bucket is self.recent))
        for ids in _batches(_without(self.record_ids(), file, bucket is self.main)):
            self.main.files.update_many(
                dict(WITH_FILE, _id={'$in': ids}),
                {'$set': {'saved_filters': False}, '$unset': dict.fromkeys(WEIGHTS, '')},
            )
            self.main.drop_chunks(ids)
        return self.amount()

    def _all_ids(self) -> List[bson.ObjectId]:
        """Returns the `_id`s of its records, sorted, and of their named results."""
        own = self.record_ids()
        return own + [
            document['_id']
            for ids in _batches(own)
            for document in self.main.files.find({'item_for': {'$in': ids}}, {'_id': 1}).sort('_id')
        ]

    def _recent_ids(self) -> List[bson.ObjectId]:
        found = self.recent.files.find(self._recent_query, {'_id': 1}).sort('_id')
        return [document['_id'] for document in found]

    @staticmethod
    def _by_id(bucket: Bucket, ids: List[bson.ObjectId]) -> Iterator[Document]:
        for batch in _batches(ids):
            yield from bucket.files.find({'_id': {'$in': batch}}).sort('_id')

    @staticmethod
    def _remove(bucket: Bucket, ids: List[bson.ObjectId]) -> None:
        """Deletes documents, and before them their files, so that an interruption leaves none."""
        for batch in _batches(ids):
            bucket.drop_chunks(batch)
            bucket.remove(batch)


def verify(bucket: Bucket, file: Document) -> None:
    """Reads a file and checks it.

    Args:
        bucket: Its bucket.
        file: Its document in `files`.

    Raises:
        DamagedError: It is damaged, or parts of it are missing.
        PyMongoError: MongoDB cannot be read.
    """
    with open(os.devnull, 'wb') as nowhere:
        bucket.download(file, nowhere)


def _without(ids: List[bson.ObjectId], file: Document, is_among_them: bool) -> List[bson.ObjectId]:
    """Returns `_id`s without the one of a file, if the file is in their bucket."""
    return [identity for identity in ids if not (is_among_them and identity == file['_id'])]


def _batches(ids: List[bson.ObjectId]) -> Iterator[List[bson.ObjectId]]:
    for start in range(0, len(ids), BATCH):
        yield ids[start : start + BATCH]
