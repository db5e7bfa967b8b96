"""The experiment on all rules: its trials, the settings that they choose, and its runs."""

import csv
import math
import re

import numpy as np
import pytest

from alignment import rules as alignment_rules
from alignment.rules import RULES
from experiments import base, lines, results, rules, trials
from experiments.base import Results
from experiments.lines import State
from experiments.trials import Range, Row, Trials
from test_base import cells
from test_programs import VERSION, of_runs
from training.choices import check

SPACE = {'learning_rate': Range(1e-3, 1e-1), 'alpha': Range(0.5, 2.0)}
ROWS = [
    Row({'rule': 'usf'}, dict(rules.TRIAL, alignment='usf'), {'learning_rate': Range(1e-3, 1e-1)}),
    Row({'rule': 'mirror'}, dict(rules.TRIAL, alignment='mirror'), SPACE),
]


def test_draws_fall_once_into_each_part_of_a_range():
    drawn = trials.draw(SPACE, 13, seed=3)
    assert drawn == trials.draw(dict(reversed(list(SPACE.items()))), 13, seed=3)
    assert drawn != trials.draw(SPACE, 13, seed=4)
    for name, (low, high) in SPACE.items():
        values = np.array([each[name] for each in drawn])
        parts = 13 * np.log(values / low) / math.log(high / low)
        # Values are rounded to three digits, which can move one over the edge of its part.
        assert np.all(np.abs(sorted(parts) - np.arange(13) - 0.5) < 0.6)
        assert list(parts) != sorted(parts)
        assert all(float(f'{value:.3g}') == value for value in values)


def searched(top1, **states):
    """Returns the trials of ROWS and their lines; top1: {rule: its top-1, trial by trial}."""
    search = Trials('some_search', ROWS, 4, 'some')
    found = []
    for run in search.runs([]):
        rule, number = run.factors['rule'], int(run.factors[trials.TRIAL])
        state = State.LOST if number in states.get(rule, ()) else State.FINISHED
        found += of_runs([run], lambda config: top1[rule][number - 1], state)
    return search, found


def test_the_best_trial_is_the_first_of_the_best_that_finished():
    search, known = searched(
        {'usf': (0.25, 0.75, 0.5, 0.75), 'mirror': (0.5, 0.25, 0.125, 0.75)}, mirror=[4]
    )
    runs = search.runs([])
    assert search.best(known) == {
        'rule=usf': {'learning_rate': runs[1].config.learning_rate},
        'rule=mirror': {
            'learning_rate': runs[4].config.learning_rate,
            'alpha': runs[4].config.of_rule('alpha'),
        },
    }
    assert search.best(known[:-1]) == {'rule=usf': search.best(known)['rule=usf']}
    assert search.best([]) == {} and search.target == 'some'
    usf, mirror = cells(search.table(Results.of(runs, known, VERSION)))
    assert (usf['trials'], usf['diverged'], usf['best top-1']) == ('4', '0', '0.7500')
    assert (mirror['trials'], mirror['diverged'], mirror['best top-1']) == ('4', '1', '0.5000')
    assert usf['alpha'] == '' and float(mirror['alpha']) == runs[4].config.of_rule('alpha')


def test_trials_that_all_diverged_choose_nothing():
    search, known = searched({'usf': [0.5] * 4, 'mirror': [0.1] * 4}, mirror=[1, 2, 3, 4])
    assert list(search.best(known)) == ['rule=usf']
    assert cells(search.table(Results.of(search.runs([]), known, VERSION)))[1]['best top-1'] == '-'


def test_every_rule_has_a_row_and_can_be_trained():
    found = [(row.factors['rule'], row.factors['input_distribution']) for row in rules.rows()]
    assert len(found) == 13 and len(set(found)) == 13
    assert {rule for rule, _ in found} == {'backprop', *RULES}
    assert [sees for rule, sees in found if rule == 'mirror'] == ['data', 'normal']
    search = rules.search()
    runs = base.checked(search.runs([]), search.name)
    assert len(runs) == 13 * rules.TRIALS
    for run in runs:
        check(run.config)
        assert run.config.validation_split == 10_000 and run.config.train_epochs == 4
        assert run.config.input_distribution == (
            'normal' if run.factors['input_distribution'] == 'normal' else None
        )


def test_a_new_rule_has_a_row(monkeypatch):
    class New(alignment_rules.Mirror):
        name, on_noise = 'new', False

    monkeypatch.setitem(RULES, 'new', New)
    assert rules.rows()[-1].factors == {'rule': 'new', 'input_distribution': 'data'}
    assert set(rules.rows()[-1].ranges) == {'learning_rate', 'alignment_learning_rate', 'beta'}


def best_of_all():
    """Returns lines of all trials, in which the last trial of each row is the best."""
    search = rules.search()
    return [
        made
        for run in search.runs([])
        for made in of_runs([run], lambda config: int(run.factors[trials.TRIAL]) / 100)
    ]


def test_the_runs_have_the_settings_of_the_best_trials_and_all_images():
    search, known = rules.search(), best_of_all()
    last = {
        base.named(row.factors): run.config
        for row, run in zip(rules.rows(), search.runs([])[rules.TRIALS - 1 :: rules.TRIALS])
    }
    runs = base.checked(rules.Rules(search.best(known)).runs([]), rules.Rules.name)
    assert [run.config.seed for run in runs[::13]] == [1, 2, 3, 4, 5] and len(runs) == 65
    for run in runs:
        check(run.config)
        tried = last[base.named(run.factors)]
        assert run.config == tried.replaced(
            dict(
                seed=run.config.seed,
                validation_split=0,
                validate_first=True,
                train_epochs=100.0,
                epochs_per_checkpoint=1.0,
                drop_epochs=(50, 75),
            )
        )


def test_without_trials_there_are_no_runs_and_the_tables_say_so(tmp_path, capsys):
    assert rules.found_in(str(tmp_path)) == {} and rules.Rules({}).runs([]) == []
    known = best_of_all()
    file = lines.File(str(tmp_path / 'rules_search.csv'))
    for each in known:
        file.append(each, {})
    chosen = rules.found_in(str(tmp_path))
    assert len(chosen) == 13
    finals = lines.File(str(tmp_path / 'rules.csv'))
    for each in of_runs(rules.Rules(chosen).runs([])[:26], lambda config: config.seed / 8):
        finals.append(each, {})
    with open(tmp_path / 'rules.csv', newline='') as opened:
        assert next(csv.reader(opened))[:3] == ['rule', 'input_distribution', 'seed']
    assert results.main([str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert '| mirror        | normal             | 2 | 0.1875 |' in out
    assert 'not trained yet (39): rule=backprop input_distribution=data seed=3;' in out


@pytest.mark.nightly
def test_a_small_one_from_the_trials_to_the_table(mongo_server, tmp_path, monkeypatch, capsys):
    """Three rules, two trials and two seeds, on some of the 5,000 MNIST images."""
    monkeypatch.setattr(rules, 'TRIALS', 2)
    monkeypatch.setattr(rules, 'SEEDS', (1, 2))
    small = dict(rules.SHARED, dataset='mnist', train_epochs=0.1, epochs_per_checkpoint=0.1)
    monkeypatch.setattr(rules, 'TRIAL', dict(small, validation_split=500))
    monkeypatch.setattr(rules, 'RUN', small)
    monkeypatch.setattr(
        alignment_rules, 'RULES', {name: RULES[name] for name in ('symmetric', 'usf')}
    )
    arguments = [
        f'--port={mongo_server.port}',
        f'--cache_dir={tmp_path}',
        f'--csv={tmp_path / "rules.csv"}',
        '--workers=2',
    ]
    assert rules.main(arguments) == 0
    out = capsys.readouterr().out
    assert 'rules_search: 6 runs, 6 to train' in out and 'rules: 6 runs, 6 to train' in out
    tables = re.findall(r'(?:^\|.*\n)+', out[out.index('rules: 6 runs') :], re.MULTILINE)
    assert [len(cells(table)) for table in tables] == [3, 3, 3]
    assert [row['n'] for row in cells(tables[0])] == ['2'] * 3
    assert sorted(path.name for path in tmp_path.glob('rules*')) == [
        f'rules{stage}.{ending}'
        for stage in ('', '_search')
        for ending in ('csv', 'json', 'pdf', 'png')
    ]
    assert rules.main(arguments) == 0
    assert 'rules: 6 runs, 0 to train' in capsys.readouterr().out
