"""Tests that a report reads what was stored of each run."""

import datetime
import os

import bson
import pytest

from database import records
from database.errors import StoreError
from database.place import Place
from database.spool import Spool, local_folder, spool_of
from reports import runs

from stored import DBNAME, HOSTILE, LAYERS, losses, params, results


def read(database, dbname=DBNAME, **which):
    address, cache = database
    return runs.read(address.host, address.port, dbname, cache_dir=cache, **which)


@pytest.fixture
def found(database):
    """{exp_id: Run} of the database."""
    return {run.exp_id: run for run in read(database)[0]}


def test_all_runs_are_there_by_collection_and_name(database):
    places = [(run.collection, run.exp_id) for run in read(database)[0]]
    assert places == sorted(places) and set(places) == {
        ('resnet18', 'symmetric'),
        ('resnet18', 'None'),
        ('resnet18', 'died'),
        ('resnet18', HOSTILE),
        ('fc_7-5', 'running'),
        ('fc_7-5', 'check'),
        ('fc_7-5', 'script'),
        ('fc_7-5', 'lost'),
        ('fc_7-5', 'bare'),
        ('fc_7-5', 'wrong types'),
    }


def test_a_run_in_numbers(found):
    run = found['symmetric']
    assert (run.rule, run.step, run.steps, run.state, run.waiting) == (
        'symmetric',
        30,
        30,
        runs.FINISHED,
        0,
    )
    assert run.images_per_s == 131 / 0.5
    assert run.curve('top1') == [(0, 0.1), (30, 0.9)]
    assert run.curve('model_loss') == [(7, 4.0), (30, 3.0)]  # the means of (5, 3) and (1, 2, 6)
    assert run.curve('alignment_loss') == [(7, 8.0), (30, 6.0)]
    assert run.curve('weight_angles') == [(0, 91.0), (30, 12.0)]  # the means of three layers
    assert list(run.layers('gradient_angles').items()) == [
        (layer, [(0, 90.0 + i), (30, 11.0 + i)]) for i, layer in enumerate(LAYERS)
    ]
    assert run.last('top1') == 0.9 and run.last('hebb_angle') is None
    assert run.time.utcoffset() == datetime.timedelta(0)


def test_settings_are_those_that_differ_from_their_defaults_and_say_what_is_trained(found):
    assert found['died'].settings == dict(
        alignment='mirror',
        update_forward=True,
        layers_list=[7, 5],
        alpha=0.02,
        train_batch_size=131,
        validate_first=False,
    )


def of_record(**model):
    """Returns the settings of a run whose newest record has these model_params."""
    point = runs.Point(1, {}, {}, None, 0, None, datetime.datetime.min)
    return runs.Run('fc', 'run', [point], {'model_params': model}).settings


def test_settings_of_a_rule_that_nobody_here_knows_are_those_that_its_records_declare():
    own = dict(delta=0.001, bounded=False, every=1, wide=3)
    used = dict(delta=0.1, delta_stop=0.75, delta_cycle=None, bounded=True, every=1, wide=4)
    told = of_record(alignment='difference', declared=own, func='fc', num_classes=10, **used)
    assert told == dict(alignment='difference', delta=0.1, delta_stop=0.75, bounded=True, wide=4)
    assert list(told) == ['alignment', 'delta', 'delta_stop', 'bounded', 'wide']


def test_settings_of_a_rule_in_a_record_that_declares_none_are_those_of_then():
    then = dict(alpha=0.001, alpha_start=0.25, gamma=None, use_sparse=False, expansion=10)
    assert of_record(alignment='symmetric', delta=3.0, **then) == dict(
        alignment='symmetric', alpha=0.001, alpha_start=0.25
    )
    assert of_record(alignment='pfa', expansion=2) == dict(alignment='pfa', expansion=2)


def test_a_record_that_declares_nonsense_is_read():
    assert of_record(alignment='x', declared='alpha', alpha=0.5) == dict(alignment='x', alpha=0.5)
    assert of_record(alignment='x', declared={'a': [1], 'b': 'text', 'c': {}}, a=2) == dict(
        alignment='x'
    )


@pytest.mark.parametrize(
    'exp_id, state',
    [
        ('symmetric', runs.FINISHED),
        ('died', runs.DIED),
        ('running', runs.RUNNING),
        ('check', runs.VALIDATED),
        ('script', runs.ENDED),
        ('bare', runs.ENDED),
    ],
)
def test_a_state(found, exp_id, state):
    assert found[exp_id].state == state and state in runs.STATES


def test_a_trial_that_its_search_stopped_did_not_die(found):
    died = found['died']
    assert runs.Run(*died.key, died.points, died.params, is_pruned=True).state == runs.PRUNED


@pytest.mark.parametrize('begun, state', [('import', 'half imported'), ('delete', 'half deleted')])
def test_a_part_of_a_run_is_no_run_of_another_state(found, begun, state):
    whole = found['symmetric']
    part = runs.Run(*whole.key, whole.points, whole.params, is_held=True, begun=begun)
    assert part.state == state and part.why is None


def test_every_state_is_tested():
    tested = test_a_state.pytestmark[0].args[1]
    elsewhere = {runs.SPOOLED, runs.STOPPED, runs.PRUNED, *runs.HALF.values()}
    assert {state for _, state in tested} | elsewhere == set(runs.STATES)


def test_backpropagation_is_named(found):
    assert found['None'].rule == 'backprop' and found['script'].rule == '?'


def test_a_script_of_tfutils(found):
    run = found['script']
    assert (
        run.curve('loss') == [(4, 2.5)]
        and run.last('top1') == 0.25
        and run.steps is None
        and run.images_per_s is None
    )


def test_numbers_that_are_lost_are_left_out(found):
    run = found['lost']
    assert (
        run.curve('loss') == run.curve('model_loss') == run.curve('top1') == []
        and run.images_per_s is None
    )
    assert run.curve('weight_angles') == [(9, 12.0)] and dict(run.layers('weight_angles')) == {
        'dense': [(9, 12.0)]
    }


@pytest.mark.parametrize('exp_id', ['bare', 'wrong types'])
def test_a_record_of_which_little_is_there(found, exp_id):
    run = found[exp_id]
    assert (
        run.rule == '?'
        and run.settings == {}
        and run.last('top1') is None
        and run.curve('loss') == []
    )


def test_which_runs(database):
    assert [run.exp_id for run in read(database, exp_ids=('died', 'check'))[0]] == ['check', 'died']
    assert {run.collection for run in read(database, collname='fc_7-5')[0]} == {'fc_7-5'}


def test_an_empty_database(database):
    assert read(database, dbname='empty') == ([], None)


def keep(cache, place, step, **fields):
    """Keeps a record in the spool, waiting for MongoDB; returns its path."""
    record = records.build(place[-1], step, params(steps=40), 0.25, **fields)
    return Spool(spool_of(local_folder(cache, Place(*place)))).keep({'record': record})


def test_records_that_wait_on_this_disk_count(database, tmp_path):
    address, _ = database
    place = (address.host, address.port, DBNAME, 'resnet18')
    keep(str(tmp_path), place + ('symmetric',), 35, train_results=losses(9.0))
    keep(str(tmp_path), place + ('symmetric',), 40, validation_results=results(0.95, 5.0))
    keep(str(tmp_path), place + ('new',), 10, train_results=losses(1.0, 4.0))
    found = {run.exp_id: run for run in read((address, str(tmp_path)))[0]}
    run = found['symmetric']
    assert (run.state, run.waiting, run.step, run.steps) == (runs.SPOOLED, 2, 40, 30)
    assert run.curve('model_loss')[-1] == (35, 9.0) and run.last('top1') == 0.95
    assert (found['new'].state, found['new'].curve('model_loss')) == (runs.SPOOLED, [(10, 2.5)])
    assert found['died'].waiting == 0


def test_without_mongodb_what_waits_is_shown_and_the_reason_given(free_address, tmp_path):
    host, port = free_address().split(':')
    keep(
        str(tmp_path),
        (host, int(port), DBNAME, 'resnet18', 'symmetric'),
        10,
        validation_results=results(0.5, 50.0),
    )
    found, trouble = runs.read(host, int(port), DBNAME, cache_dir=str(tmp_path))
    assert [(run.exp_id, run.step, run.last('top1')) for run in found] == [('symmetric', 10, 0.5)]
    assert trouble.startswith(f'Nothing answers at {host}:{port}')


def test_without_mongodb_and_without_waiting_records(free_address, tmp_path):
    host, port = free_address().split(':')
    with pytest.raises(StoreError, match='^Nothing answers at '):
        runs.read(host, int(port), DBNAME, cache_dir=str(tmp_path))


def test_a_waiting_record_that_is_damaged_is_named_and_the_others_are_shown(
    database, tmp_path, caplog
):
    address, _ = database
    place = (address.host, address.port, DBNAME, 'resnet18', 'symmetric')
    path = keep(str(tmp_path), place, 35)
    keep(str(tmp_path), place, 40, validation_results=results(0.95, 5.0))
    os.truncate(path, 40)
    spool = Spool(spool_of(local_folder(str(tmp_path), Place(*place[:-1], 'other'))))
    others = [spool.keep({'a': 1}), spool.keep({'record': {'exp_id': 'other'}})]
    for _ in range(2):
        found = {run.exp_id: run for run in read((address, str(tmp_path)))[0]}
        assert (found['symmetric'].waiting, found['symmetric'].step) == (1, 40)
        assert found['died'].waiting == 0 and 'other' not in found
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 3  # each is named once
    assert sorted(text.split(',')[0] for text in said) == sorted([path] + others)


@pytest.mark.slow
def test_a_private_server_of_before_is_started_again(own_port, monkeypatch):
    from database import connection, server

    monkeypatch.setattr(server, 'DEFAULT_ROOT', own_port.root)
    server.ensure(*own_port)
    with connection.connect(own_port.host, own_port.port) as client:
        client[DBNAME]['fc.files'].insert_one(dict(exp_id='a', step=3, _id=bson.ObjectId()))
    server.stop(own_port.port, own_port.root)
    found, trouble = runs.read(own_port.host, own_port.port, DBNAME)
    assert [(run.exp_id, run.step) for run in found] == [('a', 3)] and trouble is None
