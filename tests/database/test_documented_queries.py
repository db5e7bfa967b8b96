"""Tests that the documented queries give the answers shown beside them, on a real server."""

import json
import os
import re

import pymongo
import pytest

from database import records
from database.archive import pack
from database.store import Store

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# After each epoch of 80 steps.
TOP1 = {
    '3.11': [0.815, 0.928, 0.954, 0.956, 0.965, 0.974, 0.975],
    '3.7': [0.756, 0.898, 0.948, 0.946, 0.956, 0.977, 0.977],
}
LOSSES = dict(
    loss=0.30074647068977356,
    model_loss=0.015704428777098656,
    reg_loss=0.2426758110523224,
    alignment_loss=0.042366232722997665,
    total_loss=0.30074647068977356,
    learning_rate=0.004999999888241291,
)
QUERY = re.compile(r'db\["([^"]+)"\]\.find\((.*)\)$', re.DOTALL)
CALL = re.compile(r'\.(sort|limit)\(([^()]*)\)$', re.DOTALL)


def plain(text):
    """Returns the value of a mongo-shell literal."""
    return json.loads(
        re.sub(r'([{,]\s*)([A-Za-z_$][\w$]*)\s*:', r'\1"\2":', text.replace("'", '"'))
    )


def examples(path=os.path.join('docs', 'database.md')):
    """Returns [(question, collection, [filter, projection], {call: argument}, answer)]."""
    with open(os.path.join(ROOT, path), encoding='utf-8') as file:
        text = file.read()
    found = []
    for question, code, answer in re.findall(
        r'^    // (.*)\n((?:    .*\n)+)\n((?:    .*\n)+)', text, re.MULTILINE
    ):
        code, calls = code.strip(), {}
        while CALL.search(code):
            calls[CALL.search(code).group(1)] = plain(CALL.search(code).group(2))
            code = CALL.sub('', code)
        collection, arguments = QUERY.match(code).groups()
        found.append((question, collection, plain(f'[{arguments}]'), calls, plain(answer)))
    return found


def save(store, step, folder=None, **fields):
    record = records.build(
        store.exp_id,
        step,
        {'model_params': {'alignment': 'symmetric', 'alpha': 0.02, 'beta': 0.04}},
        **fields,
    )
    tar = None
    if folder is not None:
        for ending in ('index', 'data-00000-of-00001'):
            (folder / f'checkpoint-{step}.{ending}').write_bytes(b'weights')
        prefix = str(folder / f'checkpoint-{step}')
        tar = pack(prefix, prefix + '.tar')
    store.save(record, checkpoint=tar)
    return record['_id']


@pytest.fixture(scope='module')
def collection_of(mongo_server, tmp_path_factory):
    """A database with two runs, each validated after each epoch and once more by test.py."""
    folder = tmp_path_factory.mktemp('checkpoints')
    for version, (*epochs, top1) in TOP1.items():

        def results(top1, angle):
            return {'topn_val': {'top1': top1, 'weight_angles': {'conv0': 3.5, 'dense': angle}}}

        with_weights = dict(
            duration=0.1554741104443868, train_results=[dict(LOSSES, loss=9.0), LOSSES]
        )
        store = Store(
            mongo_server.host, mongo_server.port, 'readme', 'resnet18', 'symmetric_python' + version
        )
        save(store, 0, folder, validation_results=results(0.1, 90.0))
        save(store, 100, train_results=[LOSSES] * 3, duration=0.5)
        for place, reached in enumerate(epochs):
            save(store, 80 * place + 80, folder, validation_results=results(reached, 20.0))
        record = save(
            store, 560, folder, validation_results=results(top1, 2.7143545150756836), **with_weights
        )
        store.close()
        store = Store(
            mongo_server.host,
            mongo_server.port,
            'readme',
            'resnet18',
            'validation_python' + version,
        )
        save(store, 560, validation_results=results(top1, 2.7143545150756836), validates=record)
        store.close()
    with pymongo.MongoClient(mongo_server.host, mongo_server.port) as client:
        yield lambda name: client['readme'][name]
        client.drop_database('readme')


def test_a_mean_over_layers_leaves_out_those_without_an_angle(mongo_server):
    """The mean of MongoDB ignores null, also in a record where no layer has an angle."""
    store = Store(mongo_server.host, mongo_server.port, 'nulls', 'resnet18', 'symmetric')
    for step, angles in (
        (0, dict(conv0=None, dense=None)),
        (7, dict(conv0=None, dense=30.0)),
        (9, dict(conv0=10.0, dense=40.0)),
    ):
        save(
            store,
            step,
            validation_results={'topn_val': {'gradient_angles': angles, 'undefined_angles': 3}},
        )
    store.close()
    with pymongo.MongoClient(mongo_server.host, mongo_server.port) as client:
        files = client['nulls']['resnet18.files']
        layers = {
            '$map': {
                'input': {'$objectToArray': '$validation_results.topn_val.gradient_angles'},
                'in': '$$this.v',
            }
        }
        means = list(
            files.aggregate(
                [{'$sort': {'step': 1}}, {'$project': {'_id': 0, 'mean': {'$avg': layers}}}]
            )
        )
        (over_runs,) = files.aggregate(
            [
                {
                    '$group': {
                        '_id': None,
                        'conv0': {'$avg': '$validation_results.topn_val.gradient_angles.conv0'},
                    }
                }
            ]
        )
        aligned = files.distinct(
            'step', {'validation_results.topn_val.gradient_angles.dense': {'$lt': 35}}
        )
        client.drop_database('nulls')
    assert (
        [row['mean'] for row in means] == [None, 30.0, 25.0]
        and over_runs['conv0'] == 10.0
        and aligned == [7]
    )


def test_there_are_five_queries_and_the_readme_has_one_of_them():
    assert len(examples()) == 5
    (shown,) = examples('README.md')
    assert shown in examples()


@pytest.mark.parametrize('example', examples(), ids=lambda example: example[0].replace(' ', '-'))
@pytest.mark.claim('queries')
def test_a_query_gives_the_answer_that_is_shown(collection_of, example):
    _, name, arguments, calls, answer = example
    cursor = collection_of(name).find(*arguments)
    if 'sort' in calls:
        cursor = cursor.sort(list(calls['sort'].items()))
    if 'limit' in calls:
        cursor = cursor.limit(calls['limit'])
    assert list(cursor) == answer
