"""Experiments for the tests of runs.py, and what MongoDB holds of them, read by pymongo alone."""

import datetime
import os

import bson
import pymongo

from database import records
from database.store import Store

COLLECTION = 'fc_7-5'
CHUNK = 261120


def params(**train):
    """Returns the settings of a record."""
    return {
        'model_params': {'alignment': 'symmetric', 'layers_list': [7, 5], 'alpha': 0.02},
        'train_params': dict({'num_steps': 9, 'train_batch_size': 131, 'seed': 0}, **train),
        'save_params': {'exp_id_suffix': '', 'port': 1},
        'environment': {
            'python': '3.0',
            'tensorflow': '0',
            'packages': {'numpy': '1.0'},
            'platform': 'Linux',
            'cpu': {'model': 'a processor', 'flags': '', 'threads': 3},
            'devices': ['a CPU'],
            'diff': None,
            'dataset': None,
            'argv': ['train.py'],
            'started': datetime.datetime(2026, 1, 2, 3, 4, 5),
            'seconds': 7.5,
            'peak_memory': 123,
        },
        'provenance': {'runtime': 'TensorFlow 0 on Python 0', 'commit': 'abc'},
        'loss_params': {},
        'load_params': {},
        'learning_rate_params': {'learning_rate': 0.125},
        'optimizer_params': {},
        'validation_params': {},
    }


def fill(server, folder, dbname, exp_id, collection=COLLECTION, **train):
    """Stores an experiment of four records.

    They have checkpoints of unequal sizes at steps 2 and 9 (the first of more than two chunks),
    recent checkpoints at 5 and 9, and named results at step 5.
    """
    store = Store(server.host, server.port, dbname, collection, exp_id)
    settings = params(**train)
    for step, size, recent in ((0, 0, 0), (2, 2 * CHUNK + 17, 0), (5, 0, 1001), (9, 3003, 77)):
        record = records.build(
            exp_id,
            step,
            settings,
            0.25,
            [{'loss': 0.5 * step, 'learning_rate': 0.1}] if step else (),
            {
                'topn_val': {
                    'top1': 0.1 * step,
                    'loss': 2.0,
                    'weight_angles': {'dense0': 10.0 + step},
                }
            },
        )
        paths = [
            archive(folder, f'{kind}-{step}', size) if size else None
            for kind, size in (('checkpoint', size), ('recent', recent))
        ]
        store.save(record, *paths)
        if step == 5:
            store.save_named_results(record['_id'], {'angle': [1.5, 2.5]})
    store.close()


def archive(folder, name, size):
    """Writes a file of random bytes; returns its path."""
    path = os.path.join(str(folder), name + '.tar')
    with open(path, 'wb') as file:
        file.write(os.urandom(size))
    return path


def held(client, dbname, exp_id, collection=COLLECTION):
    """Returns all that MongoDB holds of an experiment: {kind: sorted documents and bytes}."""
    database = client[dbname]
    recent = client[records.recent_database(dbname, collection, exp_id)]
    own = list(database[collection + '.files'].find({'exp_id': exp_id}))
    own += database[collection + '.files'].find(
        {'item_for': {'$in': [each['_id'] for each in own]}}
    )
    return {
        'files': documents(own),
        'bytes': contents(database[collection + '.chunks'], own),
        'recent': documents(recent['fs.files'].find({'exp_id': exp_id})),
        'recent bytes': contents(recent['fs.chunks'], recent['fs.files'].find({'exp_id': exp_id})),
        'notes': documents(database[collection + '.notes'].find({'_id': exp_id})),
    }


def documents(found):
    return sorted(bson.encode(each) for each in found)


def contents(chunks, files):
    """Returns {_id: bytes} of those files that have chunks."""
    found = {
        file['_id']: b''.join(
            chunk['data'] for chunk in chunks.find({'files_id': file['_id']}).sort('n')
        )
        for file in files
    }
    return {identity: data for identity, data in found.items() if data}


def count(client, dbname):
    """Returns {collection: number of documents} of a database, of those that have any."""
    database = client[dbname]
    counts = {name: database[name].count_documents({}) for name in database.list_collection_names()}
    return {name: number for name, number in counts.items() if number}


def client_of(server):
    return pymongo.MongoClient(server.host, server.port)
