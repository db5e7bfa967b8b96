"""Small fault campaigns; `make faults` runs the large one."""

import json
import os
import subprocess
import sys

import pytest

import campaign
import fuzz
import trainings
from training import checks

HERE = os.path.dirname(os.path.abspath(__file__))
SETTINGS_TITLE = ['setting', 'trainings', 'faults', 'lost', 'wrong']


def table(script, *words):
    """Runs a script, checks that it succeeds, and returns the rows that it prints as lists."""
    done = subprocess.run(
        [sys.executable, os.path.join(HERE, script)] + list(words),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return [
        [cell.strip() for cell in line.split('|')[1:-1]]
        for line in done.stdout.splitlines()
        if line.startswith('| ')
    ][1:]


def results(**changes):
    """Returns the Results of a training that holds what it should, but for some changes."""
    records = {step: [json.dumps([[{'loss': step}], None, True])] for step in (30, 60, 150)}
    checkpoints = {step: str(step) for step in (30, 60, 150)}
    whole = trainings.Results(records, checkpoints, [])
    return whole._replace(
        **{name: change(getattr(whole, name)) for name, change in changes.items()}
    )


def without(step):
    return lambda found: {each: value for each, value in found.items() if each != step}


def test_what_is_lost_or_wrong_is_counted():
    other = json.dumps([[{'loss': 30.000001}], None, True])
    unsaved = json.dumps([[{'loss': 30}], None, False])
    for changes, lost, wrong in (
        ({}, 0, 0),
        (dict(records=without(60)), 1, 0),
        (dict(records=lambda found: dict(found, **{'30': [other]})), 0, 1),
        (dict(records=lambda found: {**found, 30: [other]}), 0, 1),
        (dict(records=lambda found: {**found, 30: found[30] * 2}), 0, 1),
        (dict(records=lambda found: {**found, 30: [unsaved]}), 0, 1),
        (dict(checkpoints=without(150)), 1, 0),
        (dict(checkpoints=lambda found: {**found, 60: 'else', 90: 'new'}), 0, 2),
        (dict(faults=lambda found: ['The record of step 30 was changed']), 0, 1),
    ):
        assert campaign.compare(results(**changes), results())[:2] == (lost, wrong), changes
    gone = results(records=lambda found: {**found, 30: [unsaved]}, checkpoints=without(30))
    assert campaign.compare(gone, results(), unsaved={30})[:2] == (0, 0)
    assert campaign.compare(gone, results(), unsaved={60})[:2] == (1, 1)
    last = results(checkpoints=without(150))
    assert campaign.compare(last, results(), unsaved={150})[:2] == (1, 0)


def test_a_campaign_goes_on_where_it_was_cut_off(tmp_path):
    path, about = str(tmp_path / 'state'), {'seed': 1, 'cpu': 'this'}
    state = campaign.State(path, about)
    state.refer('gd', results())
    attempts = [
        dict(kind='outages', number=number, setting='gd', faults=faults, survived=True)
        for number, faults in enumerate([{'mongod hangs': 3}, {'mongod hangs': 1, 'killed': 2}])
    ]
    for lost, attempt in enumerate(attempts):
        state.note(dict(attempt, lost=lost, wrong=0, told=[], seconds=1800))
    with open(path, 'a') as file:
        file.write('{"kind": "outages", "num')  # killed in a line
    state = campaign.State(path, about)
    assert state.references == {'gd': results()}
    assert sorted(state.attempts) == [('outages', 0), ('outages', 1)]
    state.note(dict(attempts[0], number=2, survived=False, lost=0, wrong=4, told=[], seconds=0))
    done = list(campaign.State(path, about).attempts.values())
    assert campaign.rows(done) == [
        ('outages', 9, 6, 1, 4),
        ('- killed', 2, 2, 1, 0),
        ('- mongod hangs', 7, 4, 1, 4),
    ]
    assert '3 attempts in 1.00 hours' in campaign.report(state)[-1]
    with pytest.raises(SystemExit, match='another seed'):
        campaign.State(path, {'seed': 2, 'cpu': 'this'})


def test_the_plan_holds_every_setting_and_every_kind_in_each_part():
    counts = {name: kind.count for name, kind in campaign.KINDS.items()}
    found = campaign.plan(counts, seed=3)
    assert found == campaign.plan(counts, seed=3) != campaign.plan(counts, seed=4)
    assert len({found[:2] for found in found}) == len(found)
    interrupted = [setting for kind, _, setting in found if kind == 'interruptions']
    assert len(interrupted) == 80 and set(interrupted) == set(trainings.SETTINGS)
    assert len(trainings.SETTINGS) >= 24
    half = [kind for kind, _, _ in found[: len(found) // 2]]
    assert {kind for kind, _, _ in found} == set(counts) == set(half)
    taken = {setting for kind, _, setting in found if kind == 'takeovers'}
    assert trainings.HOSTS not in taken


def test_each_setting_is_one_of_a_training(read):
    hosts = ['--worker_hosts=127.0.0.1:1,127.0.0.1:2', '--task_index=0']
    for name, words in trainings.SETTINGS.items():
        more = hosts if name == trainings.HOSTS else []
        checks.training(read(trainings.FLAGS[1:] + words + more))


@pytest.mark.nightly
def test_nothing_is_lost_and_nothing_wrong(record_property, tmp_path):
    """It runs in a separate process, which forks trainings before TensorFlow starts a thread."""
    counts = dict(interruptions=6, outages=4, kills_in_outages=2, takeovers=4, refusals=3)
    counts.update(full_disks=2, hostile_files=0, builds=0, searches=0)
    words = [f'--{name}={count}' for name, count in counts.items()]
    words += ['--seed=1', f'--state={tmp_path / "state"}']
    table('campaign.py', *words, '--minutes=0.5')
    rows = table('campaign.py', *words)
    kinds = {row[0].replace(' ', '_'): row[1:] for row in rows[: rows.index(SETTINGS_TITLE)]}
    for name in ('takeovers', 'refusals', 'full_disks'):
        assert kinds[name] == [str(counts[name])] * 2 + ['0', '0']
    for name in ('interruptions', 'outages', 'kills_in_outages'):
        assert kinds[name][0] == kinds[name][1] != '0' and kinds[name][2:] == ['0', '0']
    record_property('references', 13)


@pytest.mark.slow
def test_a_little_garbage_is_read_or_refused_and_runs_nothing():
    found = fuzz.run(inputs=400, seed=1)
    assert sorted(found) == ['archive', 'records', 'settings', 'spool']
    for inputs, read, refused, crashed, executed in found.values():
        assert (inputs, read + refused, crashed, executed) == (100, 100, 0, 0) and refused > 10


@pytest.mark.nightly
def test_hostile_files_cost_no_more_than_a_second_and_200_megabytes():
    rows = table('hostile.py', '--files=66', '--seed=1')
    assert len(rows) == 11 and all(row[1] == '6' and row[4:] == ['0'] * 3 for row in rows)
    assert sum(int(row[2]) for row in rows) > 55


@pytest.mark.nightly
def test_no_process_is_left_and_a_stop_is_no_crash():
    rows = table('leftovers.py', '--builds=2', '--searches=1', '--stops=6', '--seed=1')
    assert [row[1:] for row in rows] == [['2', '2', '0'], ['1', '1', '0'], ['6', '6', '0']]


@pytest.mark.nightly
def test_garbage_is_read_or_refused_and_runs_nothing():
    rows = table('fuzz.py', '--inputs=4000', '--seed=1')
    assert [row[0] for row in rows] == ['archive', 'records', 'settings', 'spool']
    assert [[row[1]] + row[4:] for row in rows] == [['1,000', '0', '0']] * 4
    assert all(int(row[2]) > 3 and int(row[3]) > 100 for row in rows)
