"""Folders and files of data sets, on this machine or on another of TensorFlow's file systems, such
as gs://."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from typing import List, Sequence, Tuple

import tensorflow.compat.v1 as tf

from data.base import DataError

# Files whose sizes are asked for: a file system of the network takes its time for each.
AT_A_TIME = 16
LOCAL = 'file://'
KINDS = {
    stat.S_IFDIR: 'folder',
    stat.S_IFIFO: 'named pipe',
    stat.S_IFSOCK: 'socket',
    stat.S_IFCHR: 'device',
    stat.S_IFBLK: 'device',
}


def listed(data_dir: str, of: str) -> Tuple[str, List[str]]:
    """The folder that --data_dir names, with ~ expanded, and the sorted names in it.

    Args:
        data_dir: str, path or address.
        of: str, what the folder must hold, for the message.

    Raises:
        DataError: there is no such folder, or it cannot be read.
    """
    folder = os.path.expanduser(data_dir)
    try:
        if '\0' in folder:
            raise ValueError('it holds a zero byte')
        folder.encode()  # TensorFlow wants UTF-8
        # Not IsDirectory: it answers False, too, where a file system cannot be reached.
        if tf.gfile.Stat(folder).is_directory:
            return folder, sorted(tf.gfile.ListDirectory(folder))
    except tf.errors.NotFoundError:
        pass
    except tf.errors.OpError as error:
        raise DataError(f'--data_dir={data_dir} cannot be read: {error.message}.')
    except ValueError as error:
        raise DataError(f'--data_dir={data_dir!a} cannot be a path ({error}).')
    raise DataError(f'--data_dir={data_dir} is not a folder; give the one with {of}.')


def size(path: str) -> int:
    """The bytes of a file, int.

    Raises:
        DataError: it cannot be read, or is something else: a named pipe would be waited for without
            end.
    """
    local = path[len(LOCAL) :] if path.startswith(LOCAL) else path
    try:
        if '://' in local:
            status = tf.gfile.Stat(path)
            kind, length = KINDS[stat.S_IFDIR] if status.is_directory else None, status.length
        else:
            status = os.stat(local)
            kind, length = KINDS.get(stat.S_IFMT(status.st_mode)), status.st_size
    except OSError as error:
        raise DataError(f'{path} cannot be read ({error.strerror}).')
    except tf.errors.OpError as error:
        raise DataError(f'{path} cannot be read ({error.message}).')
    if kind:
        raise DataError(f'{path} is a {kind}, where a file must be; take it away.')
    return length


def sizes(paths: Sequence[str]) -> List[int]:
    """[int]: the bytes of each file. Raises DataError as `size` does."""
    with ThreadPoolExecutor(AT_A_TIME) as threads:
        return list(threads.map(size, paths))


def read(path: str) -> bytes:
    """The bytes of a file. Raises DataError where it cannot be read."""
    size(path)
    try:
        with tf.gfile.GFile(path, 'rb') as file:
            return file.read()
    except tf.errors.OpError as error:
        raise DataError(f'{path} cannot be read ({error.message}).')


def lines(content: bytes) -> List[str]:
    """[str]: the lines of a text of bytes, UTF-8 with or without a byte order mark, one name a
    line, without blanks around it."""
    return [line.strip() for line in content.decode('utf-8-sig', 'replace').rstrip().split('\n')]
