"""The experiments on Fashion-MNIST: depth, sensitivity, transfer, baselines. Runs and tables."""

import math

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from alignment.rules import RULES
from config.rows import ConfigError
from experiments import base, baselines, depth, fashion, lines, results, sensitivity, transfer
from experiments.base import Results
from experiments.lines import State
from experiments.trials import TRIAL
from test_base import cells
from test_programs import VERSION, of_runs
from training.choices import check

COLUMNS = ['2 layers', '4 layers', '8 layers', '16 layers']


def line_of(run, top1, state=State.FINISHED):
    """Returns the line of one run."""
    return of_runs([run], lambda config: top1, state)[0]


def layers(run):
    return len(run.config.layers_list)


def colours(path):
    """Returns the colours of a PNG file, as (red, green, blue)."""
    with Image.open(path) as image:
        return {colour for _, colour in image.convert('RGB').getcolors(1 << 20)}


def test_depth_has_seven_rules_at_each_depth_and_seed():
    runs = base.checked(depth.Depth().runs([]), 'depth')
    assert len(runs) == 7 * 4 * 3 == len({run.key('') for run in runs})
    assert [run.config.seed for run in runs[::28]] == [1, 2, 3]
    for run in runs:
        check(run.config)
        assert str(layers(run)) == run.factors['depth']
        assert (run.config.alignment or 'backprop') == run.factors['rule']
        assert run.config.validation_split == 0  # all training images
        uses_a_loss = run.factors['rule'] not in ('backprop', 'feedback', 'kolen_pollack')
        assert run.config.alignment_optimizer == ('adam' if uses_a_loss else None)
        assert (run.config.input_distribution == 'normal') == (run.factors['rule'] == 'mirror')


def test_the_tables_of_depth_are_means_and_points_behind_backprop(tmp_path):
    """The top-1 falls by a tenth of a point a layer, more with feedback, and by the seed."""

    def top1(run):
        fall = {'backprop': 1, 'feedback': 20}.get(run.factors['rule'], 2)
        return 0.9 - fall * layers(run) / 1000 + run.config.seed**2 / 100

    runs = depth.Depth().runs([])
    known = [line_of(run, top1(run)) for run in runs if run.name != 'rule=mirror depth=8 seed=3']
    found = Results.of(runs, known, VERSION)
    first, second = depth.Depth().table(found).split('\n\n')
    shown = {row['rule']: row for row in cells(first)}
    assert list(shown) == list(fashion.RULES) and list(shown['mirror'])[1:] == COLUMNS
    seeds = np.array([0.01, 0.04, 0.09])
    expected = 0.9 - 0.02 * 16 + seeds
    assert (
        shown['feedback']['16 layers'] == f'{expected.mean():.4f} ± {np.std(expected, ddof=1):.4f}'
    )
    two = 0.9 - 0.016 + seeds[:2]
    assert shown['mirror']['8 layers'] == f'{two.mean():.4f} ± {np.std(two, ddof=1):.4f} (n = 2)'
    behind = {row['points behind backprop']: row for row in cells(second)}
    assert [behind['feedback'][name] for name in COLUMNS] == [
        f'{points} ({points} to {points})' for points in ('3.8', '7.6', '15.2', '30.4')
    ]
    assert behind['symmetric']['16 layers'] == '1.6 (1.6 to 1.6)' and 'backprop' not in behind
    assert found.notes() == ['not trained yet (1): rule=mirror depth=8 seed=3']
    depth.Depth().draw(found, str(tmp_path / 'x.png'))
    assert {(0, 114, 178), (213, 94, 0)} <= colours(str(tmp_path / 'x.png'))


def test_the_bands_are_the_interval_of_the_mean():
    runs = depth.Depth().runs([])
    tops = [0.5, 0.625, 0.875]
    known = [line_of(run, tops[run.config.seed - 1]) for run in runs]
    group = Results.of(runs, known, VERSION).group(rule='mirror', depth='4')
    assert fashion.half_width(group) == pytest.approx(
        stats.t.ppf(0.975, 2) * np.std(tops, ddof=1) / math.sqrt(3)
    )
    one = Results.of(runs, known[:28], VERSION).group(rule='mirror', depth='4')
    assert math.isnan(fashion.half_width(one)) and fashion.cell(one) == '0.5000 (n = 1)'


@pytest.fixture
def five(monkeypatch):
    """Five trials of each rule."""
    monkeypatch.setattr(sensitivity, 'TRIALS', 5)


def planted(values, lost=()):
    """Returns lines of the trials; values: {rule: top-1, trial by trial}."""
    return [
        line_of(
            run,
            values[run.factors['rule']][int(run.factors[TRIAL]) - 1],
            State.LOST if run.name.startswith(tuple(lost)) else State.FINISHED,
        )
        for run in sensitivity.Sensitivity().runs([])
    ]


def test_both_rules_have_trials_of_the_same_ranges_on_images_held_out():
    runs = base.checked(sensitivity.Sensitivity().runs([]), 'sensitivity')
    assert [run.factors['rule'] for run in runs] == ['mirror'] * 30 + ['information'] * 30
    for run in runs:
        check(run.config)
        assert run.config.validation_split == 10_000 and layers(run) == 2
    ranges = list(sensitivity.RANGES.values())
    shared = set(ranges[0]) & set(ranges[1])
    assert shared == {'learning_rate', 'alignment_learning_rate', 'alpha', 'beta'}
    assert all(ranges[0][name] == ranges[1][name] for name in shared)
    assert {
        rule: set(each) - set(sensitivity.RATES) for rule, each in sensitivity.RANGES.items()
    } == {rule: set(RULES[rule].coefficients) for rule in ('mirror', 'information')}


def test_the_share_of_trials_that_learn(tmp_path):
    """A trial that diverged counts as one that does not learn."""
    mirror = [0.8] + [0.76] * 5 + [0.75] * 24
    information = [0.5 + number / 100 for number in range(30)]
    known = planted({'mirror': mirror, 'information': information}, ['rule=mirror trial=6 '])
    runs = sensitivity.Sensitivity().runs([])
    first, second = sensitivity.Sensitivity().table(Results.of(runs, known, VERSION)).split('\n\n')
    own, all_ = 'reach 95% of its best', 'reach 95% of the best of both'
    assert cells(first) == [
        {'rule': 'mirror', 'trials': '30', 'best top-1': '0.8000', 'median': '0.7500',
         own: '17%', all_: '17%'},
        {'rule': 'information', 'trials': '30', 'best top-1': '0.7900', 'median': '0.6450',
         own: '13%', all_: '13%'},
    ]  # fmt: skip
    assert [row['diverged'] for row in cells(second)] == ['1', '0']
    few = Results.of(runs, known[:3], VERSION)
    assert [row['trials'] for row in cells(sensitivity.Sensitivity().table(few).split('\n\n')[0])]
    path = str(tmp_path / 'x.png')
    sensitivity.Sensitivity().draw(Results.of(runs, known, VERSION), path)
    assert {(0, 114, 178), (213, 94, 0)} <= colours(path)


def test_shares_of_planted_numbers():
    found = sensitivity.shares({'a': [1.0, 0.95, 0.94, 0.0], 'b': [0.5, 0.476, 0.475], 'c': []})
    assert list(found) == ['a', 'b']
    assert (found['a'].of_own, found['a'].of_all, found['a'].median) == (0.5, 0.5, 0.945)
    assert (found['b'].of_own, found['b'].of_all) == (1.0, 0.0)
    assert sensitivity.shares({}) == {}


def test_transfer_uses_the_best_trials_unchanged(five, tmp_path, capsys):
    best = {'mirror': 2, 'information': 5}
    known = planted(
        {rule: [0.5 + (number == at) / 4 for number in range(1, 6)] for rule, at in best.items()}
    )
    file = lines.File(str(tmp_path / 'sensitivity.csv'))
    for each in known:
        file.append(each, {})
    tried = {run.name: run.config for run in sensitivity.Sensitivity().runs([])}
    own = transfer.Transfer(transfer.best(str(tmp_path)))
    runs = base.checked(own.runs([]), 'transfer')
    assert len(runs) == 4 * 4 * 3
    for run in runs:
        check(run.config)
        rule = run.factors['rule']
        if rule in best:
            expected = tried[f'rule={rule} trial={best[rule]} seed=0'].replaced(
                dict(
                    seed=run.config.seed,
                    validation_split=0,
                    layers_list=(64,) * int(run.factors['depth']),
                )
            )
            assert run.config == expected
        else:
            name = f'rule={rule} depth={run.factors["depth"]} seed={run.config.seed}'
            assert run.config == {each.name: each.config for each in depth.Depth().runs([])}[name]
    finals = lines.File(str(tmp_path / 'transfer.csv'))
    for run in runs[:16]:
        finals.append(line_of(run, layers(run) / 32), {})
    assert results.main([str(tmp_path)]) == 0
    rows = [row for row in capsys.readouterr().out.splitlines() if row.startswith('| mirror')]
    assert '0.0625 (n = 1)' in rows[-1] and '0.5000 (n = 1)' in rows[-1]


def test_without_all_trials_transfer_says_what_to_run(five, tmp_path, capsys):
    known = planted({'mirror': [0.5] * 5, 'information': [0.5] * 5})
    file = lines.File(str(tmp_path / 'sensitivity.csv'))
    for each in known[:8]:
        file.append(each, {})
    assert set(transfer.best(str(tmp_path))) == {'mirror'}
    assert transfer.main([f'--csv={tmp_path}/transfer.csv']) == 2
    told = capsys.readouterr().err
    assert f'{tmp_path}/sensitivity.csv does not have all trials of information' in told
    assert 'run make sensitivity first' in told
    partly = transfer.Transfer(transfer.best(str(tmp_path)))
    assert {run.factors['rule'] for run in partly.runs([])} == {'mirror', *transfer.DEFAULT}


def test_baselines_freeze_what_does_not_learn():
    runs = base.checked(baselines.Baselines().runs([]), 'baselines')
    assert len(runs) == 6 * 3 * 3 == len({run.key('') for run in runs})
    frozen = {(run.factors['network'], run.factors['learns']): run.config.freeze for run in runs}
    for run in runs:
        check(run.config)
        assert run.config.alignment is None
    assert frozen['fc, 4 layers', 'the last layer'] == ('dense0', 'dense1', 'dense2', 'dense3')
    assert frozen['lenet', 'biases and batch norm'] == ('forward_kernel',)
    assert frozen['resnet8, 150 steps', 'everything'] == ()


def test_the_table_of_baselines():
    own = baselines.Baselines()
    runs = own.runs([])
    parts = {'everything': 0.75, 'the last layer': 0.5, 'biases and batch norm': 0.25}
    known = [line_of(run, parts[run.factors['learns']] + run.config.seed / 100) for run in runs]
    shown = cells(own.table(Results.of(runs, known[:-9], VERSION)))
    assert [row['network'] for row in shown] == list(baselines.NETWORKS)
    assert all(row['nothing (chance)'] == '0.1000' for row in shown)
    assert shown[1]['everything'] == '0.7700 ± 0.0100' and shown[-1]['everything'] == '-'
    assert shown[1]['biases and batch norm'] == '0.2700 ± 0.0100'


def test_an_unknown_runtime_has_no_lines(tmp_path):
    runs = depth.Depth().runs([])
    found = Results.of(runs, [line_of(run, 0.5) for run in runs], 'TensorFlow 0')
    assert '0.5' not in depth.Depth().table(found)
    with pytest.raises(ConfigError, match='is not a folder'):
        results.show_all(str(tmp_path / 'no'))
