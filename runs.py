r"""Manages the experiments of MongoDB databases: lists, compares, labels, deletes and carries them.

    python runs.py list --dbname=quickstart
    python runs.py export symmetric mirror --to=results --dbname=quickstart
    python runs.py delete --help

It does not need TensorFlow.
"""

import missing_packages  # noqa: F401 (imported first: it reports missing packages)

import argparse
import sys
from typing import List, NoReturn, Optional

from config.rows import ConfigError
from database.errors import StoreError
from manage.command import define_places, flush, where_of
from manage.commands import COMMANDS


class Parser(argparse.ArgumentParser):
    """A parser that reports a mistake in one sentence and ends with exit code 2."""

    def error(self, message: str) -> NoReturn:
        """Prints the mistake without the usage, and ends the process."""
        self.exit(2, f'error: {message} (`{self.prog} --help` lists all arguments)\n')


def parser() -> Parser:
    """Returns the parser of the command line, with one subparser for each command."""
    whole = Parser(prog='runs.py', description=(__doc__ or '').split('\n')[0], allow_abbrev=False)
    commands = whole.add_subparsers(
        dest='command', metavar='COMMAND', required=True, parser_class=Parser
    )
    for name, command in COMMANDS.items():
        its = commands.add_parser(
            name, help=command.help, description=command.description, allow_abbrev=False
        )
        command.define(its)
        define_places(its, command.without_database if command.any_database else '')
    return whole


def main(argv: Optional[List[str]] = None) -> int:
    """Runs the command line, without the name of the program, and returns the exit code.

    The exit codes are 0: done; 1: it could not be done; 2: a mistake in the arguments.
    """
    try:
        options = parser().parse_args(argv)
        return COMMANDS[options.command].run(where_of(options), options)
    except (ConfigError, StoreError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    except SystemExit as ended:  # of argparse, after --help or a mistake
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except KeyboardInterrupt:
        print('Stopped. Run the same command again to finish it.', file=sys.stderr)
        return 130
    finally:
        flush()


if __name__ == '__main__':
    sys.exit(main())
