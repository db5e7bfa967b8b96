"""Fixtures for the tests of MongoDB, also of a server that stops answering."""

import re

import pymongo
import pytest

from database import connection, records, writer


@pytest.fixture
def impatient(monkeypatch):
    """Shortens the time-out for a server from 3 s to 1 s, and the pause between retries."""
    monkeypatch.setattr(connection, 'ANSWER_S', 1.0)
    monkeypatch.setattr(writer, 'LONGEST_PAUSE_S', 0.2)


@pytest.fixture
def client(mongo_server):
    """A client of the server of this test run."""
    with pymongo.MongoClient(mongo_server.host, mongo_server.port) as opened:
        yield opened


@pytest.fixture
def dbname(client, request):
    """The name of a database of this test, for an experiment of fc with the name of a rule."""
    name = re.sub(r'\W+', '_', request.node.name)[-30:]
    yield name
    for each in (name, records.recent_database(name, 'fc', 'symmetric')):
        client.drop_database(each)
