"""Finds an experiment by the name that a report prints, its exp_id."""

import contextlib
import glob
import os
from typing import Iterator, List, NamedTuple, Optional

from pymongo.errors import PyMongoError

from database import connection, records, server, unfinished
from database.connection import Client
from database.errors import StoreError
from database.place import FILES, UNFINISHED, Place
from database.spool import database_folder
from database.types import Document
from reports.stored import collections_of


class Where(NamedTuple):
    """Where to look for experiments: what the connection flags of a command say.

    Attributes:
        host: Name or address of the MongoDB server.
        port: TCP port of the server.
        dbname: Name of the database.
        collection: Name of the collection, or None for all of the database.
        cache_dir: The cache folder, with the local files of the experiments.
    """

    host: str
    port: int
    dbname: str
    collection: Optional[str] = None
    cache_dir: str = server.DEFAULT_ROOT

    def text(self) -> str:
        """Returns a description of the place for messages."""
        among = f', collection {self.collection},' if self.collection else ''
        return f'database {self.dbname}{among} at {self.host}:{self.port}'

    def place(self, collection: str, exp_id: str) -> Place:
        """Returns the place of an experiment there."""
        return Place(self.host, self.port, self.dbname, collection, exp_id)


@contextlib.contextmanager
def opened(where: Where) -> Iterator[Client]:
    """Context manager: a client of the server, which turns the errors of pymongo into StoreError.

    A stopped private server of this machine is started again.
    """
    try:
        with server.reach(where.host, where.port) as client:
            yield client
    except PyMongoError as error:
        raise StoreError(
            f'MongoDB at {where.host}:{where.port} could not be read or written '
            f'({connection.reason(error)}). Check that it is running and that you have access to '
            'it, and run the command again.'
        ) from error


def locate(client: Client, where: Where, exp_id: str, in_part: bool = False) -> Place:
    """Returns the place of an experiment.

    Args:
        client: A client of the server.
        where: Where to look for it.
        exp_id: Its name.
        in_part: Whether it may be an experiment whose import or deletion is not finished, or that
            has nothing but local files.

    Raises:
        StoreError: There is no such experiment, only a part of it is there, or several collections
            have one.
        PyMongoError: MongoDB cannot be read.
    """
    among = _holding(client, where, exp_id)
    if in_part and not among:
        among = _holding_a_part(client, where, exp_id)
    if not among:
        raise StoreError(
            f'There is no experiment {exp_id} in {where.text()}. Run `python runs.py list '
            f'--dbname={where.dbname}` to list all of them, or choose another --dbname.'
        )
    if len(among) > 1:
        raise StoreError(
            f'The experiment {exp_id} is in the collections {", ".join(among[:-1])} and '
            f'{among[-1]} of {where.text()}. Choose one of them with --collection.'
        )
    place = where.place(among[0], exp_id)
    if not in_part:
        unfinished.check(client[place.dbname][place.collname + UNFINISHED], place)
    return place


def _holding(client: Client, where: Where, exp_id: str) -> List[str]:
    """Returns the collections that have records of an experiment."""
    database = client[where.dbname]
    return [
        name
        for name in collections(client, where.dbname)
        if where.collection in (None, name)
        and database[name + FILES].find_one({'exp_id': exp_id}, {'_id': 1})
    ]


def _holding_a_part(client: Client, where: Where, exp_id: str) -> List[str]:
    """Returns the collections that have a mark in `.unfinished`, or local files, of an experiment.

    Raises:
        RecordError: The exp_id is illegal.
    """
    records.check_names(where.dbname, where.collection or 'any', exp_id)
    database = client[where.dbname]
    marked = {
        name[: -len(UNFINISHED)]
        for name in database.list_collection_names()
        if name.endswith(UNFINISHED) and database[name].find_one({'_id': exp_id})
    }
    folder = glob.escape(
        database_folder(where.cache_dir, f'{where.host}:{where.port}', where.dbname)
    )
    local = {
        os.path.basename(os.path.dirname(path))
        for path in glob.glob(os.path.join(folder, '*', glob.escape(exp_id)))
    }
    return sorted(name for name in marked | local if where.collection in (None, name))


def collections(client: Client, dbname: str) -> List[str]:
    """Returns the names of the collections of a database that can hold experiments, sorted."""
    return collections_of(client[dbname])


def newest(client: Client, place: Place) -> Optional[Document]:
    """Returns the newest record of an experiment that has params: its params and its step.

    If no record has params, this is None.
    """
    return client[place.dbname][place.collname + FILES].find_one(
        {'exp_id': place.exp_id, 'params': {'$type': 'object'}},
        {'params': 1, 'step': 1},
        sort=[('step', -1), ('_id', -1)],
    )
