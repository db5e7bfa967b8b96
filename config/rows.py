"""Row, the definition of a setting in the table of config/schema.py, and the check of a value."""

import enum
import reprlib
import sys
from typing import Collection, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

LARGEST_INT = 2**63 - 1  # the largest that a record can hold
MANY_EPOCHS = 1e12  # small enough that the number of steps fits into 64 bits


class _Shown(reprlib.Repr):
    """Short texts of values, even if a value is deep or long."""

    def repr_int(self, number: int, level: int) -> str:
        """Returns the text of a whole number; Python refuses to write thousands of digits."""
        if abs(number) >> 128:
            return f'<a whole number of {number.bit_length():,} bits>'
        return super().repr_int(number, level)


shown = _Shown().repr  # for values in messages


# The value of a setting: None, bool, int, float, str or a tuple, once `problem` has checked it.
Value = object
# {registry name: legal values}. The entry 'alignment' also maps each rule to what it declares
# (config.declared.Declarations). If a registry is missing, every value is legal.
Choices = Mapping[str, Collection[str]]
ANY: Choices = {}  # the registries are not known


class ConfigError(ValueError):
    """Settings are not valid. The message states which, why and what to do.

    Attributes:
        exit_code: The exit code of a command that ends with this error.
    """

    exit_code = 2


def raise_problems(problems: Sequence[str]) -> None:
    """Raises ConfigError that lists all problems, if there are any."""
    if problems:
        raise ConfigError('; '.join(problems))


class Scope(enum.Enum):
    """What a setting decides.

    Attributes:
        MEANING: What the network computes and sees. A checkpoint is wrong with another value.
        TRAINING: How the network is trained, when it is validated and how it is measured.
        PLACE: Where records, checkpoints and images are stored.
        CALL: What one call of a command does, and on which devices. Not part of a settings file.
    """

    MEANING = 'meaning'
    TRAINING = 'training'
    PLACE = 'place'
    CALL = 'call'


MEANING, TRAINING, PLACE, CALL = Scope


class HelpGroup(enum.Enum):
    """A group of flags in --help, in the order of the groups. The value is its title."""

    MODEL = 'the network'
    RULE = 'the alignment rule, its coefficients and their schedules'
    VIEW = 'what the rule sees of a layer (for rules whose loss uses Wx or Bx)'
    DATA = 'the images'
    TRAINING = 'length of the training, batches and seed'
    LOSSES = 'weights of the losses'
    OPTIMIZER = 'optimisers, clipping of gradients and noise on updates'
    SCHEDULE = 'learning rates of the task loss and the alignment loss'
    VALIDATION = 'validations and what they measure'
    DEVICES = 'GPUs, hosts, TPUs and precision'
    DATABASE = 'MongoDB, names of experiments and local files'
    CHECKPOINTS = 'saving, resuming and restoring'
    SETTINGS = 'settings files, dry runs and checks'
    SEARCH = 'the search'
    REPORT = 'what to show, and where'

    @property
    def option(self) -> str:
        """Its name on the command line, as in --help=rule."""
        return self.name.lower()


class Row(NamedTuple):
    """A setting.

    Attributes:
        name: Name of the setting and of its flag.
        kind: str, int, float, bool or list (comma-separated on the command line).
        default: Default value.
        scope: What the setting decides.
        help_group: Its group in --help.
        help: Text for --help.
        choices: Name of a registry of legal values (see Choices), or a tuple of legal values.
        at_least: Smallest legal number.
        above: Bound that a number must exceed.
        at_most: Largest legal number.
        always: Whether the flag counts even if --load_params_file is given.
        needs: This setting has an effect only if at least one of these is on ('!name': off).
        group: Its group in the tfutils params dictionary.
        declared: (rule, the rule's own default) of each rule that declares it; else ().
        coefficient: The coefficient that it is, or whose schedule it belongs to, if any.
    """

    name: str
    kind: type
    default: Value
    scope: Scope
    help_group: HelpGroup
    help: str
    choices: Union[None, str, Tuple[str, ...]] = None
    at_least: Optional[float] = None
    above: Optional[float] = None
    at_most: Optional[float] = None
    always: bool = False
    needs: Sequence[str] = ()
    group: str = ''
    declared: Tuple[Tuple[str, Value], ...] = ()
    coefficient: Optional[str] = None


def row(
    name: str,
    kind: type,
    default: Value,
    scope: Scope,
    help_group: HelpGroup,
    help: str,
    choices: Union[None, str, Tuple[str, ...]] = None,
    at_least: Optional[float] = None,
    above: Optional[float] = None,
    at_most: Optional[float] = None,
    always: bool = False,
    needs: Sequence[str] = (),
) -> Row:
    """Returns a Row of the table. A flag of scope PLACE or CALL always counts."""
    always = always or scope in (PLACE, CALL)
    bounds = at_least, above, at_most
    return Row(
        name, kind, default, scope, help_group, help, choices, *bounds, always=always, needs=needs
    )


# fmt: off
def coefficient(name: str, text: str = '', default: str = "the rule's own") -> List[Row]:
    """Returns the six rows of a coefficient: its value and its schedule.

    Args:
        name: Name of the coefficient.
        text: Help text of its value.
        default: Its default, for the help text.
    """
    scheduled = [name + '_schedule_type']
    rows = [
        row(name, float, None, TRAINING, HelpGroup.RULE,
            (text or f'weight {name} in the alignment loss') + f'; default: {default}'),
        row(name + '_start', float, 0.0, TRAINING, HelpGroup.RULE,
            f'fraction of the training (0 to 1) before which {name} is 0', at_least=0.0),
        row(name + '_stop', float, 1.0, TRAINING, HelpGroup.RULE,
            f'fraction of the training (0 to 1) after which {name} is 0', at_least=0.0),
        row(name + '_cycle', float, None, TRAINING, HelpGroup.RULE,
            f'period in epochs of a triangular wave that replaces the epochs in the schedule of '
            f'{name}; default: the schedule uses the epochs since its start', above=0.0,
            needs=scheduled),
        row(name + '_schedule_rate', float, 0.0, TRAINING, HelpGroup.RULE,
            f'rate of --{name}_schedule_type per epoch; negative for a decay', needs=scheduled),
        row(name + '_schedule_type', str, None, TRAINING, HelpGroup.RULE,
            f'how {name} changes: linear (value + rate * epochs), exponential (value * exp(rate * '
            f'epochs)) or cyclic (linear over the wave of --{name}_cycle); default: constant',
            choices='schedule'),
    ]
    return [each._replace(coefficient=name) for each in rows]
# fmt: on


def problem(row: Row, value: object, choices: Choices) -> Optional[str]:
    """Returns what is wrong with a value of a setting, or None."""
    if value is None:
        return None if row.default is None else 'needs a value'
    wrong = _wrong_type(row.kind, value)
    if wrong or not isinstance(value, (int, float)):
        return wrong or _no_choice(row, value, choices)
    if row.kind is float and not abs(value) <= sys.float_info.max:
        return 'must be a finite number'
    if row.kind is int and abs(value) > LARGEST_INT:
        return 'must fit into 64 bits'
    if row.at_most is not None and value > row.at_most:
        return f'must be at most {row.at_most:g}, not {value!r}'
    if row.at_least is not None and value < row.at_least:
        return f'must be at least {row.at_least}, not {value!r}'
    if row.above is not None and value <= row.above:
        return f'must be above {row.above}, not {value!r}'
    return None


def _wrong_type(kind: type, value: object) -> Optional[str]:
    types = (float, int) if kind is float else (tuple, list) if kind is list else (kind,)
    if isinstance(value, types) and (kind is bool or not isinstance(value, bool)):
        return None
    return 'must be {}, not {}'.format(
        'a list' if kind is list else 'of type ' + kind.__name__, shown(value)
    )


def _no_choice(row: Row, value: object, choices: Choices) -> Optional[str]:
    legal = legal_values(row, choices)
    if not legal or value in legal:
        return None
    return f'must be one of {", ".join(legal)}, not {shown(value)}'


def legal_values(row: Row, choices: Choices) -> Collection[str]:
    """Returns the legal values of a setting; empty if any value is legal."""
    return choices.get(row.choices, ()) if isinstance(row.choices, str) else row.choices or ()
