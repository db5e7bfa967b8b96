"""Train a network whose errors travel back through kernels of their own, and record everything in MongoDB.

    python train.py --model=fc --layers_list=32,16 --alignment=symmetric --train_epochs=5
    python train.py --load_params_file=config/symmetric.pkl --model=resnet18 --data_dir=/data/imagenet_tfrecords

README.md explains the settings; --help lists all of them.
"""
from training import runtime  # first: it prepares TensorFlow

from absl import flags

from config import params, schema
from training import checkpoints, devices, loop, overview, provenance, start
from training.experiment import Experiment, check, choices

LOCATING = ('load_step', 'load_port', 'load_dbname', 'load_collname', 'load_exp_id')  # say where a checkpoint is


def main(argv):
    if len(argv) > 1:
        raise schema.ConfigError('{!r} is not understood; every setting is a flag, --name=value'.format(argv[1]))
    config = start.read_config(choices())
    check(config)
    if flags.FLAGS.save_params_file:
        params.save(config, flags.FLAGS.save_params_file)
        start.say('settings written to ' + flags.FLAGS.save_params_file)
    if not config.skip_check:
        provenance.check_committed()
    device = devices.choose(config)
    store = start.open_store(config)
    try:
        train(config, device, store)
    finally:
        store.close()
    return 0


def train(config, device, store):
    """Restore or start, train, and say where the results are."""
    folder = start.cache_folder(config)
    prefix, _ = restore_point(config, store, folder)
    experiment = Experiment(config, device, first_step=checkpoints.step_of(prefix) if prefix else 0)
    with loop.session(experiment, runtime.session_config()) as session:
        new = checkpoints.restore(session, experiment, prefix, with_optimizers=config.do_restore) if prefix else []
        for line in (['settings that differ from their defaults:'] + overview.settings(config)
                     + overview.experiment(experiment, device)
                     + ['restored from {}'.format(prefix) if prefix else 'starting anew']
                     + overview.variables(experiment, restored=bool(prefix), new=set(new))):
            start.say(line)
        record_params = start.merged_params(config, experiment.settings(), provenance.describe())
        results = loop.Run(session, experiment, store, folder, record_params, start.say).train()
    store.close()
    start.say('results: database {}, collection {}.files, exp_id {} at {}:{}; {}'.format(
        config.dbname, experiment.collection, config.exp_id, config.host, config.port, loop.summary(results)))
    start.say('checkpoints: the same records, and {}'.format(folder))


def restore_point(config, store, folder):
    """(path prefix, what it is) of the checkpoint to start from, or (None, None). Two runs never mix in one exp_id."""
    latest = store.latest_step()
    if latest is not None and not config.do_restore:
        raise schema.ConfigError('exp_id {} has records up to step {:,} in {}.{} already; continue it with --do_restore, or '
                                 'choose another --exp_id_suffix or --dbname'.format(
                                     config.exp_id, latest, config.dbname, start.collection(config)))
    going_back = config.do_restore and config.load_step is not None
    if latest is not None and going_back and config.load_step < latest:
        raise schema.ConfigError('exp_id {e} has records up to step {:,} already; to go back to step {:,} give another '
                                 '--exp_id_suffix with --load_db --load_exp_id={e} --load_step={}'.format(
                                     latest, config.load_step, config.load_step, e=config.exp_id))
    idle = [name for name in LOCATING if getattr(config, name) is not None]
    if idle and not (config.do_restore or config.load_db):
        raise schema.ConfigError('{} {} no effect without --load_db or --do_restore'.format(
            ' and '.join('--' + name for name in idle), 'has' if len(idle) == 1 else 'have'))
    if config.do_restore or config.load_db or config.load_checkpoint:
        return start.find_checkpoint(config, folder, required=config.load_db)
    return None, None


if __name__ == '__main__':
    schema.define_flags(choices())
    flags.adopt_module_key_flags(schema)
    start.run(main)
