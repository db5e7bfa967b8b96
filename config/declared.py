"""The settings that the alignment rules declare: their rows, and their values in a Config."""

from typing import (
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
)

from config.rows import MEANING, ConfigError, HelpGroup, Row, Value, coefficient, problem, row

# One setting that a rule declares, as plain data: (one of PARTS, the rule's own default, help).
Declaration = Tuple[str, Value, str]
Declarations = Mapping[str, Mapping[str, Declaration]]  # {rule: {name: Declaration}}
COEFFICIENT, SWITCH, SIZE = PARTS = 'coefficient', 'switch', 'size'
SUFFIXES = tuple(each.name for each in coefficient(''))  # endings of a coefficient's six rows
GROUP = 'model_params'  # their group in settings files and records
# The settings of rules that older records and settings files contain, whatever their rule:
# {name: default}, None for coefficients. These files were written before rules declared settings.
OLDER: Mapping[str, Value] = {
    'alpha': None,
    'beta': None,
    'gamma': None,
    'reconstruction_reversal': False,
    'reconstruction_amp': False,
    'use_sparse': False,
    'expansion': 10,
}


class Scheduled(NamedTuple):
    """A coefficient and its schedule, as set by the user.

    Attributes:
        value: Initial value; None for the rule's own default.
        start: Fraction of the training before which the coefficient is 0.
        stop: Fraction of the training after which the coefficient is 0.
        cycle: Period of a triangular wave in epochs, or None.
        rate: Rate of the schedule per epoch.
        kind: Kind of the schedule; None for a constant coefficient.
    """

    value: Optional[float] = None
    start: float = 0.0
    stop: float = 1.0
    cycle: Optional[float] = None
    rate: float = 0.0
    kind: Optional[str] = None


class RuleSettings(Mapping[str, Value]):
    """An immutable mapping {name: value} of the settings that rules declare, in row order.

    Two of them are equal if the same settings have the same non-default values.

    Args:
        rows: The rows of the settings.
        values: Values of some of the rows; the others have their defaults.
    """

    def __init__(self, rows: Iterable[Row] = (), values: Optional[Mapping[str, Value]] = None):
        given = values or {}
        self.rows = {each.name: each for each in rows}
        self._values = {name: given.get(name, each.default) for name, each in self.rows.items()}

    def __getitem__(self, name: str) -> Value:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RuleSettings) and self.differing() == other.differing()

    def __hash__(self) -> int:
        return hash(frozenset(self.differing().items()))

    def __repr__(self) -> str:
        return f'RuleSettings({self.differing()})'

    def differing(self) -> Dict[str, Value]:
        """Returns the settings that differ from their defaults: {name: value}."""
        return {name: value for name, value in self.items() if value != self.rows[name].default}

    def replaced(self, values: Mapping[str, Value]) -> 'RuleSettings':
        """Returns a copy with other values, {name: value}."""
        return RuleSettings(self.rows.values(), dict(self, **values))

    def of(self, rule: Optional[str]) -> List[str]:
        """Returns the names of the settings that concern a rule.

        These are the settings that it declares, those that have a non-default value, and those that
        no known rule declares.
        """
        differing = self.differing()
        return [
            name
            for name, each in self.rows.items()
            if name in differing or not each.declared or rule in dict(each.declared)
        ]

    @property
    def coefficients(self) -> List[str]:
        """The names of the coefficients."""
        return [name for name, each in self.rows.items() if each.coefficient == name]

    def coefficient(self, name: str) -> Scheduled:
        """Returns a coefficient and its schedule."""
        return Scheduled._make(self.get(each.name, each.default) for each in coefficient(name))


def rows_of(declarations: Declarations, taken: Iterable[str]) -> List[Row]:
    """Returns the rows of what rules declare: coefficients (six rows each), switches, sizes.

    If rules have different defaults for a setting, the default of its row is None, which stands for
    the rule's own default.

    Args:
        declarations: {rule: {name: Declaration}}.
        taken: The names of all other settings.

    Raises:
        ConfigError: A rule declares a name that is taken, rules declare a name as different parts,
            or a default is not legal.
    """
    found: Dict[str, Dict[str, Declaration]] = {}
    for rule, settings in declarations.items():
        for name, declaration in settings.items():
            found.setdefault(name, {})[rule] = declaration
    rows = [
        each
        for part in PARTS
        for name, by_rule in found.items()
        if _part(name, by_rule) == part
        for each in _rows(name, part, by_rule)
    ]
    _check_names(rows, found, set(taken))
    return rows


def inferred(values: Mapping[str, object], own: Mapping[str, Value] = OLDER) -> List[Row]:
    """Returns rows for settings that no known rule declares, guessed from names and values.

    Args:
        values: {name: value}. What cannot be a setting of a rule gets no row.
        own: {name: the rule's own default}, as far as it is known.
    """
    rows: List[Row] = []
    for name, value in values.items():
        value = own.get(name, value)
        ending = next((end for end in SUFFIXES[1:] if name.endswith(end)), '')
        scheduled = name[: len(name) - len(ending)]
        if ending or value is None or isinstance(value, float):
            if scheduled not in {each.coefficient for each in rows}:
                rows += coefficient(scheduled)
        elif isinstance(value, bool):
            rows += _rows(name, SWITCH, {'': (SWITCH, own.get(name, False), '')})
        elif isinstance(value, int):
            rows += _rows(name, SIZE, {'': (SIZE, own.get(name), '')})
    return [each._replace(declared=(), group=GROUP) for each in rows]


def settled(rows: Iterable[Row], values: Mapping[str, Value], rule: object) -> Dict[str, Value]:
    """Returns the values, with None for the rule's own default where rules have different ones.

    Records and settings files contain the value that was used, even if the user did not set it.

    Args:
        rows: The rows that the rules declare.
        values: {name: value}.
        rule: The name of the rule, or None.
    """
    found = dict(values)
    for each in rows:
        own = dict(each.declared)
        if each.name in found and each.default is None and not each.coefficient:
            defaults = [own[rule]] if rule in own else list(own.values())
            if found[each.name] in defaults:
                found[each.name] = None
    return found


def _part(name: str, by_rule: Mapping[str, Declaration]) -> str:
    """Returns the part that all rules declare a name as, or raises ConfigError."""
    parts: Dict[str, str] = {}
    for rule, (part, _, _) in by_rule.items():
        parts.setdefault(part, rule)
    if len(parts) > 1:
        told = ' and '.join(f'a {part} of {rule}' for part, rule in parts.items())
        raise ConfigError(
            f'{name} is {told}: rules can only share a setting if all declare it as the same part'
        )
    (part,) = parts
    return part


def _rows(name: str, part: str, by_rule: Mapping[str, Declaration]) -> List[Row]:
    """Returns the rows of one name, which know the rules that declare it."""
    own = tuple((rule, default) for rule, (_, default, _) in by_rule.items())
    text = _help(by_rule)
    if part == COEFFICIENT:
        rows = coefficient(name, text, _defaults(own))
        return [each._replace(declared=own, group=GROUP) for each in rows]
    kind, at_least = (bool, None) if part == SWITCH else (int, 1)
    shared = own[0][1] if all(default == own[0][1] for _, default in own) else None
    text += '' if shared is not None else f'; default: {_defaults(own)}'
    made = row(name, kind, shared, MEANING, HelpGroup.RULE, text, at_least=at_least)
    return [made._replace(declared=own, group=GROUP)]


def _help(by_rule: Mapping[str, Declaration]) -> str:
    """Returns the help text of a name: 'rule, rule: text; rule: another text'."""
    texts: Dict[str, List[str]] = {}
    for rule, (_, _, text) in by_rule.items():
        if text:
            texts.setdefault(text, []).append(rule)
    return '; '.join(f'{", ".join(rules)}: {text}' for text, rules in texts.items())


def _defaults(own: Iterable[Tuple[str, Value]]) -> str:
    """Returns '0.001 (rule, rule), 0.002 (rule)', the rules' own defaults of a setting."""
    rules: Dict[Value, List[str]] = {}
    for rule, default in own:
        rules.setdefault(default, []).append(rule)
    return ', '.join(f'{default} ({", ".join(names)})' for default, names in rules.items())


def _check_names(
    rows: Sequence[Row], found: Mapping[str, Mapping[str, Declaration]], taken: Set[str]
) -> None:
    """Raises ConfigError if a row has the name of another setting or an illegal default."""
    for each in rows:
        name = each.coefficient or each.name
        rule, (part, _, _) = next(iter(found[name].items()))
        brought = '' if each.name == name else f', which adds the setting {each.name}'
        named = f'the rule {rule} declares the {part} {name}{brought}'
        answers = {each.name} | ({'no' + each.name} if each.kind is bool else set())
        if answers & taken:
            raise ConfigError(f'{named}, but that name is taken: choose another')
        taken |= answers
        wrong = [
            problem(each, own, {}) or (own is None and 'needs a value')
            for _, own in each.declared
            if each.name == name
        ]
        if any(wrong):
            raise ConfigError(f'{named}, whose default {next(filter(None, wrong))}')
