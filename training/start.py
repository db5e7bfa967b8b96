"""What train.py and test.py share: from the command line to a session with restored variables, and errors to sentences."""
import os
import sys

from absl import app, flags

from config import params
from config.schema import ConfigError
from data import DataError
from database import records, server
from database.errors import StoreError
from database.mongo import Store
from models import NETWORKS, NetworkOptions
from training import checkpoints
from training.checkpoints import CheckpointError
from training.loop import TrainingError

USER_ERRORS = (ConfigError, DataError, StoreError, CheckpointError, TrainingError)


def say(text):
    print(text, flush=True)


def run(main):
    """absl's app.run(main) with a user's mistakes told in one sentence: exit code 2 for settings, 1 for all else."""
    def guarded(argv):
        try:
            return main(argv)
        except USER_ERRORS as error:
            print('error: {}'.format(error), file=sys.stderr)
            return 2 if isinstance(error, ConfigError) else 1
        except KeyboardInterrupt:
            print('stopped; what was recorded is in the database', file=sys.stderr)
            return 130
    app.run(guarded, flags_parser=_parse)


def _parse(argv):
    """Parse flags; a flag that does not exist or cannot be read is told in a sentence, without the whole help."""
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        print('error: {} (--help lists all flags)'.format(str(error).replace('\n', ' ')), file=sys.stderr)
        sys.exit(2)


def read_config(choices):
    """The Config of the command line; with --load_params_file a warning names the flags that it overrules."""
    config, ignored, unknown = params.read(flags.FLAGS, choices)
    if ignored:
        say('warning: ignored, because --load_params_file={} fixes them: {}'.format(
            flags.FLAGS.load_params_file, ', '.join('--' + name for name in ignored)))
    if unknown:
        say('warning: not understood in {}: {}'.format(flags.FLAGS.load_params_file, ', '.join(unknown)))
    return config


def open_store(config, exp_id=None):
    """The place of an experiment's records; a private server is started if none answers on localhost. Raises StoreError."""
    records.check_names(config.dbname, collection(config), exp_id or config.exp_id)
    say(server.ensure(config.host, config.port))
    return Store(config.host, config.port, config.dbname, collection(config), exp_id or config.exp_id)


def collection(config):
    """The name of a Config's collection, without building its graph."""
    options = NetworkOptions(tuple(config.layers_list), config.activation, config.use_resnet_v2)
    return NETWORKS[config.model].label(options)


def cache_folder(config, exp_id=None):
    """Where an experiment's local files lie: <cache_dir>/<host>:<port>/<dbname>/<collection>/<exp_id>, a folder that exists.

    Raises CheckpointError if it cannot be made.
    """
    folder = os.path.join(os.path.expanduser(config.cache_dir or '~/.tfutils'), '{}:{}'.format(config.host, config.port),
                          config.dbname, collection(config), exp_id or config.exp_id)
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise CheckpointError('--cache_dir: {} cannot be made ({}); choose another folder'.format(folder, error.strerror))
    return folder


def find_checkpoint(config, folder, required):
    """(path prefix, what it is) of the checkpoint that the settings ask for, fetched from MongoDB where it lies there.

    what it is: the `_id` of its record, or its path. (None, None) if there is none and none is required.
    Raises StoreError or CheckpointError.
    """
    if config.load_checkpoint:
        prefix = os.path.expanduser(config.load_checkpoint)
        return prefix, os.path.abspath(prefix)
    store = Store(config.host, config.load_port or config.port, config.load_dbname or config.dbname,
                  config.load_collname or collection(config), config.load_exp_id or config.exp_id)
    try:
        record = store.find_checkpoint(config.load_step)
        if record is None:
            where = '{}.{} on port {}, exp_id {}'.format(
                config.load_dbname or config.dbname, config.load_collname or collection(config),
                config.load_port or config.port, store.exp_id)
            what = 'checkpoint' if config.load_step is None else 'checkpoint of step {}'.format(config.load_step)
            if required or config.load_step is not None:
                raise CheckpointError('there is no {} in {}; check --dbname, --model, --exp_id_suffix and the load_* '
                                      'flags'.format(what, where))
            return None, None
        return store.download(record, os.path.join(folder, 'restored')), record['_id']
    finally:
        store.close()


def merged_params(config, *more):
    """The params dictionary of a record: the settings, and what else is known of them, group by group."""
    document = params.to_params(config)
    for groups in more:
        for group, values in groups.items():
            document.setdefault(group, {}).update(values)
    return document


__all__ = ['cache_folder', 'checkpoints', 'collection', 'find_checkpoint', 'merged_params', 'open_store', 'read_config',
           'run', 'say']
