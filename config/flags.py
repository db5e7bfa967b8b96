"""What absl is for: the flags of the settings, and the door of a main, which is flags in, one
sentence for a user's mistake, an exit code out. It needs no TensorFlow.
"""

import sys
from typing import Callable, Dict, List, Optional, Tuple, Type

from absl import app, flags
from absl.flags import FLAGS, FlagValues

from config.rows import Choices, ConfigError, Row, Value, legal_values
from config.schema import rows_of

Main = Callable[[FlagValues, List[str]], int]

flags.disclaim_key_flags()  # --help tells them as flags of the main that calls us


def define_flags(choices: Choices, flag_values: FlagValues = FLAGS) -> None:
    """Define one absl flag a row, and --load_params_file and --save_params_file.

    choices: {registry name: legal values}, of 'model', 'alignment', 'dataset', 'optimizer',
    'schedule', 'activation' and 'preprocessing'. flag_values: where to. Raises ConfigError where
    another library has a flag of the name of a setting.
    """
    for row in rows_of(choices).values():
        try:
            define(row, choices, flag_values)
        except flags.DuplicateFlagError:
            raise ConfigError(
                f'the setting {row.name} has the name of a flag of absl or TensorFlow: choose '
                'another'
            )
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


def define(row: Row, choices: Choices, flag_values: FlagValues) -> None:
    """Defines the flag of a row. choices: as in `define_flags`. flag_values: where to."""
    legal = legal_values(row, choices)
    text = row.help + (' (one of: {})'.format(', '.join(legal)) if legal else '')
    default = list(row.default) if isinstance(row.default, tuple) else row.default
    define = {
        bool: 'DEFINE_bool',
        list: 'DEFINE_list',
        str: 'DEFINE_string',
        int: 'DEFINE_integer',
        float: 'DEFINE_float',
    }
    getattr(flags, define[row.kind])(row.name, default, text, flag_values=flag_values)


def given_flags(flag_values: FlagValues, choices: Choices) -> Dict[str, Value]:
    """{name: value} of the settings given on the command line.

    choices: those with which the flags were defined. Raises ConfigError for text that is no whole
    number in a list of them.
    """
    given = {}
    for name, row in rows_of(choices).items():
        if flag_values[name].present:
            value = flag_values[name].value
            is_none = row.default is None and value in ('', 'none', 'None')
            given[name] = None if is_none else value
    units = given.get('layers_list')
    if units:
        try:
            given['layers_list'] = tuple(int(number) for number in units)
        except ValueError:
            raise ConfigError(
                f'--layers_list must be a comma list of whole numbers, not {",".join(units)!r}'
            )
    return given


def as_flag(name: str, value: Value) -> str:
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
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)


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
