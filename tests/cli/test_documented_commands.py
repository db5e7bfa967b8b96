"""The commands in the docstrings of train.py and test.py work, and --help describes every flag."""

import ast
import functools
import os
import re
import shlex

import commands
import pytest

from config.schema import rows_of
from training.choices import choices


@functools.lru_cache(maxsize=None)
def docstring(path):
    """Returns the first lines of a program."""
    with open(os.path.join(commands.ROOT, path), encoding='utf-8') as file:
        return ast.get_docstring(ast.parse(file.read()))


def documented(path):
    """Returns the commands in a program's docstring, as lists of words without `python`."""
    lines = docstring(path).replace('\\\n', '').splitlines()
    return [shlex.split(line)[1:] for line in lines if re.match(r' +python ', line)]


COMMANDS = documented('train.py') + documented('test.py')
ABOUT_IMAGENET = [words for words in COMMANDS if 'imagenet' in ' '.join(words)]


def test_there_are_commands():
    assert [words[0] for words in COMMANDS] == ['train.py', 'train.py', 'test.py']
    assert len(ABOUT_IMAGENET) == 2


@pytest.mark.parametrize('words', COMMANDS, ids=' '.join)
def test_a_command_is_understood(read, words):
    assert read(words).alignment == 'symmetric'


@pytest.mark.parametrize('words', ABOUT_IMAGENET, ids=' '.join)
def test_a_command_about_imagenet_is_about_imagenet(read, words):
    assert read(words).dataset == 'imagenet'


@pytest.mark.slow
def test_the_first_command_learns(run, where, records):
    lines = commands.succeeded(run(*(COMMANDS[0] + where)))
    assert '800 steps of 50 images (10 epochs of 80 steps)' in lines
    validations = {
        record['step']: record['validation_results']['topn_val']
        for record in records('symmetric', collection='fc_32-16')
        if 'validation_results' in record
    }
    assert sorted(validations) == [0, 160, 320, 480, 640, 800]
    first, last = validations[0], validations[800]
    assert first['top1'] < 0.3 and last['top1'] > 0.8
    angles = [sum(each['weight_angles'].values()) / 3 for each in (first, last)]
    assert angles[0] > 80 and angles[1] < 15


def test_the_readme_has_the_first_command_of_train():
    with open(os.path.join(commands.ROOT, 'README.md'), encoding='utf-8') as file:
        lines = file.read().replace('\\\n', '').splitlines()
    assert COMMANDS[0] in [
        shlex.split(line)[1:] for line in lines if line.startswith('    python train.py')
    ]


def untold(text):
    """Returns the settings that the help of a program does not describe."""
    return [
        name
        for name in [*rows_of(choices()), 'load_params_file', 'save_params_file']
        if not re.search(rf'^ +--(\[no\])?{name}:', text, re.M)
    ]


@pytest.mark.slow
@pytest.mark.parametrize('program', ['train.py', 'test.py', 'search.py'])
def test_help_tells_of_every_flag_in_80_columns(forks, program):
    text = forks.run(program, '--help', COLUMNS='80').out
    assert [line for line in text.splitlines() if len(line) > 80] == []
    assert untold(text) == []


@pytest.mark.slow
@pytest.mark.parametrize('program', ['report.py', 'search.py'])
def test_the_commands_in_a_docstring_have_flags_that_exist(forks, program):
    text, named = forks.run(program, '--help').out, re.findall(r'--(\w+)', docstring(program))
    assert (
        len(named) > 4
        and [name for name in named if not re.search(rf'--(\[no\])?{name}:', text)] == []
    )


@pytest.mark.slow
def test_helpfull_tells_of_every_flag(forks):
    text = forks.run('train.py', '--helpfull').out
    assert docstring('train.py').splitlines()[0] in text
    assert untold(text) == []
