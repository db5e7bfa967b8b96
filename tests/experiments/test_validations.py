"""The validations of runs over time: stored with their lines, and drawn as means with bands."""

import csv
import os

import numpy as np
import pytest
from PIL import Image

import pretend
from config.rows import ConfigError
from experiments import base, figures, lines, validations
from experiments.base import Group, Results
from experiments.lines import Key, State
from experiments.validations import Validation
from test_lines import line
from test_sweep import VALUES, database, quick, where, work  # noqa: F401 (fixtures)

EPOCHS = 5.0  # of the recipe fc_small, in 80 steps


def key(seed):
    return line(seed).key


def history(seed, shift=0.0):
    """Returns five validations; the top-1 of the first epoch is that of initial values."""
    return [Validation(2.0 * i, 7 * i, 0.1 * i + shift, gradient_angle=i / 3) for i in range(5)]


@pytest.fixture
def file(tmp_path):
    """The file of the validations of an experiment in a folder that does not exist yet."""
    return validations.File(str(tmp_path / 'results' / 'x.csv'))


def test_a_sweep_stores_the_validations_of_each_run(where):  # noqa: F811 (a fixture)
    work(where, dict(VALUES, seed=[1, 2])).run()
    found = validations.File(where.csv).read()
    written = lines.File(where.csv).read()
    assert len(written) == 4 and set(found) == {each.key for each in written}
    for each in written:
        rule = each.factors['alignment']
        assert found[each.key] == [
            Validation(
                EPOCHS * step / pretend.STEPS,
                step,
                float(f'{pretend.top1(rule, each.seed, 0.05, step):.6g}'),
                *(1.0, 0.25, 40.0, 10.0, None),
            )
            for step in (0, 40, 80)
        ]
    with open(where.csv[:-4] + '_validations.csv', newline='') as opened:
        assert next(csv.reader(opened)) == list(validations.COLUMNS)


def test_a_line_of_the_database_brings_its_validations(where, tmp_path):  # noqa: F811
    work(where, dict(VALUES, seed=[1])).run()
    there = where._replace(csv=str(tmp_path / 'there.csv'))
    work(there, dict(VALUES, seed=[1])).run()
    found = validations.File(there.csv).read()
    assert len(found) == 2 and found == validations.File(where.csv).read()


def test_the_validations_of_a_run_are_replaced_and_others_stay(file):
    assert file.read() == {}
    for seed in (1, 2, 1):
        file.store(key(seed), history(seed))
    file.store(key(2), history(2, shift=0.25))
    found = file.read()
    assert list(found) == [key(1), key(2)] and [len(each) for each in found.values()] == [5, 5]
    assert [each.top1 for each in found[key(2)]] == [0.25, 0.35, 0.45, 0.55, 0.65]
    assert found[key(1)][2].gradient_angle == 0.666667 and found[key(1)][2].weight_angle is None


def test_a_run_without_a_curve_is_left_out(file):
    file.store(key(1), history(1)[:2])
    assert not os.path.exists(file.path)


@pytest.mark.parametrize(
    'text, told',
    [
        ('seed,digest\n', 'does not have the columns of validations'),
        (','.join(validations.COLUMNS) + '\na,1,b,x,1,,,,,,\n', 'line 2: could not convert'),
        (','.join(validations.COLUMNS) + '\na,1,b,1.0\n', 'line 2: it has 4 fields'),
    ],
)
def test_a_damaged_file_is_named(file, text, told):
    os.makedirs(os.path.dirname(file.path))
    with open(file.path, 'w') as opened:
        opened.write(text)
    with pytest.raises(ConfigError, match=told):
        file.store(key(1), history(1))
    with open(file.path) as opened:
        assert opened.read() == text


def test_a_band_is_the_mean_and_the_range_of_the_seeds_at_each_epoch():
    known = {key(seed): history(seed, shift) for seed, shift in ((1, 0.0), (2, 0.3), (3, 0.15))}
    known[key(4)] = history(4, shift=9.0)
    known[key(2)] = known[key(2)][:-1]  # the last epoch is not that of all seeds
    group = Group({}, {1: line(1), 2: line(2), 3: line(3), 4: line(4, state=State.LOST)})
    found = validations.band(group, known, 'top1')
    assert found.epochs == [2.0, 4.0, 6.0]
    for place, start in enumerate([0.1, 0.2, 0.3]):
        values = start + np.array([0.0, 0.3, 0.15])
        assert found.means[place] == pytest.approx(values.mean())
        assert found.lows[place] == pytest.approx(start)
        assert found.highs[place] == pytest.approx(start + 0.3)
    assert validations.band(group, known, 'weight_angle') is None


def test_the_figure_has_the_colour_of_each_rule(tmp_path):
    rules = {'mirror': 1, 'feedback': 2, 'usf': 3}
    results = Results([Group({'rule': rule}, {seed: line(seed)}) for rule, seed in rules.items()])
    known = {key(seed): history(seed) for seed in (1, 2)}  # usf has no validations
    path = str(tmp_path / 'x.png')
    assert figures.over_time(results, known, ('top1', 'loss'), 'x', path)
    with Image.open(path) as image:
        seen = {colour for _, colour in image.convert('RGB').getcolors(1 << 20)}
        width = image.size[0]
    mirror, feedback, usf = (0xD5, 0x5E, 0x00), (0xE6, 0x9F, 0x00), (0x7A, 0x6F, 0xD0)
    assert {mirror, feedback} <= seen and usf not in seen
    assert width == 6.0 * figures.DPI  # one panel: no run has a loss
    assert not figures.over_time(results, {}, ('top1',), 'x', str(tmp_path / 'y.png'))
    assert os.listdir(str(tmp_path)) == ['x.png']


def test_all_figures_of_an_experiment_are_written(tmp_path):
    path = str(tmp_path / 'x.csv')
    results = Results([Group({'rule': 'mirror'}, {1: line(1)})])
    experiment = base.Experiment()
    first = str(tmp_path / 'figures' / 'y.svg')
    assert experiment.draw_all(results, path, first) == [first]
    validations.File(path).store(key(1), history(1))
    second = str(tmp_path / 'figures' / 'y_validations.svg')
    assert experiment.draw_all(results, path, first) == [first, second]
    assert sorted(os.listdir(os.path.dirname(first))) == ['y.svg', 'y_validations.svg']


def test_a_key_of_another_run_is_another_curve(file):
    other = Key(key(1).digest, 1, 'TensorFlow 9')
    file.store(key(1), history(1))
    file.store(other, history(1, shift=0.5))
    assert [each[0].top1 for each in file.read().values()] == [0.0, 0.5]


def test_a_band_needs_two_seeds(tmp_path):
    """So the figure of one seed has no colour between that of the curve and white."""
    path = str(tmp_path / 'x.png')
    translucent = {}
    for seeds in (1, 2):
        known = {key(seed): history(seed, seed / 30) for seed in range(1, seeds + 1)}
        group = Group({'rule': 'mirror'}, {seed: line(seed) for seed in range(1, seeds + 1)})
        assert validations.band(group, known, 'top1').seeds == seeds
        assert figures.over_time(Results([group]), known, ('top1',), 'x', path)
        with Image.open(path) as image:
            colours = dict(
                (colour, count) for count, colour in image.convert('RGB').getcolors(1 << 20)
            )
        translucent[seeds] = colours.get((0xF6, 0xDE, 0xCC), 0)  # 0.2 of d55e00 on white
    assert translucent[1] < 100 < translucent[2] / 10


def test_a_label_has_what_tells_a_group_from_the_others_of_its_rule():
    def labels(*factors):
        return figures._labels([Group(each, {}) for each in factors])

    assert labels({'rule': 'usf', 'x': '1'}, {'rule': 'dfa', 'x': '2'}) == ['usf', 'dfa']
    assert labels(
        {'rule': 'usf', 'x': '1', 'y': '3'}, {'rule': 'usf', 'x': '2', 'y': '3'}, {'rule': 'dfa'}
    ) == ['usf, x 1', 'usf, x 2', 'dfa']
    assert labels({'x': '1', 'y': '3'}, {'x': '2', 'y': '3'}) == ['x 1', 'x 2']
    assert labels({'x': '1'}, {'x': '2'}) == ['1', '2'] and labels({'x': '1'}) == ['x=1']
    assert labels({}) == ['all']


def test_an_interval_does_not_leave_the_range_of_its_metric(monkeypatch):
    limits = []
    monkeypatch.setattr(
        figures, 'save', lambda figure, path: limits.append(figure.axes[0].get_xlim())
    )
    seeds = {
        seed: line(seed)._replace(measured=line(seed).measured._replace(top1=0.8 * seed - 0.7))
        for seed in (1, 2)
    }
    group = Group({'rule': 'mirror'}, seeds)
    figures.dots(Results([group]), 'x', 'x.png')
    assert limits == [(0.0, 1.0)]
