"""The examples of docs/adding.md work in a copy of the program, at the places in the text."""

import os
import re
import shlex
import shutil

import commands
import pytest

pytestmark = pytest.mark.slow
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROGRAM = (
    'alignment',
    'benchmarks',
    'config',
    'data',
    'database',
    'models',
    'training',
    'test.py',
    'train.py',
    'missing_packages.py',
)
PLACE = re.compile(
    r'^In (a new file )?`([\w/.]+)`[^\n]*:\n\n```python\n(.*?)^```', re.DOTALL | re.MULTILINE
)


def text():
    with open(os.path.join(ROOT, 'docs', 'adding.md'), encoding='utf-8') as file:
        return file.read()


def examples():
    return [
        shlex.split(line)[1:]
        for line in re.findall(r'^    (python .*)$', text().replace('\\\n', ''), re.MULTILINE)
    ]


def copy_program(folder):
    """Copies the program into a folder."""
    for name in PROGRAM:
        source = os.path.join(ROOT, name)
        copy = shutil.copytree if os.path.isdir(source) else shutil.copy
        copy(source, str(folder / name))


@pytest.fixture(scope='module')
def extended(tmp_path_factory):
    """The folder of a program that has the three additions."""
    folder = tmp_path_factory.mktemp('extended')
    copy_program(folder)
    found = PLACE.findall(text())
    assert [path for _, path, _ in found] == [
        'alignment/rules.py',
        'models/tiny_cnn.py',
        'data/stripes.py',
    ]
    for is_new, path, code in found:
        file = folder / path
        assert file.exists() != bool(is_new)
        before, line, after = (
            ('', '', '') if is_new else file.read_text(encoding='utf-8').partition('RULES = ')
        )
        file.write_text(before + code + line + after, encoding='utf-8')
    return str(folder)


def test_there_is_a_command_for_each():
    assert [
        word
        for words in examples()
        for word in words
        if word in ('--alignment=difference', '--model=tiny_cnn', '--dataset=stripes')
    ] == ['--alignment=difference', '--model=tiny_cnn', '--dataset=stripes']


@pytest.fixture(scope='module')
def run(extended, tmp_path_factory):
    """Returns a function that runs a command of that program.

    run(arguments after `python`) returns commands.Done.
    """
    forks = commands.Forks(str(tmp_path_factory.mktemp('home')), extended)
    yield forks.run
    forks.close()


@pytest.mark.parametrize('words', examples(), ids=lambda words: words[1])
def test_the_command_trains(run, mongo_server, tmp_path, words):
    where = [
        f'--port={mongo_server.port}',
        f'--cache_dir={tmp_path}',
        '--dbname=docs',
        '--exp_id_suffix=_{}'.format(words[1].partition('=')[2]),
    ]
    done = run(*(words + where))
    assert done.code == 0, done.err
    (top1,) = re.findall(r'results: .*; top-1 ([\d.]+),', done.out)
    (steps,) = re.findall(r'([\d,]+) steps of ', done.out)
    assert int(steps) > 0 and float(top1) > (0.5 if '--dataset=stripes' in words else 0.05)
    if '--alignment=difference' in words:
        angles = re.findall(r'mean weight angle ([\d.]+)', done.out)
        assert float(angles[-1]) < float(angles[0]) - 1
