"""`export` and `import` of runs.py: a folder and a database hold the same, to the byte."""

import contextlib
import hashlib
import io
import json
import os
import shutil

import bson
import pytest

import runs as program
import stock
from database import layout, records
from database.claim import Claim, End
from database.errors import StoreError
from database.store import Store
from reports import groups
from reports import runs as reported
from database.spool import Spool


@pytest.fixture(scope='module')
def source(mongo_server, tmp_path_factory):
    """A folder with the experiment `symmetric` of database `carry`, which has a tag."""
    folder = tmp_path_factory.mktemp('source')
    stock.fill(mongo_server, folder, 'carry', 'symmetric')
    where = [f'--port={mongo_server.port}', '--dbname=carry', f'--cache_dir={folder}']
    with contextlib.redirect_stdout(io.StringIO()):
        assert program.main(['tag', 'symmetric', 'good', *where]) == 0
        assert program.main(['export', 'symmetric', f'--to={folder / "out"}', *where]) == 0
    yield folder / 'out'
    with stock.client_of(mongo_server) as client:
        client.drop_database('carry')
        client.drop_database(records.recent_database('carry', stock.COLLECTION, 'symmetric'))


@pytest.fixture
def exported(source, client):
    """The same folder; databases that a test creates besides `carry` are dropped at its end."""
    return source


def snapshot(client, dbname):
    """Returns all documents of a database."""
    return {
        name: stock.documents(client[dbname][name].find())
        for name in client[dbname].list_collection_names()
    }


def test_a_folder_brings_an_experiment_to_another_database(run, client, exported):
    before = snapshot(client, 'carry')
    done = run('import', str(exported), dbname='new')
    assert done.code == 0 and done.err == ''
    assert done.out == 'symmetric (fc_7-5): imported, 4 records, 4 checkpoints\n'
    there = stock.held(client, 'new', 'symmetric')
    assert there == stock.held(client, 'carry', 'symmetric')
    assert len(there['files']) == 5 and there['recent'] and there['notes']
    sizes = sorted(len(data) for data in there['bytes'].values())
    assert sizes[1:] == [3003, 2 * stock.CHUNK + 17] and sizes[0] < 200
    assert snapshot(client, 'carry') == before
    # Nothing else is there, and nothing is left of the import.
    assert stock.count(client, 'new') == {
        'fc_7-5.files': 5, 'fc_7-5.chunks': 5, 'fc_7-5.notes': 1
    }  # fmt: skip
    indexes = client['new']['fc_7-5.files'].index_information()
    assert any(index['key'][0] == ('exp_id', 1) for index in indexes.values())


def test_the_manifest_has_a_checksum_of_each_file(exported):
    manifest = json.loads((exported / 'manifest.json').read_text())
    paths = [path for path in exported.rglob('*') if path.is_file()]
    found = {
        path.relative_to(exported).as_posix(): {
            'size': path.stat().st_size,
            'sha256': hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in paths
        if path.name != 'manifest.json'
    }
    assert manifest['files'] == found and len(found) == 3 + 3 + 2
    assert manifest['experiments'] == [
        {'collection': 'fc_7-5', 'exp_id': 'symmetric', 'records': 4, 'checkpoints': 4}
    ]
    assert not os.path.exists(f'{exported}.partial')


def test_importing_twice_changes_nothing(run, client, exported):
    run('import', str(exported), dbname='new')
    client['new']['fc_7-5.notes'].update_one({}, {'$set': {'tags': ['mine']}})
    before = snapshot(client, 'new')
    done = run('import', str(exported), dbname='new')
    assert done.code == 0 and 'there already, nothing was changed' in done.out
    assert {name: found for name, found in snapshot(client, 'new').items() if found} == {
        name: found for name, found in before.items() if found
    }
    # Also after the training has continued there.
    client['new']['fc_7-5.files'].insert_one({'exp_id': 'symmetric', 'step': 11})
    client[records.recent_database('new', 'fc_7-5', 'symmetric')]['fs.files'].delete_one({})
    before = snapshot(client, 'new')
    assert 'there already' in run('import', str(exported), dbname='new').out
    assert snapshot(client, 'new') == before


def alter_a_record(files):
    files.update_one({'exp_id': 'symmetric', 'step': 5}, {'$set': {'train_results.0.loss': 7.0}})


def drop_a_record_and_add_one(files):
    files.delete_one({'exp_id': 'symmetric', 'step': 5})
    files.insert_one({'exp_id': 'symmetric', 'step': 6})


def replace_all(files):
    files.delete_many({'exp_id': 'symmetric'})
    files.insert_one({'exp_id': 'symmetric', 'step': 0})


@pytest.mark.parametrize('change', [alter_a_record, drop_a_record_and_add_one, replace_all])
def test_a_different_experiment_of_the_name_is_kept(run, client, exported, change):
    run('import', str(exported), dbname='new')
    change(client['new']['fc_7-5.files'])
    before = snapshot(client, 'new')
    done = run('import', str(exported), dbname='new')
    assert done.code == 1 and done.err.startswith('error: A different experiment symmetric is in')
    assert snapshot(client, 'new') == before


def test_nothing_of_a_folder_is_imported_if_one_experiment_is_different(run, client, tmp_path):
    client['own']['fc_7-5.files'].insert_many([{'exp_id': 'a'}, {'exp_id': 'z'}])
    run('export', 'a', 'z', f'--to={tmp_path / "out"}', dbname='own')
    client['new']['fc_7-5.files'].insert_one({'exp_id': 'z', 'step': 0})
    done = run('import', str(tmp_path / 'out'), dbname='new')
    assert done.code == 1 and 'different experiment z' in done.err
    assert stock.count(client, 'new') == {'fc_7-5.files': 1}


def test_a_later_export_brings_what_came_since(run, client, exported, mongo_server, tmp_path):
    for dbname in ('new', 'own'):
        run('import', str(exported), dbname=dbname)
    store = Store('localhost', mongo_server.port, 'own', 'fc_7-5', 'symmetric')
    archive = stock.archive(tmp_path, 'checkpoint-12', 5005)
    store.save(records.build('symmetric', 12, stock.params(), 0.5), archive)
    store.close()
    assert run('export', 'symmetric', f'--to={tmp_path / "later"}', dbname='own').code == 0
    assert run('import', str(tmp_path / 'later'), dbname='new').code == 0
    there = stock.held(client, 'new', 'symmetric')
    assert there == stock.held(client, 'own', 'symmetric') and len(there['files']) == 6
    assert 'there already' in run('import', str(exported), dbname='new').out


def test_without_checkpoints(run, client, tmp_path, exported):
    out = str(tmp_path / 'light')
    assert run('export', 'symmetric', '--without_checkpoints', f'--to={out}').code == 0
    assert run('import', out, dbname='new').code == 0
    files = list(client['new']['fc_7-5.files'].find({'exp_id': 'symmetric'}).sort('step'))
    originals = list(client['carry']['fc_7-5.files'].find({'exp_id': 'symmetric'}).sort('step'))
    assert [layout.faults(file) for file in files] == [[], [], [], []]
    same = ('_id', 'step', 'params', 'validation_results', 'train_results')
    assert [[file.get(name) for name in same] for file in files] == [
        [file.get(name) for name in same] for file in originals
    ]
    assert not any(file['saved_filters'] or 'length' in file for file in files)
    # The named results of step 5 are results and no checkpoint.
    assert stock.count(client, 'new')['fc_7-5.chunks'] == 1
    assert stock.held(client, 'new', 'symmetric')['recent'] == []
    assert 'there already' in run('import', out, dbname='new').out
    done = run('import', str(exported), dbname='new')
    assert done.code == 1 and 'was left out or deleted there' in done.err
    run('import', str(exported), dbname='whole')
    assert 'there already' in run('import', out, dbname='whole').out


def test_a_query_selects_experiments(run, client, tmp_path):
    names = [('a', 'fc_7-5'), ('b', 'fc_7-5'), ('c', 'fc_7-5'), ('b', 'resnet18')]
    for exp_id, collection in names:
        seed = 1 if exp_id == 'a' else 2
        client['own'][collection + '.files'].insert_many(
            [{'exp_id': exp_id, 'step': step, 'params': {'seed': seed}} for step in (0, 7)]
        )
    query = '--where={"params.seed": 2, "step": {"$gt": 5}}'
    done = run('export', query, f'--to={tmp_path / "out"}', '--collection=fc_7-5', dbname='own')
    assert done.code == 0 and done.out.startswith(
        'b (fc_7-5): 2 records, 0 checkpoints\nc (fc_7-5): 2 records, 0 checkpoints\n2 exp'
    )
    done = run('export', 'a', query, f'--to={tmp_path / "all"}', dbname='own')
    assert done.out.splitlines()[-1].startswith('4 experiments exported to ')
    assert run('import', str(tmp_path / 'all'), dbname='new').code == 0
    for exp_id, collection in names:
        there = stock.held(client, 'new', exp_id, collection)
        assert there == stock.held(client, 'own', exp_id, collection) and there['files']
    run('import', str(tmp_path / 'all'), '--collection=resnet18', dbname='one')
    assert stock.count(client, 'one') == {'resnet18.files': 2}
    done = run(
        'export', '--where={"step": {"$graeter": 5}}', f'--to={tmp_path / "no"}', dbname='own'
    )
    assert done.code == 2 and done.err.startswith('error: --where is no query of MongoDB (')


DAMAGES = {
    'a bit': lambda path: path.write_bytes(
        path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1])
    ),
    'half': lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    'gone': lambda path: path.unlink(),
}


@pytest.mark.parametrize('how', DAMAGES)
def test_a_damaged_folder_is_refused_as_a_whole(run, client, exported, tmp_path, how):
    for number, path in enumerate(sorted(exported.rglob('*'))):
        if path.is_file() and path.name != 'manifest.json' and path.stat().st_size:
            folder = tmp_path / f'damaged-{number}'
            shutil.copytree(str(exported), str(folder))
            DAMAGES[how](folder / path.relative_to(exported))
            done = run('import', str(folder), dbname='new')
            assert done.code == 1 and path.name in done.err and done.err.count('\n') == 1
    assert 'new' not in client.list_database_names()


@pytest.mark.parametrize(
    'change, told',
    [
        (lambda manifest: manifest.update(format='9'), 'is not a folder of exported experiments'),
        (lambda manifest: manifest.pop('files'), 'is not a folder of exported experiments'),
        (lambda manifest: manifest.update(experiments=[7]), 'is not a folder of exported exp'),
        (lambda manifest: manifest['files'].update({'../x': {'size': 0, 'sha256': ''}}), 'outside'),
        (lambda manifest: manifest['files'].update({'/x': {'size': 0, 'sha256': ''}}), 'outside'),
        (lambda manifest: manifest['experiments'][0].update(exp_id='..'), "The exp_id '..'"),
        (lambda manifest: manifest['experiments'][0].update(exp_id='other'), 'cannot be read'),
    ],
)
def test_a_wrong_manifest_is_one_sentence(run, client, exported, tmp_path, change, told):
    shutil.copytree(str(exported), str(tmp_path / 'copy'))
    path = tmp_path / 'copy' / 'manifest.json'
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))
    done = run('import', str(path.parent), dbname='new')
    assert done.code == 1 and told in done.err and done.err.count('\n') == 1
    assert stock.count(client, 'new') == {}


def test_what_cannot_be_exported_leaves_no_folder(run, fill, client, local, tmp_path):
    fill('symmetric', dbname='own')
    out = f'--to={tmp_path / "sub" / "out"}'

    def refused(told, *words):
        done = run('export', 'symmetric', out, *words, dbname='own')
        assert done.code == 1 and told in done.err and done.err.count('\n') == 1
        assert not (tmp_path / 'sub' / 'out').exists()
        assert not (tmp_path / 'sub' / 'out.partial').exists()

    claim = Claim(client['own']['fc_7-5.claims'], 'symmetric')
    refused('A process is working on symmetric')
    claim.release()
    spool = Spool(str(local('symmetric', dbname='own') / 'spool'))
    kept = spool.keep(
        {'record': {'exp_id': 'symmetric', 'step': 10}, 'replacing': [], 'remove': False}
    )
    refused('1 record of symmetric on this disk wait for MongoDB')
    os.remove(kept)
    chunks = client['own']['fc_7-5.chunks']
    (last,) = client['own']['fc_7-5.files'].find({'exp_id': 'symmetric', 'step': 9})
    chunks.delete_one({'files_id': last['_id']})
    refused('The file checkpoint-9.tar of record')
    assert run('export', 'symmetric', out, '--without_checkpoints', dbname='own').code == 0
    done = run('export', 'symmetric', out, '--without_checkpoints', dbname='own')
    assert done.code == 1 and 'exists already' in done.err


def test_an_experiment_that_changes_meanwhile_is_not_exported(
    run, client, exported, tmp_path, monkeypatch
):
    run('import', str(exported), dbname='own')
    import manage.exporting

    whole = manage.exporting._write_file

    def slow(*words):
        client['own']['fc_7-5.files'].insert_one({'exp_id': 'symmetric', 'step': 10})
        whole(*words)

    monkeypatch.setattr(manage.exporting, '_write_file', slow)
    done = run('export', 'symmetric', f'--to={tmp_path / "out"}', dbname='own')
    assert done.code == 1 and 'has changed while it was exported' in done.err
    assert not list(tmp_path.glob('out*'))


def test_a_folder_that_is_not_left_by_an_export_is_kept(run, exported, tmp_path):
    (tmp_path / 'out.partial').mkdir()
    (tmp_path / 'out.partial' / 'precious').write_text('x')
    done = run('export', 'symmetric', f'--to={tmp_path / "out"}')
    assert done.code == 1 and 'was not left by an export' in done.err
    assert (tmp_path / 'out.partial' / 'precious').exists()
    # One that an interrupted export has left is replaced.
    (tmp_path / 'out.partial' / '.exporting').write_text('')
    assert run('export', 'symmetric', f'--to={tmp_path / "out"}').code == 0
    assert not list((tmp_path / 'out').glob('*precious*'))


def test_half_an_import_is_not_opened_and_is_finished_by_the_same_command(
    run, client, exported, mongo_server, monkeypatch
):
    from database.bucket import Bucket

    whole, left = Bucket.restore, [2]

    def dying(bucket, document, stream=None):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        whole(bucket, document, stream)

    with monkeypatch.context() as patched:
        patched.setattr(Bucket, 'restore', dying)
        assert run('import', str(exported), dbname='new').code == 130
    assert stock.count(client, 'new')['fc_7-5.files'] == 2
    with pytest.raises(StoreError, match='Only a part of the experiment symmetric.*import'):
        Store('localhost', mongo_server.port, 'new', 'fc_7-5', 'symmetric')
    # A training in the same collection does not take the old chunks for those of dead uploads.
    (first,) = client['carry']['fc_7-5.files'].find({'step': 2})
    old = bson.ObjectId(b'\0' * 4 + bson.ObjectId().binary[4:])
    client['new']['fc_7-5.chunks'].insert_one({'files_id': old, 'n': 0, 'data': b'x'})
    Store('localhost', mongo_server.port, 'new', 'fc_7-5', 'mirror', exclusive=True).close()
    assert client['new']['fc_7-5.chunks'].find_one({'files_id': old})
    assert 'half imported' in run('list', dbname='new').out
    found, _ = reported.read('localhost', mongo_server.port, 'new')
    assert [each.state for each in found] == ['half imported']
    assert groups.of(found)[0].counted == []
    client['new']['fc_7-5.chunks'].delete_one({'files_id': first['_id'], 'n': 1})
    assert run('import', str(exported), dbname='new').code == 0
    assert stock.held(client, 'new', 'symmetric') == stock.held(client, 'carry', 'symmetric')
    Store('localhost', mongo_server.port, 'new', 'fc_7-5', 'symmetric', exclusive=True).close()
    Store('localhost', mongo_server.port, 'new', 'fc_7-5', 'mirror', exclusive=True).close()
    assert not client['new']['fc_7-5.chunks'].find_one({'files_id': old})


def test_half_an_import_can_be_deleted(run, client, exported, monkeypatch):
    def die(*words):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr('database.bucket.Bucket.restore', die)
        assert run('import', str(exported), dbname='new').code == 130
    assert run('delete', 'symmetric', '--yes', dbname='new').code == 0
    assert stock.count(client, 'new') == {}


def test_a_database_whose_name_differs_in_case(run, exported):
    done = run('import', str(exported), dbname='Carry')
    assert done.code == 1 and 'differs only in case' in done.err


def test_an_import_needs_a_database(run, exported):
    done = run('import', str(exported), dbname=None)
    assert done.code == 2 and '--dbname=NAME' in done.err


@pytest.mark.parametrize('signal, state', [('SIGTERM', 'stopped'), (None, 'died')])
def test_how_a_training_ended_is_carried(run, fill, client, mongo_server, tmp_path, signal, state):
    fill('symmetric', dbname='own', num_steps=90)
    claim = Claim(client['own']['fc_7-5.claims'], 'symmetric')
    claim.end(End(signal, 'because of this'))
    claim.release()
    assert run('export', 'symmetric', f'--to={tmp_path / "out"}', dbname='own').code == 0
    assert run('import', str(tmp_path / 'out'), dbname='new').code == 0
    for dbname in ('own', 'new'):
        (found,), _ = reported.read('localhost', mongo_server.port, dbname)
        assert (found.state, found.why) == (state, 'because of this')
        assert 'because of this' in run('show', 'symmetric', dbname=dbname).out
    assert client['new']['fc_7-5.claims'].find_one()['ended'] == {
        'signal': signal, 'message': 'because of this'
    }  # fmt: skip


def test_a_pruned_trial_is_carried(run, fill, client, mongo_server, tmp_path):
    fill('symmetric', dbname='own', num_steps=90)
    trial = {'_id': 'symmetric', 'study': 's', 'trial': 3, 'state': 'pruned', 'value': 0.5}
    client['own']['fc_7-5.searches'].insert_one(trial)
    assert run('export', 'symmetric', f'--to={tmp_path / "out"}', dbname='own').code == 0
    assert run('import', str(tmp_path / 'out'), dbname='new').code == 0
    assert list(client['new']['fc_7-5.searches'].find()) == [trial]
    (found,), _ = reported.read('localhost', mongo_server.port, 'new')
    assert found.state == 'pruned'


@pytest.fixture
def study(fill, client, cache, mongo_server):
    """Returns a function: the folder of the studies of a database, in the cache folder.

    The study s, of the trial `symmetric`, is in that of database `own`. A search is at its journal.
    """
    fill('symmetric', dbname='own')
    trial = {'_id': 'symmetric', 'study': 's', 'identity': 'f00d', 'trial': 0, 'state': 'complete'}
    client['own']['fc_7-5.searches'].insert_one(trial)

    def folder(dbname):
        return cache / f'localhost:{mongo_server.port}' / dbname / 'fc_7-5' / 'searches'

    folder('own').mkdir(parents=True)
    (folder('own') / 's.study').write_text('f00d')
    (folder('own') / 's.journal').write_text('{"op_code": 0}\n{"op_co')
    return folder


def test_the_journal_of_a_study_is_carried(run, study, tmp_path):
    done = run('export', 'symmetric', f'--to={tmp_path / "out"}', dbname='own')
    assert 'study s (fc_7-5): its journal, from which search.py continues it' in done.out
    done = run('import', str(tmp_path / 'out'), dbname='new')
    assert done.code == 0 and str(study('new') / 's.journal') in done.out
    (study('new') / 's.study').unlink()  # as if the import had been interrupted between them
    for _ in range(2):
        assert run('import', str(tmp_path / 'out'), dbname='new').code == 0
        assert (study('new') / 's.journal').read_text() == '{"op_code": 0}\n'
        assert (study('new') / 's.study').read_text() == 'f00d'
        assert len(list(study('new').iterdir())) == 2
    (study('new') / 's.journal').write_text('{"op_code": 0}\n{"op_code": 1}\n')  # it went on
    assert 'journal' not in run('import', str(tmp_path / 'out'), dbname='new').out
    assert (study('new') / 's.journal').read_text().count('\n') == 2


@pytest.mark.parametrize('identity, journal', [('beef', '{}'), (None, 'of another')])
def test_a_study_is_never_mixed_with_another(run, study, client, tmp_path, identity, journal):
    assert run('export', 'symmetric', f'--to={tmp_path / "out"}', dbname='own').code == 0
    study('new').mkdir(parents=True)
    (study('new') / 's.journal').write_text(journal)
    if identity:
        (study('new') / 's.study').write_text(identity)
    done = run('import', str(tmp_path / 'out'), dbname='new')
    assert done.code == 1 and f'Another study s is in {study("new")}. Nothing was' in done.err
    assert stock.count(client, 'new') == {}


@pytest.mark.parametrize(
    'change, why',
    [
        (lambda folder, trials: (folder / 's.journal').unlink(), 'its journal is not '),
        (lambda folder, trials: (folder / 's.study').write_text('beef'), 'its journal is not '),
        (
            lambda folder, trials: trials.update_one({}, {'$set': {'state': 'running'}}),
            'has a trial that has not ended; run its command again first',
        ),
    ],
)
def test_a_study_without_its_journal_is_told(run, study, client, tmp_path, change, why):
    change(study('own'), client['own']['fc_7-5.searches'])
    done = run('export', 'symmetric', f'--to={tmp_path / "out"}', dbname='own')
    assert done.code == 0 and 'only its trials; search.py cannot continue it' in done.out
    assert why in done.out and not (tmp_path / 'out' / 'studies').exists()
    assert run('import', str(tmp_path / 'out'), dbname='new').code == 0
    assert not study('new').exists()
