"""The commands of docs/runs.md and of the docstring of runs.py are understood; --help has them."""

import ast
import os
import re
import shlex

import pytest

import runs
from manage.commands import COMMANDS

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def documented():
    """Returns the arguments of each command, as lists of words."""
    with open(os.path.join(ROOT, 'docs', 'runs.md'), encoding='utf-8') as file:
        text = file.read()
    with open(os.path.join(ROOT, 'runs.py'), encoding='utf-8') as file:
        text += ast.get_docstring(ast.parse(file.read()))
    return [
        shlex.split(line)[2:]
        for line in re.findall(r'(?m)^ {4}(python runs\.py .*)$|`(python runs\.py [^`]*)`', text)
        for line in line
        if line and 'COMMAND' not in line
    ]


@pytest.mark.parametrize('words', documented(), ids=' '.join)
def test_a_command_is_understood(words):
    if '--help' not in words:
        options = runs.parser().parse_args(words)
        assert options.command == words[0] and options.port == 29029


def test_every_command_is_documented():
    assert {words[0] for words in documented()} == set(COMMANDS)


@pytest.mark.parametrize('name', COMMANDS)
def test_help_describes_a_command_in_80_columns(name, capsys, monkeypatch):
    monkeypatch.setenv('COLUMNS', '80')
    assert runs.main([name, '--help']) == 0
    told = capsys.readouterr().out
    assert [line for line in told.splitlines() if len(line) > 80] == []
    words = ' '.join(told.split())
    assert COMMANDS[name].description in words and '--dbname' in words and '--port' in words
