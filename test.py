r"""Validate a trained network: every validation image once, recorded in MongoDB.

    python test.py validate --load_params_file=config/imagenet_symmetric.pkl \
        --val_exp_id=check --data_dir=/data/imagenet_tfrecords

The checkpoint is --load_checkpoint (a path), or the newest (or --load_step) of
the experiment that the flags describe.
"""

import missing_packages  # noqa: F401 (first: it tells which package this Python lacks)
from training import runtime  # noqa: F401 (before all else: it prepares TensorFlow)

import sys
from typing import List, Optional

from config import flags
from config.schema import ConfigError
from training import jobs, start
from training.choices import choices

MODES = ('validate', 'validate_tpu')


def validate(values: flags.FlagValues, words: List[str]) -> int:
    """What the flags ask for. words: the program and what is no flag. Returns the exit code."""
    if len(words) != 2 or words[1] not in MODES:
        raise ConfigError(
            'say what to do: python test.py validate --val_exp_id=NAME ... (validate_tpu for a TPU)'
        )
    if values.save_params_file:
        raise ConfigError('--save_params_file is for train.py')
    asked = start.read(values, choices())
    if words[1] == 'validate_tpu' and not asked.config.tpu_name:
        raise ConfigError('validate_tpu needs --tpu_name')
    jobs.validate(asked.config, asked.explicit, asked.ignored, asked.flags)
    return 0


def main(argv: Optional[List[str]] = None, flag_values: flags.FlagValues = flags.FLAGS) -> int:
    """The whole command: see config.flags.run."""
    flags.define_flags(choices(), flag_values)
    return start.run(validate, argv, flag_values)


if __name__ == '__main__':
    sys.exit(main())
