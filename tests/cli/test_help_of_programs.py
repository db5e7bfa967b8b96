"""--help of the programs: in groups, of every flag, without TensorFlow and for any reader."""

import os
import re
import subprocess
import sys

import commands
import pytest

from config.rows import HelpGroup
from config.schema import rows_of
from training.choices import choices

PROGRAMS = ['train.py', 'test.py', 'search.py', 'report.py']
OWN = {'search.py': {'space', 'trials', 'study', 'prune'}}
# Runs a program as `python PROGRAM --help`, then prints what it has imported.
LOOK = """
import runpy, sys
program, sys.argv = sys.argv[1], sys.argv[1:]
try:
    runpy.run_path(program, run_name='__main__')
finally:
    print(getattr(sys.modules.get('tensorflow'), '__file__', None), 'numpy' in sys.modules)
"""


@pytest.fixture
def ask(tmp_path):
    """Returns a function that runs the words of a command in this process -> its Done."""
    return lambda *words: commands.call(words, str(tmp_path))


def flags_in(text):
    """The names of the flags that a text describes, in order."""
    return re.findall(r'(?m)^  --(?:\[no\])?(\w+): ', text)


@pytest.mark.parametrize('program', PROGRAMS)
def test_every_flag_is_in_one_group_and_the_most_used_ones_come_first(ask, program):
    done = ask(program, '--help')
    assert done.code == 0 and done.err == ''
    assert [line for line in done.out.splitlines() if len(line) > 80] == []
    first, rest = done.out.split('\n\nAll flags follow in groups: ')
    most_used, found = flags_in(first), flags_in(rest)
    assert most_used == list(commands.module(program).MOST_USED) and len(most_used) <= 12
    assert len(set(found)) == len(found) and set(most_used) <= set(found)
    if program != 'report.py':
        settings = {*rows_of(choices()), 'load_params_file', 'save_params_file'}
        assert set(found) == settings | OWN.get(program, set())
    titles = re.findall(r'(?m)^(\w+): ', rest)
    assert titles == [group.option for group in HelpGroup if group.option in titles]
    names = re.sub(r'\s+', ' ', rest).partition('. ')[0]
    assert names.split(', ') == titles
    for title in titles:
        section = ask(program, f'--help={title}')
        assert section.code == 0 and '\n\n' + section.out in '\n\n' + rest
    assert ask(program, '--helpshort').out.startswith(first + '\n\n')


def test_what_rules_declare_is_in_the_group_of_the_rule(ask):
    found = set(flags_in(ask('train.py', '--help=rule').out))
    assert {row.name for row in rows_of(choices()).values() if row.declared} < found


@pytest.mark.parametrize('program', PROGRAMS)
def test_a_wrong_group_is_told_in_one_sentence(ask, program):
    message = commands.refusal(ask(program, '--help=rules'), 2)
    assert message.startswith('error: --help=rules: there is no such group of flags; the groups')


def test_help_counts_wherever_it_stands(ask):
    """So nothing can start in a process in which TensorFlow is a stand-in."""
    assert ask('train.py', '--exp_id_suffix', '--help').out == ask('train.py', '--help').out
    assert ask('test.py', 'validate', '--port=x', '--help').out == ask('test.py', '--help').out


@pytest.mark.slow
@pytest.mark.parametrize('program', PROGRAMS)
def test_help_needs_no_tensorflow_and_is_the_same_without_it(ask, program):
    done = subprocess.run(
        [sys.executable, '-c', LOOK, program, '--help'], env=os.environ, **commands.PIPES
    )
    assert done.stderr == '' and done.returncode == 0
    *text, last = done.stdout.splitlines()
    assert last.startswith('None ')
    assert text == ask(program, '--help').out.splitlines()


@pytest.mark.slow
@pytest.mark.parametrize(
    'words, code',
    [
        (('train.py', '--help'), 0),
        (('report.py', '--help=report'), 0),
        (('train.py', '--helpfull'), 1),  # absl's
    ],
)
def test_a_reader_may_leave(words, code):
    """As `head` does."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, *words], stdout=write, stderr=subprocess.PIPE, cwd=commands.ROOT
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (code, b'')
