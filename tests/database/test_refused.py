"""What MongoDB hangs on, refuses or damages is kept, and told; nothing takes an upload's chunks."""

import contextlib
import datetime
import hashlib
import os
import re
import signal
import subprocess

import bson
import pymongo
import pytest
from pymongo.errors import OperationFailure

from database import bucket, connection, records, server, writer
from database.archive import packed
from database.errors import DamagedError, StoreError
from database.spool import Spool
from database.store import Store
from spooled import stored

EXP_ID = 'symmetric'


@pytest.fixture
def opened(mongo_server, dbname, tmp_path):
    """A function that returns an exclusive store with a spool."""
    stores = []

    def make(address=mongo_server, exclusive=True, **more):
        place = address.host, address.port, dbname, 'fc', EXP_ID
        spool = str(tmp_path / 'spool')
        stores.append(Store(*place, spool=spool, exclusive=exclusive, **more))
        return stores[-1]

    yield make
    for store in stores:
        with contextlib.suppress(StoreError):
            store.close(0.1)


@pytest.fixture
def files(client, dbname):
    return client[dbname]['fc.files']


def record(step):
    return records.build(EXP_ID, step, {}, 0.1, [{'loss': 0.5 * step}])


def names(tmp_path):
    there = tmp_path / 'spool'
    return sorted(os.listdir(str(there))) if there.exists() else []


def steps(files):
    return sorted(one['step'] for one in files.find({'step': {'$exists': True}}))


def checkpoint(folder, step):
    """Writes the files of a checkpoint, and returns its archive."""
    prefix = str(folder / f'checkpoint-{step}')
    for ending in ('.index', '.data-00000-of-00001'):
        with open(prefix + ending, 'wb') as file:
            file.write(os.urandom(2345))
    return packed(prefix, prefix + '.tar')


def flip(path, at=1500):
    with open(path, 'r+b') as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 16]))


# --- a server that hangs --------------------------------------------------------------------------


def mongod_of(address):
    with open(os.path.join(address.root, f'mongod-{address.port}', 'mongod.pid')) as file:
        return int(file.read())


@pytest.mark.slow
def test_a_record_that_waits_is_on_the_disk_and_that_is_no_outage(
    own_port, opened, tmp_path, monkeypatch, dbname
):
    """The server is frozen. A request times out after 60 s only."""
    monkeypatch.setattr(writer, 'KEEP_S', 0.2)
    server.ensure(*own_port)
    store = opened(own_port)
    store.save(record(1))
    assert store.flush(60) and names(tmp_path) == []
    os.kill(mongod_of(own_port), signal.SIGSTOP)
    try:
        archive = checkpoint(tmp_path, 2)
        store.save(record(2), checkpoint=archive.path, sha256=archive.sha256)
        store.save(record(3))
        assert connection.wait(lambda: names(tmp_path) == ['00000001.bson', '00000002.bson'], 60)
        found = [entry['record']['step'] for _, entry in stored(Spool(str(tmp_path / 'spool')))]
        assert found == [2, 3] and store.failure is None and store.news() == []
    finally:
        os.kill(mongod_of(own_port), signal.SIGCONT)
    assert store.flush(60) and names(tmp_path) == []
    assert [one['step'] for one in store.records()] == [1, 2, 3]
    store.close()


def test_what_is_written_in_time_never_touches_the_spool(opened, tmp_path, monkeypatch):
    monkeypatch.setattr(writer, 'KEEP_S', 600.0)
    monkeypatch.setattr(Spool, 'keep', lambda *arguments: pytest.fail('it is kept'))
    store = opened()
    for step in range(20):
        store.save(record(step))
    assert store.flush(60) and not (tmp_path / 'spool').exists()


# --- a server that refuses ------------------------------------------------------------------------


@pytest.mark.parametrize('code, words', [(13, 'not authorized'), (86, 'Index must have unique')])
def test_while_everything_is_refused_records_wait_in_order(
    opened, files, tmp_path, monkeypatch, code, words
):
    monkeypatch.setattr(writer, 'LONGEST_PAUSE_S', 0.05)
    store = opened()
    store.save(record(1))
    assert store.flush(60) and store.news() == []
    insert, tries = type(files).insert_one, []

    def refuse(collection, document):
        tries.append(document['step'])
        raise OperationFailure(words, code)

    with monkeypatch.context() as patch:
        patch.setattr(type(files), 'insert_one', refuse)
        for step in (2, 3, 4):
            store.save(record(step))
        assert connection.wait(lambda: len(names(tmp_path)) == 3, 60)
        assert connection.wait(lambda: store.failure, 60)
        (told,) = store.news()
        assert words in told and str(tmp_path / 'spool') in told and store.news() == []
        assert set(tries) == {2} and store.errors == []
    assert type(files).insert_one is insert
    assert store.flush(60) and steps(files) == [1, 2, 3, 4] and names(tmp_path) == []
    assert store.news() == []


def test_each_record_that_is_refused_is_kept_and_tried_again(opened, files, tmp_path):
    """An index of the user refuses three records; later it is gone."""
    store = opened()
    store.save(record(0))
    assert store.flush(60)
    files.create_index([('train_results.loss', 1)], unique=True, name='mine')
    same = [dict(record(step), train_results=[{'loss': 7.5}]) for step in (1, 2, 3, 4)]
    for one in same:
        store.save(one)
    assert not store.flush(60)
    assert steps(files) == [0, 1]
    assert names(tmp_path) == [f'0000000{number}.bson.refused' for number in (1, 2, 3)]
    told = store.news()
    assert [re.search(r'step (\d)', line).group(1) for line in told] == ['2', '3', '4']
    assert all('duplicate key' in line and '.bson.refused' in line for line in told)
    with pytest.raises(StoreError, match='Not everything was written'):
        store.close()
    again = opened()
    assert again.replayed == 3 and 'has the unique index mine' in again.notices[0]
    assert not again.flush(60) and len(names(tmp_path)) == 3
    with pytest.raises(StoreError):
        again.close()
    files.drop_index('mine')
    last = opened()
    assert last.replayed == 3 and last.flush(60) and names(tmp_path) == []
    assert steps(files) == [0, 1, 2, 3, 4] and last.errors == []


def test_a_unique_index_of_steps_costs_no_record(opened, files, tmp_path):
    """The run after a kill replaces the records of the steps that it trains again."""
    store = opened()
    for step in (1, 2, 3):
        store.save(record(step))
    store.close()
    files.create_index([('exp_id', 1), ('step', 1)], unique=True)
    before = {one['step']: one['_id'] for one in files.find()}
    again = opened()
    stale = [identity for _, identity in again.begin_after(1)]
    again.save(record(2), replacing=stale[:1])
    again.save(record(3), replacing=stale[1:])
    assert again.flush(60) and again.errors == [] and names(tmp_path) == []
    after = {one['step']: one['_id'] for one in files.find()}
    assert sorted(after) == [1, 2, 3]
    assert [after[step] == before[step] for step in (1, 2, 3)] == [True, False, False]


@pytest.mark.slow
def test_what_a_server_would_refuse_is_told_at_the_start(free_address, dbname, tmp_path):
    """It has no journal, or gives no right to write; nothing is created."""
    port = int(free_address().rpartition(':')[2])
    start = [server.find_mongod(), '--dbpath', str(tmp_path), '--bind_ip', '127.0.0.1']
    more = ['--port', str(port), '--logpath', str(tmp_path / 'log'), '--nounixsocket']
    running = subprocess.Popen(
        start + more + server.SMALL + ['--nojournal'], stdout=subprocess.DEVNULL
    )
    try:
        assert connection.wait(lambda: connection.listens('127.0.0.1', port), 60)
        with pytest.raises(StoreError, match='would not store the records .*journal'):
            Store('127.0.0.1', port, dbname, 'fc', EXP_ID, exclusive=True)
        with pymongo.MongoClient('127.0.0.1', port) as client:
            assert dbname not in client.list_database_names()
    finally:
        running.kill()
        running.wait()


def test_an_index_of_another_form_is_told_at_the_start(opened, files):
    keys = [('exp_id', 1), ('step', 1), ('_id', 1)]
    files.create_index(keys, unique=True)
    with pytest.raises(StoreError, match='would not store the records .*no index of another form'):
        opened()
    files.drop_indexes()
    opened()


# --- checksums ------------------------------------------------------------------------------------


def test_an_archive_that_has_changed_is_packed_again(opened, files, client, dbname, tmp_path):
    store = opened()
    archive = checkpoint(tmp_path, 7)
    with open(archive.path, 'rb') as file:
        content = file.read()
    assert hashlib.sha256(content).hexdigest() == archive.sha256
    flip(archive.path)
    store.save(record(7), checkpoint=archive.path, sha256=archive.sha256)
    assert store.flush(60) and store.errors == []
    stored = files.find_one()
    assert (stored['sha256'], stored['saved_filters']) == (archive.sha256, True)
    chunks = b''.join(one['data'] for one in client[dbname]['fc.chunks'].find().sort('n'))
    assert chunks == content
    assert sorted(name for name in os.listdir(str(tmp_path)) if '.tar' in name) == [
        'checkpoint-7.tar'
    ]


@pytest.mark.parametrize('kind', ['checkpoint', 'recent'])
def test_a_record_whose_archive_is_damaged_is_stored_without_it(
    opened, files, client, dbname, tmp_path, kind
):
    store = opened()
    archive = checkpoint(tmp_path, 7)
    flip(archive.path)
    flip(archive.path[: -len('.tar')] + '.index')
    store.save(record(7), sha256=archive.sha256, **{kind: archive.path})
    store.save(record(8))
    assert not store.flush(60)
    (told,) = store.news()
    assert 'has changed since it was written, so the record of step 7 is stored without' in told
    assert [(one['step'], one['saved_filters']) for one in files.find().sort('step')] == [
        (7, False),
        (8, False),
    ]
    for name in (dbname, records.recent_database(dbname, 'fc', EXP_ID)):
        for collection in ('fc.chunks', 'fs.chunks', 'fc.uploads', 'fs.uploads', 'fs.files'):
            assert client[name][collection].count_documents({}) == 0
    assert os.path.exists(archive.path + '.damaged') and not os.path.exists(archive.path)
    with pytest.raises(StoreError):
        store.close()
    again = opened()
    assert again.replayed == 1 and again.flush(60) and names(tmp_path) == []
    assert steps(files) == [7, 8]


def test_a_checkpoint_that_was_exchanged_in_the_database_is_noticed(
    opened, files, client, dbname, tmp_path
):
    """Another file of the same length is there, with its own MD5."""
    store = opened()
    for step in (1, 2):
        archive = checkpoint(tmp_path, step)
        store.save(record(step), checkpoint=archive.path, sha256=archive.sha256)
    assert store.flush(60)
    first, second = files.find().sort('step')
    chunks = client[dbname]['fc.chunks']
    data = chunks.find_one({'files_id': first['_id']})['data']
    chunks.update_one({'files_id': second['_id']}, {'$set': {'data': data}})
    files.update_one({'_id': second['_id']}, {'$set': {'md5': first['md5']}})
    with pytest.raises(DamagedError, match='SHA-256'):
        store.download(store.find_checkpoint(), str(tmp_path / 'to'))
    assert store.download(store.find_checkpoint(1), str(tmp_path / 'to'))


# --- uploads --------------------------------------------------------------------------------------


def test_an_upload_that_goes_on_keeps_its_chunks(opened, files, client, dbname, tmp_path):
    """Its record is older than a day: it had waited for MongoDB that long."""
    chunks = client[dbname]['fc.chunks']
    uploads = client[dbname]['fc.uploads']
    old = bson.ObjectId.from_datetime(datetime.datetime.utcnow() - datetime.timedelta(days=3))
    dead = bson.ObjectId.from_datetime(datetime.datetime.utcnow() - datetime.timedelta(days=4))
    for number, file_id in enumerate((old, dead)):
        chunks.insert_one({'files_id': file_id, 'n': 0, 'data': b'x'})
        renewed = datetime.datetime.utcnow() - datetime.timedelta(hours=1 + 24 * number)
        uploads.insert_one({'_id': file_id, 'renewed': renewed})
    opened()
    assert chunks.distinct('files_id') == [old] == uploads.distinct('_id')


def test_an_upload_whose_chunks_vanish_is_made_again(
    opened, files, client, dbname, tmp_path, monkeypatch
):
    """It is not stored as it is, and its archive is not removed before."""
    monkeypatch.setattr(bucket, 'CHUNK_BYTES', 100)
    monkeypatch.setattr(bucket, 'CHUNKS_A_WRITE', 4)
    chunks, write, batches = client[dbname]['fc.chunks'], bucket.Bucket._write_batch, []

    def swept(own, file_id, batch):
        count = write(own, file_id, batch)
        batches.append(count)
        if len(batches) == 2:
            assert client[dbname]['fc.uploads'].find_one({'_id': file_id})
            chunks.delete_many({'files_id': file_id})
        return count

    monkeypatch.setattr(bucket.Bucket, '_write_batch', swept)
    store = opened()
    archive = checkpoint(tmp_path, 7)
    size = os.path.getsize(archive.path)
    store.save(record(7), archive.path, on_written=os.remove, sha256=archive.sha256)
    assert store.flush(60) and store.errors == []
    monkeypatch.undo()
    assert sum(len(one['data']) for one in chunks.find()) == size == files.find_one()['length']
    assert not os.path.exists(archive.path)
    assert client[dbname]['fc.uploads'].count_documents({}) == 0
    assert store.download(store.find_checkpoint(), str(tmp_path / 'to'))


@pytest.mark.nightly
def test_a_disk_that_takes_nothing_either_is_told_truly(own_port, opened, monkeypatch, impatient):
    def full(spool, entry):
        raise OSError(28, 'No space left on device')

    server.ensure(*own_port)
    store = opened(own_port)
    server.stop(own_port.port, own_port.root)
    monkeypatch.setattr(Spool, 'keep', full)
    store.save(record(1))
    assert connection.wait(lambda: 'No space left' in (store.failure or ''), 60)
    with pytest.raises(StoreError, match='(?s)did not store.*They are lost with this process'):
        store.close(0)
