"""A training that is stopped anywhere and resumed leaves the records of one that never was."""

import os
import re
import signal

import numpy as np
import pymongo
import pytest

import tiers
import tiny
from database import layout, records
from database.store import Store
from training import (
    checkpoints,
    environment,
    experiment,
    jobs,
    loop,
    replaying,
    stopping,
)

# 30 steps: records every 10, validations at 21 and at the end, recent checkpoints every 12.
SETTINGS = dict(
    alignment='symmetric',
    optimizer='momentum',
    learning_rate=0.1,
    train_epochs=10.0,
    epochs_per_checkpoint=7.0,
    epochs_per_recent_checkpoint=4.0,
    checkpoint_max=2,
    validate_first=False,
)


class Signalled(Exception):
    """A batch follows the signal."""


@pytest.fixture
def place(mongo_server, request, tmp_path):
    """A function: () -> an open store of the test's own experiment; dropped at the end."""
    dbname = re.sub(r'\W+', '_', request.node.name)[-40:]
    with pymongo.MongoClient(mongo_server.host, mongo_server.port) as client:

        def opened():
            return Store(mongo_server.host, mongo_server.port, dbname, 'fc_5', 'symmetric')

        opened.client, opened.dbname = client, dbname
        yield opened
        client.drop_database(dbname)
        client.drop_database(records.recent_database(dbname, 'fc_5', 'symmetric'))


def train(place, folder, monkeypatch, stop_at=None, validating=False, **more):
    """Trains from the newest checkpoint; returns its variables, or None if it was stopped.

    The signal comes after the step `stop_at`, or after the first batch of the validation there.
    """
    settings = dict(SETTINGS, **more)
    store = place()
    found = store.find_checkpoint()
    exp = tiny.experiment(first_step=found['step'] if found else 0, **settings)
    told, run_steps, validate = [], exp.run_steps, exp.validate

    def signalled(session, most):
        taken = run_steps(session, most)
        if int(session.run(exp.global_step)) == stop_at and not validating:
            told.append(os.kill(os.getpid(), signal.SIGTERM))
        return taken

    def interrupted(session, between=lambda: None, in_detail=False):
        if validating and int(session.run(exp.global_step)) == stop_at:
            told.append(os.kill(os.getpid(), signal.SIGTERM))
            session.run(exp.global_step)  # the handler runs between two calls
            between()
            raise Signalled('the run goes on after the signal')
        return validate(session, between, in_detail)

    with monkeypatch.context() as patch, tiny.session(exp) as session:
        patch.setattr(exp, 'run_steps', signalled)
        patch.setattr(exp, 'validate', interrupted)
        if found:
            checkpoints.restore(session, exp, store.download(found, str(folder)))
        params = jobs.merged_params(
            exp.config, exp.settings(), environment.describe(exp.device, exp.dataset)
        )
        run = loop.Run(session, exp, store, str(folder), params, lambda line: None)
        try:
            run.train()
            return tiny.values(session, exp)
        except stopping.Stopped:
            return None
        finally:
            store.close()
            assert bool(told) == (stop_at is not None)


def stored(place):
    """Returns the records as they are stored, sorted by step."""
    store = place()
    found = list(store.records())
    store.close()
    return found


def contents(place):
    """Returns what each record says, without what depends on the time."""
    return [
        (
            record['step'],
            record.get('train_results'),
            record.get('validation_results'),
            record['saved_filters'],
            record.get('stopped', False),
        )
        for record in stored(place)
    ]


@pytest.fixture(autouse=True, scope='module')
def short_records():
    """A record is due every 10 steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, 'RECORD_EVERY', 10)
        yield


@pytest.fixture(scope='module')
def whole(mongo_server, tmp_path_factory):
    """The records and the variables of a training that is not stopped."""
    dbname, patch = 'never_stopped', pytest.MonkeyPatch()

    def opened():
        return Store(mongo_server.host, mongo_server.port, dbname, 'fc_5', 'symmetric')

    variables = train(opened, tmp_path_factory.mktemp('whole'), patch)
    yield contents(opened), variables
    with pymongo.MongoClient(mongo_server.host, mongo_server.port) as client:
        client.drop_database(dbname)
        client.drop_database(records.recent_database(dbname, 'fc_5', 'symmetric'))


# Where each run of a training is stopped: (step, whether in the validation there).
STOPS = {
    'between records': [(7, False)],
    'twice between records': [(7, False), (9, False)],
    'on a record': [(20, False)],
    'on a checkpoint': [(12, False)],
    'validating': [(21, True)],
    'validating twice': [(21, True), (21, True)],
    'the last validation': [(30, True)],
    'before and in the last validation': [(28, False), (30, True)],
}


@pytest.mark.slow
@pytest.mark.parametrize(
    'case',
    ['before and in the last validation']
    + tiers.at_night(
        'twice between records',
        'on a record',
        'between records',
        'on a checkpoint',
        'validating',
        'validating twice',
        'the last validation',
    ),
)
def test_the_records_are_those_of_a_training_that_was_not_stopped(
    place, tmp_path, monkeypatch, whole, case
):
    for stop_at, validating in STOPS[case]:
        assert train(place, tmp_path, monkeypatch, stop_at, validating) is None
        at = [record for record in stored(place) if record['step'] == stop_at]
        assert len(at) == 1
        planned = stop_at in (12, 20)
        assert at[0].get('stopped', False) is not planned
        assert all(layout.faults(record) == [] for record in at)
        store = place()
        assert store.find_checkpoint()['step'] == stop_at
        store.close()
    variables = train(place, tmp_path, monkeypatch)
    records_there, variables_there = whole
    assert contents(place) == records_there
    assert tiny.moved(variables, variables_there) == set()
    assert {name: np.shape(value) for name, value in variables.items()} == {
        name: np.shape(value) for name, value in variables_there.items()
    }
    last = stored(place)[-1]
    assert last['step'] == 30 and last['filename'] == 'checkpoint-30.tar'
    assert len(last['train_results']) == 6 and 'validation_results' in last


@pytest.mark.nightly
def test_a_stopped_record_that_was_replaced_is_made_again_from_its_checkpoint(
    place, tmp_path, monkeypatch, whole
):
    """The run after the stop is killed once its record has replaced the stopped one.

    No checkpoint holds that record, so the next run begins at the stop again.
    """
    assert train(place, tmp_path, monkeypatch, 15) is None
    save = loop.Run._save

    def killed(run, store, step, *more):
        save(run, store, step, *more)
        store.flush(60)
        if step == 20:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop.Run, '_save', killed)
        with pytest.raises(KeyboardInterrupt):
            train(place, tmp_path, monkeypatch)
    assert [record['step'] for record in stored(place)][-1] == 20
    assert not [record for record in stored(place) if record.get('stopped')]
    train(place, tmp_path, monkeypatch)
    assert contents(place) == whole[0]


@pytest.mark.nightly
def test_a_record_of_other_settings_keeps_its_steps(place, tmp_path, monkeypatch):
    """The steps before the stop were trained with another learning rate."""
    assert train(place, tmp_path, monkeypatch, 15) is None
    train(place, tmp_path, monkeypatch, learning_rate=0.05)
    found = {record['step']: record for record in stored(place)}
    assert found[15]['stopped'] and len(found[15]['train_results']) == 3
    assert len(found[20]['train_results']) == 5
    assert sum(len(record.get('train_results', ())) for record in found.values()) == 30
    assert len(found) == len(stored(place))


@pytest.mark.slow
def test_a_part_that_is_trained_again_is_the_same_to_the_bit(place, tmp_path, monkeypatch, capsys):
    """Only this notices a number that was changed and signed as a program would have signed it."""
    train(place, tmp_path, monkeypatch, 15)
    train(place, tmp_path, monkeypatch)
    store = place()
    where = store.place
    store.close()
    assert replaying.compare(where) == 0
    assert 'Trained again: the steps 13 to 15 of symmetric give the same losses and weights' in (
        capsys.readouterr().out
    )
    files = place.client[place.dbname]['fc_5.files']
    record = files.find_one({'step': 20})
    loss = record['train_results'][1]['loss']  # of step 14, after the record of step 12
    record['train_results'][1]['loss'] = float(np.nextafter(loss, 9.0))
    record['digest'] = records.digest(record)
    files.replace_one({'_id': record['_id']}, record)
    assert replaying.compare(where) == 1
    out = capsys.readouterr().out
    changed = record['train_results'][1]['loss']
    assert f'step 14: loss is {loss!r}, but {changed!r} is recorded.' in out
    assert '(1 differences)' in out
