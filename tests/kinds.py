"""The kinds of alignment rules.

A device, a precision or an exchange between hosts does not know rules; what differs between rules
is how their backward kernel comes about. A test of such a mechanism runs over `rules()`: one rule
of each kind in `make test`, and all the others at night.
"""

import pytest

import tiers
from alignment.view import ViewOptions
from alignment.rules import KERNELS, PROJECTIONS, RULES

SHAPE = [3, 4]  # of a forward kernel


def _has_fixed_factor(rule):
    return rule(options=ViewOptions()).fixed_shape(SHAPE) is not None


# kind: (the rule that stands for it, whether a class of RULES belongs to it)
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
    """The kinds that a class of RULES belongs to: a list of one, unless the kinds are
    incomplete.
    """
    return [kind for kind, (_, belongs) in KINDS.items() if belongs(rule)]


def rules(backprop=True, where=lambda rule: True):
    """Parameters for pytest: the name of each rule, the representatives of the kinds first.

    backprop: whether None, backpropagation without any rule, is the first. where: which rules
    (classes) there are.
    """
    names = [name for name in REPRESENTATIVES if where(RULES[name])]
    others = [name for name, rule in RULES.items() if name not in REPRESENTATIVES and where(rule)]
    first = [pytest.param(None, id='None')] if backprop else []
    return first + names + tiers.at_night(*others)
