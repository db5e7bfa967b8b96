"""Tests of the searches in a report: their trials, the best of them, and the plot."""

import datetime
import io

import pytest
import rich.console

from reports import page, plots, runs, searches, table

from stored import DBNAME, HOSTILE


@pytest.fixture(scope='module')
def found(database):
    address, _ = database
    return searches.read(address.host, address.port, DBNAME)


def test_all_searches_and_their_trials_in_order(found):
    odd, alpha = found
    assert (odd.collection, odd.study, alpha.collection, alpha.study) == (
        'fc_7-5',
        HOSTILE,
        'fc_7-5',
        'alpha',
    )
    assert [trial.number for trial in alpha.trials] == [0, 1, 2, 3] and len(odd.trials) == 26
    assert odd.trials[-1] == searches.Trial(25, '?', None, None, {})
    assert searches.title(alpha) == 'Search alpha (fc_7-5): 4 trials, 2 complete, 1 lost, 1 pruned'


def test_the_best_come_first_and_no_more_than_a_few(found):
    odd, alpha = found
    assert [trial.number for trial in searches.best(alpha)] == [2, 0, 1, 3]
    assert [trial.number for trial in searches.best(odd)] == list(range(24, 24 - searches.MOST, -1))


def test_of_one_collection_and_where_nothing_is(database, free_address):
    address, _ = database
    assert searches.read(address.host, address.port, DBNAME, 'resnet18') == []
    assert len(searches.read(address.host, address.port, DBNAME, 'fc_7-5')) == 2
    assert searches.read(address.host, address.port, 'empty_of_searches') == []
    assert searches.read('127.0.0.1', int(free_address().rpartition(':')[2]), DBNAME) == []


def test_the_table(found):
    console = rich.console.Console(file=io.StringIO(), width=120)
    for search in found:
        console.print(table.of_search(search))
    lines = console.file.getvalue().splitlines()
    assert any(HOSTILE in line for line in lines)
    at = [line.strip() for line in lines].index(searches.title(found[1]))
    assert lines[at + 2].split() == [heading for heading, _ in searches.COLUMNS]
    assert lines[at + 4].split() == [
        '2',
        '0.7500',
        '80',
        'complete',
        '--alpha=0.2469',
        '--optimizer=adam',
    ]


def test_the_page_and_the_plot(found):
    text = page.of([], [], 'Runs', 'of the tests', 12, searched=found)
    assert 'There are no runs yet' in text
    run = runs.Run(
        'fc_7-5',
        'one',
        [runs.Point(0, {}, dict(top1=0.5), None, 0, None, datetime.datetime(2020, 1, 1))],
        {},
    )
    text = page.of([run], [], 'Runs', 'of the tests', 12, searched=found)
    assert (
        'Search alpha (fc_7-5): 4 trials' in text
        and '--alpha=0.2469 --optimizer=adam' in text
        and HOSTILE not in text
    )
    (drawn,) = plots.of_search(found[1])
    assert 'the best is 0.7500' in drawn.note and 'best so far' in plots.svg(drawn).decode()
    assert plots.of_search(searches.Search('fc', 'none', [])) == []
