"""What train.py, test.py and search.py share: from the command line to a Config, and from errors to
sentences.
"""

import dataclasses
import os
import sys
from typing import List, Optional, cast

from config import flags, params
from config.schema import ROWS, Config, ConfigError
from data import DataError
from database import connection
from database.errors import StoreError
from training.devices import cluster
from training.errors import CheckpointError, Lost, Stopped, TrainingError

USER_ERRORS = (DataError, StoreError, CheckpointError, TrainingError)


def run(
    main: flags.Main,
    argv: Optional[List[str]] = None,
    flag_values: flags.FlagValues = flags.FLAGS,
) -> int:
    """config.flags.run for what trains and validates.

    A run that a signal stopped, once all is saved, has the exit code of the signal: 143 SIGTERM,
    130 SIGINT. A training whose numbers are lost has one of its own, Lost.exit_code.
    """

    def guarded(values: flags.FlagValues, words: List[str]) -> int:
        try:
            return main(values, words)
        except Stopped as stopped:
            print(f'stopped by {stopped}; --do_restore continues where it was', file=sys.stderr)
            return 128 + stopped.signal
        except Lost as lost:
            print(f'error: {lost}', file=sys.stderr)
            return Lost.exit_code
        except KeyboardInterrupt:
            print('stopped; what was recorded is in the database', file=sys.stderr)
            return 130

    return flags.run(guarded, USER_ERRORS, argv, flag_values)


def read(flag_values: flags.FlagValues, choices: flags.Choices) -> params.Asked:
    """What the command line and TF_CONFIG ask for (config.params.Asked). Warnings name the flags
    that do not count beside a settings file, and what was not understood in it.
    """
    asked = params.read(flag_values, choices)
    path, config = flag_values.load_params_file, asked.config
    if asked.ignored:
        print(
            f'warning: ignored, because --load_params_file={path} fixes them: '
            f'{", ".join("--" + name for name in asked.ignored)}; --override=NAME,... lets them '
            'count',
            file=sys.stderr,
        )
    if asked.unknown:
        print(f'warning: not understood in {path}: {", ".join(asked.unknown)}', file=sys.stderr)
    if config.override and not (path or config.do_restore or config.val_exp_id):
        raise ConfigError(
            f'--override={",".join(config.override)} has no effect without --load_params_file, '
            '--do_restore or test.py'
        )
    return asked._replace(
        config=_with_uri(cluster.with_cluster(config, os.environ.get('TF_CONFIG')))
    )


def _with_uri(config: Config) -> Config:
    """A Config with the server of MONGODB_URI, where its flags name none. Raises ConfigError where
    they name another one.
    """
    places = connection.uri_places()
    if not places or (config.host, config.port) in places:
        return config
    if (config.host, config.port) != (ROWS['host'].default, ROWS['port'].default):
        raise ConfigError(
            f'--host={config.host} and --port={config.port} are not a server of the environment '
            f'variable {connection.URI}; leave one of them out'
        )
    host, port = places[0]
    return dataclasses.replace(config, host=host, port=cast(int, port))  # a socket has none
