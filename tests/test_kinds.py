"""The kinds of rules cover all rules, and each kind has a rule that represents it."""

import pytest

import kinds
from alignment.rules import RULES


@pytest.mark.parametrize('name', RULES)
def test_every_rule_belongs_to_one_kind(name):
    assert len(kinds.of(RULES[name])) == 1


def test_every_kind_has_a_representative_of_its_own():
    assert [kinds.of(RULES[name]) for name in kinds.REPRESENTATIVES] == [
        [kind] for kind in kinds.KINDS
    ]


def test_all_rules_run_and_the_representatives_first():
    names = [getattr(parameter, 'values', [parameter])[0] for parameter in kinds.rules()]
    assert names[: 1 + len(kinds.KINDS)] == [None] + kinds.REPRESENTATIVES
    assert sorted(names[1:]) == sorted(RULES)
    assert len(kinds.rules(backprop=False, where=lambda rule: rule.tie_gradients)) == sum(
        rule.tie_gradients for rule in RULES.values()
    )
