"""The command line, by absl: the flags of the settings, and `run`, which runs a command.

It needs no TensorFlow.
"""

import contextlib
import os
import sys
from typing import Callable, Dict, Iterator, List, Optional, Tuple, Type

from absl import app, flags
from absl.flags import FLAGS, FlagValues

from config import help
from config.help import Page
from config.rows import Choices, ConfigError, HelpGroup, Row, Value, legal_values
from config.schema import rows_of

Main = Callable[[FlagValues, List[str]], int]

WHOLE_NUMBERS = 'layers_list', 'drop_epochs', 'alignment_drop_epochs'  # lists of them

flags.disclaim_key_flags()  # absl's help lists these flags under the program that calls us


def define_flags(choices: Choices, flag_values: FlagValues = FLAGS) -> Dict[str, HelpGroup]:
    """Defines one absl flag per row, and --load_params_file and --save_params_file.

    Args:
        choices: {registry name: legal values}, as training.choices.choices returns them.
        flag_values: Where the flags are defined.

    Returns:
        {name: HelpGroup} of these flags.

    Raises:
        ConfigError: Another library has defined a flag with the name of a setting.
    """
    rows = rows_of(choices)
    for row in rows.values():
        try:
            define(row, choices, flag_values)
        except flags.DuplicateFlagError:
            raise ConfigError(
                f'the setting {row.name} has the name of a flag of absl or TensorFlow: choose '
                'another name'
            )
    flags.DEFINE_string(
        'load_params_file',
        None,
        'read the settings from this .pkl or .json file; docs/settings.md lists the flags that '
        'still count, and --override lets others count',
        flag_values,
    )
    flags.DEFINE_string(
        'save_params_file',
        None,
        'write the settings to this .pkl or .json file before the run',
        flag_values,
    )
    files = dict.fromkeys(['load_params_file', 'save_params_file'], HelpGroup.SETTINGS)
    return dict(files, **{name: row.help_group for name, row in rows.items()})


def define(row: Row, choices: Choices, flag_values: FlagValues) -> None:
    """Defines the flag of a row.

    Args:
        row: The setting.
        choices: {registry name: legal values}, as for `define_flags`.
        flag_values: Where the flag is defined.
    """
    legal = legal_values(row, choices)
    text = row.help + (f' (one of: {", ".join(legal)})' if legal else '')
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
    """Returns {name: value} of the settings given on the command line.

    Args:
        flag_values: The parsed flags.
        choices: The choices with which the flags were defined.

    Raises:
        ConfigError: A list of numbers contains something other than whole numbers.
    """
    given = {}
    for name, row in rows_of(choices).items():
        if flag_values[name].present:
            value = flag_values[name].value
            is_none = row.default is None and value in ('', 'none', 'None')
            given[name] = None if is_none else value
    for name in WHOLE_NUMBERS:
        numbers = given.get(name)
        if numbers:
            try:
                given[name] = tuple(int(number) for number in numbers)
            except ValueError:
                raise ConfigError(
                    f'--{name} must be a comma list of whole numbers, not {",".join(numbers)!r}'
                )
    return given


def as_flag(name: str, value: Value) -> str:
    """Returns a setting as a flag on the command line."""
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
    page: Optional[Page] = None,
) -> int:
    """Parses a command line, calls main(flag_values, words) and returns the exit code.

    The exit code after an error is the attribute exit_code of the error: 2 for a ConfigError, and 1
    for an error that has none. After --help it is 0.

    Args:
        main: The command. `words` are the program and the words that are not flags.
        errors: The exception classes, besides ConfigError, whose message is printed for the user.
        argv: The command line, starting with the program; default: the one of the process.
        flag_values: Where the flags were defined. With the flags of the process, the command runs
            in absl's app.run, which has additional flags (--helpfull) and can be called only once.
            With others, a process can run any number of commands.
        page: What --help prints; default: absl's own help.
    """
    words = sys.argv if argv is None else argv
    what = help.asked(words) if page else None
    if page and what:
        return _guarded(lambda: _print_help(page, what, words[0], flag_values), ())

    def guarded(words: List[str]) -> int:
        return _guarded(lambda: main(flag_values, words), errors)

    def parse(words: List[str]) -> List[str]:
        return _parse(flag_values, words)

    try:
        if flag_values is FLAGS:
            app.run(guarded, words, flags_parser=parse)
        return guarded(parse(words))
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)


def _parse(flag_values: FlagValues, argv: List[str]) -> List[str]:
    """Parses flags; prints one sentence, not the whole help, if a flag is not valid, and exits."""
    try:
        return flag_values(argv)
    except flags.Error as error:
        print(
            'error: {} (--help lists all flags)'.format(str(error).replace('\n', ' ')),
            file=sys.stderr,
        )
        sys.exit(2)


def _guarded(command: Callable[[], int], errors: Tuple[Type[Exception], ...]) -> int:
    """Returns the exit code of a command; prints the sentence of an error for the user."""
    try:
        return command()
    except (ConfigError,) + errors as error:
        print(f'error: {error}', file=sys.stderr)
        return getattr(error, 'exit_code', 1)


def _print_help(page: Page, what: help.Asked, program: str, flag_values: FlagValues) -> int:
    found = {}
    for name in page.groups:
        flag = flag_values[name]
        found[name] = help.Flag(' '.join(flag.help.split()), flag.default, flag.boolean)
    text = help.text(page, found, what, os.path.basename(program))
    with _reader_may_leave():
        print(text)
    return 0


@contextlib.contextmanager
def _reader_may_leave() -> Iterator[None]:
    """Ends the block quietly if standard output is closed, as in `train.py --help | head`."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes standard output once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
