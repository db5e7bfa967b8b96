"""`delete` of runs.py: what is gone, what stays, and who is protected."""

import datetime
import os

import bson
import pytest

import stock
from database import layout, records, unfinished
from database.claim import Claim, End
from database.errors import StoreError
from database.experiment import Experiment
from database.place import Place
from database.spool import Spool
from database.store import Store
from reports import runs as reported

NOTHING = {'files': [], 'bytes': {}, 'recent': [], 'recent bytes': {}, 'notes': []}


@pytest.fixture
def answer(monkeypatch):
    """Returns a function that sets the answer to the question; without one, nobody answers."""

    def set_answer(text):
        monkeypatch.setattr('builtins.input', lambda question: text)

    def nobody(question):
        raise EOFError

    monkeypatch.setattr('builtins.input', nobody)
    return set_answer


def test_all_of_an_experiment_goes_and_nothing_of_others(run, fill, client, local):
    for exp_id in ('symmetric', 'mirror'):
        fill(exp_id)
        run('tag', exp_id, 'good')
    fill('symmetric', collection='resnet18')
    folder, other = local('symmetric'), local('mirror')
    waiting = os.path.getsize(Spool(str(folder / 'spool')).keep({'record': {}}))
    kept = stock.held(client, 'carry', 'mirror')
    also = stock.held(client, 'carry', 'symmetric', 'resnet18')
    recent = records.recent_database('carry', 'fc_7-5', 'symmetric')
    assert recent in client.list_database_names() and kept['notes'] and kept['bytes']
    done = run('delete', 'symmetric', '--collection=fc_7-5', '--yes')
    assert done.code == 0 and done.err == ''
    assert done.out.splitlines()[0] == (
        f'symmetric (fc_7-5): 4 records, 4 checkpoints (526.3 kB); {7 + waiting} B in {folder}'
    )
    assert stock.held(client, 'carry', 'symmetric') == NOTHING
    assert recent not in client.list_database_names()
    assert not folder.exists() and other.exists()
    assert stock.held(client, 'carry', 'mirror') == kept
    assert stock.held(client, 'carry', 'symmetric', 'resnet18') == also
    # 4 records and the named results; 3 + 1 chunks of checkpoints and 1 of the results
    own = {name: n for name, n in stock.count(client, 'carry').items() if 'fc_7-5' in name}
    assert own == {'fc_7-5.files': 5, 'fc_7-5.chunks': 5, 'fc_7-5.notes': 1}


def test_a_question_is_asked(run, fill, client, answer):
    fill('symmetric')
    before = stock.held(client, 'carry', 'symmetric')
    done = run('delete', 'symmetric')
    assert done.code == 2 and 'Give --yes to delete' in done.err
    answer('no')
    done = run('delete', 'symmetric')
    assert done.code == 1 and done.out.endswith('Nothing was deleted.\n')
    assert stock.held(client, 'carry', 'symmetric') == before
    answer('y')
    assert run('delete', 'symmetric').code == 0
    assert stock.held(client, 'carry', 'symmetric') == NOTHING


def test_one_that_a_process_is_at_is_kept_and_so_are_the_others(run, fill, client, local):
    fill('symmetric')
    fill('mirror')
    folder = local('mirror')
    before = [stock.held(client, 'carry', exp_id) for exp_id in ('mirror', 'symmetric')]
    claim = Claim(client['carry']['fc_7-5.claims'], 'symmetric')
    done = run('delete', 'mirror', 'symmetric', '--yes')
    claim.release()
    assert done.code == 1 and done.err.count('\n') == 1
    assert done.err.startswith('error: Nothing was deleted: Process ')
    assert 'has been training exp_id symmetric since' in done.err and 'suffix' not in done.err
    assert [stock.held(client, 'carry', exp_id) for exp_id in ('mirror', 'symmetric')] == before
    assert folder.exists() and 'fc_7-5.claims' not in stock.count(client, 'carry')


def test_nobody_starts_while_it_is_deleted(mongo_server, client, fill):
    fill('symmetric')
    place = Place('localhost', mongo_server.port, 'carry', 'fc_7-5', 'symmetric')
    with Experiment(client, place).claimed('deleting'):
        with pytest.raises(StoreError, match='has been deleting exp_id symmetric since'):
            Store(*place, exclusive=True)
    Store(*place, exclusive=True).close()


def test_a_new_experiment_of_the_name_has_not_ended(run, fill, client, mongo_server):
    claims = client['carry']['fc_7-5.claims']
    fill('symmetric', num_steps=90)
    died = Claim(claims, 'symmetric')
    died.end(End('SIGINT', 'its user stopped it'))
    died.release()
    assert run('delete', 'symmetric', '--yes').code == 0
    assert claims.find_one({'_id': 'symmetric'}) is None
    fill('symmetric', num_steps=90)
    (new,), _ = reported.read('localhost', mongo_server.port, 'carry')
    assert (new.state, new.why) == ('died', None)


def test_a_deletion_of_checkpoints_keeps_how_the_training_ended(run, fill, client, mongo_server):
    fill('symmetric', num_steps=90)
    stopped = Claim(client['carry']['fc_7-5.claims'], 'symmetric')
    stopped.end(End('SIGINT', 'its user stopped it'))
    stopped.release()
    assert run('delete', 'symmetric', '--keep_last_checkpoint', '--yes').code == 0
    (same,), _ = reported.read('localhost', mongo_server.port, 'carry')
    assert (same.state, same.why) == ('stopped', 'its user stopped it')


def test_half_a_deletion_is_not_opened_and_can_be_finished(
    run, fill, client, mongo_server, monkeypatch
):
    fill('symmetric')
    place = Place('localhost', mongo_server.port, 'carry', 'fc_7-5', 'symmetric')

    def die(bucket, ids):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr('database.bucket.Bucket.remove', die)
        assert run('delete', 'symmetric', '--yes').code == 130
    for exclusive in (False, True):
        with pytest.raises(StoreError, match='Only a part of the experiment symmetric.*delete'):
            Store(*place, exclusive=exclusive)
    assert 'half deleted' in run('list').out
    assert 'half deleted' in run('show', 'symmetric').out
    for words in ('export --to=x', 'command', 'diff symmetric', 'tag good', 'check'):
        name, *more = words.split()
        refused = run(name, 'symmetric', *more)
        assert refused.code == 1 and 'Only a part of the experiment symmetric' in refused.err
    assert run('delete', 'symmetric', '--yes').code == 0
    assert stock.held(client, 'carry', 'symmetric') == NOTHING
    assert stock.count(client, 'carry') == {}
    Store(*place, exclusive=True).close()


def test_what_has_no_records_can_be_deleted(run, client, local):
    folder = local('symmetric')
    with unfinished.marked(client['carry']['fc_7-5.unfinished'], 'mirror', 'delete'):
        done = run('delete', 'symmetric', 'mirror', '--yes')
    assert done.code == 0 and not folder.exists()
    assert stock.count(client, 'carry') == {}


def test_a_name_that_leads_elsewhere_has_no_local_files(run, client, cache):
    cache.mkdir()
    (cache / 'precious').write_text('x')
    client['carry']['fc.files'].insert_one({'exp_id': '../../..', 'step': 1})
    assert run('delete', '../../..', '--yes').code == 0
    assert (cache / 'precious').exists() and stock.count(client, 'carry') == {}
    assert run('delete', '../../..', '--yes').err.startswith("error: The exp_id '../../..'")


def test_the_last_checkpoint_is_kept_with_all_records(run, fill, client, local):
    fill('symmetric')
    folder = local(
        'symmetric',
        names=['checkpoint-5.index', 'checkpoint-5.data-00000-of-00001', 'checkpoint-9.index'],
    )
    before = stock.held(client, 'carry', 'symmetric')
    done = run('delete', 'symmetric', '--keep_last_checkpoint', '--yes')
    assert done.code == 0 and done.out.splitlines()[-1] == (
        'symmetric: kept 4 records, 1 checkpoint (3.0 kB)'
    )
    after = stock.held(client, 'carry', 'symmetric')
    # The checkpoint of step 9 and the named results of step 5 keep their bytes.
    assert [len(data) for data in sorted(after['bytes'].values(), key=len)][-1] == 3003
    assert len(after['bytes']) == 2 and after['recent'] == [] and after['recent bytes'] == {}
    assert all(before['bytes'][identity] == data for identity, data in after['bytes'].items())
    files = list(client['carry']['fc_7-5.files'].find({'exp_id': 'symmetric'}).sort('step'))
    assert [file['saved_filters'] for file in files] == [False, False, False, True]
    assert [layout.faults(file) for file in files] == [[], [], [], []]
    left = {bson.encode(file) for file in files}
    assert len(left & set(before['files'])) == 3  # all but that of step 2 are as they were
    assert sorted(path.name for path in folder.iterdir()) == ['checkpoint-9.index']
    assert run('delete', 'symmetric', '--keep_last_checkpoint', '--yes').code == 0
    assert stock.held(client, 'carry', 'symmetric') == after


def test_a_recent_checkpoint_can_be_the_last(run, fill, client):
    fill('symmetric')
    client['carry']['fc_7-5.files'].delete_one({'exp_id': 'symmetric', 'step': 9})
    assert run('delete', 'symmetric', '--keep_last_checkpoint', '--yes').code == 0
    after = stock.held(client, 'carry', 'symmetric')
    assert [len(data) for data in after['recent bytes'].values()] == [77]
    assert [bson.decode(file)['step'] for file in after['recent']] == [9]
    assert all(len(data) < 77 for data in after['bytes'].values())  # the named results


def test_no_checkpoint_goes_if_the_last_is_damaged(run, fill, client):
    fill('symmetric')
    (last,) = client['carry']['fc_7-5.files'].find({'exp_id': 'symmetric', 'step': 9})
    client['carry']['fc_7-5.chunks'].update_one({'files_id': last['_id']}, {'$set': {'data': b'x'}})
    before = stock.held(client, 'carry', 'symmetric')
    done = run('delete', 'symmetric', '--keep_last_checkpoint', '--yes')
    assert done.code == 1 and 'checkpoint-9.tar' in done.err
    assert stock.held(client, 'carry', 'symmetric') == before


def test_experiments_older_than_some_days(run, client):
    now = datetime.datetime.now(datetime.timezone.utc)
    for exp_id, ages in (('old', (9, 8)), ('continued', (9, 1)), ('new', (0,))):
        for age in ages:
            identity = bson.ObjectId.from_datetime(now - datetime.timedelta(days=age))
            identity = bson.ObjectId(identity.binary[:4] + bson.ObjectId().binary[4:])
            client['carry']['fc_7-5.files'].insert_one({'_id': identity, 'exp_id': exp_id})
    client['carry']['fc_7-5.files'].insert_one({'_id': 7, 'exp_id': 'unknown'})
    done = run('delete', 'new', '--older_than=2', '--yes')
    assert done.code == 0 and done.out.endswith('is older than 2 days.\n')
    done = run('delete', '--older_than=2.5', '--yes')
    assert done.code == 0 and done.out.count('deleted') == 1
    left = client['carry']['fc_7-5.files'].distinct('exp_id')
    assert left == ['continued', 'new', 'unknown']


def test_recent_checkpoints_of_a_neighbour_with_the_same_database(run, fill, client):
    names = ('a_b', 'c', 'd'), ('a', 'b_c', 'd')
    assert len({records.recent_database(*name) for name in names}) == 1
    for dbname, collection, exp_id in names:
        fill(exp_id, dbname=dbname, collection=collection)
    shared = client[records.recent_database(*names[0])]
    assert shared['fs.files'].count_documents({}) == 4
    assert run('delete', 'd', '--yes', dbname='a_b').code == 0
    assert [file['collname'] for file in shared['fs.files'].find()] == ['b_c', 'b_c']
    assert run('delete', 'd', '--yes', dbname='a').code == 0
    assert shared.name not in client.list_database_names()
