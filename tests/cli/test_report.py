"""Reports by report.py on results that train.py has stored, as a user sees them."""

import os
import re

import pytest

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
    assert row(done, 'symmetric_whole') == [
        'symmetric_whole',
        'symmetric',
        'fc_7-5',
        '30',
        '{:.4f}'.format(results['top1']),
    ] + angles + [speed, 'finished']


def test_page_and_png_of_one_experiment(report, tmp_path):
    html, png = str(tmp_path / 'report.html'), str(tmp_path / 'report.png')
    done = report('--exp_id=symmetric_whole', '--html=' + html, '--png=' + png)
    assert done.code == 0 and done.out.splitlines()[-2:] == ['plots: ' + png, 'page: ' + html]
    with open(html, encoding='utf-8') as file:
        text = file.read()
    assert '>symmetric_whole</td>' in text
    assert 'symmetric_split' not in text and text.count('<figure>') > 8
    with open(png, 'rb') as file:
        assert file.read(8) == b'\x89PNG\r\n\x1a\n'
    assert sorted(os.listdir(str(tmp_path))) == ['report.html', 'report.png']


def test_an_empty_database_is_no_error(report, tmp_path):
    html, png = str(tmp_path / 'report.html'), str(tmp_path / 'report.png')
    done = report('--dbname=empty', '--html=' + html, '--png=' + png)
    assert (
        done.code == 0
        and 'There are no runs in database empty' in done.out
        and 'nothing to plot yet' in done.out
    )
    assert os.listdir(str(tmp_path)) == ['report.html']


@pytest.mark.parametrize(
    'words, code, beginning',
    [
        (['--exp_id=nobody'], 1, 'error: There is no experiment nobody in database cli'),
        (
            ['--exp_id=symmetric_whole', '--html=/no/such/folder/report.html'],
            1,
            'error: /no/such/folder/report.html.tmp cannot be written',
        ),
        (
            ['--exp_id=symmetric_whole', '--png=/no/such/folder/report.png'],
            1,
            'error: /no/such/folder/report.png.tmp cannot be written',
        ),
        (['--port=1'], 1, 'error: Nothing answers at localhost:1'),
        (['--most=0'], 2, 'error: flag --most=0'),
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
    ):
        assert re.search(rf'^ +--(\[no\])?{name}:', text, re.M)
