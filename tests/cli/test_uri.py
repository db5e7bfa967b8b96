"""MONGODB_URI: servers with a password, TLS or a replica set; the URI is never printed."""

import contextlib
import os
import subprocess
import time

import pymongo
import pytest
import trustme

import commands
from database import connection, server

pytestmark = pytest.mark.slow
WORDS = ['train.py'] + commands.FC + ['--train_epochs=0.2', '--dbname=secret']
PASSWORD = 'p@ss/word'
ESCAPED = 'p%40ss%2Fword'


@contextlib.contextmanager
def mongod(folder, address, *words):
    """Starts a mongod with these options, and returns its port once it accepts connections."""
    port = int(address.rpartition(':')[2])
    start = [
        server.find_mongod(),
        '--dbpath',
        folder,
        '--bind_ip',
        '127.0.0.1',
        '--port',
        str(port),
        '--logpath',
        os.path.join(folder, 'log'),
        '--nounixsocket',
    ] + server.SMALL
    running = subprocess.Popen(start + list(words), stdout=subprocess.DEVNULL)
    try:
        while not connection.listens('127.0.0.1', port):
            assert running.poll() is None
            time.sleep(0.02)
        yield port
    finally:
        running.terminate()
        running.wait()


@pytest.fixture(scope='module')
def guarded(tmp_path_factory, free_address):
    """(host, port) of a mongod that requires a password."""
    with mongod(str(tmp_path_factory.mktemp('guarded')), free_address(), '--auth') as port:
        with pymongo.MongoClient('127.0.0.1', port) as client:
            client.admin.command('createUser', 'lab', pwd=PASSWORD, roles=['root'])
        yield '127.0.0.1', port


def test_a_training_and_a_validation_use_it_and_nothing_shows_it(guarded, run):
    host, port = guarded
    uri = f'mongodb://lab:{ESCAPED}@{host}:{port}/?authSource=admin'
    done = run(*WORDS, MONGODB_URI=uri)
    commands.succeeded(done)
    again = run(
        'test.py',
        'validate',
        '--val_exp_id=check',
        *WORDS[1:-2],
        '--dbname=secret',
        MONGODB_URI=uri,
    )
    commands.succeeded(again)
    with pymongo.MongoClient(uri) as client:
        found = list(client['secret']['fc_7-5.files'].find())
    assert {record['exp_id'] for record in found} == {'symmetric', 'check'}
    assert (
        found[0]['params']['save_params']['host'] == host
        and found[0]['params']['save_params']['port'] == port
    )
    shown = done.out + done.err + again.out + again.err + repr(found)
    assert not any(secret in shown for secret in (PASSWORD, ESCAPED, 'mongodb://'))


@pytest.mark.parametrize(
    'uri, words, code, told',
    [
        (
            'mongodb://lab:wrong{e}@{h}:{p}/',
            [],
            1,
            'the server in MONGODB_URI, does not answer or refuses access (Authentication failed',
        ),
        ('mongodb://{h}:{p}/', [], 1, 'refuses access'),
        ('mongodb://lab:{e}@{h}:9/', [], 1, '127.0.0.1:9, the server in MONGODB_URI'),
        ('mongo:/{e}', [], 1, 'MONGODB_URI is not a valid MongoDB URI'),
        ('mongodb://lab:p@ss/{e}@{h}/', [], 1, 'MONGODB_URI is not a valid MongoDB URI'),
        (
            'mongodb://lab:{e}@{h}:{p}/',
            ['--port=7'],
            2,
            '--host=localhost and --port=7 are not a server of',
        ),
    ],
)
def test_what_does_not_let_us_in_is_told_without_it(guarded, run, uri, words, code, told):
    host, port = guarded
    done = run(*(WORDS + words), MONGODB_URI=uri.format(e=ESCAPED, h=host, p=port))
    assert told in commands.refusal(done, code)
    assert not any(secret in done.out + done.err for secret in (PASSWORD, ESCAPED, 'wrong', 'p@ss'))


def test_a_server_with_tls_is_spoken_to_where_its_authority_is_given(run, tmp_path, free_address):
    authority, pem, root = (
        trustme.CA(),
        str(tmp_path / 'server.pem'),
        str(tmp_path / 'authority.pem'),
    )
    authority.issue_cert('127.0.0.1').private_key_and_cert_chain_pem.write_to_path(pem)
    authority.cert_pem.write_to_path(root)
    with mongod(
        str(tmp_path), free_address(), '--tlsMode', 'requireTLS', '--tlsCertificateKeyFile', pem
    ) as port:
        uri = f'mongodb://127.0.0.1:{port}/?tls=true'
        refused = commands.refusal(run(*WORDS, MONGODB_URI=uri), 1)
        assert 'refuses access' in refused and 'unable to get local issuer certificate' in refused
        commands.succeeded(run(*WORDS, MONGODB_URI=uri + '&tlsCAFile=' + root))
        with pymongo.MongoClient('127.0.0.1', port, tls=True, tlsCAFile=root) as client:
            assert [
                record['step'] for record in client['secret']['fc_7-5.files'].find().sort('step')
            ] == [0, 6]


@pytest.mark.nightly
def test_a_replica_set_that_loses_its_primary_loses_no_step(forks, tmp_path, free_address):
    """The only member steps down twice, and can be elected again after two seconds."""
    with mongod(str(tmp_path), free_address(), '--replSet', 'lab') as port:
        with pymongo.MongoClient('127.0.0.1', port, directConnection=True) as client:
            client.admin.command(
                'replSetInitiate',
                dict(_id='lab', members=[dict(_id=0, host=f'127.0.0.1:{port}')]),
            )
            uri = f'mongodb://127.0.0.1:{port}/?replicaSet=lab'
            running = forks.start(*(WORDS + ['--train_epochs=12']), MONGODB_URI=uri)
            for beginning in ('step 36 of 360', 'step 120 of 360'):
                commands.reach(running, beginning)
                while not client.admin.command('isMaster')[
                    'ismaster'
                ]:  # the training may be faster than an election
                    time.sleep(0.1)
                client.admin.command('replSetStepDown', 2, force=True)
            commands.succeeded(commands.end(running))
            found = list(client['secret']['fc_7-5.files'].find().sort('step'))
    assert sum(len(record.get('train_results', [])) for record in found) == found[-1]['step'] == 360
    assert len({record['step'] for record in found}) == len(found)
