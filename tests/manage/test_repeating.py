"""`command RUN` of runs.py prints what reports/repeat.py makes of the records."""

import stock

from reports import repeat


def test_the_script_of_the_newest_record_is_printed(run, fill, client, mongo_server):
    fill('symmetric')
    files = client['carry'][stock.COLLECTION + '.files']
    files.update_one(
        {'exp_id': 'symmetric', 'step': 9},
        {'$set': {'params.train_params.seed': 7, 'params.model_params.model': 'fc'}},
    )
    done = run('command', 'symmetric')
    assert (done.code, done.err) == (0, '')
    params = files.find_one({'exp_id': 'symmetric', 'step': 9})['params']
    params['save_params'].update(port=mongo_server.port, dbname='carry')  # where it is now
    assert done.out.splitlines() == repeat.command(params, step=9)
    assert (
        f' --port={mongo_server.port} --dbname=carry ' in done.out
        and 'port' in params['save_params']
    )
    *_, last = done.out.splitlines()
    assert last.startswith('python train.py ') and ' --seed=7' in last
    assert 'git checkout --detach abc' in done.out.splitlines()


def test_settings_that_changed_on_the_way_are_told(run, fill, client):
    fill('symmetric')
    files = client['carry'][stock.COLLECTION + '.files']
    files.update_many({}, {'$set': {'params.model_params.model': 'fc'}})
    for digests, told in ((['a', 'a', 'a', 'a'], False), (['a', 'a', 'b', 'b'], True)):
        for record, digest in zip(list(files.find({'exp_id': 'symmetric'}).sort('step')), digests):
            change = {'$set': {'params.digests': {'settings': digest}}}
            files.update_one({'_id': record['_id']}, change)
        assert ('settings changed while it trained' in run('command', 'symmetric').out) == told


def test_an_experiment_without_settings_or_that_is_not_there(run, fill, client):
    fill('symmetric')
    client['carry'][stock.COLLECTION + '.files'].update_many({}, {'$unset': {'params': 1}})
    done = run('command', 'symmetric')
    assert done.code == 1 and 'hold no settings' in done.err
    done = run('command', 'other')
    assert done.code == 1 and done.err.startswith('error: There is no experiment other')


def test_environments_are_compared_fact_by_fact(run, fill, client):
    files = client['carry'][stock.COLLECTION + '.files']
    for name, version in (('symmetric', '2.4.6'), ('other', '1.16.6')):
        fill(name)
        facts = {'packages': {'numpy': version}, 'cpu': {'flags': 'sse avx'}, 'seconds': len(name)}
        files.update_many({'exp_id': name}, {'$set': {'params.environment': facts}})
    lines = run('diff', 'symmetric', 'other').out.splitlines()
    start = lines.index('environment')
    assert lines[start + 2].split() == ['packages.numpy', "'2.4.6'", "'1.16.6'"]
    assert lines[:start] == ['settings: no difference', 'places: no difference']
    assert lines[start + 3] == 'results: no difference'
