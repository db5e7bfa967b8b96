"""Tests of the table in a terminal and of the notes below it."""

import datetime
import io

import pytest
import rich.console

from reports import runs, table, view
from reports.selection import Selection

from stored import DBNAME, HOSTILE


@pytest.fixture(scope='module')
def found(database):
    address, cache = database
    return runs.read(address.host, address.port, DBNAME, cache_dir=cache)[0]


def seen(found, *columns):
    """Returns a view of runs, with the usual columns or those that are named."""
    return view.of_runs(found, Selection(columns=columns))


def printed(found, width):
    console = rich.console.Console(file=io.StringIO(), width=width)
    console.print(table.of(seen(found)))
    return console.file.getvalue()


WIDE = 250


def test_the_table_has_a_row_for_each_run(found):
    lines = printed(found, WIDE).splitlines()
    assert lines[1].split() == [
        *('exp_id', 'rule', 'dataset', 'model', 'seed', 'step', 'top-1', 'top-5', 'loss'),
        *('weight°', 'projection°', 'gradient°', 'images/s', 'duration', 'updated', 'state'),
    ]
    (row,) = [line.split() for line in lines if line.split()[:1] == ['symmetric']]
    assert row[:13] == [
        *('symmetric', 'symmetric', '?', 'resnet18', '-', '30', '0.9000', '1.0000', '0.5000'),
        *('12.0', '12.0', '12.0', '262'),
    ]
    assert row[-1] == 'finished'
    (row,) = [line.split() for line in lines if line.split()[:1] == ['died']]
    assert row[5:8] == ['20', 'of', '30'] and row[-1] == 'died'
    (row,) = [line.split() for line in lines if line.split()[:1] == ['bare']]
    assert row[:5] == ['bare', '?', '?', 'fc_7-5', '-'] and row[5:13] == ['2'] + ['-'] * 7
    assert row[-1] == 'ended' and any(HOSTILE in line for line in lines)


@pytest.mark.parametrize('width', [60, 80, 100, 120, 160, 200, WIDE])
def test_numbers_are_never_folded_and_columns_that_do_not_fit_are_named(found, width):
    lines = printed(found, width).splitlines()
    assert max(map(len, lines)) <= width
    text = ' '.join(lines)
    assert text.count('0.9000') >= 4 and 'exp_id' in lines[1] and 'top-1' in lines[1]
    left_out = [line for line in lines if line.startswith('Not shown in ')]
    assert bool(left_out) == (width < 200) and ('projection°' in lines[1]) == (width >= 160)
    assert ('20 of 30' in text) == ('step' in lines[1])


def test_columns_that_are_asked_for_are_all_there(found):
    console = rich.console.Console(file=io.StringIO(), width=40)
    names = ('exp_id', 'step', 'top1', 'weight_angle', 'images_per_s', 'why', 'alpha')
    console.print(table.of(seen(found, *names)), crop=False)
    lines = console.file.getvalue().splitlines()
    assert lines[1].split() == ['exp_id', 'step', 'top-1', 'weight°', 'images/s', 'why', 'alpha']


MOMENT = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)


def measured(count, angle=30.0, time=MOMENT):
    """Returns a run with `count` measured images, or without that number if `count` is None."""
    results = dict(
        top1=0.5,
        gradient_angles={'conv0': None, 'dense': angle},
        **({} if count is None else {'measured_images': count}),
    )
    return runs.Run('fc', 'a', [runs.Point(7, {}, results, None, 0, None, time)], {})


ON = 'Angles are means over the layers, measured on '


@pytest.mark.parametrize(
    'some, told',
    [
        ([], ''),
        ([measured(64, angle=None)], ''),
        ([measured(None)], ON + 'one batch.'),
        ([measured(64), measured(64)], ON + 'the first 64 validation images.'),
        (
            [measured(64), measured(13), measured(1000), measured(7, angle=None)],
            ON + 'the first 13 to 1,000 validation images.',
        ),
        (
            [measured(64), measured(None)],
            ON + 'the first 64 validation images (on one batch in older records).',
        ),
    ],
)
def test_a_note_says_what_angles_are_measured_on(some, told):
    assert table.note(some) == told
    assert [line for line in printed(some, WIDE).splitlines() if line.startswith('Angles')] == (
        [told] if told else []
    )


def test_layers_without_an_angle_are_left_out(found):
    some = [measured(64, time=found[0].time)]
    assert some[0].curve('gradient_angles') == [(7, 30.0)] and list(
        some[0].layers('gradient_angles')
    ) == ['dense']
    assert seen(some, 'gradient_angle').sheet.columns[0].texts == ['30.0']


def test_an_angle_that_is_gone_is_not_that_of_an_earlier_validation(found):
    points = [
        runs.Point(
            step,
            {},
            dict(top1=top1, gradient_angles={'dense': angle}),
            None,
            0,
            None,
            found[0].time,
        )
        for step, top1, angle in ((0, 0.1, 30.0), (7, float('nan'), None))
    ]
    run = runs.Run('fc', 'dead', points, {})
    assert run.last('gradient_angles') is run.last('top1') is None and run.curve(
        'gradient_angles'
    ) == [(0, 30.0)]
