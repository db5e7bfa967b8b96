"""Tests of the server of the page: what it answers, to whom, and what a browser shows then."""

import http.client
import json
import threading

import pytest

from database.errors import StoreError
from reports.page import document, serving

import shown
from shown import made


class Database:
    """A database whose runs a test changes."""

    def __init__(self):
        self.runs, self.looks, self.error = [made('one', 'mirror', 0, 5)], 0, None

    def look(self):
        self.looks += 1
        if self.error:
            raise StoreError(self.error)
        return shown.contents(self.runs, refresh_s=1, is_served=True)


@pytest.fixture
def database():
    return Database()


@pytest.fixture
def start(database):
    """A function that serves the database, with answers that are used for some seconds."""
    servers = []

    def serve(every_s):
        server = serving.Server(serving.Source(database.look, every_s), 0)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        servers.append((server, thread))
        return server

    yield serve
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


def get(server, path, **headers):
    """Returns (status, headers, text) of an answer."""
    connection = http.client.HTTPConnection(serving.ADDRESS, server.server_port, timeout=60)
    connection.request('GET', path, headers=headers)
    answer = connection.getresponse()
    found = answer.status, dict(answer.getheaders()), answer.read().decode()
    connection.close()
    return found


def test_it_serves_the_page_and_new_data(database, start):
    server = start(0.0)
    assert server.server_address[0] == '127.0.0.1'
    status, headers, text = get(server, '/')
    assert status == 200 and headers['Content-Type'] == 'text/html; charset=utf-8'
    assert text == document.of(database.look()) and headers['Cache-Control'] == 'no-store'
    names = [json.loads(get(server, '/data.json')[2])['runs']['names']]
    database.runs = database.runs + [made('two', 'dfa', 0, 5)]
    names.append(json.loads(get(server, '/data.json')[2])['runs']['names'])
    assert names == [['one'], ['one', 'two']]


def test_it_reads_the_database_again_only_when_its_answer_is_old(database, start):
    server = start(3600.0)
    for _ in range(3):
        get(server, '/data.json')
    assert database.looks == 1


def test_it_answers_nobody_else_and_says_what_is_wrong(database, start):
    server = start(0.0)
    assert get(server, '/', Host='evil.example')[0] == 403
    assert get(server, '/', Host=f'localhost:{server.server_port}')[0] == 200
    assert get(server, '/../report.py')[0] == 404
    database.error = 'Nothing answers at localhost:1'
    status, _, text = get(server, '/data.json')
    assert (status, text) == (503, database.error)


def test_a_port_in_use_is_an_error(start, database):
    server = start(0.0)
    with pytest.raises(OSError):
        serving.Server(serving.Source(database.look, 1.0), server.server_port)
