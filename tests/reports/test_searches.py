"""Tests of the searches in a report: their trials, the best of them, and the plot."""

import io

import pytest
import rich.console

from reports import plots, searches, table

import shown
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
    assert odd.trials[-1] == searches.Trial(25, '?', None, None, {}, 'odd')
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
    part = shown.still(shown.page([shown.made('one', 'mirror', 0, 2)], searched=found))
    assert (
        'Search alpha (fc_7-5): 4 trials' in part
        and '--alpha=0.2469 --optimizer=adam' in part
        and HOSTILE not in part
    )
    (drawn,) = plots.of_search(found[1])
    assert 'the best is 0.7500' in drawn.note and 'best so far' in plots.svg(drawn)
    assert plots.of_search(searches.Search('fc', 'none', [])) == []


def trial(number, value, state='complete', **params):
    return searches.Trial(number, state, value, 7, params)


def test_the_importance_is_that_of_the_setting_that_decides():
    trials = [
        trial(number, 1 - abs(number % 7 - 3) / 7, rate=10.0 ** (number % 7 - 5), size=number % 5)
        for number in range(35)
    ]
    trials += [trial(100 + number, 0.9, 'pruned', rate=99.0, size=9) for number in range(9)]
    found = searches.importance(searches.Search('fc', 'one', trials))
    assert set(found) == {'rate', 'size'} and sum(found.values()) == pytest.approx(1)
    assert found['rate'] > 0.9
    by_name = dict(zip('abcdefg', range(7)))
    named = [
        trial(number, 1.0 - by_name[name] / 7, name=name, other=number % 3)
        for number, name in enumerate('abcdefgabcdefgabcdefg')
    ]
    found = searches.importance(searches.Search('fc', 'two', named))
    assert found['name'] > 0.9


@pytest.mark.parametrize(
    'trials',
    [
        [],
        [trial(number, 0.5, alpha=0.1 * number) for number in range(9)],  # the same top-1
        [trial(number, 0.1 * number, alpha=1.0) for number in range(9)],  # the same setting
        [trial(number, 0.1 * number, 'pruned', alpha=number) for number in range(9)],
        [trial(number, 0.1 * number, alpha=number) for number in range(3)],
    ],
)
def test_too_little_to_compare_has_no_importance(trials):
    assert searches.importance(searches.Search('fc', 'one', trials)) == {}


def test_a_page_shows_each_setting_against_top_1(found):
    told = shown.data(shown.page([shown.made('one', 'mirror', 0, 2)], searched=found))
    _, alpha = told['searches']
    assert alpha['trials']['states'] == ['complete', 'pruned', 'complete', 'lost']
    assert alpha['trials']['top1'] == [0.5, 0.25, 0.75, 0.0]
    (own, optimizer) = alpha['settings']
    assert own['name'] == 'alpha' and own['values'] == [0.0, 0.123456, 0.246912, 0.370368]
    assert optimizer['values'] == ['adam'] * 4
