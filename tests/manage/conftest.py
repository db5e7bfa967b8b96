"""A database of a test with experiments, and runs.py on it."""

import collections

import pytest

import runs as program
from database import records

import stock

Done = collections.namedtuple('Done', 'code out err')


@pytest.fixture
def client(mongo_server):
    """A client of the server; all databases that a test creates are dropped at its end."""
    with stock.client_of(mongo_server) as client:
        before = set(client.list_database_names())
        yield client
        for name in set(client.list_database_names()) - before - set(records.SYSTEM_DATABASES):
            client.drop_database(name)


@pytest.fixture
def cache(tmp_path):
    """The cache folder of the commands."""
    return tmp_path / 'cache'


@pytest.fixture
def run(mongo_server, client, cache, capsys):
    """Returns a function that runs runs.py on a database; it returns code, out and err."""

    def command(*words, dbname='carry', port=None):
        where = [f'--port={port or mongo_server.port}', f'--cache_dir={cache}']
        where += [f'--dbname={dbname}'] if dbname else []
        code = program.main([*words, *where])
        told = capsys.readouterr()
        assert 'Traceback' not in told.err
        return Done(code, told.out, told.err)

    return command


@pytest.fixture
def fill(mongo_server, client, tmp_path):
    """Returns a function that stores an experiment; see stock.fill."""

    def store(exp_id, dbname='carry', collection=stock.COLLECTION, **train):
        stock.fill(mongo_server, tmp_path, dbname, exp_id, collection, **train)

    return store


@pytest.fixture
def local(mongo_server, cache):
    """Returns a function that creates the local files of an experiment and returns its folder."""

    def create(exp_id, dbname='carry', collection=stock.COLLECTION, names=('checkpoint-9.index',)):
        folder = cache / f'localhost:{mongo_server.port}' / dbname / collection / exp_id
        folder.mkdir(parents=True)
        for name in names:
            (folder / name).write_bytes(b'1234567')
        return folder

    return create
