"""The comparison with BioTorch, whose program is replaced by a small one, and `make scatter`."""

import hashlib
import json
import stat
import sys

import numpy as np
import pytest
from scipy import stats

import idx_files
from data import fashion_mnist
from experiments import base, biotorch, lines, results, rules, scatter
from experiments.lines import State
from test_base import cells
from test_programs import of_runs
from test_trials import best_of_all
from training.choices import check

OURS = {'backprop': (0.90, 0.91, 0.905), 'feedback': (0.80, 0.86, 0.84)}
PROGRAM = """#!{python}
import json, sys
flags = dict(word[2:].split('=') for word in sys.argv[3:] if '=' in word)
open({log!r}, 'a').write(json.dumps([sys.argv[1:3], sys.argv[3:]]) + '\\n')
if flags['seed'] == '9':
    sys.exit('no memory')
for epoch in range(1, int(flags['epochs']) + 1):
    loss = float('nan') if flags['seed'] == '3' else 0.5
    top1 = 0.5 if epoch == 2 else int(flags['seed']) / 100
    print(json.dumps(dict(epoch=epoch, step=937 * epoch, top1=top1, loss=loss)))
"""


@pytest.fixture
def folder(tmp_path):
    """A folder with the results of make rules."""
    search, runs = lines.File(str(tmp_path / 'rules_search.csv')), best_of_all()
    for each in runs:
        search.append(each, {})
    file = lines.File(str(tmp_path / 'rules.csv'))
    for run in rules.Rules(rules.found_in(str(tmp_path))).runs([])[: 3 * 13]:
        if run.factors['rule'] in OURS:
            top1 = OURS[run.factors['rule']][run.config.seed - 1]
            for each in of_runs([run], lambda config: top1):
                file.append(each, {})
    return tmp_path


@pytest.fixture
def peers(tmp_path, monkeypatch):
    """A program in the place of the Python that has BioTorch, and small images."""
    made = idx_files.arrays()
    idx_files.pretend(monkeypatch, made)
    (tmp_path / 'images').mkdir()
    idx_files.write(tmp_path / 'images', made)
    monkeypatch.setattr(fashion_mnist, 'FOLDER', str(tmp_path / 'images'))
    path = tmp_path / 'python'
    path.write_text(PROGRAM.format(python=sys.executable, log=str(tmp_path / 'log')))
    path.chmod(path.stat().st_mode | stat.S_IEXEC)
    return path


def test_a_training_has_the_protocol_of_what_it_is_compared_with(folder):
    rates = biotorch.rates_of(str(folder))
    best = rules.found_in(str(folder))
    assert rates == {
        rule: best[f'rule={rule} input_distribution=data']['learning_rate']
        for rule in ('backprop', 'feedback', 'usf')
    }
    found = biotorch.trainings(rates)
    ours = {
        (run.factors['rule'], run.config.seed): run.config for run in rules.Rules(best).runs([])
    }
    for each in found:
        if each.protocol == biotorch.LONG:
            config = ours[each.rule, each.seed]
        else:
            config = scatter.Scatter().runs([])[2 * each.seed + (each.rule == 'feedback')].config
            check(config)
        assert (each.seed, each.learning_rate) == (config.seed, config.learning_rate)
        assert (each.epochs, each.drop_epochs) == (config.train_epochs, config.drop_epochs)
    assert len(found) == 3 * 3 + 2 * 10 == len(set(found))
    assert biotorch.trainings({}) == found[9:]


def test_the_table_compares_by_welchs_interval(folder):
    file = lines.File(str(folder / 'biotorch.csv'))
    theirs = {'backprop': (0.907, 0.904), 'feedback': (0.70, 0.72)}
    for rule, values in theirs.items():
        for seed, top1 in enumerate(values, 1):
            training = biotorch.Training('rules', rule, 0.01, 100, (50, 75), seed)
            (made,) = of_runs(scatter.Scatter().runs([])[:1], lambda config: top1)
            file.append(
                made._replace(
                    factors=training.factors,
                    seed=seed,
                    source=made.source._replace(
                        settings=training.settings,
                        digest=hashlib.md5(rule.encode()).hexdigest()[:16],
                    ),
                ),
                {},
            )
    experiment = biotorch.BioTorch(str(folder))
    rows = cells(experiment.table(experiment.results(file.read(), '')))
    for row in rows:
        ours, peer = OURS[row['rule']], theirs[row['rule']]
        assert row['difference'] == f'{np.mean(ours) - np.mean(peer):+.4f}'
        variances = [np.var(each, ddof=1) / len(each) for each in (ours, peer)]
        degrees = sum(variances) ** 2 / (variances[0] ** 2 / 2 + variances[1] ** 2 / 1)
        half = stats.t.ppf(0.975, degrees) * np.sqrt(sum(variances))
        low, high = [np.mean(ours) - np.mean(peer) + sign * half for sign in (-1, 1)]
        assert row['95 % interval'] == f'{low:+.4f} to {high:+.4f}'
    assert [row['agree'] for row in rows] == ['yes', 'no']
    assert [row['published'] for row in rows] == ['0.9080', '0.8694']


def test_what_is_missing_is_trained_once_and_a_failure_is_told(folder, peers, capsys):
    arguments = [f'--peers={peers}', f'--csv={folder / "biotorch.csv"}']
    assert biotorch.main(arguments) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith('error: BioTorch with {') and 'no memory' in captured.err
    known = lines.File(str(folder / 'biotorch.csv')).read()
    assert len(known) == 9 + 2 * 9
    assert {line.seed for line in known if line.state is State.LOST} == {3}
    for line in known:
        assert (line.measured.top1, line.measured.best_top1) == (line.seed / 100, 0.5)
        assert line.measured.best_step == 2 * 937 and line.source.runtime == biotorch.PEER
    started = [json.loads(text) for text in (folder / 'log').read_text().splitlines()]
    assert {tuple(words) for words, _ in started} == {('-m', 'experiments.biotorch_training')}
    assert biotorch.main(arguments) == 1
    again = (folder / 'log').read_text().splitlines()
    assert len(again) == len(started) + 1  # only the one that failed
    assert results.main([str(folder)]) == 0
    assert f'\nbiotorch, {biotorch.PEER}\n' in capsys.readouterr().out


def test_a_missing_environment_is_one_sentence(folder, peers, capsys):
    arguments = [f'--peers={folder / "no"}', f'--csv={folder / "biotorch.csv"}']
    assert biotorch.main(arguments) == 1
    told = capsys.readouterr().err
    assert 'cannot be started (No such file or directory' in told
    assert told.endswith('run `make biotorch`\n') and told.count('\n') == 1


def test_both_programs_see_the_same_images(folder, peers):
    path = str(folder / 'seen.npz')
    biotorch.write_images(path)
    with np.load(path) as seen:
        assert seen['train_images'].shape == (37, 1, 32, 32)
        assert seen['test_images'].dtype == np.float32 and seen['test_labels'].dtype == np.int64
        images, _ = biotorch.FashionMnist(image_size=32).arrays('validation')
        np.testing.assert_allclose(
            seen['test_images'][:, 0], (images / 255.0 - 0.2859) / 0.3530, rtol=0, atol=1e-6
        )


def test_the_comparison_names_only_rules_of_this_program():
    assert set(biotorch.PUBLISHED) == {'backprop', 'feedback', 'dfa', 'usf', 'brsf', 'frsf'}
    assert (
        set(biotorch.LAYERS)
        <= set(biotorch.PUBLISHED)
        <= {row.factors['rule'] for row in rules.rows()}
    )
    assert base.checked(scatter.Scatter().runs([]), scatter.Scatter.name)
