"""A server of the user's own, which asks for a password: MONGODB_URI gives it, and nothing shows it."""
import os
import subprocess

import pymongo
import pytest

import commands
from database import server

WORDS = ['train.py'] + commands.FC + ['--train_epochs=0.2', '--dbname=secret']
PASSWORD = 'p@ss/word'
ESCAPED = 'p%40ss%2Fword'


@pytest.fixture(scope='module')
def guarded(tmp_path_factory, free_address):
    """(host, port) of a mongod that wants a password."""
    folder, address = str(tmp_path_factory.mktemp('guarded')), free_address()
    port = int(address.rpartition(':')[2])
    start = [server.find_mongod(), '--dbpath', folder, '--bind_ip', '127.0.0.1', '--port', str(port), '--logpath',
             os.path.join(folder, 'log'), '--nounixsocket'] + server.SMALL
    running = subprocess.Popen(start + ['--auth'], stdout=subprocess.DEVNULL)
    with pymongo.MongoClient('127.0.0.1', port) as client:
        client.admin.command('createUser', 'lab', pwd=PASSWORD, roles=['root'])
    yield '127.0.0.1', port
    running.terminate()
    running.wait()


def run(home, uri, *words):
    """Done of a command with this MONGODB_URI."""
    return commands.end(commands.process(list(words), home, MONGODB_URI=uri))


def test_a_training_and_a_validation_use_it_and_nothing_shows_it(guarded, home):
    host, port = guarded
    uri = 'mongodb://lab:{}@{}:{}/?authSource=admin'.format(ESCAPED, host, port)
    done = run(home, uri, *WORDS)
    commands.succeeded(done)
    again = run(home, uri, 'test.py', 'validate', '--val_exp_id=check', *WORDS[1:-2], '--dbname=secret')
    commands.succeeded(again)
    with pymongo.MongoClient(uri) as client:
        found = list(client['secret']['fc_7-5.files'].find())
    assert {record['exp_id'] for record in found} == {'symmetric', 'check'}
    assert found[0]['params']['save_params']['host'] == host and found[0]['params']['save_params']['port'] == port
    shown = done.out + done.err + again.out + again.err + repr(found)
    assert not any(secret in shown for secret in (PASSWORD, ESCAPED, 'mongodb://'))


@pytest.mark.parametrize('uri, words, code, told', [
    ('mongodb://lab:wrong{e}@{h}:{p}/', [], 1, 'as MONGODB_URI names it, is not there or does not let us in (Authentication failed'),
    ('mongodb://{h}:{p}/', [], 1, 'does not let us in'), ('mongodb://lab:{e}@{h}:9/', [], 1, '127.0.0.1:9, as MONGODB_URI names it'),
    ('mongo:/{e}', [], 1, 'MONGODB_URI is no URI of MongoDB'), ('mongodb://lab:p@ss/{e}@{h}/', [], 1, 'MONGODB_URI is no URI'),
    ('mongodb://lab:{e}@{h}:{p}/', ['--port=7'], 2, '--host=localhost and --port=7 are not a server of')])
def test_what_does_not_let_us_in_is_told_without_it(guarded, home, uri, words, code, told):
    host, port = guarded
    done = run(home, uri.format(e=ESCAPED, h=host, p=port), *(WORDS + words))
    assert told in commands.refusal(done, code)
    assert not any(secret in done.out + done.err for secret in (PASSWORD, ESCAPED, 'wrong', 'p@ss'))
