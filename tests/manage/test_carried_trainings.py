"""Real trainings and processes: carried, deleted, killed, and cut off by a closed pipe."""

import os
import random
import shutil
import subprocess
import sys
import time
from unittest import mock

import pymongo
import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path[:0] = [
    os.path.join(ROOT, 'tests', *folder.split('/')) for folder in ('cli', 'golden/checkpoints')
]

import commands  # noqa: E402
import make_checkpoints  # noqa: E402
import stock  # noqa: E402
from config import flags, params  # noqa: E402
from config.schema import Config  # noqa: E402
from database import archive, connection, records, server  # noqa: E402
from database.errors import StoreError  # noqa: E402
from database.store import Store  # noqa: E402
from tiers import at_night  # noqa: E402
from training import runtime  # noqa: E402
from training.choices import choices  # noqa: E402

pytestmark = pytest.mark.slow
COLLECTION, EXP_ID = 'fc_7-5', 'information'
TRIES = 12
# The stored checkpoints of the other TensorFlow and of this one.
OTHER, OWN = (make_checkpoints.VERSIONS[is_own == runtime.IS_TF2] for is_own in (False, True))


@pytest.fixture(scope='module')
def digits(tmp_path_factory):
    """The folder of the images that the stored checkpoints were trained on."""
    folder = str(tmp_path_factory.mktemp('digits'))
    with mock.patch.object(make_checkpoints, 'Observed'):  # its graph is not needed
        make_checkpoints.experiment(folder)
    return folder


@pytest.fixture
def train(tmp_path, digits):
    """Returns a function that continues the experiment at a place to step 22."""

    def continued(port, dbname, *words):
        settings = [
            flags.as_flag(name, value)
            for name, value in dict(make_checkpoints.SETTINGS, train_epochs=22.0).items()
        ]
        where = [f'--port={port}', f'--dbname={dbname}', f'--cache_dir={tmp_path / dbname}']
        data = [f'--data_dir={digits}', '--do_restore', '--epochs_per_checkpoint=1']
        return commands.call(['train.py', *settings, *where, *data, *words], str(tmp_path))

    return continued


def trained(port, dbname):
    """Returns [(step, losses, results, files of the checkpoint)] of the records after step 20."""
    with pymongo.MongoClient('localhost', port) as client:
        found = list(client[dbname][COLLECTION + '.files'].find({'step': {'$gt': 20}}).sort('step'))
    return [
        (record['step'], record.get('train_results'), record.get('validation_results'))
        for record in found
    ]


def checkpoint(port, dbname, folder):
    """Returns {name: bytes} of the files of the newest checkpoint of the experiment."""
    store = Store('localhost', port, dbname, COLLECTION, EXP_ID)
    prefix = store.download(store.find_checkpoint(22), str(folder))
    store.close()
    files = {}
    for path in sorted(os.listdir(str(folder))):
        with open(os.path.join(str(folder), path), 'rb') as file:
            files[path] = file.read()
    assert os.path.basename(prefix) + '.index' in files
    return files


@pytest.mark.parametrize('version', [OTHER] + at_night(OWN))
def test_an_experiment_of_either_runtime_continues_to_the_bit_on_another_server(
    version, train, digits, mongo_server, own_port, client, run, tmp_path, monkeypatch
):
    config = Config.of(dict(make_checkpoints.SETTINGS, data_dir=digits), choices())
    tar = archive.pack(make_checkpoints.place(version)[0], str(tmp_path / 'checkpoint-20.tar'))
    store = Store('localhost', mongo_server.port, 'carry', COLLECTION, EXP_ID)
    record = records.build(EXP_ID, 20, params.to_params(config), 0.5)
    store.save(record, tar)
    store.close()
    assert run('export', EXP_ID, f'--to={tmp_path / "out"}').code == 0
    monkeypatch.setattr(server, 'DEFAULT_ROOT', own_port.root)  # the import starts the server there
    assert run('import', str(tmp_path / 'out'), dbname='new', port=own_port.port).code == 0
    for port, dbname in ((mongo_server.port, 'carry'), (own_port.port, 'new')):
        done = train(port, dbname)
        assert done.code == 0, done.err
    here, there = trained(mongo_server.port, 'carry'), trained(own_port.port, 'new')
    assert [record[0] for record in here] == [21, 22] and here == there
    files = checkpoint(mongo_server.port, 'carry', tmp_path / 'here')
    assert files == checkpoint(own_port.port, 'new', tmp_path / 'there') and len(files) == 2


def test_a_training_that_runs_is_not_deleted(forks, mongo_server, client, run, cache, tmp_path):
    where = [f'--port={mongo_server.port}', '--dbname=carry', f'--cache_dir={cache}']
    running = forks.start('train.py', *commands.FC, *where, '--train_epochs=50')
    try:
        commands.reach(running, 'step 0 of 1,500')
        assert connection.wait(lambda: stock.held(client, 'carry', 'symmetric')['bytes'], 30)
        done = run('delete', 'symmetric', '--yes')
        assert done.code == 1 and f'Process {running.pid} on host ' in done.err
        assert run('export', 'symmetric', f'--to={tmp_path / "out"}').code == 1
        assert stock.held(client, 'carry', 'symmetric')['bytes']
    finally:
        running.kill()  # its claim ends with it, because it runs on this machine
        commands.end(running)
    assert run('delete', 'symmetric', '--yes').code == 0
    assert stock.held(client, 'carry', 'symmetric')['files'] == []
    assert not os.path.exists(str(cache / f'localhost:{mongo_server.port}/carry/fc_7-5/symmetric'))


@pytest.fixture
def large(run, client, mongo_server, tmp_path):
    """The folder of an exported experiment with 24 checkpoints of 400 kB."""
    store = Store('localhost', mongo_server.port, 'carry', COLLECTION, 'symmetric')
    for step in range(24):
        tar = stock.archive(tmp_path, f'checkpoint-{step}', 400_000 + step)
        store.save(records.build('symmetric', step, stock.params(), 0.5), tar)
    store.close()
    assert run('export', 'symmetric', f'--to={tmp_path / "out"}').code == 0
    return str(tmp_path / 'out')


def duration(forks, words):
    """Returns how many seconds a command takes."""
    begun = time.monotonic()
    commands.succeeded(forks.run(*words))
    return time.monotonic() - begun


def kill_meanwhile(forks, words, seconds):
    """Starts a command, and kills it at a random time before it would end."""
    running = forks.start(*words)
    time.sleep(random.uniform(0, seconds))
    if running.poll() is None:
        running.kill()
    commands.end(running)


@pytest.mark.nightly
def test_an_import_that_is_killed_is_whole_or_not_opened(
    large, forks, run, client, mongo_server, cache
):
    wanted = stock.held(client, 'carry', 'symmetric')
    words = ['runs.py', 'import', large, f'--port={mongo_server.port}', f'--cache_dir={cache}']
    halves, seconds = 0, duration(forks, [*words, '--dbname=new'])
    for number in range(TRIES):
        dbname = f'new{number}'
        for _ in range(3):  # it may be killed more than once
            kill_meanwhile(forks, [*words, f'--dbname={dbname}'], seconds)
        there = stock.held(client, dbname, 'symmetric')
        if there['files'] and there != wanted:
            halves += 1
            with pytest.raises(StoreError, match='Only a part of'):
                Store('localhost', mongo_server.port, dbname, COLLECTION, 'symmetric')
        assert run('import', large, dbname=dbname).code == 0
        assert stock.held(client, dbname, 'symmetric') == wanted
        Store(
            'localhost', mongo_server.port, dbname, COLLECTION, 'symmetric', exclusive=True
        ).close()
        client.drop_database(dbname)
    assert halves


@pytest.mark.nightly
def test_an_export_that_is_killed_leaves_no_folder(
    large, forks, run, client, mongo_server, cache, tmp_path
):
    folder, halves = str(tmp_path / 'killed'), 0
    words = ['runs.py', 'export', 'symmetric', '--to=' + folder, f'--cache_dir={cache}']
    words += [f'--port={mongo_server.port}', '--dbname=carry']
    seconds = duration(forks, words)
    shutil.rmtree(folder)
    for _ in range(TRIES):
        kill_meanwhile(forks, words, seconds)
        halves += os.path.isdir(folder + '.partial')
        if not os.path.isdir(folder):
            assert run('export', 'symmetric', '--to=' + folder).code == 0
        assert sorted(os.listdir(folder)) == ['experiments', 'manifest.json']
        assert run('import', folder, dbname='new').code == 0
        assert not os.path.isdir(folder + '.partial')
        shutil.rmtree(folder)
    assert stock.held(client, 'new', 'symmetric') == stock.held(client, 'carry', 'symmetric')
    assert halves


def test_a_closed_pipe_ends_it_quietly_and_it_needs_no_tensorflow(mongo_server, client, tmp_path):
    client['carry']['fc.files'].insert_many([{'exp_id': f'run{i}', 'step': i} for i in range(99)])
    code = (
        'import runs, sys; code = runs.main(sys.argv[1:]); '
        'sys.exit(code or "tensorflow" in sys.modules or "rich" in sys.modules)'
    )
    where = [f'--port={mongo_server.port}', f'--cache_dir={tmp_path}', '--dbname=carry']
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, '-c', code, 'list', *where],
        stdout=writing,
        stderr=subprocess.PIPE,
        cwd=ROOT,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b'')
