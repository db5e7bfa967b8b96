"""What a setting is: a row of the table in config/schema.py, and what its value may be."""

import enum
import reprlib
import sys
from typing import Collection, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

LARGEST_INT = 2**63 - 1  # what a record can hold
MANY_EPOCHS = 1e12  # as steps they still are such a number
shown = reprlib.repr  # a value in a message: short, however deep or long it is

Value = object  # of a setting: None, bool, int, float, str or a tuple, once `problem` has passed it
# {registry name: legal values}; what stands for 'alignment' tells of each rule what it declares
# (config.declared.Declarations). A registry that is missing allows every value.
Choices = Mapping[str, Collection[str]]
ANY: Choices = {}  # nothing is known of the registries


class ConfigError(ValueError):
    """A setting that cannot be; the message says which, why and what to do."""


class Scope(enum.Enum):
    """What a setting decides.

    MEANING: what the network computes and sees, so that a checkpoint is wrong with another value.
    TRAINING: how the network is trained, when it is validated and how it is measured.
    PLACE: where records, checkpoints and images are.
    CALL: what one call of a command does, and on which devices; a settings file never holds it.
    """

    MEANING = 'meaning'
    TRAINING = 'training'
    PLACE = 'place'
    CALL = 'call'


MEANING, TRAINING, PLACE, CALL = Scope


class Row(NamedTuple):
    """A setting.

    kind: str, int, float, bool or list (comma-separated text on the command line).
    scope: what the setting decides.
    choices: the name of a registry of legal values (see Choices), or a tuple of them.
    at_least, above, at_most: bounds of a number.
    always: counts even when --load_params_file has fixed the rest.
    needs: the settings without any of which this one has no effect; '!name' is one that must be
    off.
    group: of the tfutils params dictionary.
    declared: the rules that declare it, each with its own default; () for what no rule declares.
    coefficient: the coefficient of a rule that it is, or whose schedule it belongs to.
    """

    name: str
    kind: type
    default: Value
    scope: Scope
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
    help: str,
    choices: Union[None, str, Tuple[str, ...]] = None,
    at_least: Optional[float] = None,
    above: Optional[float] = None,
    at_most: Optional[float] = None,
    always: bool = False,
    needs: Sequence[str] = (),
) -> Row:
    """A Row of its own; what says where it runs counts always."""
    always = always or scope in (PLACE, CALL)
    bounds = at_least, above, at_most
    return Row(name, kind, default, scope, help, choices, *bounds, always=always, needs=needs)


# fmt: off
def coefficient(name: str, text: str = '') -> List[Row]:
    """The six rows of one coefficient of an alignment loss. text: of its help, what it weighs."""
    scheduled = [name + '_schedule_type']
    rows = [
        row(name, float, None, TRAINING,
            (text or f'weight {name} in the alignment loss') + "; default: the rule's own"),
        row(name + '_start', float, 0.0, TRAINING,
            f'fraction of training (0 to 1) before which {name} is 0', at_least=0.0),
        row(name + '_stop', float, 1.0, TRAINING,
            f'fraction of training (0 to 1) after which {name} is 0', at_least=0.0),
        row(name + '_cycle', float, None, TRAINING,
            f'period in epochs of a triangular wave that the schedule of {name} runs over; '
            'default: the epochs since its start', above=0.0, needs=scheduled),
        row(name + '_schedule_rate', float, 0.0, TRAINING,
            f'growth (or, negative, decay) of {name} an epoch, for its schedule_type',
            needs=scheduled),
        row(name + '_schedule_type', str, None, TRAINING,
            f'how {name} changes: linear (value + rate * epochs), exponential (value * exp(rate * '
            f'epochs)) or cyclic (linear over the wave of {name}_cycle); default: it stays',
            choices='schedule'),
    ]
    return [each._replace(coefficient=name) for each in rows]
# fmt: on


def problem(row: Row, value: object, choices: Choices) -> Optional[str]:
    """None, or what is wrong with a value of a setting."""
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
    return 'must be one of {}, not {}'.format(', '.join(legal), shown(value))


def legal_values(row: Row, choices: Choices) -> Collection[str]:
    """The values that a setting may have; none where any will do."""
    return choices.get(row.choices, ()) if isinstance(row.choices, str) else row.choices or ()
