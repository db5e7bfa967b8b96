"""Tests that every rule is in the tables of the README, with its defaults, and in docs/rules.md."""

import os
import re

import pytest

from alignment.rules import RULES

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def rows(section):
    """{rule: the rest of its row} of the table in a section of the README."""
    with open(os.path.join(ROOT, 'README.md'), encoding='utf-8') as file:
        text = file.read().partition(f'\n## {section}\n')[2].partition('\n## ')[0]
    table = re.search(r'(?m)^\|---.*\n((?:\|.*\n)+)', text).group(1)
    cells = [line.strip('| ').partition('|') for line in table.splitlines()]
    return {name.strip(' `'): rest for name, _, rest in cells}


def test_every_rule_has_a_row_in_both_tables():
    assert set(rows('The rules')) == {'none', *RULES}, 'add the new rule to "The rules"'
    assert set(rows('Results')) == {'backprop', *RULES}, 'add the new rule to "Results"'


@pytest.mark.parametrize('name', sorted(name for name in RULES if RULES[name].coefficients))
def test_the_row_of_a_rule_has_its_defaults(name):
    (shown,) = re.findall(r'\(([\d.e-]+(?:, [\d.e-]+)*)\)', rows('The rules')[name])[:1]
    defaults = [RULES[name].coefficients[each] for each in sorted(RULES[name].coefficients)]
    assert [float(number) for number in shown.split(', ')] == defaults


def test_the_page_of_formulas_has_every_rule():
    with open(os.path.join(ROOT, 'docs', 'rules.md'), encoding='utf-8') as file:
        text = file.read()
    with_a_loss = re.findall(r'(?m)^### (\w+)$', text)
    without = re.findall(r'(?m)^\| `(\w+)` \|', text)
    assert sorted(with_a_loss + without) == sorted(RULES), 'add the new rule to docs/rules.md'
    assert set(with_a_loss) == {name for name in RULES if RULES[name].sees}
