"""One record with an impossible number, or a hostile name, does not take the report with it."""

import io

import bson
import pymongo
import pytest
import rich.console

from reports import runs, searches, table
from reports.selection import Selection
from reports.text import safe
from reports.view import of_runs

DBNAME = 'odd_numbers'
ODD = [
    float('nan'),
    float('inf'),
    float('-inf'),
    bson.Decimal128('7'),
    bson.Decimal128('NaN'),
    1e300,
    '7',
    None,
    [7],
]
NAME = 'red \x1b[31m\x07 [bold]name[/bold] \x9b2J'


@pytest.fixture
def database(mongo_server):
    """The tests' server; DBNAME has good records of two runs, and an odd one for each number."""
    with pymongo.MongoClient(mongo_server.host, mongo_server.port) as client:
        files = client[DBNAME]['fc.files']
        for exp_id in ('good', NAME):
            for step in (10, 20):
                files.insert_one(dict(exp_id=exp_id, step=step, train_results=[{'loss': 0.5}]))
            for number in ODD:
                files.insert_one(dict(exp_id=exp_id, step=number, duration=number))
                files.insert_one(
                    dict(
                        exp_id=exp_id,
                        step=30,
                        duration=number,
                        train_results=[{'loss': number}],
                        validation_results={'topn_val': {'top1': number, 'weight_angles': number}},
                    )
                )
        files.insert_one(dict(exp_id=['good'], step=50))
        trials = client[DBNAME]['fc.searches']
        trials.insert_one(dict(study=NAME, trial=3, value=0.5, step=7, state='complete'))
        for number in ODD:
            trials.insert_one(dict(study=NAME, trial=number, value=0.9))
            trials.insert_one(dict(study=NAME, trial=4, value=number, step=number))
        yield mongo_server
        client.drop_database(DBNAME)


@pytest.mark.parametrize('curves', [True, False])
def test_other_records_are_shown(database, tmp_path, curves):
    found, trouble = runs.read(
        database.host, database.port, DBNAME, cache_dir=str(tmp_path), curves=curves
    )
    assert trouble is None and [run.exp_id for run in found] == ['good', NAME]
    for run in found:
        assert max(point.step for point in run.points) == 30
        if curves:
            assert sorted({point.step for point in run.points}) == [10, 20, 30]
    view = of_runs(found, Selection())
    text = io.StringIO()
    rich.console.Console(file=text, width=200).print(table.of(view))
    assert 'good' in text.getvalue()
    assert safe(NAME) in text.getvalue() and '\x1b' not in text.getvalue()


def test_other_trials_are_shown(database):
    (found,) = searches.read(database.host, database.port, DBNAME)
    assert {trial.number for trial in found.trials} == {3, 4}
    text = io.StringIO()
    rich.console.Console(file=text, width=200).print(table.of_search(found))
    assert '0.5000' in text.getvalue() and '\x1b' not in text.getvalue()


def test_what_is_not_printable_is_written_out():
    assert safe(NAME) == 'red \\x1b[31m\\x07 [bold]name[/bold] \\x9b2J'
    assert safe('größer, 7 µs') == 'größer, 7 µs'
