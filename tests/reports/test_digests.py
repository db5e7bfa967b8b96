"""Tests of what the page tells of a run besides its results: its command, its state and its end."""

import types

import pymongo
import pytest

import report
from database.claim import End
from reports import digests, repeat, runs, view
from reports.page import still
from reports.runs import Run
from reports.selection import Selection

import shown
from byclass import record

DBNAME = 'digests'
# The digests of the settings in the records of a run, and the number of its processes, or None.
RUNS = {
    'same': (['a', 'a', 'a'], 2),
    'changed': (['a', 'b', 'b'], 3),
    'back': (['a', 'b', 'a'], None),
    'alone': (['a', 'a'], 1),
    'older': ([None, 'a'], None),
}


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """The pictures for browsers without scripts are tested in test_page.py."""
    monkeypatch.setattr(still, 'MOST_PICTURES', 0)


@pytest.fixture(scope='module')
def place(mongo_server):
    """(host, port, dbname) of the runs."""
    with pymongo.MongoClient(mongo_server.host, mongo_server.port) as client:
        client.drop_database(DBNAME)
        for seed, (exp_id, (own, processes)) in enumerate(RUNS.items()):
            for step, digest in enumerate(own):
                one = record(exp_id, 10 * step + 10, seed=seed)
                one['params']['model_params']['model'] = 'fc'
                if digest:
                    one['params']['digests'] = {'meaning': 'm', 'settings': digest}
                client[DBNAME]['fc.files'].insert_one(one)
            if processes:
                client[DBNAME]['fc.owners'].insert_one(dict(_id=exp_id, number=processes))
        yield mongo_server.host, mongo_server.port, DBNAME
        client.drop_database(DBNAME)


def test_the_command_on_the_page_warns_of_settings_that_changed(place):
    found = runs.read(*place)[0]
    read = digests.read(*place, found)
    here = repeat.Here(*place)
    told = shown.data(shown.page(found, digests=read, here=here))['runs']
    with pymongo.MongoClient(*place[:2]) as client:
        files = client[DBNAME]['fc.files']
        for name, of in zip(told['names'], told['commands']['of']):
            query = {'exp_id': name}
            newest = files.find_one(query, sort=[('step', -1)])
            known = files.distinct('params.digests.settings', query)
            lines = [told['commands']['lines'][line] for line in of]
            assert lines == repeat.command(newest['params'], known, newest['step'], here)
            assert f'--port={place[1]} --dbname={DBNAME}' in lines[-1]
            warned = any('settings changed while it trained' in line for line in lines)
            assert warned == (name in ('changed', 'back'))
    assert len(told['names']) == len(RUNS) and 'alone' not in {key.exp_id for key in read}


@pytest.mark.parametrize(
    'begun, waiting, end, told',
    [
        ('import', 0, None, ['half imported: only a part of it is here; run the same']),
        ('delete', 0, None, ['half deleted: only a part of it is left; run the same']),
        (None, 3, None, ['spooled: records on this disk', 'waiting for MongoDB: 3']),
        (None, 0, End('SIGINT', 'Ctrl-C at step 50'), ['stopped: its user', 'why: Ctrl-C at']),
        (None, 0, End(None, 'lost <b>'), ['died: it failed', 'why: lost <b>', 'step 50 of 90']),
    ],
)
def test_the_page_tells_what_became_of_a_run(begun, waiting, end, told):
    made = shown.made('one', 'mirror', 0, 5, steps=90)
    run = Run('fc', 'one', made.points, made.params, begun=begun, waiting=waiting, end=end)
    (remarks,) = shown.data(shown.page([run]))['runs']['remarks']
    assert all(any(text in line for line in remarks) for text in told)


def test_a_page_says_that_mongodb_could_not_be_read_and_what_was_chosen():
    some = [shown.made(f'a{seed}', 'a', seed, 3) for seed in range(2)]
    chosen = view.of_runs(some[:1], Selection())
    values = types.SimpleNamespace(
        dbname='d', host='h', port=1, group=None, where='seed=0', watch=False, serve=False
    )
    found = report.Found(chosen, some, [], 'No server answers.')
    contents = report.contents(values, found, [], None)
    note = contents.note
    assert contents.here == ('h', 1, 'd') and contents.digests == {}
    assert 'only the records waiting on this disk. No server answers.' in note
    assert 'It shows 1 of 2 runs: --where=seed=0.' in note
