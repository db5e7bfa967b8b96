"""What absl is for: the flags of the settings, and the door of a main, which is flags in, one
sentence for a user's mistake, an exit code out. It needs no TensorFlow.
"""

import sys
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple, Type

from absl import app, flags
from absl.flags import FLAGS, FlagValues

from config.schema import ROWS, ConfigError, Row

Choices = Mapping[str, Sequence[str]]  # {registry name: legal values}
Main = Callable[[FlagValues, List[str]], int]

flags.disclaim_key_flags()  # --help tells them as flags of the main that calls us


def define_flags(choices: Choices, flag_values: FlagValues = FLAGS) -> None:
    """Define one absl flag a row, and --load_params_file and --save_params_file.

    choices: {registry name: legal values}, of 'model', 'alignment', 'dataset', 'optimizer',
    'schedule', 'activation' and 'preprocessing'. flag_values: where to.
    """
    for row in ROWS.values():
        _define(row, choices, flag_values)
    flags.DEFINE_string(
        'load_params_file',
        None,
        'read the settings from this .pkl; docs/settings.md tells which flags count '
        'beside it, and --override lets others count',
        flag_values,
    )
    flags.DEFINE_string(
        'save_params_file', None, 'write the settings to this .pkl before the run', flag_values
    )


def _define(row: Row, choices: Choices, flag_values: FlagValues) -> None:
    legal = choices.get(row.choices, ()) if isinstance(row.choices, str) else row.choices
    text = row.help + (' (one of: {})'.format(', '.join(legal)) if legal else '')
    default = list(row.default) if row.kind is list else row.default
    define = {
        bool: flags.DEFINE_bool,
        list: flags.DEFINE_list,
        str: flags.DEFINE_string,
        int: flags.DEFINE_integer,
        float: flags.DEFINE_float,
    }[row.kind]
    define(row.name, default, text, flag_values=flag_values)


def given_flags(flag_values: FlagValues) -> Dict[str, Any]:
    """{name: value} of the settings given on the command line.

    Raises ConfigError for text that is no whole number in a list of them.
    """
    given = {name: flag_values[name].value for name in ROWS if flag_values[name].present}
    given = {
        name: (None if ROWS[name].default is None and value in ('', 'none', 'None') else value)
        for name, value in given.items()
    }
    if given.get('layers_list'):
        try:
            given['layers_list'] = tuple(int(units) for units in given['layers_list'])
        except ValueError:
            raise ConfigError(
                '--layers_list must be a comma list of whole numbers, not {!r}'.format(
                    ','.join(given['layers_list'])
                )
            )
    return given


def as_flag(name: str, value: object) -> str:
    """A setting as on the command line."""
    if isinstance(value, bool):
        return '--' + ('' if value else 'no') + name
    return '--{}={}'.format(
        name, ','.join(map(str, value)) if isinstance(value, (list, tuple)) else value
    )


def run(
    main: Main,
    errors: Tuple[Type[Exception], ...],
    argv: Optional[List[str]] = None,
    flag_values: FlagValues = FLAGS,
) -> int:
    """Parses a command line, calls main(flag_values, words that are no flags) and returns the exit
    code: 2 for a mistake in the settings, 1 for any other of the user's.

    errors: the exception classes, besides ConfigError, whose message is for the user.
    argv: the command line, the program first; default: that of the process.
    flag_values: where the flags were defined. With those of the process the command runs by absl's
    app.run, which has flags of its own (--help) and may be called once; with others, any number of
    commands can run in a process.
    """

    def guarded(words: List[str]) -> int:
        try:
            return main(flag_values, words)
        except (ConfigError,) + errors as error:
            print(f'error: {error}', file=sys.stderr)
            return 2 if isinstance(error, ConfigError) else 1

    def parse(words: List[str]) -> List[str]:
        return _parse(flag_values, words)

    words = sys.argv if argv is None else argv
    try:
        if flag_values is FLAGS:
            app.run(guarded, words, flags_parser=parse)
        return guarded(parse(words))
    except SystemExit as ended:
        return ended.code


def _parse(flag_values: FlagValues, argv: List[str]) -> List[str]:
    """Parse flags; a flag that does not exist or cannot be read is told in a sentence, without the
    whole help.
    """
    try:
        return flag_values(argv)
    except flags.Error as error:
        print(
            'error: {} (--help lists all flags)'.format(str(error).replace('\n', ' ')),
            file=sys.stderr,
        )
        sys.exit(2)
