"""Explains what exists if a report is asked for something that does not exist."""

import difflib
from typing import Collection, List, Optional

from pymongo.errors import PyMongoError

from database import connection, server
from database.errors import StoreError
from database.records import RECENT_SUFFIX, SYSTEM_DATABASES
from reports import runs, stored

MOST = 20  # how many names a message lists


def message(
    host: str, port: int, dbname: str, collname: Optional[str], exp_ids: Collection[str]
) -> Optional[str]:
    """Returns a sentence about a database, collection or experiment that does not exist, or None.

    Args:
        host: Name or address of the MongoDB server.
        port: TCP port of the server.
        dbname: Name of the database.
        collname: Name of the collection, or None.
        exp_ids: Names of experiments, or nothing.

    Raises:
        StoreError: MongoDB cannot be read.
    """
    where = f'{host}:{port}'
    try:
        with server.reach(host, port) as client:
            names = [
                name
                for name in client.list_database_names()
                if name not in SYSTEM_DATABASES and not name.endswith(RECENT_SUFFIX)
            ]
            if dbname not in names:
                others = [name for name in names if stored.collections_of(client[name])]
                return (
                    f'There is no database {dbname} at {where}. Databases with runs there: '
                    f'{_list(others)}. Choose one with --dbname.'
                )
            collections = stored.collections_of(client[dbname])
    except PyMongoError as error:
        raise StoreError(connection.reason(error))
    where = f'database {dbname} at {where}'
    if collname is not None and collname not in collections:
        return f'There is no collection {collname} in {where}. It has: {_list(collections)}.'
    found, _ = runs.read(host, port, dbname, collname=collname, curves=False)
    known = [run.exp_id for run in found]
    known += [check.exp_id for run in found for check in run.validations]
    lost = sorted(set(exp_ids) - set(known))
    if not lost:
        return None
    close = difflib.get_close_matches(lost[0], known, 3)
    order = close + [name for name in known if name not in close]
    return f'There is no experiment {", ".join(lost)} in {where}. It has: {_list(order)}.'


def _list(names: List[str]) -> str:
    """Returns names for a message; of many, the first ones and how many more there are."""
    more = len(names) - MOST
    return (', '.join(names[:MOST]) or 'none') + (f' and {more:,} more' if more > 0 else '')
