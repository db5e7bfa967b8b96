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
from training import runtime  # before all else: it prepares TensorFlow

from absl import flags

from config import schema
from training import jobs, start
from training.experiment import choices


def main(argv):
    if len(argv) > 1:
        raise schema.ConfigError(
            f'{argv[1]!r} is not understood; every setting is a flag, --name=value'
        )
    asked = start.read(choices())
    jobs.train(asked.config, asked.explicit, asked.ignored, flags.FLAGS.save_params_file)
    return 0


if __name__ == '__main__':
    schema.define_flags(choices())
    flags.adopt_module_key_flags(schema)
    start.run(main)
