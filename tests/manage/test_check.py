"""`runs.py check` finds every damage that is planted in an experiment, and none in a whole one."""

import hashlib
import os

import bson
import numpy as np
import pymongo
import pytest

import runs as program
import stock
from database import layout, records
from database.archive import packed
from database.store import Store

EXP_ID, COLLECTION, DBNAME = 'symmetric', stock.COLLECTION, 'checked'
STEPS = 20
LOSSES = dict.fromkeys(layout.STEP, 0.25)
RECENT = records.recent_database(DBNAME, COLLECTION, EXP_ID)


def settings():
    found = stock.params(validate_first=True)
    found['train_params']['num_steps'] = STEPS
    found['model_params']['model'] = 'fc'
    found['save_params'] = {'save_valid_freq': 10, 'save_to_gfs': ['actsq_mean']}
    found['digests'] = {'meaning': 'm', 'settings': 's'}
    return found


def archive_of(folder, step):
    prefix = str(folder / f'checkpoint-{step}')
    for ending in ('.index', '.data-00000-of-00001'):
        with open(prefix + ending, 'wb') as file:
            file.write(os.urandom(1234))
    return packed(prefix, prefix + '.tar')


def train(server, folder, first, last):
    """Stores the records of a run: every 5 steps, with a validation and a checkpoint every 10."""
    store = Store(server.host, server.port, DBNAME, COLLECTION, EXP_ID, exclusive=True)
    store.begin_after(first if first else -1)
    for step in range(first + 5 if first else 0, last + 1, 5):
        losses = [dict(LOSSES, loss=step + number / 7) for number in range(5 if step else 0)]
        validation = {'topn_val': dict.fromkeys(layout.VALIDATION, 0.5)} if step % 10 == 0 else {}
        record = records.build(EXP_ID, step, settings(), 0.1, losses, validation)
        tar = archive_of(folder, step)
        kind = 'checkpoint' if validation else 'recent'
        store.save(record, sha256=tar.sha256, **{kind: tar.path})
        if validation:
            store.save_named_results(record['_id'], validation_results={'topn_val': {'a': 1}})
    store.close()


@pytest.fixture(scope='module')
def whole(mongo_server, tmp_path_factory):
    """{(database, collection): documents} of an experiment of two runs, as it is stored."""
    folder = tmp_path_factory.mktemp('archives')
    with pymongo.MongoClient(mongo_server.host, mongo_server.port) as client:
        train(mongo_server, folder, 0, 10)
        train(mongo_server, folder, 10, STEPS)
        found = {}
        for dbname in (DBNAME, RECENT):
            for name in client[dbname].list_collection_names():
                found[dbname, name] = list(client[dbname][name].find())
            client.drop_database(dbname)
    return found


@pytest.fixture
def checked(mongo_server, whole, tmp_path, capsys):
    """A function: (damage, or None) -> (exit code, lines) of `runs.py check`."""
    with pymongo.MongoClient(mongo_server.host, mongo_server.port) as client:

        def check(damage=None, more=()):
            for (dbname, name), documents in whole.items():
                if documents:
                    client[dbname][name].insert_many(documents)
            if damage:
                damage(Planted(client))
            words = ['check', EXP_ID, f'--port={mongo_server.port}', f'--dbname={DBNAME}', *more]
            code = program.main(words + [f'--cache_dir={tmp_path}'])
            told = capsys.readouterr()
            assert told.err == ''
            return code, told.out.splitlines()

        yield check
        for dbname in (DBNAME, RECENT):
            client.drop_database(dbname)


class Planted:
    """What the damages change."""

    def __init__(self, client):
        self.files = client[DBNAME][COLLECTION + '.files']
        self.chunks = client[DBNAME][COLLECTION + '.chunks']
        self.owners = client[DBNAME][COLLECTION + '.owners']
        self.recent_files = client[RECENT]['fs.files']
        self.recent_chunks = client[RECENT]['fs.chunks']

    def at(self, step):
        return self.files.find_one({'step': step})

    def alter(self, at, sign=False, **fields):
        """Changes fields of a record; `sign`: as a program would store it, with its digest."""
        found = {'_id': self.at(at)['_id']}
        self.files.update_one(found, {'$set': fields} if fields else {'$unset': {'none': ''}})
        if sign:
            digest = records.digest(self.files.find_one(found))
            self.files.update_one(found, {'$set': {'digest': digest}})


def remove(step):
    return lambda there: there.files.delete_one({'step': step})


def double(there):
    """The step is stored by two processes, and both are right otherwise."""
    copy = dict(there.at(15), _id=bson.ObjectId())
    del copy['digest']
    there.files.insert_one(dict(copy, digest=records.digest(copy)))


def last_digit(there):
    steps = there.at(15)['train_results']
    steps[3]['loss'] = float(np.nextafter(steps[3]['loss'], 1e9))
    there.alter(15, train_results=steps)


def result(there):
    there.alter(10, **{'validation_results.topn_val.top1': 0.5000001})


def without_weights(there):
    record = there.at(STEPS)
    unset = {'$set': {'saved_filters': False}, '$unset': dict.fromkeys(layout.OF_FILES, '')}
    there.files.update_one({'_id': record['_id']}, unset)
    there.chunks.delete_many({'files_id': record['_id']})


def without_a_chunk(there):
    there.chunks.delete_one({'files_id': there.at(10)['_id']})


def exchanged_chunk(there):
    """The bytes of another checkpoint, with the MD5 that GridFS would give them."""
    data = there.chunks.find_one({'files_id': there.at(10)['_id']})['data']
    there.chunks.update_one({'files_id': there.at(STEPS)['_id']}, {'$set': {'data': data}})
    there.alter(STEPS, md5=hashlib.md5(data).hexdigest())


def exchanged_checkpoint(there):
    """Even its SHA-256 is that of the other one."""
    exchanged_chunk(there)
    there.alter(STEPS, sha256=there.at(10)['sha256'])


def exchanged_and_signed(there):
    exchanged_chunk(there)
    there.alter(STEPS, sign=True, sha256=there.at(10)['sha256'])


def older_owner(there):
    claim = dict(there.at(STEPS)['claim'], number=1)
    there.alter(STEPS, sign=True, claim=claim)


def superseded(there):
    """A third process has trained the steps after 10 again, and its records are gone."""
    there.owners.update_one({}, {'$set': {'starts.3': 10}})


def other_life(there):
    claim = dict(there.at(STEPS)['claim'], life=bson.ObjectId())
    there.alter(STEPS, sign=True, claim=claim)


def other_settings(there):
    there.alter(STEPS, sign=True, **{'params.digests.settings': 'others'})


def other_recent_settings(there):
    there.recent_files.update_one({'step': 15}, {'$set': {'params.digests.meaning': 'others'}})


def recent_chunk(there):
    there.recent_chunks.update_one({}, {'$set': {'data': b'x'}})


def without_results(there):
    there.files.delete_one({'item_for': there.at(10)['_id']})


def without_validation(there):
    there.files.update_one({'step': 10}, {'$unset': {'validation_results': ''}})
    there.alter(10, sign=True)


def overlapping(there):
    steps = there.at(15)['train_results']
    there.alter(15, sign=True, train_results=steps[:1] + steps)


def other_step(there):
    there.alter(15, sign=True, step=16)


def other_type(there):
    there.alter(15, sign=True, duration='long')


def without_digest(there):
    there.files.update_one({'step': 15}, {'$unset': {'digest': ''}})


DAMAGES = [
    (remove(0), 'The validation of step 0 is missing'),
    (remove(5), 'The records of the steps 1 to 5 are missing'),
    (remove(STEPS), 'The training has ended, but its records end at step 15 of 20'),
    (double, 'There are two records of step 15'),
    (last_digit, 'The record of step 15 was changed after it was stored'),
    (result, 'The record of step 10 was changed after it was stored'),
    (without_weights, 'The weights of the last step, 20, are missing'),
    (without_a_chunk, 'The checkpoint of step 10 is damaged: '),
    (exchanged_chunk, 'The checkpoint of step 20 is damaged: '),
    (exchanged_checkpoint, 'The record of step 20 was changed after it was stored'),
    (exchanged_and_signed, 'The record of step 20 has the checkpoint checkpoint-10'),
    (older_owner, 'The record of step 20 was written by an older process than the others'),
    (superseded, 'The record of step 15 was written by an older process than the others'),
    (other_life, 'Some of the records belong to another experiment of the same name'),
    (other_settings, 'The record of step 20 has other settings than those before'),
    (other_recent_settings, 'The recent checkpoint of step 15 has other settings'),
    (recent_chunk, 'The checkpoint of step 5 is damaged: '),
    (without_results, 'The results actsq_mean of step 10 are missing'),
    (without_validation, 'The validation of step 10 is missing'),
    (overlapping, 'The steps 10 to 10 are in two records'),
    (other_step, 'The records of the steps 11 to 11 are missing'),
    (other_type, 'The record of step 15: duration is a str'),
    (without_digest, 'The record of step 15 has lost its digest'),
]


def test_a_whole_experiment_has_no_fault(checked):
    assert checked() == (
        0,
        ['symmetric (fc_7-5): 5 records, 5 checkpoints, nothing is wrong'],
    )


@pytest.mark.parametrize(
    'damage, fault',
    DAMAGES,
    ids=[fault.rstrip(': ').replace(' ', '-')[-30:] for _, fault in DAMAGES],
)
def test_a_planted_damage_is_found(checked, damage, fault):
    code, lines = checked(damage)
    assert code == 1 and [line for line in lines if line.startswith(fault)]
    assert 'fault' in lines[-1]


def test_records_of_a_stopped_training_and_of_another_program_are_no_fault(
    checked, mongo_server, client
):
    """A training that was stopped at step 15, and the record of a training without claims."""

    def stop(there):
        there.files.delete_one({'step': STEPS})
        there.alter(15, sign=True, stopped=True)
        client[DBNAME][COLLECTION + '.claims'].insert_one({'_id': EXP_ID, 'ended': {}})

    assert checked(stop)[0] == 0
