"""Nothing of an older owner of an experiment is stored over or beside what a newer one stores."""

import datetime
import os
import re

import bson
import pytest

from database import bucket, claim, connection, owner, records
from database.bucket import Buckets
from database.errors import StoreError
from database.owner import Owner, Owners
from database.spool import Spool
from database.store import Store

EXP_ID = 'symmetric'


@pytest.fixture
def opened(mongo_server, dbname, tmp_path):
    """A function: (name of a cache folder) -> an exclusive store with a spool there."""
    stores = []

    def make(folder='here', **more):
        spool = str(tmp_path / folder / 'spool')
        settings = dict(spool=spool, exclusive=True, **more)
        stores.append(Store(mongo_server.host, mongo_server.port, dbname, 'fc', EXP_ID, **settings))
        return stores[-1]

    yield make
    for store in stores:
        try:
            store.close(10)
        except StoreError:
            pass


@pytest.fixture
def files(client, dbname):
    return client[dbname]['fc.files']


def record(step, loss=0.5):
    return records.build(EXP_ID, step, {'digests': {'settings': 'a'}}, 0.1, [{'loss': loss}])


def expire(client, dbname):
    """Makes the claim look as if its process had not renewed it for a long time."""
    long_ago = datetime.datetime.utcnow() - claim.LASTS - datetime.timedelta(seconds=5)
    client[dbname]['fc.claims'].update_one({}, {'$set': {'renewed': long_ago}})


def numbers(files):
    """Returns [(step, number of the owner)] of the records, sorted."""
    return sorted((one['step'], one['claim']['number']) for one in files.find())


def names(tmp_path, folder='here'):
    there = tmp_path / folder / 'spool'
    return sorted(os.listdir(str(there))) if there.exists() else []


def test_each_owner_has_a_higher_number_and_its_records_carry_it(opened, files, client, dbname):
    for number in (1, 2, 3):
        store = opened()
        store.save(record(number))
        store.close()
        assert store.owner.number == number
    found = list(files.find().sort('step', 1))
    assert [one['claim']['number'] for one in found] == [1, 2, 3]
    assert len({one['claim']['life'] for one in found}) == 1
    assert [one['digest'] for one in found] == [records.digest(one) for one in found]
    # A database that was imported has records, but no numbers yet.
    client[dbname]['fc.owners'].drop()
    assert opened().owner == Owner(found[0]['claim']['life'], 4)


def test_a_digest_notices_the_last_digit_of_a_loss(opened, files):
    store = opened()
    store.save(record(1, loss=0.1))
    assert store.flush(60)
    stored = files.find_one()
    assert records.digest(stored) == stored['digest']
    # What a checkpoint adds, and its removal, change nothing that the record says.
    more = dict(stored, saved_filters=True, md5='0', filename='a', length=3)
    assert records.digest(more) == stored['digest']
    stored['train_results'][0]['loss'] = 0.1 + 2**-56
    assert stored['train_results'][0]['loss'] != 0.1
    assert records.digest(stored) != stored['digest']


def test_a_process_that_lost_its_claim_stores_nothing_more(opened, files, client, dbname, tmp_path):
    first = opened()
    first.save(record(1))
    assert first.flush(60)
    expire(client, dbname)
    second = opened('there')
    assert second.begin_after(1) == []
    first.save(record(2))
    second.save(record(2))
    assert second.flush(60) and not first.flush(60)
    assert numbers(files) == [(1, 1), (2, 2)]
    assert 'Another process has continued exp_id symmetric, which this process' in first.taken
    assert f'Process {os.getpid()} on host ' in first.taken
    assert names(tmp_path) == ['00000001.bson.superseded']
    with pytest.raises(StoreError, match='(?s)suspended or cut off.*Not stored: 1 of its records'):
        first.close()
    assert second.taken is None


def test_a_claim_that_another_had_is_not_taken_back(opened, client, dbname, monkeypatch):
    """The other process has finished and released its claim while this one was suspended."""
    monkeypatch.setattr(claim, 'RENEW_S', 0.05)
    monkeypatch.setattr(claim.Claim, '_renew', lambda self: self._over.wait())
    first = opened()
    expire(client, dbname)
    opened('there').close()
    assert client[dbname]['fc.claims'].find_one() is None
    monkeypatch.undo()
    monkeypatch.setattr(claim, 'RENEW_S', 0.05)
    first._claim._renew()
    assert 'Another process has continued' in first.taken
    assert client[dbname]['fc.claims'].find_one() is None


@pytest.mark.parametrize(
    'after, expected', [(0, []), (7, [(7, 1)])], ids=['trained again', 'before its beginning']
)
def test_a_process_that_is_suspended_while_it_writes(
    opened, files, client, dbname, monkeypatch, after, expected
):
    """The other process begins between the check of the claim and the write.

    What it trains again is removed; what it has continued from is kept.
    """
    first, write = opened(), Buckets.write

    def late(buckets, *more):
        monkeypatch.setattr(Buckets, 'write', write)
        expire(client, dbname)
        opened('there').begin_after(after)
        write(buckets, *more)

    monkeypatch.setattr(Buckets, 'write', late)
    first.save(record(7))
    assert not first.flush(60)
    assert numbers(files) == expected and first.taken


def test_a_record_that_comes_late_is_removed_at_the_end(opened, files, client, dbname):
    """The process that wrote it was killed before it could remove it."""
    first = opened()
    first.save(record(3))
    assert first.flush(60)
    old = files.find_one()
    expire(client, dbname)
    second = opened('there')
    assert [step for step, _ in second.begin_after(3)] == []
    second.save(record(10))
    assert second.flush(60)
    for step in (7, 11):
        late = dict(old, _id=bson.ObjectId(), step=step)
        files.insert_one(late)
    second.close()
    assert numbers(files) == [(3, 1), (10, 2), (11, 1)]


def test_a_record_whose_replacement_was_stored_before_a_kill(opened, files):
    """The process that replaced them was killed before it removed the older records."""

    def write(step, count, **more):
        steps = [{'loss': 0.5}] * count
        store.save(records.build(EXP_ID, step, {}, 0.1, steps, **more))
        assert store.flush(10)

    store = opened()
    write(0, 0)
    for step in (3, 6, 9, 12):
        write(step, 3)
    write(13, 1, stopped=True)
    store.close(10)
    store = opened()  # it went on from step 9, and was killed after step 15
    write(12, 3)
    write(15, 3)
    store.close(10)
    store = opened()
    assert len(files.distinct('_id')) == 8
    assert store.begin_after(15) == []
    assert numbers(files) == [(0, 1), (3, 1), (6, 1), (9, 1), (12, 2), (15, 2)]


def test_results_whose_record_was_not_stored_before_a_kill(opened, files):
    store = opened()
    kept, lost = record(3), record(6)
    for each in (kept, lost):
        store.save_named_results(each['_id'], validation_results={'topn': {'angles': [1.5]}})
    store.save(kept)
    store.close(10)
    assert files.count_documents({}) == 3
    store = opened()
    store.save_named_results(record(6)['_id'], validation_results={'topn': {'angles': [1.5]}})
    assert store.flush(10)
    store.begin_after(3)
    left = [each['claim']['number'] for each in files.find({'item_for': {'$ne': kept['_id']}})]
    assert sorted(left) == [1, 2]  # the record, and what this process has stored since
    assert files.count_documents({'item_for': {'$exists': True}}) == 2


def test_what_is_looked_for_at_the_beginning_is_found_by_an_index(opened, files, client, dbname):
    store = opened()
    left = record(3)
    store.save_named_results(left['_id'], validation_results={'topn': {'angles': [1.5]}})
    store.save(left)
    store.close(10)
    client[dbname].command('profile', 2)
    opened().begin_after(3)
    client[dbname].command('profile', 0)
    done = list(client[dbname]['system.profile'].find({'ns': files.full_name}))
    plans = {each['planSummary'] for each in done if 'planSummary' in each}
    assert any('item_for' in str(each['command'].get('filter')) for each in done)
    assert plans and not any('COLLSCAN' in plan for plan in plans)


def test_a_record_of_a_stop_that_no_other_record_replaces_stays(opened, files):
    for step, count in ((3, 3), (5, 2), (8, 3)):  # as if the settings had changed after each
        store = opened()
        store.begin_after(step - count)
        store.save(records.build(EXP_ID, step, {}, 0.1, [{'loss': 0.5}] * count, stopped=step < 8))
        store.close(10)
    opened().begin_after(8)
    assert numbers(files) == [(3, 1), (5, 2), (8, 3)]


def left(tmp_path, store, steps, folder='here'):
    """Leaves records of a store in its spool, as a process that is killed in an outage does."""
    spool = Spool(str(tmp_path / folder / 'spool'))
    for step in steps:
        made = store._signed(dict(record(step)))
        spool.keep(dict(record=made, replacing=[], remove=False))
    spool.keep(
        dict(
            document={'_id': bson.ObjectId(), 'item_for': made['_id'], 'claim': made['claim']},
            content=b'results',
            filename='x_fileitems',
        )
    )


@pytest.mark.parametrize(
    'after, stored', [(0, []), (10, [10]), (20, [10, 20])], ids=['all', 'the last', 'nothing']
)
def test_a_spool_in_another_folder(opened, files, tmp_path, after, stored):
    """The second process trains the steps after `after` again, in another cache folder."""
    first = opened()
    first.begin_after(-1)
    left(tmp_path, first, (10, 20))
    first.close()
    second = opened('there')
    second.begin_after(after)
    again = [step for step in (10, 20, 30) if step > after]
    for step in again:
        second.save(record(step))
    second.close()
    third = opened()
    assert third.flush(60)
    found = [
        (one['step'], one['claim']['number']) for one in files.find({'step': {'$exists': True}})
    ]
    assert sorted(found) == sorted([(s, 1) for s in stored] + [(s, 2) for s in again])
    assert third.replayed == len(stored) + (20 in stored)
    assert files.count_documents({'item_for': {'$exists': True}}) == (20 in stored)
    aside = [name for name in names(tmp_path) if name.endswith('.superseded')]
    assert len(aside) == 3 - third.replayed and names(tmp_path) == aside
    told = f'{len(aside)} records in .* another process has trained their steps again since'
    assert bool(aside) == bool(third.notices)
    assert all(re.match(told, notice) for notice in third.notices)


def test_a_spool_of_a_database_that_was_dropped(opened, files, client, dbname, tmp_path):
    first = opened()
    left(tmp_path, first, (10,))
    first.close()
    client.drop_database(dbname)
    second = opened()
    assert second.replayed == 0 and second.owner.life != first.owner.life
    assert names(tmp_path) == ['00000001.bson.elsewhere', '00000002.bson.elsewhere']
    assert 'their database was dropped, or was on another server' in second.notices[0]
    second.save(record(1))
    assert second.flush(60) and numbers(files) == [(1, 1)]
    # Nothing takes the number of an entry that is set aside.
    kept = Spool(str(tmp_path / 'here' / 'spool')).keep({'number': 3})
    assert os.path.basename(kept) == '00000003.bson'
    os.remove(kept)


def test_a_spool_that_two_experiments_share(opened, files, tmp_path):
    """A tfutils script can give one cache_dir to several experiments."""
    first = opened()
    other = records.build('mirror', 7, {}, 0.1, [{'loss': 1.0}])
    other['claim'] = Owner(bson.ObjectId(), 1).to_bson()
    spool = Spool(str(tmp_path / 'here' / 'spool'))
    spool.keep(dict(record=other, replacing=[], remove=False))
    spool.keep(
        dict(
            document={'_id': bson.ObjectId(), 'item_for': other['_id']},
            content=b'results',
            filename='x_fileitems',
        )
    )
    first.close()
    second = opened()
    assert second.replayed == 0 and second.notices == []
    assert names(tmp_path) == ['00000001.bson', '00000002.bson']


def test_a_database_that_is_dropped_while_a_process_writes(
    opened, files, client, dbname, monkeypatch
):
    """It goes on, and makes the indexes again; a process that came in between is the newer one."""
    monkeypatch.setattr(bucket, 'INDEXED_S', 0.0)
    first = opened()
    first.save(record(1))
    assert first.flush(60)
    indexes = set(files.index_information())
    client.drop_database(dbname)
    first.save(record(2))
    assert first.flush(60) and numbers(files) == [(2, 1)]
    assert set(files.index_information()) == indexes
    client.drop_database(dbname)
    second = opened('there')
    second.save(record(1))
    assert second.flush(60)
    first.save(record(3))
    assert not first.flush(60) and len(numbers(files)) == 1 and first.taken


def test_what_another_owner_has_begun(client, dbname):
    owners = Owners(client[dbname]['fc.owners'], EXP_ID)
    first = owners.advance()
    owners.begin(first, -1)
    second = owners.advance(Owner(first.life, 7))
    assert (first.number, second.number) == (1, 8)
    assert not owners.is_current(first) and owners.is_current(second)
    owners.begin(second, 20)
    owners.begin(owners.advance(), 10)
    starts = owners.starts()
    assert starts == {1: -1, 8: 20, 9: 10}
    cases = [(1, 10, False), (1, 11, True), (8, 15, True), (9, 15, False), (0, 0, True)]
    for number, step, expected in cases:
        assert owner.supersedes(starts, number, step) is expected
    owners.end_life()
    assert owners.starts() == {} and not owners.is_current(second)


def test_recent_checkpoints_of_a_database_that_was_dropped(
    opened, client, dbname, tmp_path, mongo_server
):
    path = tmp_path / 'checkpoint-9.tar'
    path.write_bytes(os.urandom(300))
    first = opened()
    first.save(record(9), recent=str(path))
    assert first.flush(60) and first.find_checkpoint()['step'] == 9
    first.close()
    client.drop_database(dbname)
    second = opened()
    assert second.find_checkpoint() is None
    assert 'The 1 recent checkpoints of an earlier experiment symmetric' in second.notices[0]
    recent = client[records.recent_database(dbname, 'fc', EXP_ID)]
    (kept,) = recent['fs.files'].find()
    assert kept['step'] == 9 and kept['collname'] == 'fc (set aside)'
    assert connection.wait(lambda: second.flush(1), 60)
