"""The experiments that the program ships: their runs, their tables, and how long they take."""

import json
import os
import re
import runpy
import time

import pymongo
import pytest

import pretend
from alignment.rules import RULES
from config.recipes import RECIPES
from config.root import ROOT
from config.schema import Config
from experiments import (
    base,
    grid,
    lines,
    mnist_rules,
    noise,
    results,
    rules,
    search,
    sweep,
    timing,
    trained,
    validations,
)
from experiments.base import Results
from experiments.lines import State
from experiments.validations import Validation
from test_lines import line
from training import places, runtime
from training.choices import check, choices

VERSION = runtime.describe().partition(' on ')[0]


def of_runs(runs, top1, state=State.FINISHED):
    """Returns a line for each run; top1 is a function of its Config."""
    found = []
    for run in runs:
        made = line(run.config.seed, run.factors, run.key('').digest, state)
        found.append(
            made._replace(
                measured=made.measured._replace(
                    top1=top1(run.config), weight_angle=12.34, gradient_angle=None
                ),
                source=made.source._replace(runtime=VERSION, settings=trained.settings(run.config)),
            )
        )
    return found


def test_mnist_rules_has_each_rule_and_the_table_of_the_docs():
    runs = mnist_rules.MnistRules('/data').runs([])
    assert [run.factors['rule'] for run in runs] == ['backprop', *RULES]
    for run in runs:
        check(run.config)
        recipe = RECIPES['mnist_' + run.factors['rule']].settings
        assert run.config == Config.of(dict(recipe, data_dir='/data'), choices())
    found = Results.of(runs, of_runs(runs, lambda config: 0.98765), VERSION)
    first, second, *rows = mnist_rules.MnistRules().table(found).splitlines()
    assert first == '| rule          | top-1  | weight angle | gradient angle |'
    assert second == '|---|---|---|---|' and len(rows) == len(runs)
    assert rows[0] == '| backprop      | 0.9877 |         12.3 |              - |'


def test_the_fashion_recipes_have_the_settings_that_the_trials_of_rules_found():
    """All rows but one have a recipe: most trials of mirror on data diverged."""
    found = rules.found_in(os.path.join(ROOT, 'docs', 'results'))
    wanted = {
        run.factors['rule']: run.config
        for run in rules.Rules(found).runs([])
        if run.config.seed == 1 and run.factors != {'rule': 'mirror', 'input_distribution': 'data'}
    }
    shipped = {name[8:]: each for name, each in RECIPES.items() if name.startswith('fashion_')}
    assert {
        rule: Config.of(dict(recipe.settings, seed=1, iterations_per_loop=10), choices())
        for rule, recipe in shipped.items()  # a settings file does not hold iterations_per_loop
    } == wanted


def test_search_compares_the_best_of_its_results():
    best = {'learning_rate': 0.25, 'alpha': 0.125, 'beta': 0.0625}
    config = Config.of(dict(RECIPES[search.RECIPE].settings, seed=1, **best), choices())
    known = line(1, factors={'settings of mirror': 'best'}, digest=config.digests().settings)
    known = known._replace(source=known.source._replace(settings=trained.settings(config)))
    runs = search.Search().runs([known])
    compared = {run.factors['settings of mirror']: run.config for run in runs}
    assert len(runs) == 9 and {run.config.seed for run in runs} == {1, 2, 3}
    own = RECIPES[search.RECIPE].settings['learning_rate']
    assert [
        (name, each.learning_rate, each.of_rule('alpha'), each.of_rule('beta'))
        for name, each in compared.items()
    ] == [
        ('default', own, None, None),
        ("best's learning rate", 0.25, None, None),
        ('best', 0.25, 0.125, 0.0625),
    ]
    table = search.Search().table(
        Results.of(runs, of_runs(runs, lambda config: config.seed / 4), VERSION)
    )
    assert table.splitlines()[2:] == [f'| {name} | 0.250 | 0.500 | 0.750 |' for name in compared]


def test_without_results_search_needs_its_search(mongo_server):
    assert {run.factors['settings of mirror'] for run in search.Search().runs([])} == {'default'}
    where = sweep.Where('localhost', mongo_server.port, 'no_search', None, 1, 1, VERSION, 'x.csv')
    with pytest.raises(search.TrainingError, match='no_search has no trial of the study search'):
        search.best_trial(where)
    with pymongo.MongoClient('localhost', mongo_server.port) as client:
        trials = client['a_search']['fc_100-50.searches']
        trials.drop()
        trials.insert_many({'study': 'search', 'value': i % 3, 'params': i} for i in range(3))
    assert search.best_trial(where._replace(dbname='a_search'))['params'] == 2


def test_all_tables_are_printed_from_the_files(tmp_path, capsys):
    for experiment in (mnist_rules.MnistRules(), noise.Noise()):
        file = lines.File(str(tmp_path / (experiment.name + '.csv')))
        runs = experiment.runs([])
        for each in of_runs(runs[:-1], lambda config: 0.75):
            file.append(each, {})
    lines.File(str(tmp_path / 'mine.csv')).append(line(7), {})
    assert results.main([str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert f'\nmnist_rules, {VERSION}\n' in out and '| usf           | 0.7500 |' in out
    assert runs[-1].name.endswith(' noise=300 seed=0')
    assert f'\nnoise, {VERSION}\n' in out and '| mirror | 0.750 |' in out
    assert '\nmine, TensorFlow 0\n' in out and '| rule   | n | mean   |' in out
    assert f'not trained yet (1): {runs[-1].name}' in out  # of noise
    assert out.endswith(
        f'no results in {tmp_path}: rules_search (make rules), rules (make rules), '
        'scatter (make scatter), biotorch (make biotorch), '
        'depth (make depth), sensitivity (make sensitivity), transfer (make transfer), '
        'baselines (make baselines), search (make search), dynamics (make dynamics)\n'
    )
    assert results.main([str(tmp_path / 'no')]) == 2


def test_the_files_of_the_repository_can_be_read(capsys):
    assert results.main([]) == 0


@pytest.fixture
def where(mongo_server, tmp_path):
    """Where the trainings of this test are."""
    return sweep.Where(
        *('localhost', mongo_server.port, 'timing', str(tmp_path), 1, 1, VERSION),
        csv=str(tmp_path / 'x.csv'),
    )


def test_a_dry_run_estimates_and_leaves_nothing(where, monkeypatch):
    training = trained.Training
    monkeypatch.setattr(
        timing, 'Training', lambda *arguments: training(*arguments, pretend.Pretended)
    )
    runs = grid.Grid(
        'grid', dict(recipe=['fc_small'], alignment=['mirror', None], seed=[1, 2, 3])
    ).runs([])
    (known,) = of_runs(runs[:1], lambda config: 0.5)
    known = known._replace(measured=known.measured._replace(process_seconds=17.0))
    lines.File(where.csv).append(known, {})
    began = time.monotonic()
    found = timing.estimates('grid', runs, runs[1:], where)
    took = time.monotonic() - began
    assert [found[run.name] for run in runs[1:3]] == [17.0, 17.0]
    # 80 steps of half a second, and a validation of half a second in each of 5 epochs
    for run in runs[3:]:
        assert 42.5 <= found[run.name] <= 42.5 + took
    with pymongo.MongoClient('localhost', where.port) as client:
        assert not [name for name in client.list_database_names() if name.startswith('timing')]
    assert os.listdir(os.path.dirname(where.csv)) == ['x.csv']


@pytest.mark.parametrize(
    'seconds, told', [(40, '40 s'), (99.4, '99 s'), (600, '10 min'), (7200, '2.0 h')]
)
def test_durations(seconds, told):
    assert sweep.duration(seconds) == told


def test_exp_ids_differ_where_runs_do(where):
    runs = grid.Grid('x', dict(recipe=['fc_small'], learning_rate=[0.1, 0.2], seed=[1, 2])).runs([])
    versions = [where, where._replace(runtime='TensorFlow 9')]
    configs = [sweep.placed(run, 'x', each) for run in runs for each in versions]
    assert len({config.exp_id for config in configs}) == len(configs) == 8
    assert {config.digests().settings for config in configs} == {
        run.config.digests().settings for run in runs
    }
    assert {places.collection(config) for config in configs} == {'fc_32-16'}
    assert json.loads(trained.settings(runs[0].config))['learning_rate'] == 0.1


def blocks(language):
    """Returns the blocks of docs/sweeps.md in a language."""
    with open(os.path.join(results.ROOT, 'docs', 'sweeps.md'), encoding='utf-8') as file:
        return re.findall(rf'(?ms)^```{language}\n(.*?)^```', file.read())


def test_the_experiment_of_the_documentation(tmp_path):
    (text,) = blocks('python')
    path = tmp_path / 'widths.py'
    path.write_text(text)
    runs = runpy.run_path(str(path))['Widths']().runs([])
    assert base.checked(runs, 'widths') == runs
    assert [(run.name, run.config.layers_list) for run in runs] == [
        (f'width={width} seed={seed}', (width,)) for width in (16, 64) for seed in (1, 2, 3)
    ]


def test_the_file_of_the_documentation(tmp_path):
    (text,) = blocks('json')
    path = tmp_path / 'mine.json'
    path.write_text(text)
    assert len(grid.Grid('mine', grid.read(str(path))).runs([])) == 12


def test_figures_are_written_beside_the_tables(tmp_path, capsys):
    folder, figures = tmp_path / 'results', tmp_path / 'figures'
    file = lines.File(str(folder / 'noise.csv'))
    for each in of_runs(noise.Noise().runs([]), lambda config: 0.75):
        file.append(each, {})
    lines.File(str(folder / 'mine.csv')).append(line(7), {})
    validations.File(str(folder / 'mine.csv')).store(
        line(7).key, [Validation(float(epoch), epoch, 0.5) for epoch in range(4)]
    )
    assert results.main([str(folder), f'--figures={figures}']) == 0
    assert sorted(os.listdir(str(figures))) == ['mine.png', 'mine_validations.png', 'noise.png']
    assert 'mine_validations' not in capsys.readouterr().out


def test_all_experiments_are_trained_on_request(tmp_path, monkeypatch, capsys):
    called = []
    programs = results.SWEEPS + results.ALONE
    for each in programs:
        name = each.__name__.rpartition('.')[2]
        monkeypatch.setattr(each, 'main', lambda argv, name=name: called.append((name, argv)) or 0)
    folder = str(tmp_path / 'all')
    assert results.main([folder, '--train', '--workers=2']) == 0
    names = [name for name, _ in called]
    assert sorted(names) == sorted(
        {each.target for each in results.shipped(folder)} | {results.dynamics.NAME}
    )
    assert names.index('sensitivity') < names.index('transfer')
    assert max(map(names.index, ('rules', 'scatter'))) < names.index('biotorch')
    for name, argv in called:
        assert argv[0] == f'--csv={folder}/{name}.csv'
        assert argv[1:] == ([] if name in ('biotorch', 'dynamics') else ['--workers=2'])
    monkeypatch.setattr(results.noise, 'main', lambda argv: 1)
    assert results.main([folder, '--train']) == 1
    with pytest.raises(SystemExit):
        results.main([folder, '--workers=2'])
    assert '--workers=2 has no effect without --train' in capsys.readouterr().err
