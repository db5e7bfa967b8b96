r"""Train a network whose errors travel back through separate backward kernels.

    python train.py --model=fc --layers_list=32,16 --activation=tanh \
        --alignment=symmetric --optimizer=adam --train_batch_size=50 \
        --train_epochs=10
    python train.py --load_params_file=config/imagenet_symmetric.pkl \
        --model=resnet18 --data_dir=/data/imagenet_tfrecords

All results are recorded in MongoDB. docs/experiments.md is the guide to the
settings; --help lists all of them.
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
    'model',
    'alignment',
    'dataset',
    'data_dir',
    'train_epochs',
    'train_batch_size',
    'optimizer',
    'learning_rate',
    'gpu',
    'load_params_file',
    'do_restore',
    'dry_run',
)


def train(values: flags.FlagValues, words: List[str], argv: Optional[List[str]] = None) -> int:
    """Trains as the flags ask and returns the exit code.

    Args:
        values: The parsed flags.
        words: The program, then the words of the command line that are not flags.
        argv: The whole command line; default: that of the process.

    Raises:
        ConfigError: The settings are not valid.
    """
    if len(words) > 1:
        raise ConfigError(f'{words[1]!r} is not a flag; settings are given as --name=value')
    asked = start.read(values, choices())
    jobs.train(asked.config, asked.explicit, asked.ignored, values.save_params_file, argv)
    return 0


def main(argv: Optional[List[str]] = None, flag_values: flags.FlagValues = flags.FLAGS) -> int:
    """Runs the whole command and returns the exit code; see config.flags.run."""
    page = flags.Page(__doc__, flags.define_flags(choices(), flag_values), MOST_USED)
    return start.run(
        functools.partial(train, argv=argv), argv, flag_values, page, '--do_restore resumes it'
    )


if __name__ == '__main__':
    sys.exit(main())
