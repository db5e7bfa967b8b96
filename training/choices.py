"""The legal values of settings (rules, models, data sets, ...) and which settings go with them."""

from typing import Container, Iterable, List

import data
from alignment.rules import NAMES, RULES, declarations
from alignment.view import ACTIVATIONS, NOISE, ViewOptions
from config.schema import Choices, Config, ConfigError, raise_problems, rows_of
from data.preprocessing import PREPROCESSINGS
from models import NETWORKS
from training import optimizers, schedules

# Settings that need a rule with a loss.
WITH_A_LOSS = (
    'alignment_optimizer',
    'alignment_rate',
    'alternate_step_freq',
    'save_alignment_coefficients',
)
# {names of settings that only some networks have: those networks, for messages}
OF_SOME_NETWORKS = {
    ('use_resnet_v2',): 'ResNets from resnet18 to resnet200',
    ('bn_trainable', 'sync_batch_norm'): 'ResNets',
    ('layers_list', 'activation'): '--model=fc',
}


def choices() -> Choices:
    """Returns {registry name: legal values}, for the flags and the checks of config.schema.

    The entry 'alignment' also contains what each rule declares.

    Raises:
        ConfigError: A rule declares a setting with the name of an attribute that every rule has.
    """
    _check_names()
    return {
        'model': list(NETWORKS),
        'alignment': declarations(),
        'dataset': sorted(data.DATASETS),
        'optimizer': list(optimizers.OPTIMIZERS),
        'clipping': list(optimizers.CLIPPINGS),
        'distribution': list(optimizers.DISTRIBUTIONS),
        'schedule': [kind for kind in schedules.KINDS if kind],
        'activation': list(ACTIVATIONS),
        'noise': list(NOISE),
        'preprocessing': list(PREPROCESSINGS),
    }


def _check_names() -> None:
    """Raises ConfigError if a rule declares a name that is an attribute of every rule."""
    for rule in RULES.values():
        for name in sorted(NAMES & set(rule.declared)):
            raise ConfigError(
                f'the rule {rule.__name__} declares the {rule.declared[name].part} {name}, but '
                'every rule has an attribute of that name: choose another'
            )


rows_of(choices())  # refuses a rule that declares a taken name before anything else happens


def check(config: Config) -> None:
    """Raises ConfigError that lists the `refusals`, if there are any."""
    raise_problems(refusals(config))


def refusals(config: Config) -> List[str]:
    """Returns a sentence for each setting that contradicts the rule, model or data set.

    A setting contradicts them if it has no effect with them.
    """
    return _of_rule(config) + _of_model(config) + _of_dataset(config)


def _of_rule(config: Config) -> List[str]:
    rule = RULES.get(config.alignment or '')
    named = f'alignment={config.alignment or "none (backpropagation)"}'
    own = config.rule_settings
    problems = []
    for name in own.coefficients:
        if not (rule and name in rule.coefficients):
            family = [row.name for row in own.rows.values() if row.coefficient == name]
            problems += _idle(config, family, f'has no effect: {named} has no {name}')
    problems += _idle(
        config,
        sorted(row.name for row in own.rows.values() if not row.coefficient),
        'has no effect with ' + named,
        but=rule.declared if rule else (),
    )
    problems += _idle(
        config,
        ViewOptions._fields,
        f'has no effect: the loss of {named} does not depend on it',
        but=rule.sees if rule else (),
    )
    if not (rule and rule.sees):
        problems += _idle(config, WITH_A_LOSS, f'has no effect: {named} has no alignment loss')
    return problems


def _of_model(config: Config) -> List[str]:
    uses, problems = NETWORKS[config.model].uses, []
    for names, whose in OF_SOME_NETWORKS.items():
        problems += _idle(config, names, f'is for {whose}, and --model={config.model}', but=uses)
    if config.tf_layers and config.alignment:
        problems.append('--tf_layers is plain backpropagation; it needs --alignment=none')
    return problems


def _of_dataset(config: Config) -> List[str]:
    problems = []
    if config.dataset != 'imagenet':
        problems += _idle(
            config, ['preprocessing'], f'is for --dataset=imagenet, and --dataset={config.dataset}'
        )
    if config.dataset == 'synthetic':
        problems += _idle(
            config, ['data_dir'], 'has no effect: --dataset=synthetic makes its own images'
        )
    return problems


def _idle(config: Config, names: Iterable[str], reason: str, but: Container[str] = ()) -> List[str]:
    """Returns a list with one sentence on the settings that are not at their defaults, if any.

    Args:
        config: The settings.
        names: Names of settings that have no effect.
        reason: The end of the sentence.
        but: Names of settings to leave out.
    """
    given = config.differing()
    wrong = ['--' + name for name in names if name in given and name not in but]
    return [f'{", ".join(wrong)} {reason}'] if wrong else []
