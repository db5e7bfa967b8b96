"""Finds the MongoDB server of a host and port, and says in a few words why it does not answer."""

import os
import socket
import time
from typing import Callable, List, Optional, Tuple

import pymongo
import pymongo.uri_parser
from pymongo.errors import PyMongoError

from database.errors import ServerError
from database.types import Document

URI = 'MONGODB_URI'  # the environment variable; it may hold a password, and is never shown

ANSWER_S = 3.0
REQUEST_S = 60.0
LOOK_AGAIN_S = 0.05

Client = pymongo.MongoClient[Document]


class NothingThereError(ServerError):
    """Nothing listens at a host and port: there a server can be started."""


def connect(host: str, port: int) -> Client:
    """Returns a MongoClient of a server that has answered.

    Where the environment variable MONGODB_URI names this server, its user name, password, TLS and
    other options count.

    Raises:
        NothingThereError: nothing answers within 3 s. ServerError: what answers is not MongoDB, or
        does not let us in.
    """
    limits: Document = dict(
        serverSelectionTimeoutMS=int(ANSWER_S * 1000),
        connectTimeoutMS=int(ANSWER_S * 1000),
        socketTimeoutMS=int(REQUEST_S * 1000),
    )
    if (host, port) in uri_places():
        return _connect_by_uri(host, port, limits)
    touch(host, port)
    client: Client = pymongo.MongoClient(
        f'[{host}]' if ':' in host else host, port, directConnection=True, **limits
    )
    try:
        client.admin.command('ping')
    except PyMongoError as error:
        client.close()
        touch(host, port)  # a server that has just ended is no stranger on its port
        raise ServerError(
            f'Port {port} of {host} is taken by something that does not answer as MongoDB does '
            f'({reason(error)}): choose another --port.'
        ) from error
    return client


def uri_places() -> List[Tuple[str, Optional[int]]]:
    """[(host, port)] of the servers of MONGODB_URI; [] where it is not set. Raises ServerError,
    without it, if it is none.
    """
    uri = os.environ.get(URI)
    if not uri:
        return []
    try:
        return [(host, port) for host, port in pymongo.uri_parser.parse_uri(uri)['nodelist']]
    except (PyMongoError, ValueError, TypeError) as error:
        raise ServerError(
            f'{URI} is no URI of MongoDB ({type(error).__name__}): give '
            'mongodb://user:password@host:port/?options, with %-escapes in '
            'user and password.'
        ) from None


def _connect_by_uri(host: str, port: int, limits: Document) -> Client:
    try:
        client: Client = pymongo.MongoClient(os.environ[URI], **limits)
        client.admin.command('ping')
        client.list_database_names()  # a server lets everybody ping
        return client
    except (PyMongoError, ValueError) as error:
        told = reason(error)
    raise ServerError(
        f'MongoDB at {host}:{port}, as {URI} names it, is not there or does not let us in '
        f'({told}): check the host, the user, the password and the options there.'
    )


def reason(error: Exception) -> str:
    """The first few words of an error of pymongo's, whose texts go on with the state of every
    host.
    """
    words = str(error).split(', Timeout:')[0].split(', full error')[0].split(' (configured')[0]
    return ' '.join(words.split()) or type(error).__name__


def touch(host: str, port: int) -> None:
    """Opens a connection and closes it again; raises NothingThereError when there is none."""
    if not 0 < port < 65536:
        raise ServerError(f'The port is {port}: it must be between 1 and 65535.')
    address = '127.0.0.1' if host == 'localhost' else host  # as pymongo does
    try:
        socket.create_connection((address, port), ANSWER_S).close()
    except (
        OSError,
        UnicodeError,
    ) as error:  # UnicodeError: a host name with an empty or too long label
        raise NothingThereError(
            f'Nothing answers at {host}:{port} ({error}): check the host and --port, or start a '
            'MongoDB server there.'
        ) from error


def listens(host: str, port: int) -> bool:
    """Whether anything listens there."""
    try:
        touch(host, port)
    except NothingThereError:
        return False
    return True


def version(host: str, port: int) -> str:
    """The version of the MongoDB there. Raises ServerError as `connect`, or where it keeps silent
    on it.
    """
    client = connect(host, port)
    try:
        told: str = client.server_info()['version']
        return told
    except PyMongoError as error:
        raise ServerError(
            f'MongoDB at {host}:{port} does not tell its version ({reason(error)}): check that it '
            'may be used.'
        ) from error
    finally:
        client.close()


def wait(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Whether a condition came true within a time in seconds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK_AGAIN_S)
    return True
