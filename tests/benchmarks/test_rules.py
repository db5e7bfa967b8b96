"""No benchmark keeps its own list of rules: they measure all rules of the program."""

import pytest

from alignment.rules import RULES
from benchmarks import steps
from config.schema import Config
from experiments import mnist_rules, noise
from training.choices import check, choices


class New(RULES['mirror']):
    """A rule that no list can contain."""

    name = 'new'


def test_every_rule_is_in_each_list():
    measured = {variant.settings.get('alignment') for variant in steps.VARIANTS.values() if variant}
    assert measured == set(RULES) | {None} and set(mnist_rules.RULES) == set(RULES) | {'backprop'}
    assert 'mirror on noise' in steps.COMPARED and 'symmetric on noise' not in steps.COMPARED


def test_what_is_differentiated_automatically_to_compare_has_a_closed_form():
    automatic = {name for name, variant in steps.VARIANTS.items() if variant and not variant.closed}
    assert automatic == {
        name + ' by autodiff' for name in ('activation', 'information', 'mirror', 'mirror on noise')
    }


@pytest.mark.parametrize('name', sorted(RULES))
def test_a_variant_can_be_trained(name):
    config = Config.of(steps.VARIANTS[name].settings, choices())
    check(config)
    assert config.alignment == name
    assert [config.of_rule(size) for size in RULES[name].sizes] == [1] * len(RULES[name].sizes)


def test_the_noise_is_on_kernels_that_a_rule_learns():
    learned = {'symmetric', 'activation', 'mirror', 'information', 'kolen_pollack'}
    assert learned <= set(noise.RULES) and not {'feedback', 'pfa', 'dfa', 'usf'} & set(noise.RULES)
    assert noise.RULES['mirror'] == dict(noise.ALIGNMENT, input_distribution='normal')
    assert noise.RULES['kolen_pollack'] == dict(noise.TIED, alpha=0.005)


def test_a_rule_without_a_recipe_is_trained_in_the_frame_of_the_others(monkeypatch):
    monkeypatch.setitem(RULES, New.name, New)
    config = Config.of(mnist_rules.settings('new'), choices())
    check(config)
    assert config.alignment == 'new' and config.train_epochs == 7.0
