"""Tests of the private server: it starts once and stops cleanly, and every error has a message."""

import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading

import pymongo
import pytest

from database import connection, server
from database.errors import ServerError

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def mongod_processes(address):
    """Returns the ids of the mongod processes whose data is below a root folder."""
    found = []
    for entry in os.listdir('/proc'):
        if entry.isdigit():
            words = server._command_line(int(entry))
            if f'--dbpath {address.root}' in words:
                found.append(int(entry))
    return found


def run_module(*arguments):
    return subprocess.run(
        [sys.executable, '-m', 'database.server'] + list(arguments),
        cwd=REPOSITORY,
        capture_output=True,
    )


def one_sentence(error):
    return '\n' not in str(error.value) and str(error.value).endswith('.')


@pytest.mark.slow
def test_started_used_and_stopped(own_port):
    said = server.ensure(*own_port)
    assert re.match(rf'Started a private MongoDB \d+\.\d+\.\d+ at localhost:{own_port.port}', said)
    folder = os.path.join(own_port.root, f'mongod-{own_port.port}')
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
    assert re.match(
        rf'MongoDB \d+\.\d+\.\d+ at localhost:{own_port.port}\.', server.ensure(*own_port)
    )
    assert 'a private server (process' in server.status(own_port.port, own_port.root)
    assert len(mongod_processes(own_port)) == 1
    size = sum(
        os.path.getsize(os.path.join(place, name))
        for place, _, names in os.walk(folder)
        for name in names
    )
    assert size < 12 << 20
    assert (
        'Stopped' in server.stop(own_port.port, own_port.root) and mongod_processes(own_port) == []
    )
    assert 'No private MongoDB is running' in server.stop(own_port.port, own_port.root)


def test_it_runs_no_javascript(mongo_server):
    """Anyone of the machine may use the private server, but not make it run programs."""
    with pymongo.MongoClient(mongo_server.host, mongo_server.port) as client:
        files = client.javascript.files
        files.insert_one({'step': 1})
        assert files.count_documents({'step': 1}) == 1
        for query in (
            {'$where': 'true'},
            {
                '$expr': {
                    '$function': {'body': 'function() {return true}', 'args': [], 'lang': 'js'}
                }
            },
        ):
            with pytest.raises(pymongo.errors.OperationFailure):
                files.find_one(query)


@pytest.mark.slow
def test_it_is_in_a_session_of_its_own_and_listens_here_only(own_port):
    server.ensure(*own_port)
    (process,) = mongod_processes(own_port)
    assert os.getsid(process) != os.getsid(0)
    assert '--bind_ip 127.0.0.1' in server._command_line(process)


@pytest.mark.slow
def test_data_outlives_a_restart(own_port):
    for value in range(2):
        server.ensure(*own_port)
        with pymongo.MongoClient(own_port.host, own_port.port) as client:
            assert client.d.c.count_documents({}) == value
            client.d.c.insert_one({'value': value})
        server.stop(own_port.port, own_port.root)


@pytest.mark.slow
def test_a_killed_servers_pid_file_means_nothing(own_port):
    server.ensure(*own_port)
    (process,) = mongod_processes(own_port)
    os.kill(process, signal.SIGKILL)
    assert connection.wait(lambda: not connection.listens('localhost', own_port.port), 60)
    assert 'No private MongoDB is running' in server.stop(own_port.port, own_port.root)
    assert 'Started' in server.ensure(*own_port)


@pytest.mark.slow
def test_a_strangers_process_is_never_stopped(own_port):
    folder = os.path.join(own_port.root, f'mongod-{own_port.port}')
    os.makedirs(folder)
    stranger = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE)
    with open(os.path.join(folder, 'mongod.pid'), 'w') as stream:
        stream.write(f'{stranger.pid}\n')
    assert 'No private MongoDB is running' in server.stop(own_port.port, own_port.root)
    assert stranger.poll() is None
    stranger.communicate(b'\n')
    assert 'ever started' in server.stop(own_port.port + 1, own_port.root)


def test_a_server_of_somebody_else_is_used_and_not_stopped(mongo_server, tmp_path):
    assert server.ensure('localhost', mongo_server.port, str(tmp_path)).startswith('MongoDB')
    assert 'not a private server' in server.status(mongo_server.port, str(tmp_path))
    server.stop(mongo_server.port, str(tmp_path))
    assert server.ensure('localhost', mongo_server.port, str(tmp_path)).startswith('MongoDB')
    assert os.listdir(str(tmp_path)) == []


@pytest.mark.slow
def test_two_processes_at_once_end_with_one_server(own_port):
    command = [
        sys.executable,
        '-m',
        'database.server',
        'start',
        '--port',
        str(own_port.port),
        '--root',
        own_port.root,
    ]
    both = [subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE) for _ in range(2)]
    said = sorted(process.communicate()[0].decode() for process in both)
    assert [process.returncode for process in both] == [0, 0]
    assert said[0].startswith('MongoDB') and said[1].startswith('Started')
    assert len(mongod_processes(own_port)) == 1


@pytest.fixture(
    params=[b'', b'HTTP/1.0 400 Bad Request\r\nContent-Length: 0\r\n\r\n'], ids=['silent', 'http']
)
def stranger_port(request):
    """A port where another program than MongoDB listens; it answers or stays silent."""
    listener = socket.socket()
    listener.bind(('127.0.0.1', 0))
    listener.listen(20)
    accepted = []

    def answer():
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            accepted.append(peer)
            if request.param:
                peer.sendall(request.param)

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()
    for peer in accepted:
        peer.close()


def test_a_port_that_something_else_has_taken(stranger_port, tmp_path, impatient):
    with pytest.raises(ServerError, match=f'Port {stranger_port} of localhost is in use') as error:
        server.ensure('localhost', stranger_port, str(tmp_path))
    assert one_sentence(error) and os.listdir(str(tmp_path)) == []


@pytest.mark.parametrize('host', ['db.host.invalid', '192.0.2.1', 'a..b', 'x' * 70 + '.invalid'])
def test_a_remote_host_where_nothing_answers(host, own_port, impatient):
    with pytest.raises(
        ServerError, match=f'Nothing answers at {re.escape(host)}:{own_port.port}'
    ) as error:
        server.ensure(host, own_port.port, own_port.root)
    assert one_sentence(error) and not os.path.exists(own_port.root)


@pytest.mark.parametrize('port', [0, -1, 65536])
def test_a_port_that_cannot_be(port, tmp_path):
    with pytest.raises(ServerError, match='between 1 and 65535') as error:
        server.ensure('localhost', port, str(tmp_path))
    assert one_sentence(error)


def test_no_mongod_anywhere(own_port, monkeypatch):
    monkeypatch.setenv('PATH', '/nowhere')
    monkeypatch.setattr(server.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(ServerError, match=re.escape('pip install -e .[mongodb]')) as error:
        server.ensure(*own_port)
    assert one_sentence(error)


def test_a_mongod_on_the_path_comes_first(tmp_path, monkeypatch):
    wheel = server.find_mongod()
    (tmp_path / 'mongod').write_text('#!/bin/sh\n')
    (tmp_path / 'mongod').chmod(0o755)
    monkeypatch.setenv('PATH', str(tmp_path))
    assert server.find_mongod() == str(tmp_path / 'mongod') != wheel


@pytest.mark.slow
def test_a_mongod_that_will_not_start_says_why(own_port, tmp_path, monkeypatch):
    (tmp_path / 'mongod').write_text(
        '#!/bin/sh\necho error while loading shared libraries: libcurl.so.4\nexit 127\n'
    )
    (tmp_path / 'mongod').chmod(0o755)
    monkeypatch.setenv('PATH', str(tmp_path))
    with pytest.raises(ServerError, match='did not start.*libcurl.so.4') as error:
        server.ensure(*own_port)
    assert one_sentence(error)


@pytest.mark.slow
def test_two_servers_never_share_a_folder(own_port, free_address):
    server.ensure(*own_port)
    (process,) = mongod_processes(own_port)
    folder = os.path.join(own_port.root, f'mongod-{own_port.port}')
    # Even without our process id file, the lock of mongod protects the folder.
    os.remove(os.path.join(folder, 'mongod.pid'))
    with pytest.raises(ServerError, match='DBPathInUse'):
        server._start('localhost', int(free_address().rpartition(':')[2]), folder)
    assert len(mongod_processes(own_port)) == 1
    with open(os.path.join(folder, 'mongod.pid'), 'w') as stream:
        stream.write(f'{process}\n')


def test_a_folder_that_cannot_be_made(own_port, tmp_path):
    (tmp_path / 'root').write_text('a file')
    with pytest.raises(ServerError, match='cannot be used') as error:
        server.ensure(*own_port)
    assert one_sentence(error)
    (tmp_path / 'root').unlink()


@pytest.mark.slow
def test_the_command(own_port):
    where = ['--port', str(own_port.port), '--root', own_port.root]
    silent = run_module('status', *where)
    assert (
        silent.returncode == 1
        and b'Nothing answers' in silent.stderr
        and b'Traceback' not in silent.stderr
    )
    assert run_module('start', *where).stdout.startswith(b'Started')
    assert b'a private server (process' in run_module('status', *where).stdout
    assert run_module('stop', *where).stdout.startswith(b'Stopped')


@pytest.mark.slow
def test_the_configuration_file_starts_a_server(own_port, tmp_path):
    shutil.copy(os.path.join(REPOSITORY, 'mongodb.conf'), str(tmp_path))
    (tmp_path / 'mongodb-data').mkdir()
    process = subprocess.Popen(
        [
            server.find_mongod(),
            '--config',
            'mongodb.conf',
            '--port',
            str(own_port.port),
            '--nounixsocket',
        ],
        cwd=str(tmp_path),
    )
    try:
        assert connection.wait(
            lambda: connection.listens('localhost', own_port.port), server.START_S
        )
        with pymongo.MongoClient('localhost', own_port.port) as client:
            options = client.admin.command('getCmdLineOpts')['parsed']
        assert (
            options['net']['bindIp'] == '127.0.0.1'
            and options['storage']['dbPath'] == 'mongodb-data'
        )
    finally:
        process.terminate()
        process.wait()
    assert os.path.exists(str(tmp_path / 'mongodb-data' / 'mongod.log'))
    with open(os.path.join(REPOSITORY, 'mongodb.conf')) as stream:
        assert re.search(rf'port: {server.DEFAULT_PORT}\b', stream.read())
