"""Folders and files of data sets, on this machine or on a TensorFlow file system such as gs://."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from typing import List, Sequence, Tuple

import tensorflow.compat.v1 as tf

from data.base import DataError

# Files whose sizes are requested in parallel, because a network file system answers slowly.
AT_A_TIME = 16
SMALL = 1 << 26  # bytes that any file may have without compression
MOST_COMPRESSED = 50  # the largest factor by which compression makes images smaller
LOCAL = 'file://'
KINDS = {
    stat.S_IFDIR: 'folder',
    stat.S_IFIFO: 'named pipe',
    stat.S_IFSOCK: 'socket',
    stat.S_IFCHR: 'device',
    stat.S_IFBLK: 'device',
}


def listed(data_dir: str, of: str) -> Tuple[str, List[str]]:
    """Returns the folder given by --data_dir, with ~ expanded, and the sorted names in it.

    Args:
        data_dir: Path or address.
        of: What the folder must contain, for the error message.

    Raises:
        DataError: There is no such folder, or it cannot be read.
    """
    folder = os.path.expanduser(data_dir)
    try:
        if '\0' in folder:
            raise ValueError('it contains a zero byte')
        folder.encode()  # TensorFlow requires UTF-8.
        # Not IsDirectory, because that also returns False if a file system cannot be reached.
        if tf.gfile.Stat(folder).is_directory:
            return folder, sorted(tf.gfile.ListDirectory(folder))
    except tf.errors.NotFoundError:
        pass
    except tf.errors.OpError as error:
        raise DataError(f'--data_dir={data_dir} cannot be read: {error.message}.')
    except ValueError as error:
        raise DataError(f'--data_dir={data_dir!a} cannot be a path ({error}).')
    raise DataError(f'--data_dir={data_dir} is not a folder. Give the folder with {of}.')


def size(path: str) -> int:
    """Returns the size of a file in bytes.

    Raises:
        DataError: The file cannot be read, or is not a regular file. (Reading a named pipe could
            block forever.)
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
        raise DataError(f'{path} is a {kind}, but must be a file. Remove it.')
    return length


def sizes(paths: Sequence[str]) -> List[int]:
    """Returns the size of each file in bytes. Raises DataError as `size` does."""
    with ThreadPoolExecutor(AT_A_TIME) as threads:
        return list(threads.map(size, paths))


def read(path: str) -> bytes:
    """Returns the content of a file. Raises DataError if it cannot be read."""
    size(path)
    try:
        with tf.gfile.GFile(path, 'rb') as file:
            return file.read()
    except tf.errors.OpError as error:
        raise DataError(f'{path} cannot be read ({error.message}).')


def uncompressed(compressed: int) -> int:
    """Returns how many bytes a file of images may have at most without compression.

    A few kilobytes of zeros, compressed, would otherwise fill the memory.

    Args:
        compressed: Its size in bytes.
    """
    return max(SMALL, MOST_COMPRESSED * compressed)


def lines(content: bytes) -> List[str]:
    """Returns the stripped lines of a UTF-8 text, without a byte order mark or empty last lines."""
    return [line.strip() for line in content.decode('utf-8-sig', 'replace').rstrip().split('\n')]
