"""CSV files that several processes write to: locked, synced, and never seen half written."""

import contextlib
import csv
import fcntl
import io
import os
from typing import Iterator, Sequence

from config.rows import ConfigError


@contextlib.contextmanager
def writing(path: str) -> Iterator[int]:
    """Context manager: yields the descriptor of a file that no other process writes to.

    The file and its folder are created if they do not exist.

    Raises:
        ConfigError: The file cannot be written.
    """
    try:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        with _locked(path) as descriptor:
            yield descriptor
    except OSError as error:
        raise ConfigError(
            f'{path} cannot be written ({error.strerror}); make room or choose another '
            '--csv, then run the same command again'
        )


def encoded(rows: Sequence[Sequence[str]]) -> bytes:
    """Returns rows as the bytes of a CSV file. Newlines within fields become spaces."""
    output = io.StringIO(newline='')
    csv.writer(output, lineterminator='\n').writerows(
        [' '.join(field.split('\n')) for field in row] for row in rows
    )
    return output.getvalue().encode('utf-8')


def write(descriptor: int, content: bytes) -> None:
    """Writes and syncs bytes.

    Raises:
        OSError: They cannot be written.
    """
    while content:
        content = content[os.write(descriptor, content) :]
    os.fsync(descriptor)


def replace(path: str, content: bytes) -> None:
    """Replaces a file as a whole, so that it is never seen half written.

    Raises:
        OSError: It cannot be written.
    """
    temporary = f'{path}.{os.getpid()}.part'
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        write(descriptor, content)
    finally:
        os.close(descriptor)
    os.replace(temporary, path)


@contextlib.contextmanager
def _locked(path: str) -> Iterator[int]:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_still(path, descriptor):
                yield descriptor
                return
        finally:
            os.close(descriptor)


def _is_still(path: str, descriptor: int) -> bool:
    """Returns whether a path still names an open file: another process may have replaced it."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
