r"""Train a network whose errors travel back through kernels of their own.

    python train.py --model=fc --layers_list=32,16 --activation=tanh \
        --alignment=symmetric --optimizer=adam --train_batch_size=50 \
        --train_epochs=10
    python train.py --load_params_file=config/imagenet_symmetric.pkl \
        --model=resnet18 --data_dir=/data/imagenet_tfrecords

Everything is recorded in MongoDB. README.md explains the settings; --help lists
all of them.
"""

import missing_packages  # noqa: F401 (first: it tells which package this Python lacks)
from training import runtime  # noqa: F401 (before all else: it prepares TensorFlow)

import sys
from typing import List, Optional

from config import flags
from config.schema import ConfigError
from training import jobs, start
from training.choices import choices


def train(values: flags.FlagValues, words: List[str]) -> int:
    """What the flags ask for. words: the program and what is no flag. Returns the exit code."""
    if len(words) > 1:
        raise ConfigError(f'{words[1]!r} is not understood; every setting is a flag, --name=value')
    asked = start.read(values, choices())
    jobs.train(asked.config, asked.explicit, asked.ignored, values.save_params_file)
    return 0


def main(argv: Optional[List[str]] = None, flag_values: flags.FlagValues = flags.FLAGS) -> int:
    """The whole command: see config.flags.run."""
    flags.define_flags(choices(), flag_values)
    return start.run(train, argv, flag_values)


if __name__ == '__main__':
    sys.exit(main())
