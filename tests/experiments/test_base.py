"""Results of experiments: their statistics by NumPy, their tables, and what is left out by name."""

import json

import numpy as np
import pytest

from config.rows import ConfigError
from config.schema import Config
from experiments import base, lines
from experiments.base import Results, Run
from experiments.lines import State
from test_lines import line

RUNTIME = 'TensorFlow 0'
TOP1 = {'mirror': (0.5, 0.75, 0.875), 'usf': (0.25, 0.375, 0.5)}
T_1 = 12.706204736432095  # Student's t of 1 degree of freedom at 0.975
T_2 = 4.302652729911275  # Student's t of 2 degrees of freedom at 0.975


def run(rule, seed, **settings):
    return Run({'alignment': rule}, Config.of(dict(settings, alignment=rule, seed=seed), {}))


def of_run(each, top1=0.5, state=State.FINISHED, **measured):
    """Returns the line of a run."""
    made = line(each.config.seed, factors=each.factors, digest=each.key('').digest, state=state)
    return made._replace(
        measured=made.measured._replace(top1=top1, **measured),
        source=made.source._replace(settings=json.dumps({'alignment': each.config.alignment})),
    )


RUNS = [run(rule, seed) for rule in TOP1 for seed in (1, 2, 3)]
LINES = [of_run(run(rule, seed), TOP1[rule][seed - 1]) for seed in (3, 1, 2) for rule in TOP1]


def cells(table):
    """Returns the rows of a Markdown table as {title: text}, without the line of dashes."""
    rows = [[cell.strip() for cell in row.split('|')[1:-1]] for row in table.splitlines()]
    assert {len(row) for row in rows} == {len(rows[0])} and set(''.join(rows[1])) == {'-'}
    return [dict(zip(rows[0], row)) for row in rows[2:]]


def test_a_table_has_the_statistics_of_each_group():
    for row in cells(Results.of(RUNS, LINES, RUNTIME).table()):
        values = np.array(TOP1[row['alignment']])
        half = T_2 * values.std(ddof=1) / np.sqrt(3)
        assert (row['n'], row['mean']) == ('3', f'{values.mean():.4f}')
        assert row['std'] == f'{values.std(ddof=1):.4f}'
        assert row['95 % interval'] == (f'{values.mean() - half:.4f} to {values.mean() + half:.4f}')
        assert (row['median'], row['worst']) == (f'{values[1]:.4f}', f'{values[0]:.4f}')
        assert [row[f'seed {seed}'] for seed in (1, 2, 3)] == [f'{each:.4f}' for each in values]


def test_differences_are_paired_over_the_seeds_that_both_have():
    found = [each for each in LINES if (each.factors, each.seed) != ({'alignment': 'usf'}, 2)]
    results = Results.of(RUNS, found, RUNTIME)
    mirror, usf = cells(results.differences([results.group(alignment='mirror')]))
    assert list(mirror.values()) == ['mirror', '', '', '']
    pairs = np.array([0.25 - 0.5, 0.5 - 0.875])
    half = T_1 * pairs.std(ddof=1) / np.sqrt(2)
    assert (usf['n'], usf['minus mirror']) == ('2', f'{pairs.mean():+.4f}')
    assert usf['95 % interval'] == f'{pairs.mean() - half:+.4f} to {pairs.mean() + half:+.4f}'
    few = Results.of(RUNS, [each for each in found if each.factors['alignment'] == 'usf'], RUNTIME)
    _, usf = cells(few.differences([few.group(alignment='mirror')]))
    assert list(usf.values()) == ['usf', '0', '-', '-']


def test_the_worst_loss_is_the_largest():
    found = [of_run(each, loss=each.config.seed / 8) for each in RUNS]
    row = cells(Results.of(RUNS, found, RUNTIME).table('loss'))[0]
    assert (row['worst'], row['median']) == ('0.3750', '0.2500')


def test_what_did_not_finish_is_named_and_in_no_mean():
    found = [each for each in LINES if each.factors['alignment'] == 'mirror' or each.seed == 3]
    found.append(of_run(run('usf', 1), 0.0625, State.LOST)._replace())
    results = Results.of(RUNS, found, RUNTIME, {'alignment=usf seed=2': 'exit code 1, no disk'})
    row = cells(results.table())[1]
    assert (row['n'], row['mean'], row['std']) == ('1', '0.5000', '-')
    assert [row[f'seed {seed}'] for seed in (1, 2, 3)] == ['lost', 'failed', '0.5000']
    assert results.notes() == [
        'diverged, not in the means: alignment=usf seed=1, last validated at step 80 with top-1 '
        '0.0625',
        'failed, not in the means (1 of 1): alignment=usf seed=2: exit code 1, no disk',
    ]
    missing = Results.of(RUNS, found, RUNTIME).notes()[-1]
    assert missing == 'not trained yet (1): alignment=usf seed=2'


@pytest.mark.parametrize('change', ['digest', 'seed', 'runtime'])
def test_a_line_of_another_digest_seed_or_runtime_does_not_count(change):
    source = LINES[0].source
    other = {
        'digest': LINES[0]._replace(source=source._replace(digest='0' * 16)),
        'seed': LINES[0]._replace(seed=4),
        'runtime': LINES[0]._replace(source=source._replace(runtime='TensorFlow 1')),
    }[change]
    results = Results.of(RUNS, [other] + LINES[1:], RUNTIME)
    assert results.group(alignment='mirror').lines[3] is None


def test_two_lines_of_one_run_count_once():
    twice = LINES + [each._replace(measured=lines.Measured(top1=0.0)) for each in LINES]
    assert Results.of(RUNS, twice, RUNTIME).table() == Results.of(RUNS, LINES, RUNTIME).table()
    assert Results.of_lines(twice).table() == Results.of_lines(LINES).table()


def test_lines_alone_give_the_same_statistics():
    alone = cells(Results.of_lines(LINES).table())
    assert sorted(alone, key=str) == sorted(
        cells(Results.of(RUNS, LINES, RUNTIME).table()), key=str
    )


def test_lines_that_differ_in_another_setting_are_other_groups():
    more = {'alignment': 'mirror', 'train_epochs': 2.0}
    other = of_run(run('mirror', 1, train_epochs=2.0))
    other = other._replace(source=other.source._replace(settings=json.dumps(more)))
    rows = cells(Results.of_lines(LINES + [other]).table())
    assert [(row['alignment'], row['train_epochs'], row['n']) for row in rows] == [
        ('mirror', '90.0', '3'),
        ('usf', '90.0', '3'),
        ('mirror', '2.0', '1'),
    ]


def test_other_data_and_equal_logits_are_told():
    found = [of_run(each, images=1000 + each.config.seed // 3) for each in RUNS]
    (note,) = Results.of(RUNS, found, RUNTIME).notes()
    assert note.startswith('the runs were validated on different numbers of images (1,000, 1,001)')
    found = [of_run(each, ties=11 if each.config.seed == 2 else 10) for each in RUNS]
    notes = Results.of(RUNS, found, RUNTIME).notes()
    assert [note.partition(':')[0] for note in notes] == [
        f'alignment={rule} seed=2' for rule in TOP1
    ]


def test_json_has_all_numbers_and_no_nan():
    found = LINES[:1]  # mirror, seed 3
    document = json.loads(
        Results.of(RUNS, found, RUNTIME).json('x', RUNTIME), parse_constant=lambda text: 1 / 0
    )
    mirror, usf = document['groups']
    assert mirror['factors'] == {'alignment': 'mirror'}
    assert mirror['seeds'] == {'1': None, '2': None, '3': 'finished'}
    assert mirror['metrics']['top1'] == dict(
        n=1, mean=0.875, std=None, low=None, high=None, median=0.875, least=0.875, most=0.875,
        values={'3': 0.875},
    )  # fmt: skip
    assert usf['metrics']['top1']['mean'] is None and usf['metrics']['top1']['values'] == {}


@pytest.mark.parametrize(
    'runs, name, told',
    [
        ([], 'x', 'has no runs'),
        (RUNS[:1] * 2, 'x', 'the run alignment=mirror seed=1 is declared twice'),
        ([RUNS[0]._replace(factors={'step': '1'})], 'x', 'step cannot distinguish runs'),
        (RUNS, 'a/b', '--name=a/b must consist of'),
    ],
)
def test_runs_that_cannot_be(runs, name, told):
    with pytest.raises(ConfigError, match=told):
        base.checked(runs, name)
