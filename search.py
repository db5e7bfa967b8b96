r"""Search for good settings with trainings that build on earlier results.

    python search.py --load_params_file=config/mnist_fc_mirror.pkl --trials=30 \
        --space=learning_rate=0.003:1:log --space=alpha=1e-5:0.1:log \
        --space=beta=1e-5:0.1:log
    python search.py (the same flags)    # again: resumes, or adds a worker

The flags of train.py describe each training. Optuna's tree-structured Parzen
estimator proposes the values of --space. A training that is worse at a
validation than half of the others were at the same step is stopped. Several
workers can share a study.
"""

import missing_packages  # noqa: F401 (first: reports which package is missing)

if __name__ == '__main__':
    from config import quick_help  # noqa: F401 (second: --help does not need TensorFlow)
from training import runtime  # noqa: F401 (third: it prepares TensorFlow)

import sys
from typing import Dict, List, Optional

from absl import flags as absl_flags

from config import flags
from config.rows import ConfigError, HelpGroup
from training import search, start
from training.choices import choices

MOST_USED = (
    'space',
    'trials',
    'study',
    'prune',
    'load_params_file',
    'model',
    'alignment',
    'dataset',
    'data_dir',
    'train_epochs',
    'gpu',
    'dbname',
)


def find(values: flags.FlagValues, words: List[str]) -> int:
    """Searches as the flags ask and returns the exit code.

    Args:
        values: The parsed flags.
        words: The program, then the words of the command line that are not flags.

    Raises:
        ConfigError: The settings are not valid.
    """
    if len(words) > 1:
        raise ConfigError(f'{words[1]!r} is not a flag; settings are given as --name=value')
    space = [search.dimension(text) for text in values.space]
    if values.save_params_file:
        raise ConfigError(
            '--save_params_file is a flag of train.py only; a search prints its best command'
        )
    search.Search(
        start.read(values, choices()).config, space, values.study, values.trials, values.prune
    ).run()
    return 0


def define_flags(flag_values: flags.FlagValues) -> Dict[str, HelpGroup]:
    """Defines the flags that only search.py has. Returns {name: HelpGroup} of them."""
    absl_flags.DEFINE_multi_string(
        'space',
        [],
        'setting to search and its values: name=low:high, name=low:high:log (uniform in the '
        'logarithm) or name=one,another',
        flag_values,
    )
    absl_flags.DEFINE_integer(
        'trials',
        30,
        'total number of trials, of all workers and calls',
        lower_bound=1,
        flag_values=flag_values,
    )
    absl_flags.DEFINE_string(
        'study',
        'search',
        'name of the study; its trials have the exp_id <exp_id>_<study>_<number>',
        flag_values,
    )
    absl_flags.DEFINE_bool(
        'prune',
        True,
        'stop a trial that is worse than the median of the others at the same step',
        flag_values,
    )
    return dict.fromkeys(['space', 'trials', 'study', 'prune'], HelpGroup.SEARCH)


def main(argv: Optional[List[str]] = None, flag_values: flags.FlagValues = flags.FLAGS) -> int:
    """Runs the whole command and returns the exit code; see config.flags.run."""
    groups = dict(define_flags(flag_values), **flags.define_flags(choices(), flag_values))
    page = flags.Page(__doc__, groups, MOST_USED)
    return start.run(find, argv, flag_values, page, 'the same command continues the study')


if __name__ == '__main__':
    sys.exit(main())
