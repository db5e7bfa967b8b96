"""A server with users: what their rights do not allow is said at the start, and nothing is lost."""

import pymongo
import pytest

from database import connection, records, server
from database.errors import StoreError
from database.store import Store

RECENT = records.recent_database('lab', 'fc', 'symmetric')
WRITES = ['find', 'insert', 'update', 'remove', 'listCollections', 'listIndexes']


@pytest.fixture
def guarded(own_port, monkeypatch):
    """Yields (address, admin): a server of this test that asks for a password, and its root.

    The other user, whose name and password are in MONGODB_URI, has no rights yet.
    """
    monkeypatch.setattr(server, 'SAFE', server.SAFE + ['--auth'])
    server.ensure(*own_port)
    with pymongo.MongoClient(own_port.host, own_port.port) as first:  # may only do this
        first['admin'].command('createUser', 'root', pwd='r', roles=['root'])
    with pymongo.MongoClient(own_port.host, own_port.port, username='root', password='r') as admin:
        admin['admin'].command('createUser', 'user', pwd='secret', roles=[])
        monkeypatch.setenv('MONGODB_URI', f'mongodb://user:secret@{own_port.host}:{own_port.port}')
        yield own_port, admin['admin']


def opened(address, tmp_path):
    return Store(
        address.host,
        address.port,
        'lab',
        'fc',
        'symmetric',
        spool=str(tmp_path / 'spool'),
        exclusive=True,
    )


def grant(admin, *roles):
    admin.command('updateUser', 'user', roles=list(roles))


def waiting(tmp_path):
    folder = tmp_path / 'spool'
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.mark.slow
def test_what_a_user_may_not_do_is_said_at_the_start(guarded, tmp_path):
    address, admin = guarded
    of_lab = {'role': 'readWrite', 'db': 'lab'}
    for roles in ([], [{'role': 'read', 'db': 'lab'}], [of_lab]):
        grant(admin, *roles)
        with pytest.raises(StoreError, match='not authorized on ') as caught:
            opened(address, tmp_path)
        assert 'secret' not in str(caught.value)
    assert f'needs the role readWrite there and in {RECENT}' in str(caught.value)
    assert 'lab' not in admin.client.list_database_names()  # nothing was created
    grant(admin, of_lab, {'role': 'readWrite', 'db': RECENT})
    store = opened(address, tmp_path)
    store.save(records.build('symmetric', 0, {}, 0.1))
    store.close()
    assert admin.client['lab']['fc.files'].count_documents({}) == 1


@pytest.mark.slow
def test_records_wait_for_the_right_to_make_an_index(guarded, tmp_path):
    address, admin = guarded
    everything = {'db': '', 'collection': ''}
    admin.command(
        'createRole',
        'writer',
        privileges=[{'resource': everything, 'actions': WRITES}],
        roles=[],
    )
    grant(admin, 'writer')
    store = opened(address, tmp_path)
    for step in (0, 7):
        store.save(records.build('symmetric', step, {}, 0.1))
    assert connection.wait(lambda: len(waiting(tmp_path)) == 2, 60)
    assert any('not authorized' in message for message in store.news())
    with pytest.raises(StoreError, match='They are kept in .*spool; run the same command again'):
        store.close(0.1)
    grant(admin, 'readWriteAnyDatabase')
    store = opened(address, tmp_path)
    assert store.replayed == 2 and store.flush(60)
    store.close()
    assert [found['step'] for found in admin.client['lab']['fc.files'].find()] == [0, 7]
    assert waiting(tmp_path) == []
    grant(admin, 'writer')  # now the collection is there, and is looked at first
    with pytest.raises(StoreError, match='needs the role readWrite'):
        opened(address, tmp_path)
