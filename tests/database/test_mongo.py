"""Tests of the store on a real server: records are stored once, complete and in order."""

import datetime
import hashlib
import itertools
import os
import pickle
import signal
import threading

import bson
import gridfs
import numpy as np
import pymongo
import pytest

from database import connection, records, server
from database.archive import pack
from database.bucket import CHUNK_BYTES
from database.errors import RecordError, StoreError
from database.store import Store, _is_outage

ODD_BYTES = 3 * CHUNK_BYTES + 17
DBNAME, COLLNAME, EXP_ID = 'neur-al', 'fc_32-16', 'symmetric_test0'
NAMES = DBNAME, COLLNAME, EXP_ID


@pytest.fixture
def client(mongo_server):
    """A client of the server; the databases that a test creates are dropped at its end."""
    with pymongo.MongoClient(mongo_server.host, mongo_server.port) as client:
        before = set(client.list_database_names())
        assert not before & {DBNAME, records.recent_database(*NAMES)}
        yield client
        for name in set(client.list_database_names()) - before - set(records.SYSTEM_DATABASES):
            client.drop_database(name)


@pytest.fixture
def store(mongo_server, client):
    store = Store(mongo_server.host, mongo_server.port, *NAMES, recent_limit=3)
    yield store
    store.close()


@pytest.fixture
def files(client):
    return client[DBNAME][COLLNAME + '.files']


@pytest.fixture
def chunks(client):
    return client[DBNAME][COLLNAME + '.chunks']


@pytest.fixture
def recent_files(client):
    return client[records.recent_database(*NAMES)]['fs.files']


def record(step, exp_id=EXP_ID, **more):
    return records.build(
        exp_id,
        step,
        {'model_params': {'alpha': 1e-3}},
        train_results=[{'loss': 0.1 * step}],
        **more,
    )


def odd_file(folder, name='checkpoint-7.tar', size=ODD_BYTES):
    path = folder / name
    path.write_bytes(os.urandom(size))
    return str(path)


def read(path):
    with open(path, 'rb') as stream:
        return stream.read()


def checkpoint_tar(folder, step, content=b'weights'):
    """Returns the archive of a checkpoint whose content depends on the step."""
    folder = folder / f'made-{step}'
    folder.mkdir()
    (folder / f'checkpoint-{step}.index').write_bytes(b'index of %d' % step)
    (folder / f'checkpoint-{step}.data-00000-of-00001').write_bytes(content)
    return pack(str(folder / f'checkpoint-{step}'), str(folder / f'checkpoint-{step}.tar'))


def test_a_record_without_weights_is_a_plain_document(store, files, chunks):
    saved = record(100, saved_filters=True)
    assert store.save(saved) == saved['_id']
    assert store.flush(60) and store.pending == 0 and store.failure is None
    assert files.find_one() == dict(saved, saved_filters=False)
    assert chunks.count_documents({}) == 0
    assert (store.count(), store.latest_step(), store.find_checkpoint()) == (1, 100, None)


def test_a_record_with_weights_is_its_own_file(store, client, files, chunks, tmp_path):
    path = odd_file(tmp_path)
    content = read(path)
    saved = record(7)
    store.save(saved, checkpoint=path)
    assert store.flush(60)
    stored = files.find_one()
    assert {key: stored[key] for key in saved} == dict(saved, saved_filters=True)
    assert (stored['filename'], stored['length'], stored['chunkSize']) == (
        'checkpoint-7.tar',
        ODD_BYTES,
        261120,
    )
    assert stored['md5'] == hashlib.md5(content).hexdigest()
    assert (stored['_saver_write_version'], stored['_saver_num_data_files']) == (2, 1)
    assert [len(chunk['data']) for chunk in chunks.find(sort=[('n', 1)])] == 3 * [CHUNK_BYTES] + [
        17
    ]
    assert gridfs.GridFS(client[DBNAME], COLLNAME).get(saved['_id']).read() == content


@pytest.mark.parametrize('size', [0, 1, CHUNK_BYTES, 33 * CHUNK_BYTES + 5])
def test_any_size_comes_back(store, client, tmp_path, size):
    path = odd_file(tmp_path, size=size)
    identity = store.save(record(7), checkpoint=path)
    assert store.flush(60)
    assert gridfs.GridFS(client[DBNAME], COLLNAME).get(identity).read() == read(path)


def test_indexes_and_journaled_writes(store, files, chunks):
    store.save(record(1))
    assert store.flush(60)
    keys = [[field for field, _ in index['key']] for index in files.index_information().values()]
    assert ['exp_id', 'step', '_id'] in keys and ['filename', 'uploadDate'] in keys
    assert any(index.get('unique') for index in chunks.index_information().values())
    assert store._buckets.main.files.write_concern.document == {'w': 'majority', 'j': True}


def test_opening_and_reading_write_nothing(store, client):
    assert (store.count(), store.latest_step(), store.find_checkpoint(), list(store.records())) == (
        0,
        None,
        None,
        [],
    )
    assert DBNAME not in client.list_database_names()


def test_saving_again_changes_nothing(store, files, chunks, tmp_path):
    plain, heavy = record(1), record(2)
    path = odd_file(tmp_path)
    for _ in range(2):
        store.save(plain)
        store.save(heavy, checkpoint=path)
    assert store.flush(60)
    assert files.count_documents({}) == 2 and chunks.count_documents({}) == 4


def test_what_an_interrupted_try_left_is_replaced(store, files, chunks, tmp_path):
    saved = record(7)
    chunks.insert_many(
        [{'files_id': saved['_id'], 'n': number, 'data': b'old'} for number in (0, 1, 9)]
    )
    store.save(saved, checkpoint=odd_file(tmp_path))
    assert store.flush(60)
    assert (
        sorted(chunk['n'] for chunk in chunks.find()) == [0, 1, 2, 3]
        and files.count_documents({}) == 1
    )


def test_uploads_that_died_leave_nothing_for_good(store, mongo_server, client, chunks, tmp_path):
    store.save(record(1), checkpoint=odd_file(tmp_path))
    assert store.flush(60)
    old, new = [
        bson.ObjectId.from_datetime(datetime.datetime.utcnow() - datetime.timedelta(hours=hours))
        for hours in (25, 23)
    ]
    whole = dict(record(2), _id=bson.ObjectId.from_datetime(datetime.datetime(2020, 1, 1)))
    store.save(whole, checkpoint=odd_file(tmp_path))
    assert store.flush(60)
    chunks.insert_many(
        [{'files_id': died, 'n': n, 'data': b'x'} for died in (old, new) for n in range(2)]
    )
    Store(mongo_server.host, mongo_server.port, *NAMES).close()
    assert chunks.count_documents({}) == 4 + 4 + 4
    Store(mongo_server.host, mongo_server.port, *NAMES, exclusive=True).close()
    assert (
        chunks.count_documents({'files_id': old}) == 0
        and chunks.count_documents({'files_id': new}) == 2
    )
    assert chunks.count_documents({}) == 4 + 4 + 2


def test_the_record_is_copied_when_it_is_saved(store, files):
    saved = record(1)
    store.save(saved)
    saved['train_results'].append({'loss': 5.0})
    assert store.flush(60)
    assert len(files.find_one()['train_results']) == 1


def test_records_come_in_the_order_of_their_steps(store, mongo_server):
    for step in (300, 100, 200, 100):
        store.save(record(step))
    other = Store(mongo_server.host, mongo_server.port, DBNAME, COLLNAME, 'other')
    other.save(record(999, 'other'))
    other.close()
    assert store.flush(60)
    assert [found['step'] for found in store.records()] == [100, 100, 200, 300]
    identities = [found['_id'] for found in store.records({'step': 100})]
    assert identities == sorted(identities) and len(identities) == 2
    assert list(store.records({'exp_id': 'other'})) == []
    assert (store.count(), store.latest_step()) == (4, 300)


def test_a_bad_query_is_one_sentence(store):
    with pytest.raises(StoreError, match='could not be read'):
        list(store.records({'$nonsense': 1}))


def test_another_experiments_record_is_refused(store):
    with pytest.raises(StoreError, match='belongs to'):
        store.save(record(1, 'other'))


def test_recent_checkpoints_live_apart_and_only_the_newest_stay(
    store, client, files, recent_files, tmp_path
):
    saved = [record(step) for step in (10, 20, 30, 40, 25)]
    for one in saved:
        store.save(one, recent=odd_file(tmp_path, f'checkpoint-{one["step"]}.tar'))
    assert store.flush(60)
    assert [(one['step'], one['saved_filters']) for one in files.find().sort('_id')] == [
        (one['step'], False) for one in saved
    ]
    assert [one['_id'] for one in recent_files.find().sort('_id')] == [
        one['_id'] for one in saved[2:]
    ]
    stored = recent_files.find_one({'step': 40})
    assert (
        stored['saved_filters']
        and stored['params'] == saved[3]['params']
        and stored['exp_id'] == EXP_ID
    )
    assert client[records.recent_database(*NAMES)]['fs.chunks'].count_documents({}) == 3 * 4


def test_pruning_spares_the_neighbour_of_the_same_name(client, mongo_server, tmp_path):
    neighbours = [('a_b', 'c', 'd'), ('a', 'b_c', 'd')]
    assert records.recent_database(*neighbours[0]) == records.recent_database(*neighbours[1])
    for place, step in itertools.product(neighbours, (1, 2)):
        store = Store(mongo_server.host, mongo_server.port, *place, recent_limit=1)
        store.save(record(step, 'd'), recent=odd_file(tmp_path, f'{place[1]}-{step}.tar'))
        store.close()
    for place in neighbours:
        store = Store(mongo_server.host, mongo_server.port, *place)
        assert (
            store.find_checkpoint()['filename'] == place[1] + '-2.tar'
            and store.find_checkpoint(1) is None
        )
        store.close()


def test_a_file_stored_in_both_places_is_told_of_once(store, files, recent_files, tmp_path):
    path, written = odd_file(tmp_path), []

    def on_written(path):
        written.append(
            (
                path,
                threading.current_thread() is threading.main_thread(),
                files.count_documents({}),
                recent_files.count_documents({}),
            )
        )
        os.remove(path)

    store.save(record(1), checkpoint=path, recent=path, on_written=on_written)
    assert store.flush(60)
    assert written == [(path, False, 1, 1)] and not os.path.exists(path)


def test_a_callback_that_fails_stops_nothing(store, tmp_path):
    def on_written(path):
        raise OSError('the disk is gone')

    store.save(record(1), checkpoint=odd_file(tmp_path), on_written=on_written)
    store.save(record(2))
    assert not store.flush(60)
    assert store.count() == 2 and len(store.errors) == 1 and 'the disk is gone' in store.errors[0]
    with pytest.raises(StoreError, match='step 1'):
        store.close()
    store.close()


@pytest.mark.parametrize(
    'spoil',
    [
        lambda one: dict(one, params='x' * (17 << 20)),
        lambda one: dict(one, params=object()),
        lambda one: dict(one, params=2**64),
    ],
)
def test_what_can_never_be_written_does_not_stop_the_rest(
    mongo_server, client, chunks, tmp_path, spoil
):
    store = Store(mongo_server.host, mongo_server.port, *NAMES)
    store.save(spoil(record(1)), checkpoint=odd_file(tmp_path), on_written=os.remove)
    store.save(record(2), checkpoint=str(tmp_path / 'missing.tar'))
    store.save(record(3))
    assert not store.flush(60)
    assert [found['step'] for found in store.records()] == [3] and chunks.count_documents({}) == 0
    assert ['step 1' in store.errors[0], 'step 2' in store.errors[1], len(store.errors)] == [
        True,
        True,
        2,
    ]
    assert os.path.exists(str(tmp_path / 'checkpoint-7.tar'))
    with pytest.raises(StoreError, match='step 1 with .*checkpoint-7.tar'):
        store.close()


def test_a_closed_store_takes_nothing_more(mongo_server, client):
    store = Store(mongo_server.host, mongo_server.port, *NAMES)
    store.close()
    with pytest.raises(StoreError, match='closed'):
        store.save(record(1))


def test_named_results_are_the_file_that_tfutils_wrote(store, client):
    identity = store.save(record(1))
    store.save_named_results(
        identity, {'images': [np.zeros(2)]}, {'topn': {'logits': (1.5, [2]), 'labels': {'a.b': 3}}}
    )
    store.save_named_results(identity, validation_results={'topn': {'only': 1}})
    assert store.flush(60)
    files = gridfs.GridFS(client[DBNAME], COLLNAME)
    first, second = [
        files.get(file['_id'])
        for file in client[DBNAME][COLLNAME + '.files'].find({'item_for': identity})
    ]
    assert first.filename == second.filename == f'{identity}_fileitems'
    content = first.read()
    assert content[:2] == b'\x80\x02' and pickle.loads(content) == {
        'train_results': {'images': [[0.0, 0.0]]},
        'validation_results': {'topn': {'logits': [1.5, [2]], 'labels': {'a___b': 3}}},
    }
    assert pickle.loads(second.read()) == {'validation_results': {'topn': {'only': 1}}}
    assert store.count() == 1
    with pytest.raises(RecordError, match='validation_results.odd'):
        store.save_named_results(identity, validation_results={'odd': object()})


def test_a_checkpoint_is_found_by_a_query(store, tmp_path):
    saved = {}
    for step, top1 in ((100, 0.7), (200, 0.9), (300, 0.8)):
        saved[step] = store.save(
            record(step, validation_results={'topn_val': {'top1': top1}}),
            checkpoint=checkpoint_tar(tmp_path, step, b'weights'),
        )
    assert store.flush(60)
    better = {'validation_results.topn_val.top1': {'$gt': 0.75}}
    assert store.find_checkpoint(query=better)['_id'] == saved[300]
    assert (
        store.find_checkpoint(200, better)['_id']
        == store.find_checkpoint(query={'step': {'$lt': 300}})['_id']
        == saved[200]
    )
    assert (
        store.find_checkpoint(100, better) is None
        and store.find_checkpoint(query={'exp_id': 'another'}) is None
    )
    with pytest.raises(StoreError, match='could not be read'):
        store.find_checkpoint(query={'$nothing': 1})


def test_the_checkpoint_is_the_highest_step_then_the_newest(store, tmp_path):
    first = store.save(record(100), checkpoint=checkpoint_tar(tmp_path, 100, b'lasting'))
    store.save(record(300))
    second = store.save(record(200), recent=checkpoint_tar(tmp_path, 200, b'recent'))
    assert store.flush(60)
    assert store.find_checkpoint()['_id'] == second and store.find_checkpoint(100)['_id'] == first
    assert store.find_checkpoint(300) is None
    again = store.save(record(200), checkpoint=checkpoint_tar(tmp_path, 201, b'again'))
    assert store.flush(60)
    assert store.find_checkpoint(200)['_id'] == again


def test_a_checkpoint_comes_back(store, tmp_path):
    content = os.urandom(ODD_BYTES)
    store.save(record(5), checkpoint=checkpoint_tar(tmp_path, 5, content))
    store.save(record(6), recent=checkpoint_tar(tmp_path, 6, b'six'))
    assert store.flush(60)
    folder = tmp_path / 'cache' / 'fetched'
    for step, expected in ((5, content), (6, b'six'), (5, content)):
        prefix = store.download(store.find_checkpoint(step), str(folder))
        assert prefix == str(folder / f'checkpoint-{step}')
        assert (folder / f'checkpoint-{step}.data-00000-of-00001').read_bytes() == expected
    assert len(os.listdir(str(folder))) == 4


def test_a_checkpoint_of_the_original_comes_back(store, client, tmp_path):
    path = checkpoint_tar(tmp_path, 8)
    with open(path, 'rb') as stream:
        gridfs.GridFS(client[DBNAME], COLLNAME).put(
            stream,
            filename='/root/.tfutils/checkpoint-8.tar',
            exp_id=EXP_ID,
            step=8,
            saved_filters=True,
            _saver_write_version=2,
        )
    assert os.path.exists(store.download(store.find_checkpoint(), str(tmp_path / 'to')) + '.index')


@pytest.mark.parametrize(
    'damage',
    [
        lambda chunks: chunks.update_one({'n': 1}, {'$set': {'data': bytes(CHUNK_BYTES)}}),
        lambda chunks: chunks.delete_one({'n': 1}),
        lambda chunks: chunks.delete_one({'n': 3}),
    ],
)
def test_a_damaged_checkpoint_is_refused(store, chunks, tmp_path, damage):
    store.save(record(5), checkpoint=odd_file(tmp_path))
    assert store.flush(60)
    damage(chunks)
    with pytest.raises(StoreError):
        store.download(store.find_checkpoint(), str(tmp_path / 'to'))
    assert os.listdir(str(tmp_path / 'to')) == []


def test_weights_that_are_not_there_are_one_sentence(store, tmp_path):
    with pytest.raises(StoreError, match='has no weights'):
        store.download(record(5), str(tmp_path / 'to'))
    (tmp_path / 'file').write_bytes(b'')
    with pytest.raises(StoreError, match='cannot be written'):
        store.download(record(5), str(tmp_path / 'file'))


@pytest.mark.parametrize(
    'names', [('a/b', 'fc', 'x'), ('neur-al', '..', 'x'), ('neur-al', 'fc', '')]
)
def test_illegal_names_are_refused_before_connecting(names):
    with pytest.raises(RecordError):
        Store('host.invalid', 1, *names)


def test_names_that_differ_in_case_only_are_refused_at_the_door(store, client, mongo_server):
    store.save(record(1))
    assert store.flush(60)
    with pytest.raises(StoreError, match='differs only in case'):
        Store(mongo_server.host, mongo_server.port, DBNAME.upper(), COLLNAME, EXP_ID)
    with pytest.raises(StoreError, match='at least 1'):
        Store(mongo_server.host, mongo_server.port, *NAMES, recent_limit=0)


def test_a_long_experiment_name_has_recent_checkpoints_too(mongo_server, client, tmp_path):
    exp_id = 'information_' + 57 * 'x' + '.y'
    store = Store(mongo_server.host, mongo_server.port, DBNAME, 'resnet50v2', exp_id)
    store.save(record(1, exp_id), recent=odd_file(tmp_path))
    assert store.flush(60) and store.find_checkpoint()['step'] == 1
    store.close()


def test_nothing_there_is_one_sentence(own_port):
    with pytest.raises(StoreError, match=f'localhost:{own_port.port}'):
        Store(own_port.host, own_port.port, *NAMES)


@pytest.mark.slow
@pytest.mark.parametrize('harshly', [False, True], ids=['stopped', 'killed'])
def test_a_server_that_goes_and_comes_back_gets_every_record_once_in_order(
    own_port, tmp_path, harshly, impatient
):
    server.ensure(*own_port)
    store = Store(own_port.host, own_port.port, *NAMES, recent_limit=2)
    for step in range(0, 3):
        store.save(record(step), checkpoint=odd_file(tmp_path, f'checkpoint-{step}.tar'))
    end_server(own_port, harshly)
    for step in range(3, 9):
        store.save(
            record(step),
            recent=odd_file(tmp_path, f'checkpoint-{step}.tar'),
            on_written=os.remove,
        )
    assert not store.flush(0) and store.pending >= 6
    assert connection.wait(lambda: store.failure, 60)  # pymongo searches for the server first
    assert (
        f'localhost:{own_port.port} cannot store records' in store.failure
        and '\n' not in store.failure
    )
    with pytest.raises(StoreError, match='could not be read'):
        store.count()
    server.ensure(*own_port)
    assert store.flush(120) and store.failure is None and store.errors == []
    assert [found['step'] for found in store.records()] == list(range(9))
    assert [store.find_checkpoint(step) is not None for step in range(9)] == 3 * [True] + 4 * [
        False
    ] + 2 * [True]
    with pymongo.MongoClient(own_port.host, own_port.port) as client:
        assert client[DBNAME][COLLNAME + '.chunks'].count_documents({}) == 3 * 4
        assert [found['step'] for found in client[DBNAME][COLLNAME + '.files'].find()] == list(
            range(9)
        )
        assert client[records.recent_database(*NAMES)]['fs.chunks'].count_documents({}) == 2 * 4
    assert not os.path.exists(str(tmp_path / 'checkpoint-8.tar'))
    store.close()


def end_server(address, harshly):
    if harshly:
        with open(os.path.join(address.root, f'mongod-{address.port}', 'mongod.pid')) as stream:
            os.kill(int(stream.read()), signal.SIGKILL)
        assert connection.wait(lambda: not connection.listens('localhost', address.port), 60)
    server.stop(address.port, address.root)


@pytest.mark.slow
def test_closing_during_an_outage_says_what_was_not_written(own_port, tmp_path, impatient):
    server.ensure(*own_port)
    store = Store(own_port.host, own_port.port, *NAMES)
    server.stop(own_port.port, own_port.root)
    path = odd_file(tmp_path)
    store.save(record(7), checkpoint=path)
    for step in range(8, 20):
        store.save(record(step))
    with pytest.raises(StoreError, match=f'step 7 with {path}.*step 11 and 8 more'):
        store.close(timeout_s=0)
    assert os.path.exists(path)


def test_an_answer_lost_while_inserting_is_no_second_record(store, files, monkeypatch):
    insert, calls = type(files).insert_one, []

    def insert_and_lose_the_answer(collection, document):
        insert(collection, document)
        calls.append(document['step'])
        if len(calls) == 1:
            raise pymongo.errors.AutoReconnect('connection closed')

    monkeypatch.setattr(type(files), 'insert_one', insert_and_lose_the_answer)
    store.save(record(1))
    store.save(record(2))
    assert store.flush(60)
    assert calls == [1, 2] and sorted(found['step'] for found in files.find()) == [1, 2]


@pytest.mark.parametrize(
    'error, outage',
    [
        (pymongo.errors.AutoReconnect('x'), True),
        (pymongo.errors.ServerSelectionTimeoutError('x'), True),
        (pymongo.errors.NetworkTimeout('x'), True),
        (pymongo.errors.OperationFailure('x', 91), True),
        (pymongo.errors.OperationFailure('x', 14031), True),
        (pymongo.errors.OperationFailure('x', 13), True),  # until the rights are back
        (pymongo.errors.OperationFailure('x', 121), False),
        (pymongo.errors.DuplicateKeyError('x', 11000), False),
        (
            pymongo.errors.BulkWriteError(
                {'writeErrors': [{'code': 11000}], 'writeConcernErrors': []}
            ),
            True,
        ),
        (
            pymongo.errors.BulkWriteError(
                {'writeErrors': [], 'writeConcernErrors': [{'code': 91}]}
            ),
            True,
        ),
        (pymongo.errors.DocumentTooLarge('x'), False),
        (bson.errors.InvalidDocument('x'), False),
        (OSError('x'), False),
    ],
)
def test_only_the_servers_troubles_are_outages(error, outage):
    assert _is_outage(error) is outage
