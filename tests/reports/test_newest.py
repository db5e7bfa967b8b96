"""Tests that a report uses the newest record of a run, and the best trial up to each one."""

import datetime

import bson
import pymongo
import pytest
from matplotlib.figure import Figure

from reports import plots, runs, searches, stored

MOMENT = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)


@pytest.fixture
def files(mongo_server):
    """An empty collection of records."""
    client = pymongo.MongoClient(mongo_server.host, mongo_server.port)
    yield client['newest']['fc.files']
    client.drop_database('newest')
    client.close()


def test_the_speed_is_that_of_the_newest_record():
    points = [
        runs.Point(step, {}, {}, duration, 7, None, MOMENT)
        for step, duration in ((7, 2.0), (21, 0.5), (14, 1.0))
    ]
    run = runs.Run('fc', 'one', points, {'train_params': {'train_batch_size': 131}})
    assert run.images_per_s == 131 / 0.5


def test_the_settings_are_those_of_the_newest_record(files):
    files.insert_many(
        dict(_id=bson.ObjectId(), exp_id=exp_id, step=step, params={'train_params': {'seed': seed}})
        for exp_id, step, seed in (('one', 7, 1), ('one', 21, 3), ('one', 14, 2), ('two', 28, 4))
    )
    files.insert_one(dict(exp_id='one', step=35))  # a record without settings
    assert stored._params(files, 'one') == {'train_params': {'seed': 3}}


def test_the_best_so_far_knows_no_later_trial():
    trials = [
        searches.Trial(number, 'complete', value, 7, {})
        for number, value in enumerate((0.25, None, 0.5, 0.125, 0.75))
    ]
    (plot,) = plots.of_search(searches.Search('fc', 'one', trials))
    axes = Figure().add_subplot(1, 1, 1)
    plot.draw(axes)
    (best,) = [line for line in axes.get_lines() if line.get_label() == 'best so far']
    assert list(zip(*best.get_data())) == [(0, 0.25), (2, 0.5), (3, 0.5), (4, 0.75)]


def test_results_by_class_are_not_read(files):
    """They are up to a thousand times larger than the numbers."""
    details = dict(
        per_class=[{'label': 0}], confusion={'matrix': [[7]]}, mistakes=[{'image': b'x'}]
    )
    record = dict(
        _id=bson.ObjectId(),
        exp_id='one',
        step=7,
        params={},
        train_results=[{'loss': 1.0}],
        validation_results={'topn_val': dict(details, top1=0.5)},
    )
    files.insert_one(record)
    (head,) = stored.heads(files)
    assert head.records[0]['validation_results'] == {'topn_val': {'top1': 0.5}}
    files.insert_one(dict(exp_id='one', step=9, params={}, train_results=[{'loss': 1.0}]))
    (head,) = stored.heads(files)
    found = [each['validation_results'] for each in head.records if 'validation_results' in each]
    assert found == [{'topn_val': {'top1': 0.5}}]
    (point, _) = sorted(stored.whole(files, ['one'])['one'])
    assert point.results == stored.waiting_point(record).results == {'top1': 0.5}
