"""Small fault campaigns; `make faults` runs the large one."""

import os
import subprocess
import sys

import pytest

import fuzz

HERE = os.path.dirname(os.path.abspath(__file__))


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


@pytest.mark.nightly
def test_nothing_is_lost_and_nothing_wrong(record_property):
    """It runs in a separate process, which forks trainings before TensorFlow starts a thread."""
    counts = dict(crashes=3, stops=3, outages=3, hangs=1, takeovers=2, refusals=1)
    words = [f'--{name}={count}' for name, count in counts.items()]
    rows = table('campaign.py', *words, '--seconds=3', '--seed=1')
    assert [row[1:] for row in rows] == [['3', '3', '0', '0']] * 2 + [['1', '1', '0', '0']] * 7
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
