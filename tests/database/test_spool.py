"""Tests of the spool: waiting entries survive the process, and are written once and in order."""

import base64
import os
import pickle

import bson
import pymongo
import pytest

from database import connection, entries, records, server
from database.errors import StoreError
from database.store import Store
from database.spool import Spool
from spooled import stored

NAMES = 'neur-al', 'fc', 'symmetric'


def record(step):
    return records.build(
        NAMES[-1], step, {'model_params': {'alpha': 1e-3}}, train_results=[{'loss': 0.1 * step}]
    )


def odd_file(folder, name):
    path = folder / name
    path.write_bytes(os.urandom(12345))
    return str(path)


def test_entries_come_in_their_order_and_half_ones_do_not(tmp_path):
    spool = Spool(str(tmp_path / 'spool'))
    assert stored(spool) == []
    for number in range(12):
        spool.keep({'number': number})
    (tmp_path / 'spool' / '00000013.bson.half').write_bytes(b'half')
    assert [entry['number'] for _, entry in stored(spool)] == list(range(12))
    aside = spool.set_aside(stored(spool)[3][0], '.refused')
    assert os.path.exists(aside) and [entry['number'] for _, entry in stored(spool)] == [
        0,
        1,
        2,
    ] + list(range(4, 12))
    os.remove(stored(spool)[0][0])
    spool.keep({'number': 12})
    assert [entry['number'] for _, entry in stored(spool)][-1] == 12


@pytest.mark.parametrize(
    'damage',
    [lambda content: content[:-3], lambda content: b'', lambda content: b'\xff' * len(content)],
)
def test_a_damaged_entry_is_named(tmp_path, damage):
    path = Spool(str(tmp_path)).keep({'number': 7})
    with open(path, 'rb') as file:
        content = file.read()
    with open(path, 'wb') as file:
        file.write(damage(content))
    with pytest.raises(StoreError, match=path):
        stored(Spool(str(tmp_path)))


# Spool files in base64, written by the store before its entries were classes.
WRITTEN_BEFORE = [
    'LAEAAAJjaGVja3BvaW50ABUAAAAvYy9jaGVja3BvaW50LTQwLnRhcgACcmVjZW50ABUAAAAvYy9jaGVja3BvaW50'
    'LTQwLnRhcgADcmVjb3JkALEAAAAHX2lkAF8AAAAAAAAAAAAAoQJleHBfaWQACgAAAHN5bW1ldHJpYwAQc3RlcAAo'
    'AAAAAWR1cmF0aW9uAAAAAAAAANA/A3BhcmFtcwAnAAAAA21vZGVsX3BhcmFtcwAUAAAAAWFscGhhAPyp8dJNYlA/'
    'AAAIc2F2ZWRfZmlsdGVycwAABHRyYWluX3Jlc3VsdHMAGwAAAAMwABMAAAABbG9zcwAAAAAAAADgPwAAAARyZXBs'
    'YWNpbmcAFAAAAAcwAF8AAAAAAAAAAAAAoAAIcmVtb3ZlAAEA',
    'eQAAAANyZWNvcmQAUwAAAAdfaWQAXwAAAAAAAAAAAAChAmV4cF9pZAAKAAAAc3ltbWV0cmljABBzdGVwACkAAAAD'
    'cGFyYW1zAAUAAAAACHNhdmVkX2ZpbHRlcnMAAAAEcmVwbGFjaW5nAAUAAAAACHJlbW92ZQAAAA==',
    'yQAAAANkb2N1bWVudAAsAAAAB19pZABfAAAAAAAAAAAAAKIHaXRlbV9mb3IAXwAAAAAAAAAAAAChAAVjb250ZW50'
    'AE8AAAAAgAJ9cQBYEgAAAHZhbGlkYXRpb25fcmVzdWx0c3EBfXECWAgAAAB0b3BuX3ZhbHEDfXEEWAQAAAB0b3Ax'
    'cQVdcQZHP+AAAAAAAABhc3NzLgJmaWxlbmFtZQAjAAAANWYwMDAwMDAwMDAwMDAwMDAwMDAwMGExX2ZpbGVpdGVt'
    'cwAA',
]


def test_a_spool_of_before_is_read(tmp_path):
    folder = tmp_path / 'spool'
    folder.mkdir()
    for number, content in enumerate(WRITTEN_BEFORE, 1):
        (folder / f'{number:08d}.bson').write_bytes(base64.b64decode(content))
    spool = Spool(str(folder))
    with_files, alone, results = entries.kept(spool).values()
    assert with_files.record['train_results'] == [{'loss': 0.5}]
    tar = str(tmp_path / 'checkpoint-40.tar')  # beside the spool, wherever it was when it was kept
    assert with_files.describe() == 'the record of step 40 with ' + tar
    assert with_files.checkpoint == with_files.recent == tar
    assert with_files.replacing == (bson.ObjectId('5f00000000000000000000a0'),)
    assert with_files.remove and not alone.remove
    assert (alone.describe(), alone.paths, alone.replacing) == ('the record of step 41', [], ())
    assert results.describe() == 'the results 5f00000000000000000000a1_fileitems'
    assert pickle.loads(results.content) == {'validation_results': {'topn_val': {'top1': [0.5]}}}
    assert results.document['item_for'] == with_files.record['_id']
    kept = [entries.of(document) for _, document in stored(spool)]
    assert [bson.encode(entry.to_bson()) for entry in kept] == [
        base64.b64decode(content) for content in WRITTEN_BEFORE
    ]


@pytest.mark.parametrize('document', [{}, {'record': 7}, {'content': b'', 'filename': 'x'}])
def test_an_entry_of_another_form_is_named(tmp_path, document):
    path = Spool(str(tmp_path)).keep(document)
    with pytest.raises(StoreError, match=path + '.*cannot be read'):
        entries.kept(Spool(str(tmp_path)))


def open_store(address, folder):
    return Store(address.host, address.port, *NAMES, recent_limit=2, spool=str(folder / 'spool'))


@pytest.mark.slow
def test_what_an_outage_stopped_is_written_at_the_next_start(own_port, tmp_path, impatient):
    server.ensure(*own_port)
    store = open_store(own_port, tmp_path)
    store.save(record(0))
    assert store.flush(60) and not os.path.exists(str(tmp_path / 'spool'))
    server.stop(own_port.port, own_port.root)
    store.save(record(1), checkpoint=odd_file(tmp_path, 'checkpoint-1.tar'), on_written=os.remove)
    store.save_named_results(store.save(record(2)), validation_results={'topn': {'angles': [1.5]}})
    store.save(record(3), recent=odd_file(tmp_path, 'checkpoint-3.tar'), on_written=os.remove)
    assert connection.wait(lambda: len(stored(Spool(str(tmp_path / 'spool')))) == 4, 60)
    assert 'waiting in {} is'.format(tmp_path / 'spool') in store.failure
    with pytest.raises(
        StoreError, match='kept in {}; run the same command'.format(tmp_path / 'spool')
    ):
        store.close(timeout_s=0)  # like a process that is killed: the entries in the spool stay

    server.ensure(*own_port)
    store = open_store(own_port, tmp_path)
    assert store.replayed == 4 and store.flush(60) and store.errors == []
    assert [found['step'] for found in store.records()] == [0, 1, 2, 3]
    assert [store.find_checkpoint(step) is not None for step in range(4)] == [
        False,
        True,
        False,
        True,
    ]
    assert os.listdir(str(tmp_path / 'spool')) == [] and not os.path.exists(
        str(tmp_path / 'checkpoint-1.tar')
    )
    with pymongo.MongoClient(own_port.host, own_port.port) as client:
        assert client['neur-al']['fc.files'].count_documents({'item_for': {'$exists': True}}) == 1
    store.close()
    store = open_store(own_port, tmp_path)
    assert store.replayed == 0
    store.close()


def test_what_was_written_already_is_not_written_again(mongo_server, tmp_path):
    """The process was killed between writing the record and removing its entry from the spool.

    The archive has already been removed.
    """
    with pymongo.MongoClient(mongo_server.host, mongo_server.port) as client:
        client.drop_database('neur-al')
        spool, store = Spool(str(tmp_path / 'spool')), open_store(mongo_server, tmp_path)
        tar, document = odd_file(tmp_path, 'checkpoint-5.tar'), record(5)
        store.save(document, checkpoint=tar, on_written=os.remove)
        store.save(record(6))
        assert store.flush(60)
        store.close()
        spool.keep(dict(record=document, checkpoint=tar, replacing=[], remove=True))
        store = open_store(mongo_server, tmp_path)
        assert store.replayed == 1 and store.flush(60)
        assert [found['step'] for found in store.records()] == [5, 6] and stored(spool) == []
        store.close()
        client.drop_database('neur-al')


def test_what_can_never_be_written_is_kept_aside(mongo_server, tmp_path):
    store = open_store(mongo_server, tmp_path)
    store.save(dict(record(1), params={'text': 'x' * (17 << 20)}))
    with pytest.raises(
        StoreError,
        match=r'cannot store the record of step 1 .*; it is kept as .*00000001\.bson\.refused',
    ):
        store.close()
    assert os.listdir(str(tmp_path / 'spool')) == ['00000001.bson.refused']


@pytest.mark.slow
def test_a_disk_that_takes_nothing_is_told(own_port, tmp_path, monkeypatch, impatient):
    monkeypatch.setattr(
        Spool,
        'keep',
        lambda self, entry: (_ for _ in ()).throw(OSError(28, 'No space left on device')),
    )
    server.ensure(*own_port)
    store = open_store(own_port, tmp_path)
    server.stop(own_port.port, own_port.root)
    store.save(record(1))
    assert connection.wait(
        lambda: 'cannot store a copy either: No space left on device' in (store.failure or ''), 60
    )
    server.ensure(*own_port)
    assert store.flush(60)
    store.close()


def test_a_record_made_anew_replaces_those_before_it(mongo_server, tmp_path):
    with pymongo.MongoClient(mongo_server.host, mongo_server.port) as client:
        client.drop_database('neur-al')
        store = open_store(mongo_server, tmp_path)
        store.save(record(10))
        old = [
            store.save(record(20), checkpoint=odd_file(tmp_path, 'checkpoint-20.tar')),
            store.save(record(30)),
        ]
        store.save_named_results(old[1], train_results={'loss': [1.0]})
        assert store.flush(60)
        assert store.after(10) == [(20, old[0]), (30, old[1])] and len(store.after(-1)) == 3
        new = store.save(record(30), replacing=old)
        assert store.flush(60)
        assert store.after(10) == [(30, new)]
        assert (
            client['neur-al']['fc.files'].count_documents({}) == 2
            and client['neur-al']['fc.chunks'].count_documents({}) == 0
        )
        store.close()
        client.drop_database('neur-al')
