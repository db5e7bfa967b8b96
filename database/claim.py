"""Who is at an experiment: one process at a time, told by a document that lives as long as it is
renewed.
"""

import datetime
import os
import socket
import threading
from typing import Optional, Set

import bson
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError, PyMongoError

from database.errors import StoreError
from database.types import Document

LASTS = datetime.timedelta(seconds=60)  # after its last renewal, by the server's clock
RENEW_S = 10


class Claim:
    """One process's right to an experiment: the document `_id` = exp_id of a collection.

    Attributes:
        taken: one sentence where another process has taken it since, after an outage longer than
        LASTS; else None.
    """

    def __init__(self, collection: Collection[Document], exp_id: str) -> None:
        """Takes it. Raises StoreError that names the host, process and start of the one who has it;
        pymongo's errors.
        """
        self._collection = collection
        self._own: Document = dict(
            _id=exp_id,
            owner=bson.ObjectId(),
            host=socket.gethostname(),
            machine=machine(),
            process=os.getpid(),
            started=self._now(),
        )
        self.taken: Optional[str] = None
        self._take()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._renew, name='claim', daemon=True)
        self._thread.start()

    def describe(self, **fields: object) -> None:
        """Notes more in the claim, plain data by name. Raises pymongo's errors."""
        self._own.update(fields)
        self._collection.update_one(
            {key: self._own[key] for key in ('_id', 'owner')}, {'$set': fields}
        )

    def release(self) -> None:
        """Gives it up; nothing is raised where the server is away, and it expires."""
        self._over.set()
        self._thread.join(2 * RENEW_S)
        try:
            self._collection.delete_one({'_id': self._own['_id'], 'owner': self._own['owner']})
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
        if found is None:  # given up just now
            return self._take()
        if (
            not _is_over(found, now)
            or not self._collection.replace_one(
                {key: found[key] for key in ('_id', 'owner', 'renewed')}, mine
            ).matched_count
        ):
            raise StoreError(_sentence(found))

    def _renew(self) -> None:
        while not self._over.wait(RENEW_S) and not self.taken:
            try:
                if not self._collection.update_one(
                    {key: self._own[key] for key in ('_id', 'owner')},
                    {'$set': {'renewed': self._now()}},
                ).matched_count:
                    self._take()
            except StoreError as error:
                self.taken = str(error)
            except PyMongoError:
                continue  # an outage: the next time


def held(collection: Collection[Document]) -> Set[str]:
    """The exp_ids of a collection of claims that a process is at now, a set. Raises pymongo's
    errors.
    """
    now = _now(collection)
    claims = collection.find({'renewed': {'$type': 'date'}, 'process': {'$type': 'int'}})
    return {found['_id'] for found in claims if not _is_over(found, now)}


def _now(collection: Collection[Document]) -> datetime.datetime:
    """The time of the server's clock."""
    time: datetime.datetime = collection.database.client.admin.command('isMaster')['localTime']
    return time


def _is_over(found: Document, now: datetime.datetime) -> bool:
    """Whether a claim has expired, or is of a process of this machine that has ended."""
    return now - found['renewed'] > LASTS or is_gone(found.get('machine'), found['process'])


def is_gone(where: Optional[str], process: Optional[int]) -> bool:
    """Whether a process has ended, as far as can be told here. where: the machine() of it; process:
    its number.
    """
    return where == machine() is not None and process is not None and not _lives(process)


def _sentence(found: Document) -> str:
    return (
        f'exp_id {found["_id"]} is being trained by process {found["process"]} on host '
        f'{found["host"]} since {found["started"]:%Y-%m-%d %H:%M:%S} UTC: wait for it or stop it, '
        'or choose another --exp_id_suffix (the claim of a process that died expires '
        f'{LASTS.seconds} s after its last sign of life).'
    )


def machine() -> Optional[str]:
    """What a process number is unique in: this start of this machine, and its name space; None
    where that is not known.
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
    return True
