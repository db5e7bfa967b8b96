"""Reports by report.py on results that train.py has stored, as a user sees them."""

import csv
import json
import os
import re

import numpy as np
import pytest
from scipy import stats

import commands

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def report(run, where, trained, whole):
    """Returns a function: flags -> the commands.Done of report.py."""
    assert commands.succeeded(trained.resumed) and commands.succeeded(whole)
    return lambda *words: run('report.py', *where, *words)


def row(done, exp_id):
    """Returns the cells of an experiment's line."""
    (line,) = [line for line in done.out.splitlines() if line.split()[:1] == [exp_id]]
    return re.split(r' {2,}', line.strip())


def test_a_training_is_a_line_of_the_table(report, records):
    done = report()
    assert done.code == 0 and done.err == ''
    newest = records('symmetric_whole')[-1]
    results = newest['validation_results']['topn_val']
    angles = [
        f'{sum(results[name].values()) / 3:.1f}'
        for name in ('weight_angles', 'projection_angles', 'gradient_angles')
    ]
    speed = '{:,.0f}'.format(131 / newest['duration'])
    cells = row(done, 'symmetric_whole')
    assert cells[:9] == ['symmetric_whole', 'symmetric', 'mnist', 'fc_7-5', '0', '30'] + [
        f'{results[name]:.4f}' for name in ('top1', 'top5', 'loss')
    ]
    assert cells[9:13] == angles + [speed] and cells[-1] == 'finished'


def test_seeds_are_one_group_and_a_training_that_diverged_is_not_in_it(
    run, where, report, records, tmp_path
):
    """The two runs with seed 0, of which one was resumed, have the same settings and count once."""
    fc = ['train.py'] + commands.FC + where
    commands.succeeded(run(*fc, '--train_epochs=1', '--seed=3', '--exp_id_suffix=_whole3'))
    lost = run(*fc, '--train_epochs=1', '--learning_rate=1e30', '--exp_id_suffix=_lost')
    assert lost.code == 3
    files = {name: str(tmp_path / name) for name in ('csv', 'json')}
    done = report(
        '--group=seed', '--where=n>1', *[f'--{name}={path}' for name, path in files.items()]
    )
    assert done.code == 0 and done.err == ''
    with open(files['csv'], encoding='utf-8') as file:
        (group,) = csv.DictReader(file)
    with open(files['json'], encoding='utf-8') as file:
        (same,) = json.load(file)
    top1 = [
        records('symmetric_' + name)[-1]['validation_results']['topn_val']['top1']
        for name in ('whole', 'whole3')
    ]
    low, high = stats.t.interval(0.95, 1, np.mean(top1), stats.sem(top1))
    assert (group['n'], group['seeds'], same['n']) == ('2', '0 3', 2)
    for name, value in dict(
        mean=np.mean(top1), std=np.std(top1, ddof=1), low=low, high=high
    ).items():
        assert float(group['top1_' + name]) == same['top1_' + name] == pytest.approx(value)
    done = report('--where=exp_id=symmetric_lost', '--columns=exp_id,state,why,learning_rate')
    (cells,) = [line for line in done.out.splitlines() if line.split()[:1] == ['symmetric_lost']]
    (told,) = [line for line in lost.err.splitlines() if line.startswith('error: step ')]
    assert cells.split()[1] == 'died' and cells.split()[-1] == '1e+30'
    assert 'Run symmetric_lost died: ' + told[len('error: ') :][:60] in done.out


def test_a_table_for_a_paper_is_all_that_is_printed(report, tmp_path):
    csv_of = f'--csv={tmp_path / "report.csv"}'
    lines = report('--latex', '--where=exp_id=symmetric_whole', csv_of).out.splitlines()
    assert lines[1].startswith(r'\begin{tabular}') and lines[-2] == r'\end{tabular}'
    assert lines[-1] == f'% CSV: {tmp_path / "report.csv"}'


def test_page_and_png_of_one_experiment(report, tmp_path):
    html, png = str(tmp_path / 'report.html'), str(tmp_path / 'report.png')
    done = report('--exp_id=symmetric_whole', '--html=' + html, '--png=' + png)
    assert done.code == 0 and done.err == ''
    assert done.out.splitlines()[-2:] == ['plots: ' + png, 'page: ' + html]
    with open(html, encoding='utf-8') as file:
        text = file.read()
    assert '>symmetric_whole</td>' in text and 'id="data"' in text
    assert 'symmetric_split' not in text and text.count('<figure>') > 5
    with open(png, 'rb') as file:
        assert file.read(8) == b'\x89PNG\r\n\x1a\n'
    assert sorted(os.listdir(str(tmp_path))) == ['report.html', 'report.png']


@pytest.mark.nightly
def test_figures_of_one_experiment(report, tmp_path):
    figures = str(tmp_path / 'figures')
    done = report('--exp_id=symmetric_whole', '--figures=' + figures)
    assert done.code == 0 and done.err == ''
    names = os.listdir(figures)
    assert done.out.splitlines()[-1] == f'figures: {len(names)} files in {figures}'
    assert len({os.path.splitext(name)[0] for name in names}) > 20
    assert {os.path.splitext(name)[1] for name in names} == {'.pdf', '.svg'}


@pytest.mark.parametrize(
    'words, code, beginning',
    [
        (['--exp_id=nobody'], 1, 'error: There is no experiment nobody in database cli at '),
        (['--dbname=empty'], 1, 'error: There is no database empty at localhost:'),
        (['--collname=fc_5-7'], 1, 'error: There is no collection fc_5-7 in database cli at '),
        (['--where=top1'], 2, "error: --where: 'top1' is not a condition"),
        (['--compare=symmetric'], 2, 'error: --compare needs two rules'),
        (['--group=rule'], 2, 'error: flag --group=rule'),
        (
            ['--exp_id=symmetric_whole', '--html=/no/such/folder/report.html'],
            1,
            'error: /no/such/folder/report.html cannot be written',
        ),
        (
            ['--exp_id=symmetric_whole', '--png=/no/such/folder/report.png'],
            1,
            'error: /no/such/folder/report.png cannot be written',
        ),
        (['--port=1'], 1, 'error: Nothing answers at localhost:1'),
        (['--most=0'], 2, 'error: flag --most=0'),
        (['--serve', '--watch'], 2, 'error: --serve and --watch cannot be combined'),
        (
            ['--exp_id=symmetric_whole', '--figures=/dev/null/figures'],
            1,
            'error: /dev/null/figures cannot be written',
        ),
        (['--every=3'], 2, "error: Unknown command line flag 'every'"),
        (['quickstart'], 2, "error: 'quickstart' is not a flag"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_mistake_is_told_in_a_sentence(report, words, code, beginning):
    done = report(*words)
    assert done.code == code and 'Traceback' not in done.err
    (line,) = done.err.splitlines()
    assert line.startswith(beginning)


def test_it_needs_no_tensorflow(where, whole, home):
    """Runs in a process in which TensorFlow cannot be imported."""
    code = (
        'import runpy, sys; sys.modules["tensorflow"] = None; sys.argv = sys.argv[1:]; '
        'runpy.run_path(sys.argv[0], run_name="__main__")'
    )
    done = commands.end(commands.process(['-c', code, 'report.py', *where], home))
    assert done.code == 0 and done.err == '' and 'symmetric_whole' in done.out


def test_it_follows_a_training_and_ctrl_c_ends_it(where, whole, home, tmp_path):
    html = str(tmp_path / 'report.html')
    words = ['report.py', '--watch', '--every_s=1', '--exp_id=symmetric_whole', '--html=' + html]
    watching = commands.process(words + where, home, PYTHONUNBUFFERED='1')
    for _ in range(2):
        assert any('symmetric_whole' in line for line in commands.reach(watching, 'page: '))
    watching.send_signal(2)
    done = commands.end(watching)
    assert done.code == 0 and 'Traceback' not in done.err
    with open(html, encoding='utf-8') as file:
        assert 'http-equiv="refresh" content="1"' in file.read()


def test_help_fits_80_columns_and_tells_of_every_flag(forks):
    text = forks.run('report.py', '--help', COLUMNS='80').out
    assert [line for line in text.splitlines() if len(line) > 80] == []
    for name in (
        'host',
        'port',
        'dbname',
        'cache_dir',
        'collname',
        'exp_id',
        'html',
        'png',
        'most',
        'watch',
        'every_s',
        'where',
        'sort',
        'columns',
        'group',
        'compare',
        'csv',
        'json',
        'latex',
    ):
        assert re.search(rf'^ +--(\[no\])?{name}:', text, re.M)
