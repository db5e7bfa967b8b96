"""What train.py, test.py and search.py share: they read a Config and turn errors into messages."""

import dataclasses
import os
import sys
from typing import List, Optional, cast

from config import flags, params
from config.schema import ROWS, Config, ConfigError
from data import DataError
from database import connection
from database.errors import StoreError
from training import children, output
from training.devices import cluster
from training.errors import CheckpointError, Stopped, TrainingError

USER_ERRORS = (DataError, StoreError, CheckpointError, TrainingError)


def run(
    main: flags.Main,
    argv: Optional[List[str]] = None,
    flag_values: flags.FlagValues = flags.FLAGS,
    page: Optional[flags.Page] = None,
    resume: str = 'the same command starts it again',
) -> int:
    """Runs a command that trains or validates and returns the exit code; see config.flags.run.

    The exit code of a run that was stopped by a signal, after everything was saved, is 128 plus the
    number of the signal: 143 for SIGTERM, 130 for SIGINT, 138 for SIGUSR1. After an error it is the
    attribute exit_code of the error, if any.

    Args:
        main: See config.flags.run.
        argv: See config.flags.run.
        flag_values: See config.flags.run.
        page: See config.flags.run.
        resume: How a run is resumed that was stopped, in a few words.
    """
    children.follow()

    def guarded(values: flags.FlagValues, words: List[str]) -> int:
        try:
            return main(values, words)
        except Stopped as stopped:
            print(f'stopped by {stopped}; {resume}', file=sys.stderr)
            return stopped.exit_code
        except KeyboardInterrupt:
            print('stopped; the records so far are in the database', file=sys.stderr)
            return 130

    with output.forgiving():
        return flags.run(guarded, USER_ERRORS, argv, flag_values, page)


def read(flag_values: flags.FlagValues, choices: flags.Choices) -> params.Asked:
    """Returns the settings that the command line, TF_CONFIG and MONGODB_URI ask for.

    Prints warnings about flags that do not count because a settings file is given, and about what
    was not understood in the file.

    Raises:
        ConfigError: The settings are not valid.
    """
    asked = params.read(flag_values, choices)
    path, config = flag_values.load_params_file, asked.config
    if asked.ignored:
        print(
            f'warning: ignored, because --load_params_file={path} sets them: '
            f'{", ".join("--" + name for name in asked.ignored)}; use --override=NAME,... to let '
            'them count',
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
    """Returns a Config with the server of MONGODB_URI, unless it is not set.

    Raises:
        ConfigError: The flags name another server.
    """
    places = connection.uri_places()
    if not places or (config.host, config.port) in places:
        return config
    if (config.host, config.port) != (ROWS['host'].default, ROWS['port'].default):
        raise ConfigError(
            f'--host={config.host} and --port={config.port} are not a server of the environment '
            f'variable {connection.URI}; use either the flags or the variable'
        )
    host, port = places[0]
    return dataclasses.replace(config, host=host, port=cast(int, port))  # a socket has no port
