"""What does not go together in the settings of a run: each owner tells what it refuses, and all of
it is told at once.

What is wrong with a setting whatever the command, the rule and the device, config/schema.py tells
before there is a Config.
"""

from typing import List

from config.schema import Config, ConfigError
from training import choices, devices, finding, places


def training(config: Config) -> None:
    """Raises ConfigError that lists why there can be no training with these settings."""
    # What a setting needs to have an effect may come with the checkpoint: see `restored`.
    network = [] if config.do_restore else choices.refusals(config)
    _raise(
        network
        + _of_train(config)
        + finding.refusals(config)
        + finding.idle(config)
        + places.refusals(config)
        + devices.refusals(config)
    )


def validation(config: Config) -> None:
    """Raises ConfigError that lists why there can be no validation with these settings; those of
    the network come with the checkpoint.
    """
    _raise(_of_test(config) + finding.refusals(config) + devices.refusals(config))


def restored(config: Config) -> None:
    """Raises ConfigError that lists why settings cannot be of which some are a checkpoint's."""
    _raise(choices.refusals(config) + devices.precision_refusals(config))


def _raise(problems: List[str]) -> None:
    if problems:
        raise ConfigError('; '.join(problems))


def _of_train(config: Config) -> List[str]:
    """What is not for train.py."""
    if not config.val_exp_id:
        return []
    return [
        f'--val_exp_id is for test.py; train.py records under {config.exp_id}, of --alignment and '
        '--exp_id_suffix'
    ]


def _of_test(config: Config) -> List[str]:
    """What test.py needs, and what is not for it."""
    problems = []
    if not config.val_exp_id:
        problems.append('--val_exp_id is needed: the exp_id under which the validation is recorded')
    for name in ('dry_run', 'reset_step'):
        if getattr(config, name):
            problems.append(f'--{name} is for train.py; test.py trains nothing')
    if config.worker_hosts:
        problems.append(
            '--worker_hosts is for train.py; a validation runs on one host: leave it out, and '
            'TF_CONFIG unset'
        )
    return problems
