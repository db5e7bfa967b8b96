r"""Validate a trained network on all validation images and record the results.

    python test.py validate --load_params_file=config/imagenet_symmetric.pkl \
        --val_exp_id=check --data_dir=/data/imagenet_tfrecords

Validates --load_checkpoint (a path), or the newest checkpoint (or the one at
--load_step) of the experiment that the flags describe.
"""

import missing_packages  # noqa: F401 (first: reports which package is missing)

if __name__ == '__main__':
    from config import quick_help  # noqa: F401 (second: --help does not need TensorFlow)
from training import runtime  # noqa: F401 (third: it prepares TensorFlow)

import functools
import sys
from typing import List, Optional

from config import flags
from config.schema import ConfigError
from training import jobs, start
from training.choices import choices

MOST_USED = (
    'val_exp_id',
    'load_params_file',
    'model',
    'alignment',
    'exp_id_suffix',
    'load_step',
    'load_checkpoint',
    'dataset',
    'data_dir',
    'eval_batch_size',
    'gpu',
    'dbname',
)

MODES = ('validate', 'validate_tpu')


def validate(values: flags.FlagValues, words: List[str], argv: Optional[List[str]] = None) -> int:
    """Validates as the flags ask and returns the exit code.

    Args:
        values: The parsed flags.
        words: The program, then the words of the command line that are not flags.
        argv: The whole command line; default: that of the process.

    Raises:
        ConfigError: The settings are not valid.
    """
    if len(words) != 2 or words[1] not in MODES:
        raise ConfigError(
            'the command is python test.py validate --val_exp_id=NAME ... (validate_tpu for a TPU)'
        )
    if values.save_params_file:
        raise ConfigError('--save_params_file is a flag of train.py only')
    asked = start.read(values, choices())
    if words[1] == 'validate_tpu' and not asked.config.tpu_name:
        raise ConfigError('validate_tpu needs --tpu_name')
    jobs.validate(asked.config, asked.explicit, asked.ignored, asked.flags, argv)
    return 0


def main(argv: Optional[List[str]] = None, flag_values: flags.FlagValues = flags.FLAGS) -> int:
    """Runs the whole command and returns the exit code; see config.flags.run."""
    page = flags.Page(__doc__, flags.define_flags(choices(), flag_values), MOST_USED)
    return start.run(functools.partial(validate, argv=argv), argv, flag_values, page)


if __name__ == '__main__':
    sys.exit(main())
