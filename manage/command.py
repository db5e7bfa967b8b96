"""The base class of the subcommands of runs.py, and the flags that they share."""

import argparse
import contextlib
import os
import sys
from typing import Optional

from config.schema import ROWS
from database import server
from reports.text import safe
from manage.finding import Where


class Command:
    """A subcommand of runs.py. Each is one subclass, in the table of manage/commands.py.

    Attributes:
        help: What it does, as a phrase for the list of commands.
        description: What it does, as sentences for its own --help.
        any_database: Whether --dbname has no default.
        without_database: What --help says of --dbname if it has no default.
    """

    help = ''
    description = ''
    any_database = False
    without_database = 'default: all'

    def define(self, parser: argparse.ArgumentParser) -> None:
        """Adds the arguments of this command, besides the connection flags, to its parser."""

    def run(self, where: Where, options: argparse.Namespace) -> int:
        """Runs the command and returns the exit code.

        Args:
            where: The connection flags. `where.dbname` is '' for all databases.
            options: The arguments that `define` has added.

        Raises:
            ConfigError: An argument is wrong.
            StoreError: The command cannot do what it was asked for.
        """
        raise NotImplementedError


def define_places(parser: argparse.ArgumentParser, without_database: str = '') -> None:
    """Adds the connection flags, with the defaults of train.py, to a parser.

    Args:
        parser: The parser.
        without_database: What --help says of --dbname if it has no default; '' if it has one.
    """
    group = parser.add_argument_group('where')
    group.add_argument('--host', default=ROWS['host'].default, help='host of MongoDB')
    group.add_argument(
        '--port', type=int, default=ROWS['port'].default, help='port of MongoDB (%(default)s)'
    )
    default = '' if without_database else ROWS['dbname'].default
    group.add_argument(
        '--dbname',
        default=default,
        help=f'database ({without_database or "%(default)s"})',
    )
    group.add_argument(
        '--collection',
        '--collname',
        default=None,
        metavar='NAME',
        help='collection, such as resnet18 or fc_32-16; needed if several have the experiment',
    )
    group.add_argument(
        '--cache_dir',
        default=None,
        metavar='DIR',
        help=f'cache folder, as given to train.py (default: {server.DEFAULT_ROOT})',
    )


def where_of(options: argparse.Namespace) -> Where:
    """Returns the place that the connection flags name."""
    cache_dir: Optional[str] = options.cache_dir
    is_local = cache_dir and '://' not in cache_dir
    return Where(
        options.host,
        options.port,
        options.dbname,
        options.collection,
        cache_dir if cache_dir and is_local else server.DEFAULT_ROOT,
    )


def say(text: str = '') -> None:
    """Prints a line. If nobody reads standard output any more (`| head`), it prints nothing.

    The command then still finishes what it is doing. On a terminal, control characters in the names
    of experiments are written out.
    """
    if sys.stdout.isatty():
        text = '\n'.join(map(safe, text.split('\n')))
    with contextlib.suppress(BrokenPipeError):
        print(text)
    flush()


def flush() -> None:
    """Flushes standard output, and closes it if nobody reads it any more."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # Python would report the broken pipe again when it closes standard output at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
