"""Checks that the settings of a run fit together, and reports all problems at once.

Each module that owns settings lists what it refuses. A value that is wrong whatever the command,
the rule and the device are is reported earlier, by config/schema.py, before a Config exists.
"""

from typing import List

from config.schema import Config, raise_problems
from training import choices, devices, finding, places


def training(config: Config) -> None:
    """Checks the settings of a training.

    Raises:
        ConfigError: Lists every reason why no training with these settings is possible.
    """
    # With --do_restore, settings that others depend on may come from the checkpoint. `restored`
    # checks them once they are known.
    network = [] if config.do_restore else choices.refusals(config)
    raise_problems(
        network
        + _of_train(config)
        + finding.refusals(config)
        + finding.idle(config)
        + places.refusals(config)
        + devices.refusals(config)
    )


def validation(config: Config) -> None:
    """Checks the settings of a validation, except for the network, which the checkpoint defines.

    Raises:
        ConfigError: Lists every reason why no validation with these settings is possible.
    """
    raise_problems(_of_test(config) + finding.refusals(config) + devices.refusals(config))


def restored(config: Config) -> None:
    """Checks settings some of which come from a checkpoint.

    Raises:
        ConfigError: Lists every reason why these settings are impossible.
    """
    raise_problems(choices.refusals(config) + devices.precision_refusals(config))


def _of_train(config: Config) -> List[str]:
    """Lists the flags given to train.py that only test.py accepts."""
    problems = []
    if config.val_exp_id:
        problems.append(
            f'--val_exp_id is for test.py; leave it out: train.py records under {config.exp_id}, '
            'made from --alignment and --exp_id_suffix'
        )
    if config.split:
        problems.append(
            f'--split={config.split} is for test.py; leave it out: a training validates on the '
            'images of --validation_split, or without it on the test images'
        )
    return problems


def _of_test(config: Config) -> List[str]:
    """Lists the flags that test.py lacks, and the given ones that only train.py accepts."""
    problems = []
    if not config.val_exp_id:
        problems.append('--val_exp_id is missing: give the exp_id to record the validation under')
    for name in ('dry_run', 'reset_step'):
        if getattr(config, name):
            problems.append(f'--{name} is for train.py; leave it out: test.py trains nothing')
    if config.worker_hosts:
        problems.append(
            '--worker_hosts is for train.py; leave it out and unset TF_CONFIG: a validation runs '
            'on one host'
        )
    return problems
