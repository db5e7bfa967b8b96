"""Opens files of the cache folder, for this user only and never through a link.

Others may be allowed to write into the folder. A link that they put there, with the name of a file
that we are about to write, would make us overwrite the file that it points to; and one that we read
could put a private file into the database. The folder itself may be a link.
"""

import contextlib
import errno
import os
from typing import BinaryIO

# Missing on systems without such links or pipes.
NO_LINK = getattr(os, 'O_NOFOLLOW', 0) | getattr(os, 'O_CLOEXEC', 0)
NO_WAIT = getattr(os, 'O_NONBLOCK', 0)  # else a named pipe would block forever


def make_folders(path: str) -> None:
    """Creates a folder, and those above it that are missing, for this user only.

    Raises:
        OSError: It cannot be created.
    """
    above = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(above):
        make_folders(above)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700)
    if not os.path.isdir(path):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)


def created(path: str) -> BinaryIO:
    """Creates a file for this user only, in place of whatever has its name, and opens it.

    Raises:
        OSError: It cannot be created.
    """
    with contextlib.suppress(FileNotFoundError):
        os.remove(path)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_LINK, 0o600), 'wb')


def opened(path: str) -> BinaryIO:
    """Opens a file for reading.

    Raises:
        OSError: It cannot be opened, or is a link.
    """
    return os.fdopen(os.open(path, os.O_RDONLY | NO_LINK | NO_WAIT), 'rb')


def protect(path: str) -> None:
    """Withdraws the rights of others on a file that TensorFlow or another library wrote."""
    with contextlib.suppress(OSError):
        if not os.path.islink(path):
            os.chmod(path, 0o600)
