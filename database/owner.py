"""Numbers the processes that have claimed an experiment, so that an older one is kept from writing.

A claim (database/claim.py) can be lost while its process is suspended or cut off from MongoDB, and
another process then continues the experiment. Each process that claims an experiment therefore gets
a number, which is higher than that of every process before it. Whatever a process stores carries
its number, and before each write the process checks that no other one has got a number since.
"""

import bisect
import datetime
from typing import Dict, Iterable, List, NamedTuple, Optional, cast

import bson
from pymongo import ReturnDocument
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError

from database.errors import StoreError
from database.types import Document

FIELD = 'claim'  # of a record


class TakenError(StoreError):
    """Another process has continued the experiment, so this one must not write to it any more.

    Args:
        message: The message.
        step: The lowest step after which a later process trains; None if none of them has begun.

    Attributes:
        step: The lowest step after which a later process trains; None if none of them has begun.
    """

    def __init__(self, message: str, step: Optional[int] = None) -> None:
        super().__init__(message)
        self.step = step


class Owner(NamedTuple):
    """A process that has claimed an experiment.

    Attributes:
        life: Identifies an experiment as long as its database is neither dropped nor replaced, and
            it is not deleted.
        number: The number of the process, from 1.
    """

    life: bson.ObjectId
    number: int

    def to_bson(self) -> Document:
        """Returns the field `claim` of what this process stores."""
        return dict(self._asdict())


def of(document: Document) -> Optional[Owner]:
    """Returns the owner that wrote a document; None for a document without the field."""
    found = document.get(FIELD)
    if not isinstance(found, dict):
        return None
    life, number = found.get('life'), found.get('number')
    if not isinstance(life, bson.ObjectId) or not isinstance(number, int):
        return None
    return Owner(life, number)


class Steps(NamedTuple):
    """The steps of a record.

    Attributes:
        record_id: The `_id` of the record.
        last: The step of the record.
        length: How many steps, up to this one, it has results of.
        owner: The process that wrote it.
    """

    record_id: bson.ObjectId
    last: int
    length: int
    owner: Owner


def replaced(records: Iterable[Steps]) -> List[bson.ObjectId]:
    """Returns the `_id`s of the records whose step is also in a record of a later process.

    Args:
        records: The steps of the records of one experiment, in any order.
    """
    held = sorted(records, key=lambda record: record.last)
    lasts = [record.last for record in held]
    found = []
    for later in held:
        first = later.last - max(later.length, 1)
        within = slice(bisect.bisect_right(lasts, first), bisect.bisect_right(lasts, later.last))
        found += [
            record.record_id
            for record in held[within]
            if record.owner.life == later.owner.life and record.owner.number < later.owner.number
        ]
    return found


class Owners:
    """The numbers of one experiment: the document with `_id` = exp_id of `<collection>.owners`.

    Args:
        collection: The collection of these documents.
        exp_id: The experiment.
    """

    def __init__(self, collection: Collection[Document], exp_id: str) -> None:
        self._collection, self._exp_id = collection, exp_id

    def advance(self, last: Optional[Owner] = None) -> Owner:
        """Returns the owner with the next number, which is stored first.

        Args:
            last: The last owner according to the records of the experiment, or None. They can have
                been imported without the numbers.

        Raises:
            PyMongoError: MongoDB cannot be written.
        """
        wanted = {'_id': self._exp_id}
        life = {'$setOnInsert': {'life': last.life if last else bson.ObjectId()}}
        if last:
            more = dict({'$max': {'number': last.number}}, **life)
            self._collection.update_one(wanted, more, upsert=True)
        found = cast(
            Document,
            self._collection.find_one_and_update(
                wanted,
                dict({'$inc': {'number': 1}}, **life),
                upsert=True,
                return_document=ReturnDocument.AFTER,
            ),
        )  # never None, because of the upsert
        return Owner(found['life'], found['number'])

    def is_current(self, owner: Owner) -> bool:
        """Returns whether nobody has claimed the experiment after an owner.

        If the database has been dropped since, the owner is stored again.

        Raises:
            PyMongoError: MongoDB cannot be read or written.
        """
        found = self._collection.find_one({'_id': self._exp_id}, {'life': 1, 'number': 1})
        if found is None:
            try:
                self._collection.insert_one(dict(owner.to_bson(), _id=self._exp_id))
                return True
            except DuplicateKeyError:
                return self.is_current(owner)
        return (found['life'], found['number']) == owner

    def begin(self, owner: Owner, step: int) -> None:
        """Stores the step after which an owner begins to train; see `supersedes`.

        Raises:
            PyMongoError: MongoDB cannot be written.
        """
        self._collection.update_one(
            dict(owner.to_bson(), _id=self._exp_id), {'$set': {f'starts.{owner.number}': step}}
        )

    def fence(self) -> None:
        """Keeps all owners so far from writing, before an import or a deletion.

        Raises:
            PyMongoError: MongoDB cannot be written.
        """
        self._collection.update_one({'_id': self._exp_id}, {'$inc': {'number': 1}})

    def end_life(self) -> None:
        """Begins another life of the experiment, when it is deleted: leftovers are not its own.

        Raises:
            PyMongoError: MongoDB cannot be written.
        """
        self._collection.update_one(
            {'_id': self._exp_id},
            {'$set': {'life': bson.ObjectId()}, '$unset': {'starts': ''}},
        )

    def starts(self) -> Dict[int, int]:
        """Returns {number: step after which this owner began to train}.

        Raises:
            PyMongoError: MongoDB cannot be read.
        """
        found = self._collection.find_one({'_id': self._exp_id}, {'starts': 1}) or {}
        return {int(number): step for number, step in found.get('starts', {}).items()}


def retrained(starts: Dict[int, int], number: int) -> Optional[int]:
    """Returns the lowest step after which owners later than `number` train; None without any."""
    return min((start for later, start in starts.items() if later > number), default=None)


def supersedes(starts: Dict[int, int], number: int, step: int) -> bool:
    """Returns whether a later owner has trained a step again.

    Args:
        starts: The result of `Owners.starts`.
        number: The number of the owner that has trained the step, or 0 if it is unknown.
        step: The step.
    """
    start = retrained(starts, number)
    return start is not None and start < step


def taken(exp_id: str, since: Optional[datetime.datetime] = None, who: str = '') -> str:
    """Returns the message of a process that has lost its claim on an experiment.

    Args:
        exp_id: The experiment.
        since: When this process had claimed it (UTC), or None.
        who: A sentence about the process that has it now, without a full stop, or ''.
    """
    had = f', which this process claimed at {since:%Y-%m-%d %H:%M:%S} UTC' if since else ''
    return (
        f'Another process has continued exp_id {exp_id}{had} and then could not renew: it was '
        f'suspended or cut off from MongoDB for more than a minute. {who + ". " if who else ""}'
        'This process therefore stops and writes nothing more'
    )
