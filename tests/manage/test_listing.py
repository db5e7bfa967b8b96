"""`list`, `show`, `diff`, `tag` and `note` of runs.py; what they print is read by pymongo, too."""

import datetime
import re

import bson
import pytest

import stock
from manage.finding import Where, locate, newest, opened
from manage.text import size


def cells(out):
    """Returns the cells of each line but the heading, by its first cell."""
    lines = [re.split(r' {2,}', line) for line in out.splitlines()[1:]]
    return {line[0]: line[1:] for line in lines}


def test_databases_and_collections_are_listed(run, fill, client):
    fill('symmetric')
    fill('mirror')
    fill('symmetric', collection='resnet18')
    fill('symmetric', dbname='other')
    client['empty']['fc.files'].insert_one({'filename': 'a file of somebody else'})
    done = run('list', dbname=None)
    assert done.code == 0 and done.err == ''
    found = [re.split(r' {2,}', line) for line in done.out.splitlines()]
    assert found[0] == ['DATABASE', 'COLLECTION', 'RUNS', 'RECORDS', 'CHECKPOINTS', 'ON DISK']
    # Others may be there, of other tests on this server.
    ours = [line for line in found if line[0] in ('carry', 'other', 'empty')]
    assert [line[:5] for line in ours] == [
        ['carry', 'fc_7-5', '2', '8', '8'],
        ['carry', 'resnet18', '1', '4', '4'],
        ['other', 'fc_7-5', '1', '4', '4'],
    ]
    assert all(re.fullmatch(r'[\d.]+ [kM]?B', line[5]) for line in ours)


def test_experiments_of_a_database_are_listed(run, fill, client, local):
    fill('symmetric')
    fill('mirror', num_steps=20)
    local('mirror', names=('checkpoint-9.index', 'settings.json'))
    (newest,) = client['carry']['fc_7-5.files'].find({'exp_id': 'symmetric', 'step': 9})
    done = run('list')
    assert done.code == 0 and done.err == ''
    found = cells(done.out)
    when = f'{newest["_id"].generation_time:%Y-%m-%d %H:%M}'
    total = 2 * stock.CHUNK + 17 + 3003 + 1001 + 77
    assert found['symmetric'] == [
        'fc_7-5', '9', '0.9000', 'finished', '4', '4', f'{total / 1000:.1f} kB', '0 B', when,
    ]  # fmt: skip
    assert found['mirror'][1:4] == ['9 of 20', '0.9000', 'died'] and found['mirror'][7] == '14 B'


def test_a_server_without_experiments_and_a_database_without(run):
    assert run('list').out.startswith('There are no experiments in database carry at localhost:')
    assert run('list', dbname='no_such').code == 0


@pytest.mark.parametrize(
    'count, text',
    [(0, '0 B'), (999, '999 B'), (1000, '1.0 kB'), (999_960, '1.0 MB'), (2.5e12, '2.5 TB')],
)
def test_sizes(count, text):
    assert size(count) == text


def test_an_experiment_is_shown(run, fill, local):
    fill('symmetric')
    folder = local('symmetric')
    run('tag', 'symmetric', 'b', 'a')
    run('note', 'symmetric', 'not yet tuned')
    done = run('show', 'symmetric')
    assert done.code == 0 and done.err == ''
    lines = [re.split(r' {2,}', line, maxsplit=1) for line in done.out.splitlines()]
    shown = {name: text for name, text in lines if name != 'checkpoint'}
    assert shown['state'].startswith('finished') and shown['step'] == '9 of 9'
    assert '--learning_rate=0.125' in shown['settings'].split()
    assert shown['commit'] == 'abc' and shown['top1'] == '0.9' and shown['weight_angles'] == '19'
    assert shown['loss'] == '2'  # of the validation, as in a report, and not 4.5, of the training
    assert 'top5' not in shown and 'gradient_angles' not in shown
    assert [text for name, text in lines if name == 'checkpoint'] == [
        'step 2, 522.3 kB',
        'step 5, 1.0 kB',
        'step 9, 3.0 kB',
        'step 9, 77 B',
    ]
    assert shown['local files'] == f'7 B in {folder}' and shown['tags'] == 'a, b'
    assert 'not yet tuned' in shown.values()


def test_a_validation_is_listed_and_shown_with_its_results(run, fill, client):
    fill('symmetric')
    files = client['carry']['fc_7-5.files']
    (last,) = files.find({'exp_id': 'symmetric', 'step': 9})
    validated = {'exp_id': 'check', 'step': 9, 'params': stock.params()}
    validated.update(validation_results={'topn_val': {'top1': 0.5, 'loss': 2}})
    files.insert_one(dict(validated, validates=last['_id']))
    files.insert_one(dict(validated, exp_id='of a file', validates='/a/file'))

    def shown(exp_id):
        lines = run('show', exp_id).out.splitlines()
        return dict(re.split(r' {2,}', line, maxsplit=1) for line in lines)

    check = shown('check')
    assert (check['top1'], check['loss']) == ('0.5', '2') and 'top5' not in check
    assert check['state'] == 'validated: a validation by test.py'
    assert check['validates'] == 'symmetric (fc_7-5)'
    assert shown('of a file')['validates'] == '/a/file, not in this database'
    assert shown('symmetric')['validation'] == 'check, step 9' and 'validates' not in shown(
        'symmetric'
    )
    listed = cells(run('list').out)
    assert set(listed) == {'symmetric', 'check', 'of a file'}
    assert listed['check'][:4] == ['fc_7-5', '9', '0.5000', 'validated']


def test_differences_of_two_experiments(run, fill, client):
    fill('symmetric')
    fill('other', seed=3, image_size=None)
    client['carry']['fc_7-5.files'].update_many(
        {'exp_id': 'other'},
        {'$set': {'params.provenance.commit': 'def', 'params.save_params.exp_id_suffix': '_x'}},
    )
    client['carry']['fc_7-5.files'].update_one(
        {'exp_id': 'other', 'step': 9}, {'$set': {'validation_results.topn_val.top1': 0.25}}
    )
    done = run('diff', 'symmetric', 'other')
    assert done.code == 0 and done.err == ''
    lines = [re.split(r' {2,}', line.strip()) for line in done.out.splitlines()]
    names = ['symmetric', 'other']
    assert lines == [
        ['settings'], names, ['seed', '0', '3'], ['train_params.image_size', '-', 'None'],
        ['places'], names, ['exp_id_suffix', "''", "'_x'"],
        ['environment'], names, ['commit', "'abc'", "'def'"],
        ['results'], names, ['top1', '0.9', '0.25'],
    ]  # fmt: skip
    same = run('diff', 'symmetric', 'symmetric').out.splitlines()
    assert len(same) == 4 and all(line.endswith(': no difference') for line in same)


def test_tags_and_notes_leave_the_records_alone(run, fill, client):
    fill('symmetric')
    before = stock.held(client, 'carry', 'symmetric')
    assert run('tag', 'symmetric', 'baseline', 'good').out == 'symmetric: baseline, good\n'
    assert run('tag', 'symmetric', 'good', 'a').out == 'symmetric: a, baseline, good\n'
    assert run('tag', 'symmetric', 'good', '--remove').out == 'symmetric: a, baseline\n'
    run('note', 'symmetric', 'wrong')
    run('note', 'symmetric', 'one, two')
    assert run('note', 'symmetric', 'wrong', '--remove').out == 'symmetric: 1 note\n'
    (document,) = client['carry']['fc_7-5.notes'].find()
    (note,) = document['notes']
    assert document['_id'] == 'symmetric' and sorted(document['tags']) == ['a', 'baseline']
    assert note['text'] == 'one, two'
    assert abs(note['time'] - datetime.datetime.utcnow()) < datetime.timedelta(minutes=1)
    after = stock.held(client, 'carry', 'symmetric')
    assert dict(after, notes=[]) == dict(before, notes=[])
    fill('mirror')
    assert 'mirror' in run('list').out
    assert set(cells(run('list', '--tag=a').out)) == {'symmetric'}
    assert cells(run('list').out)['symmetric'][-2:] == ['a,baseline', 'one, two']


def test_the_params_of_the_newest_record_are_found(run, fill, client, mongo_server):
    fill('symmetric')
    files = client['carry']['fc_7-5.files']
    files.update_one({'exp_id': 'symmetric', 'step': 9}, {'$set': {'params.new': 1}})
    files.insert_one({'exp_id': 'symmetric', 'step': 11})  # without params
    where = Where('localhost', mongo_server.port, 'carry')
    with opened(where) as client:
        place = locate(client, where, 'symmetric')
        found = newest(client, place)
    assert place.collname == 'fc_7-5' and found['params']['new'] == 1


@pytest.mark.parametrize(
    'words, code, told',
    [
        (['show', 'nobody'], 1, 'There is no experiment nobody in database carry at localhost:'),
        (['show', 'twice'], 1, 'is in the collections fc_7-5 and resnet18 of database carry'),
        (['show', 'twice', '--collection=fc'], 1, 'no experiment twice in database carry, coll'),
        (['tag', 'twice', 'a b'], 2, "'a b' cannot be a tag"),
        (['note', 'twice', ' '], 2, 'The note is empty'),
        (['diff', 'twice'], 2, 'the following arguments are required: B'),
        (['list', '--dbnam=x'], 2, 'unrecognized arguments: --dbnam=x'),
        (['show', 'x', '--port=y'], 2, 'argument --port: invalid int value'),
        ([], 2, 'the following arguments are required: COMMAND'),
        (['delete'], 2, 'Nothing was named'),
        (['delete', '--older_than=-1'], 2, '--older_than=-1 must be'),
        (['delete', '--older_than=nan'], 2, '--older_than=nan must be'),
        (['export', '--to=x'], 2, 'Nothing was named'),
        (['export', '--to=x', '--where={'], 2, '--where='),
        (['export', '--to=x', '--where={"$where": "1"}'], 2, '--where must not contain $where'),
        (['export', '--to=x', '--where={"step": 77}'], 1, 'No record in database carry'),
        (['import', '/no/such'], 1, '/no/such is not a folder of exported experiments'),
    ],
)
def test_mistakes_are_one_sentence(run, client, words, code, told):
    client['carry']['fc_7-5.files'].insert_one({'exp_id': 'twice', 'step': 0})
    client['carry']['resnet18.files'].insert_one({'exp_id': 'twice', 'step': 0})
    done = run(*words)
    assert done.code == code and done.out == '' and done.err.startswith('error: ')
    assert told in done.err and done.err.count('\n') == 1


def test_a_collection_tells_two_experiments_apart(run, client):
    for name in ('fc_7-5', 'resnet18'):
        client['carry'][name + '.files'].insert_one(
            {'_id': bson.ObjectId(), 'exp_id': 'twice', 'step': 3, 'params': {'a': name}}
        )
    done = run('tag', 'twice', 'x', '--collection=resnet18')
    assert done.code == 0 and stock.count(client, 'carry')['resnet18.notes'] == 1
    assert run('tag', 'twice', 'y', '--collname=fc_7-5').out == 'twice: y\n'


def test_a_server_that_does_not_answer(run, free_address):
    done = run('list', port=free_address().split(':')[1])
    assert done.code == 1 and done.err.startswith('error: Nothing answers at localhost:')
