"""The kinds of alignment rules.

A device, a precision or an exchange between hosts does not depend on the rule. Rules differ in how
their backward kernels come about. A test of such a mechanism runs over `rules()`: one rule of each
kind in `make test`, and all other rules at night.
"""

import pytest

import tiers
from alignment.view import ViewOptions
from alignment.rules import KERNELS, PROJECTIONS, RULES

SHAPE = [3, 4]  # the shape of a forward kernel


def _has_fixed_factor(rule):
    return rule(options=ViewOptions()).fixed_shape(SHAPE) is not None


# {kind: (the rule that represents it, a function: does a class of RULES belong to it)}
KINDS = {
    'a fixed backward kernel': (
        'frsf',
        lambda rule: rule.has_variable and not rule.sees and not rule.is_direct,
    ),
    'a loss over kernels': (
        'symmetric',
        lambda rule: rule.sees == KERNELS and not rule.tie_gradients,
    ),
    'a loss over activities': (
        'information',
        lambda rule: rule.sees == PROJECTIONS and not rule.tie_gradients,
    ),
    'tied gradients': (
        'kolen_pollack',
        lambda rule: rule.tie_gradients and not _has_fixed_factor(rule),
    ),
    'a factored backward kernel': ('pfa', _has_fixed_factor),
    'direct feedback': ('dfa', lambda rule: rule.is_direct),
    'a backward kernel made of W at each step': ('brsf', lambda rule: not rule.has_variable),
}
REPRESENTATIVES = [representative for representative, _ in KINDS.values()]


def of(rule):
    """Returns the kinds that a class of RULES belongs to.

    The list has one element, unless the kinds are incomplete.
    """
    return [kind for kind, (_, belongs) in KINDS.items() if belongs(rule)]


def rules(backprop=True, where=lambda rule: True):
    """Returns parameters for pytest: the name of each rule, with one rule of each kind first.

    Args:
        backprop: Whether None, backpropagation without a rule, is the first parameter.
        where: A function that selects classes of rules.
    """
    names = [name for name in REPRESENTATIVES if where(RULES[name])]
    others = [name for name, rule in RULES.items() if name not in REPRESENTATIVES and where(rule)]
    first = [pytest.param(None, id='None')] if backprop else []
    return first + names + tiers.at_night(*others)
