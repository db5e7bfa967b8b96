"""Connects to the MongoDB server at a host and port, or explains briefly why that fails."""

import datetime
import os
import socket
import time
from typing import Callable, Iterable, List, Optional, Tuple

import pymongo
import pymongo.uri_parser
from pymongo.errors import PyMongoError

from database.errors import ServerError
from database.types import Document

URI = 'MONGODB_URI'  # the environment variable; it may contain a password and is never shown

ANSWER_S = 3.0
REQUEST_S = 60.0
LOOK_AGAIN_S = 0.05

Client = pymongo.MongoClient[Document]


class NothingThereError(ServerError):
    """Nothing listens at a host and port, so a server can be started there."""


def connect(host: str, port: int) -> Client:
    """Returns a MongoClient of a server that has answered.

    If the environment variable MONGODB_URI names this server, its user name, password, TLS and
    other options are used.

    Args:
        host: Name or address of the server.
        port: TCP port of the server.

    Raises:
        NothingThereError: Nothing answers within 3 s.
        ServerError: The program that answers is not MongoDB, or the server refuses access.
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
        touch(host, port)  # raises NothingThereError if the server has just stopped
        raise ServerError(
            f'Port {port} of {host} is in use by a program that does not answer like MongoDB '
            f'({reason(error)}). Choose another --port.'
        ) from error
    return client


def uri_places() -> List[Tuple[str, Optional[int]]]:
    """Returns [(host, port)] of the servers in MONGODB_URI, or [] if it is not set.

    Raises:
        ServerError: MONGODB_URI is not a valid URI. The message does not contain the URI.
    """
    uri = os.environ.get(URI)
    if not uri:
        return []
    try:
        return [(host, port) for host, port in pymongo.uri_parser.parse_uri(uri)['nodelist']]
    except (PyMongoError, ValueError, TypeError) as error:
        raise ServerError(
            f'{URI} is not a valid MongoDB URI ({type(error).__name__}). Use the form '
            'mongodb://user:password@host:port/?options, with %-escapes in '
            'the user name and the password.'
        ) from None


def _connect_by_uri(host: str, port: int, limits: Document) -> Client:
    try:
        client: Client = pymongo.MongoClient(os.environ[URI], **limits)
        client.admin.command('ping')
        client.list_database_names()  # a server answers a ping even without a login
        return client
    except (PyMongoError, ValueError) as error:
        told = reason(error)
    raise ServerError(
        f'MongoDB at {host}:{port}, the server in {URI}, does not answer or refuses access '
        f'({told}). Check the host, the user name, the password and the options in the URI.'
    )


def reason(error: Exception) -> str:
    """Returns the first words of a pymongo error, without the state of every host that follows."""
    words = str(error).split(', Timeout:')[0].split(', full error')[0].split(' (configured')[0]
    return ' '.join(words.split()) or type(error).__name__


def now(client: Client) -> datetime.datetime:
    """Returns the time of the server's clock."""
    told: datetime.datetime = client.admin.command('isMaster')['localTime']
    return told


def check_case(client: Client, address: str, names: Iterable[str]) -> None:
    """Checks that no name differs from an existing database only in case.

    MongoDB would refuse such a database, but not before the first write.

    Args:
        client: A client of the server.
        address: The server as host:port.
        names: Names of databases.

    Raises:
        ServerError: A name differs only in case.
        PyMongoError: MongoDB cannot be read.
    """
    present = client.list_database_names()
    for name in names:
        for other in present:
            if name != other and name.lower() == other.lower():
                raise ServerError(
                    f'MongoDB at {address} has the database {other} and refuses {name}, which '
                    'differs only in case. Choose another --dbname or --exp_id_suffix.'
                )


def touch(host: str, port: int) -> None:
    """Opens a connection and closes it again.

    Raises:
        NothingThereError: Nothing answers within 3 s.
        ServerError: The port is out of range.
    """
    if not 0 < port < 65536:
        raise ServerError(f'The port is {port}, but it must be between 1 and 65535.')
    address = '127.0.0.1' if host == 'localhost' else host  # as in pymongo
    try:
        socket.create_connection((address, port), ANSWER_S).close()
    # A host name with an empty or too long label raises UnicodeError.
    except (OSError, UnicodeError) as error:
        raise NothingThereError(
            f'Nothing answers at {host}:{port} ({error}). Check the host and --port, or start a '
            'MongoDB server there.'
        ) from error


def listens(host: str, port: int) -> bool:
    """Returns whether anything listens at a host and port."""
    try:
        touch(host, port)
    except NothingThereError:
        return False
    return True


def version(host: str, port: int) -> str:
    """Returns the version of the MongoDB server at a host and port.

    Raises:
        ServerError: The server cannot be reached (as in `connect`) or does not report its version.
    """
    client = connect(host, port)
    try:
        told: str = client.server_info()['version']
        return told
    except PyMongoError as error:
        raise ServerError(
            f'MongoDB at {host}:{port} does not report its version ({reason(error)}). Check that '
            'you have access to it.'
        ) from error
    finally:
        client.close()


def wait(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Waits for a condition; returns whether it became true within `timeout_s` seconds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK_AGAIN_S)
    return True
