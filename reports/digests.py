"""The digests of the settings of runs: more than one if settings changed while a run trained."""

from typing import Dict, List, Sequence

from pymongo.database import Database
from pymongo.errors import PyMongoError

from database import server
from database.errors import StoreError
from database.place import FILES, OWNERS
from database.types import Document
from reports.runs import Run
from reports.stored import TEXT, RunKey, by_collection

Digests = Dict[RunKey, List[str]]


def read(host: str, port: int, dbname: str, found: Sequence[Run]) -> Digests:
    """Reads the digests of the settings in all records of some runs.

    Args:
        host: Name or address of the MongoDB server.
        port: TCP port of the server.
        dbname: Name of the database.
        found: The runs.

    Returns:
        {run: its digests} of those that may have more than one. It is empty if MongoDB cannot be
        read.
    """
    digests: Digests = {}
    try:
        with server.reach(host, port) as client:
            for collection, exp_ids in by_collection(run.key for run in found).items():
                digests.update(_read(client[dbname], collection, exp_ids))
    except (PyMongoError, StoreError):
        return {}
    return digests


def _read(database: Database[Document], collection: str, exp_ids: Sequence[str]) -> Digests:
    # The settings of a run that one process has made cannot have changed. Its records need not be
    # read, which takes long.
    once = set(
        database[collection + OWNERS].distinct('_id', {'number': 1, '_id': {'$in': list(exp_ids)}})
    )
    several = [exp_id for exp_id in exp_ids if exp_id not in once]
    if not several:
        return {}
    stages: List[Document] = [
        {'$match': {'exp_id': dict(TEXT, **{'$in': several}), 'params': {'$type': 'object'}}},
        {'$group': {'_id': '$exp_id', 'digests': {'$addToSet': '$params.digests.settings'}}},
    ]
    return {
        RunKey(collection, each['_id']): [
            digest for digest in each['digests'] if isinstance(digest, str)
        ]
        for each in database[collection + FILES].aggregate(stages)
    }
