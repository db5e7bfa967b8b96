"""Tests of the claim: only one process at a time holds an experiment."""

import datetime
import os

import pymongo
import pytest

from database import claim, connection
from database.claim import Claim, End
from database.errors import StoreError
from database.store import Store

DEAD = 2**30  # larger than any process id


@pytest.fixture
def collection(mongo_server):
    with pymongo.MongoClient(mongo_server.host, mongo_server.port) as client:
        yield client['claims']['fc.claims']
        client.drop_database('claims')


def alter(collection, **fields):
    collection.update_one({'_id': 'symmetric'}, {'$set': fields})


def test_a_second_one_is_refused_and_told_who_has_it(collection):
    first = Claim(collection, 'symmetric')
    other = Claim(collection, 'mirror')
    with pytest.raises(
        StoreError,
        match='Process {} on host .* has been training exp_id symmetric since {}'.format(
            os.getpid(), datetime.datetime.utcnow().strftime('%Y-%m-%d')
        ),
    ):
        Claim(collection, 'symmetric')
    first.release()
    Claim(collection, 'symmetric').release()
    other.release()
    assert collection.count_documents({}) == 0


def test_that_of_a_dead_process_of_this_machine_counts_no_more(collection):
    Claim(collection, 'symmetric')
    alter(collection, process=DEAD)
    Claim(collection, 'symmetric').release()


def test_that_of_another_machine_expires(collection):
    Claim(collection, 'symmetric')
    alter(collection, process=DEAD, machine='another')
    with pytest.raises(StoreError, match='has been training exp_id symmetric'):
        Claim(collection, 'symmetric')
    alter(
        collection, renewed=datetime.datetime.utcnow() - claim.LASTS - datetime.timedelta(seconds=5)
    )
    Claim(collection, 'symmetric').release()


def test_it_is_renewed_made_anew_and_told_when_it_is_taken(collection, monkeypatch):
    monkeypatch.setattr(claim, 'RENEW_S', 0.05)

    def until(condition):
        assert connection.wait(condition, 60)

    mine = Claim(collection, 'symmetric')
    started = collection.find_one()['renewed']
    until(lambda: collection.find_one()['renewed'] > started)
    collection.delete_many({})
    until(lambda: collection.find_one())
    assert mine.taken is None
    alter(
        collection,
        owner='another',
        host='elsewhere',
        renewed=datetime.datetime.utcnow() + datetime.timedelta(hours=1),
    )
    until(lambda: mine.taken)
    assert 'on host elsewhere' in mine.taken
    mine.release()
    assert collection.find_one()['owner'] == 'another'


def test_a_store_has_it_until_it_is_closed(mongo_server, collection):
    place = (mongo_server.host, mongo_server.port, 'claims', 'fc', 'symmetric')
    store = Store(*place, exclusive=True)
    assert collection.find_one()['_id'] == 'symmetric' and store.taken is None
    with pytest.raises(StoreError, match='has been training exp_id symmetric'):
        Store(*place, exclusive=True)
    Store(*place).close()
    store.close()
    assert collection.find_one() is None
    Store(*place, exclusive=True).close()


def test_a_claim_tells_what_is_done_with_the_experiment(mongo_server, collection):
    """The fields survive a claim that was lost and taken again.

    Only an exclusive store writes them.
    """
    place = mongo_server.host, mongo_server.port, 'claims', 'fc', 'symmetric'
    store, reader = Store(*place, exclusive=True), Store(*place)
    store.describe(digests={'meaning': 'a', 'settings': 'b'}, seed=3)
    reader.describe(seed=4)
    (found,) = collection.find()
    assert (found['digests'], found['seed']) == ({'meaning': 'a', 'settings': 'b'}, 3)
    collection.delete_many({})
    store._claim._take()
    assert collection.find_one()['digests'] == found['digests']
    reader.close()
    store.close()


def test_how_a_training_ended_stays_until_another_one_begins(collection):
    """An attempt that fails before its training begins changes nothing."""
    mine = Claim(collection, 'symmetric')
    mine.end(End('SIGINT', 'x' * 2000))
    assert claim.ends(collection) == {} and claim.held(collection) == {'symmetric'}
    mine.release()
    ended = End('SIGINT', 'x' * claim.MOST_CHARACTERS)
    assert claim.ends(collection) == {'symmetric': ended} and claim.held(collection) == set()
    attempt = Claim(collection, 'symmetric')
    attempt.release()
    assert claim.ends(collection) == {'symmetric': ended}
    failing = Claim(collection, 'symmetric')
    failing.begin()
    failing.end(End(None, 'step 3: lost'))
    failing.release()
    assert claim.ends(collection) == {'symmetric': End(None, 'step 3: lost')}
    last = Claim(collection, 'symmetric')
    last.begin()
    last.release()
    assert collection.find_one() is None and claim.ends(collection) == {}


def test_a_killed_process_has_left_no_message(collection):
    Claim(collection, 'symmetric')
    alter(collection, process=DEAD)
    collection.insert_one({'_id': 'no claim'})
    (end,) = claim.ends(collection).values()
    assert end.signal is None and f'process {DEAD} on host ' in end.message
    assert 'ended without a message' in end.message
    Claim(collection, 'symmetric').release()


def test_an_outage_when_a_training_ends_is_no_error(mongo_server, collection, monkeypatch):
    place = (mongo_server.host, mongo_server.port, 'claims', 'fc', 'symmetric')
    store, reader = Store(*place, exclusive=True), Store(*place)
    reader.begin()
    reader.end(End(None, 'nobody'))
    store.begin()

    def fail(*arguments):
        raise pymongo.errors.AutoReconnect('gone')

    monkeypatch.setattr(Claim, 'describe', lambda claim, **fields: fail())
    store.end(End(None, 'lost'))
    with pytest.raises(StoreError, match='could not be read'):
        store.begin()
    reader.close()
    store.close()
    assert collection.find_one() is None
