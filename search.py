r"""Search for good settings: trainings, each chosen by what earlier ones gave.

    python search.py --load_params_file=config/mnist_fc_mirror.pkl --trials=30 \
        --space=learning_rate=0.003:1:log --space=alpha=1e-5:0.1:log \
        --space=beta=1e-5:0.1:log
    python search.py (the same flags)    # once more: goes on, or another worker

All flags of train.py say what each training is. Values are proposed by
Optuna's tree-structured Parzen estimator; a training that does worse at a
validation than half of the others did there is stopped. Several workers share a
study.
"""

import missing_packages  # noqa: F401 (first: it tells which package this Python lacks)
from training import runtime  # noqa: F401 (before all else: it prepares TensorFlow)

import sys
from typing import List, Optional

from absl import flags as absl_flags

from config import flags
from config.schema import ConfigError
from training import search, start
from training.choices import choices


def find(values: flags.FlagValues, words: List[str]) -> int:
    """What the flags ask for. words: the program and what is no flag. Returns the exit code."""
    if len(words) > 1:
        raise ConfigError(f'{words[1]!r} is not understood; every setting is a flag, --name=value')
    space = [search.dimension(text) for text in values.space]
    if values.save_params_file:
        raise ConfigError(
            '--save_params_file is for train.py; a search prints the command of its best settings'
        )
    search.Search(
        start.read(values, choices()).config, space, values.study, values.trials, values.prune
    ).run()
    return 0


def define_flags(flag_values: flags.FlagValues) -> None:
    """Defines the flags that train.py does not have."""
    absl_flags.DEFINE_multi_string(
        'space',
        [],
        'a setting to search and its values: name=low:high, name=low:high:log (evenly in '
        'the logarithm) or name=one,another; give one flag for each',
        flag_values,
    )
    absl_flags.DEFINE_integer(
        'trials',
        30,
        'how many trainings, of all workers and calls together',
        lower_bound=1,
        flag_values=flag_values,
    )
    absl_flags.DEFINE_string(
        'study',
        'search',
        'name of the study; its trainings have the exp_id <exp_id>_<study>_<number>',
        flag_values,
    )
    absl_flags.DEFINE_bool(
        'prune',
        True,
        'stop a training that does worse than the median of the others at the same step',
        flag_values,
    )


def main(argv: Optional[List[str]] = None, flag_values: flags.FlagValues = flags.FLAGS) -> int:
    """The whole command: see config.flags.run."""
    flags.define_flags(choices(), flag_values)
    define_flags(flag_values)
    return start.run(find, argv, flag_values)


if __name__ == '__main__':
    sys.exit(main())
