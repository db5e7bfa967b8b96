"""Validate a trained network: restore a checkpoint, evaluate it on every validation image, record the result in MongoDB.

    python test.py validate --load_params_file=config/symmetric.pkl --val_exp_id=check --data_dir=/data/imagenet_tfrecords

The checkpoint is --load_checkpoint (a path), or the newest (or --load_step) of the experiment that the flags describe.
"""
from training import runtime  # first: it prepares TensorFlow

from absl import flags

from config import schema
from database import records
from training import checkpoints, devices, loop, provenance, start
from training.experiment import Experiment, check, choices

MODES = ('validate', 'validate_tpu')


def main(argv):
    if len(argv) != 2 or argv[1] not in MODES:
        raise schema.ConfigError('say what to do: python test.py validate --val_exp_id=NAME ... (validate_tpu for a TPU)')
    config = start.read_config(choices())
    check(config)
    if not config.val_exp_id:
        raise schema.ConfigError('--val_exp_id is needed: the exp_id under which the validation is recorded')
    if argv[1] == 'validate_tpu' and not config.tpu_name:
        raise schema.ConfigError('validate_tpu needs --tpu_name')
    validate(config, devices.choose(config))
    return 0


def validate(config, device):
    """Restore, evaluate and record."""
    store = start.open_store(config, config.val_exp_id)
    try:
        prefix, source = start.find_checkpoint(config, start.cache_folder(config, config.val_exp_id), required=True)
        experiment = Experiment(config, device, training=False)
        with loop.session(experiment, runtime.session_config()) as session:
            checkpoints.restore(session, experiment, prefix, with_optimizers=False)
            start.say('restored {}'.format(prefix))
            results = loop.validate(session, experiment)
        named = loop.take(results, config.save_to_gfs)
        record = records.build(
            config.val_exp_id, results['global_step'], start.merged_params(
                config, experiment.settings(), provenance.describe(), {'save_params': {'exp_id': config.val_exp_id}}),
            validation_results={'topn_val': results}, validates=source)
        store.save(record)
        if named:
            store.save_named_results(record['_id'], named)
    finally:
        store.close()
    start.say('step {:,}: {}'.format(results['global_step'], loop.summary(results)))
    start.say('results: database {}, collection {}.files, exp_id {} at {}:{}'.format(
        config.dbname, experiment.collection, config.val_exp_id, config.host, config.port))


if __name__ == '__main__':
    schema.define_flags(choices())
    flags.adopt_module_key_flags(schema)
    start.run(main)
