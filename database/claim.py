"""A lock on an experiment: only one process at a time may hold it.

The lock is a document that the process renews regularly, as a heartbeat. If the training ends
early, the document stays, no longer valid as a lock, and contains the reason. A process that has
lost its lock is kept from writing by its number; see database/owner.py.
"""

import datetime
import os
import socket
import threading
from typing import Dict, NamedTuple, Optional, Set

import bson
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError, PyMongoError

from database import connection
from database.errors import StoreError
from database.owner import Owner, Owners, TakenError, retrained, taken
from database.types import Document

LASTS = datetime.timedelta(seconds=60)  # from its last renewal, by the server's clock
RENEW_S = 10
TRAINING = 'training'  # what a process does with an experiment unless its claim says otherwise
LONG_AGO = datetime.datetime(1970, 1, 1)  # the last renewal, for a claim that is given up
MOST_CHARACTERS = 1000  # of a message in a claim


class End(NamedTuple):
    """How the last process of an experiment ended before its last step.

    Attributes:
        signal: Name of the signal by which a user stopped it, or None if it failed.
        message: The reason, for a reader.
    """

    signal: Optional[str]
    message: str


class ClaimedError(StoreError):
    """Another process holds a claim.

    Args:
        who: Who holds it and since when, without a full stop.

    Attributes:
        who: Who holds it and since when, without a full stop.
    """

    def __init__(self, who: str) -> None:
        super().__init__(
            f'{who}. Wait for it, stop it, or choose another --exp_id_suffix (the claim of a '
            f'process that died expires {LASTS.seconds} s after it was last renewed).'
        )
        self.who = who


class Claim:
    """The lock of one process on an experiment: the document with `_id` = exp_id of a collection.

    Args:
        collection: The collection of claims.
        exp_id: The experiment to claim.
        doing: What this process does with it, for the message that others get.
        owners: The numbers of the owners of the experiment; None for something that is no
            experiment.
        last: The last owner according to the records of the experiment, or None.

    Attributes:
        owner: This process as an owner; None without `owners`.
        taken: A message if another process has taken the claim, which can happen after an outage
            longer than LASTS; otherwise None.

    Raises:
        ClaimedError: Another process holds the claim. The message contains its host, process id
            and start time.
        PyMongoError: MongoDB cannot be read or written.
    """

    def __init__(
        self,
        collection: Collection[Document],
        exp_id: str,
        doing: str = TRAINING,
        owners: Optional[Owners] = None,
        last: Optional[Owner] = None,
    ) -> None:
        self._collection, self._owners = collection, owners
        self._own: Document = dict(
            _id=exp_id,
            owner=bson.ObjectId(),
            host=socket.gethostname(),
            machine=machine(),
            process=os.getpid(),
            doing=doing,
            started=self._now(),
            ended=None,
        )
        self.taken: Optional[str] = None
        self._take()
        self.owner = owners.advance(last) if owners else None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._renew, name='claim', daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Checks that no other process has claimed the experiment after this one.

        Raises:
            TakenError: Another process has.
            PyMongoError: MongoDB cannot be read.
        """
        if self._owners and self.owner and not self._owners.is_current(self.owner):
            found = self._collection.find_one({'_id': self._own['_id']}) or {}
            others = found.get('owner') not in (None, self._own['owner']) and 'process' in found
            self.taken = taken(
                self._own['_id'], self._own['started'], _who(found) if others else ''
            )
            starts = self._owners.starts()
            raise TakenError(self.taken, retrained(starts, self.owner.number))

    def describe(self, **fields: object) -> None:
        """Stores more fields, plain data by name, in the claim.

        Raises:
            PyMongoError: MongoDB cannot be written.
        """
        self._own.update(fields)
        self._collection.update_one(
            {key: self._own[key] for key in ('_id', 'owner')}, {'$set': fields}
        )

    def begin(self) -> None:
        """Forgets how the process before this one ended, because the training continues now.

        Raises:
            PyMongoError: MongoDB cannot be written.
        """
        self.describe(ended=None)

    def end(self, end: End) -> None:
        """Stores how this process ends. The document then stays after `release`.

        Raises:
            PyMongoError: MongoDB cannot be written.
        """
        self.describe(ended=dict(end._asdict(), message=end.message[:MOST_CHARACTERS]))

    def release(self) -> None:
        """Releases the claim. If the server does not answer, the claim expires by itself."""
        self._over.set()
        self._thread.join(2 * RENEW_S)
        own = {key: self._own[key] for key in ('_id', 'owner')}
        try:
            if self._own['ended']:
                self._collection.update_one(own, {'$set': {'renewed': LONG_AGO}})
            else:
                self._collection.delete_one(own)
        except PyMongoError:
            return

    def _now(self) -> datetime.datetime:
        return _now(self._collection)

    def _take(self) -> None:
        now = self._now()
        mine = dict(self._own, renewed=now)
        try:
            self._collection.insert_one(mine)
            return
        except DuplicateKeyError:
            found = self._collection.find_one({'_id': self._own['_id']})
        if found is None:  # it was released just now
            return self._take()
        mine['ended'] = self._own['ended'] or found.get('ended')
        if (
            not _is_over(found, now)
            or not self._collection.replace_one(
                {key: found[key] for key in ('_id', 'owner', 'renewed')}, mine
            ).matched_count
        ):
            raise ClaimedError(_who(found))
        self._own['ended'] = mine['ended']

    def _renew(self) -> None:
        while not self._over.wait(RENEW_S) and not self.taken:
            try:
                if not self._collection.update_one(
                    {key: self._own[key] for key in ('_id', 'owner')},
                    {'$set': {'renewed': self._now()}},
                ).matched_count:
                    self.check()
                    self._take()
            except StoreError as error:
                self.taken = str(error)
            except PyMongoError:
                continue  # an outage; retry at the next renewal


def held(collection: Collection[Document]) -> Set[str]:
    """Returns the set of exp_ids that a process holds now, from a collection of claims.

    Raises:
        PyMongoError: MongoDB cannot be read.
    """
    now = _now(collection)
    claims = collection.find({'renewed': {'$type': 'date'}, 'process': {'$type': 'int'}})
    return {found['_id'] for found in claims if not _is_over(found, now)}


def process_here(collection: Collection[Document], exp_id: str) -> Optional[int]:
    """Returns the id of the process of this machine that holds an experiment, or None.

    Raises:
        PyMongoError: MongoDB cannot be read.
    """
    found = collection.find_one({'_id': exp_id, 'renewed': {'$type': 'date'}})
    if not found or _is_over(found, _now(collection)) or found.get('machine') != machine():
        return None
    return int(found['process']) if machine() else None


def ends(collection: Collection[Document]) -> Dict[str, End]:
    """Returns how the last process ended, for each exp_id of a collection of claims.

    Experiments that a process holds now, and those whose last process completed its training, are
    not included.

    Raises:
        PyMongoError: MongoDB cannot be read.
    """
    now = _now(collection)
    claims = collection.find({'renewed': {'$type': 'date'}, 'process': {'$type': 'int'}})
    return {found['_id']: _end(found) for found in claims if _is_over(found, now)}


def _end(found: Document) -> End:
    """Returns how the process of a claim that is over ended."""
    ended = found.get('ended')
    if isinstance(ended, dict):
        return End(ended.get('signal'), str(ended.get('message', '')))
    return End(
        None,
        f'process {found["process"]} on host {found.get("host", "?")} ended without a message (it '
        f'was killed, or its machine failed) after {found["renewed"]:%Y-%m-%d %H:%M:%S} UTC',
    )


def _now(collection: Collection[Document]) -> datetime.datetime:
    """Returns the time of the server's clock."""
    return connection.now(collection.database.client)


def _is_over(found: Document, now: datetime.datetime) -> bool:
    """Returns whether a claim has expired or its process, on this machine, has ended."""
    return now - found['renewed'] > LASTS or is_gone(found.get('machine'), found['process'])


def is_gone(where: Optional[str], process: Optional[int]) -> bool:
    """Returns whether a process is known to have ended.

    Args:
        where: The result of `machine` in that process.
        process: Its process id.

    Returns:
        True only for a process of this machine that has ended. For other machines this cannot be
        known.
    """
    return where == machine() is not None and process is not None and not _lives(process)


def _who(found: Document) -> str:
    return (
        f'Process {found["process"]} on host {found["host"]} has been '
        f'{found.get("doing", TRAINING)} exp_id {found["_id"]} since '
        f'{found["started"]:%Y-%m-%d %H:%M:%S} UTC'
    )


def machine() -> Optional[str]:
    """Returns an identifier of the scope in which process ids are unique, or None if unknown.

    It consists of the host name, the boot id of this machine and the process id namespace.
    """
    try:
        with open('/proc/sys/kernel/random/boot_id') as file:
            boot = file.read().strip()
        return f'{socket.gethostname()} {boot} {os.readlink("/proc/self/ns/pid")}'
    except OSError:
        return None


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not _is_zombie(process)


def _is_zombie(process: int) -> bool:
    """Returns whether a process has ended, but its parent has not noticed yet.

    The first process of a container may never ask for the processes that it inherits.
    """
    try:
        with open(f'/proc/{process}/stat', 'rb') as file:
            return file.read().rpartition(b')')[2].split()[:1] == [b'Z']
    except OSError:
        return False
