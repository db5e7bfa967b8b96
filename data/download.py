"""Downloads files of data sets with a progress bar, and gives up if the network hangs."""

import http.client
import logging
import os
import threading
import urllib.request

from tqdm import tqdm

from data.base import DataError

TIMEOUT = 5  # seconds without an answer after which the network counts as unavailable
NETWORK_ERRORS = (OSError, http.client.HTTPException)

log = logging.getLogger(__name__)


def reachable(url: str) -> bool:
    """Returns whether the URL answers within TIMEOUT seconds."""
    answered, done = threading.Event(), threading.Event()

    def ask() -> None:
        try:
            urllib.request.urlopen(
                urllib.request.Request(url, method='HEAD'), timeout=TIMEOUT
            ).close()
            answered.set()
        except NETWORK_ERRORS as error:
            log.debug('%s: %s', url, error)
        done.set()

    # In a thread, because the timeout does not apply to the lookup of a host name.
    threading.Thread(target=ask, daemon=True).start()
    done.wait(TIMEOUT)
    return answered.is_set()


def fetch(url: str) -> bytes:
    """Downloads the bytes at a URL, with a progress bar. Raises one of NETWORK_ERRORS."""
    chunks = []
    with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
        size = int(answer.headers.get('Content-Length') or 0) or None
        with tqdm(total=size, unit='B', unit_scale=True, desc=url.rsplit('/', 1)[1]) as bar:
            for chunk in iter(lambda: answer.read(1 << 16), b''):
                chunks.append(chunk)
                bar.update(len(chunk))
    return b''.join(chunks)


def store(path: str, content: bytes, title: str) -> None:
    """Writes a file under a temporary name and renames it, so that it is never incomplete.

    Args:
        path: Path of the file. Its folder is made if it is missing.
        content: Content of the file.
        title: Name of the data set, for the message.

    Raises:
        DataError: The file cannot be written.
    """
    temporary = f'{path}.{os.getpid()}.tmp'
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(temporary, 'wb') as file:
            file.write(content)
        os.replace(temporary, path)
    except OSError as error:
        raise DataError(
            f'{title} cannot be stored at {path} ({error}). Put its files into another folder and '
            'set --data_dir to that folder.'
        )
