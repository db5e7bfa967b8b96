"""A fixture: a database with the runs of stored.py."""

import datetime

import bson
import pymongo
import pytest

from database import records
from database.claim import Claim
from database.store import Store

from stored import DBNAME, HOSTILE, odd_records, params, results, run_of, searches


@pytest.fixture(scope='module')
def database(mongo_server, tmp_path_factory):
    """(address, cache_dir) of the runs; this process holds the claim of the run `running`."""
    cache = tmp_path_factory.mktemp('cache')
    place = (mongo_server.host, mongo_server.port, DBNAME)
    client = pymongo.MongoClient(*place[:2])
    for collection, exp_id, last, model in (
        ('resnet18', 'symmetric', 30, {}),
        ('resnet18', 'None', 30, {'alignment': None}),
        ('resnet18', 'died', 20, {'alignment': 'mirror', 'update_forward': True}),
        ('resnet18', HOSTILE, 30, {}),
        ('fc_7-5', 'running', 20, {}),
    ):
        store = Store(*(place + (collection, exp_id)))
        run_of(store, last=last, **model)
        store.close()
    store = Store(*(place + ('fc_7-5', 'check')))
    store.save(
        records.build(
            'check',
            30,
            params(),
            2.0,
            validation_results=results(0.75, 11.0),
            validates=bson.ObjectId(),
        )
    )
    store.close()
    client[DBNAME]['fc_7-5.files'].insert_many(list(odd_records()))
    claim = Claim(client[DBNAME]['fc_7-5.claims'], 'running')
    old = datetime.datetime(2020, 1, 1)
    client[DBNAME]['resnet18.claims'].insert_many(
        [dict(_id='died', renewed=old, process=1, machine=None), dict(_id='symmetric')]
    )
    client[DBNAME]['fc_7-5.searches'].insert_many(searches())
    yield mongo_server, str(cache)
    claim.release()
    client.drop_database(DBNAME)
    client.close()
