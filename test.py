r"""Validate a trained network: every validation image once, recorded in MongoDB.

    python test.py validate --load_params_file=config/imagenet_symmetric.pkl \
        --val_exp_id=check --data_dir=/data/imagenet_tfrecords

The checkpoint is --load_checkpoint (a path), or the newest (or --load_step) of
the experiment that the flags describe.
"""

import missing_packages  # noqa: F401 (first: it tells which package this Python lacks)
from training import runtime  # before all else: it prepares TensorFlow

from absl import flags

from config import schema
from training import jobs, start
from training.experiment import choices

MODES = ('validate', 'validate_tpu')


def main(argv):
    if len(argv) != 2 or argv[1] not in MODES:
        raise schema.ConfigError(
            'say what to do: python test.py validate --val_exp_id=NAME ... (validate_tpu for a TPU)'
        )
    if flags.FLAGS.save_params_file:
        raise schema.ConfigError('--save_params_file is for train.py')
    asked = start.read(choices())
    if argv[1] == 'validate_tpu' and not asked.config.tpu_name:
        raise schema.ConfigError('validate_tpu needs --tpu_name')
    jobs.validate(asked.config, asked.explicit, asked.ignored, asked.flags)
    return 0


if __name__ == '__main__':
    schema.define_flags(choices())
    flags.adopt_module_key_flags(schema)
    start.run(main)
