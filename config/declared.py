"""The settings that alignment rules declare: their rows, and their values in a Config."""

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

from config.rows import MEANING, ConfigError, Row, Value, coefficient, problem, row

# What a rule declares of a setting, plain data: one of PARTS, the rule's own default, and help.
Declaration = Tuple[str, Value, str]
Declarations = Mapping[str, Mapping[str, Declaration]]  # {rule: {name: Declaration}}
COEFFICIENT, SWITCH, SIZE = PARTS = 'coefficient', 'switch', 'size'
SUFFIXES = tuple(each.name for each in coefficient(''))  # of the six rows of a coefficient
GROUP = 'model_params'  # where settings files and records have them
# What records and settings files from before rules declared their settings hold, whatever the rule:
# {name: default}, None for coefficients.
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
    """A coefficient as the settings have it. value: None is the rule's own. start, stop: fractions
    of the training. cycle: epochs. rate: an epoch. kind: of the schedule; None: it stays.
    """

    value: Optional[float] = None
    start: float = 0.0
    stop: float = 1.0
    cycle: Optional[float] = None
    rate: float = 0.0
    kind: Optional[str] = None


class RuleSettings(Mapping[str, Value]):
    """The values of what rules declare, {name: value} in the order of the rows; immutable. Two of
    them are equal if the same settings have the same values other than the default.
    """

    def __init__(self, rows: Iterable[Row] = (), values: Optional[Mapping[str, Value]] = None):
        """values: of some of the rows; the others have their defaults."""
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
        """{name: value} of those that differ from their default."""
        return {name: value for name, value in self.items() if value != self.rows[name].default}

    def replaced(self, values: Mapping[str, Value]) -> 'RuleSettings':
        """The same with other values, {name: value}."""
        return RuleSettings(self.rows.values(), dict(self, **values))

    def of(self, rule: Optional[str]) -> List[str]:
        """Names of the settings that a rule declares, of those that have a value without it, and
        of those that nobody is known to declare.
        """
        differing = self.differing()
        return [
            name
            for name, each in self.rows.items()
            if name in differing or not each.declared or rule in dict(each.declared)
        ]

    @property
    def coefficients(self) -> List[str]:
        """Names of the coefficients."""
        return [name for name, each in self.rows.items() if each.coefficient == name]

    def coefficient(self, name: str) -> Scheduled:
        """A coefficient and its schedule."""
        return Scheduled._make(self.get(each.name, each.default) for each in coefficient(name))


def rows_of(declarations: Declarations, taken: Iterable[str]) -> List[Row]:
    """The rows of what rules declare: coefficients, six rows each, then switches, then sizes.

    A default that rules do not agree on is None in the row: it is each rule's own.
    taken: the names that the other settings have. Raises ConfigError for one that is declared, too,
    or that rules declare as different things, or whose default cannot be.
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
    """The rows of settings that no rule here declares, by their names and values.

    values: {name: value}. own: {name: the rule's own default} where it is known. What can be no
    setting of a rule gets no row.
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
    """Values without those that are the rule's own default, where rules do not agree on one.

    A record or a settings file tells what was used, also where nobody had asked for it.
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
    """What a name is, in all rules."""
    parts: Dict[str, str] = {}
    for rule, (part, _, _) in by_rule.items():
        parts.setdefault(part, rule)
    if len(parts) > 1:
        told = ' and '.join(f'a {part} of {rule}' for part, rule in parts.items())
        raise ConfigError(f'{name} is {told}: rules may share a setting only if it is the same')
    (part,) = parts
    return part


def _rows(name: str, part: str, by_rule: Mapping[str, Declaration]) -> List[Row]:
    """The rows of one name, with the rules that declare it."""
    own = tuple((rule, default) for rule, (_, default, _) in by_rule.items())
    text = _help(by_rule)
    if part == COEFFICIENT:
        return [each._replace(declared=own, group=GROUP) for each in coefficient(name, text)]
    kind, at_least = (bool, None) if part == SWITCH else (int, 1)
    shared = own[0][1] if all(default == own[0][1] for _, default in own) else None
    text += '' if shared is not None else "; default: the rule's own"
    made = row(name, kind, shared, MEANING, text, at_least=at_least)
    return [made._replace(declared=own, group=GROUP)]


def _help(by_rule: Mapping[str, Declaration]) -> str:
    """'information: what it says', for all rules that say something."""
    texts: Dict[str, List[str]] = {}
    for rule, (_, _, text) in by_rule.items():
        if text:
            texts.setdefault(text, []).append(rule)
    return '; '.join(f'{", ".join(rules)}: {text}' for text, rules in texts.items())


def _check_names(
    rows: Sequence[Row], found: Mapping[str, Mapping[str, Declaration]], taken: Set[str]
) -> None:
    """Raises ConfigError where a row has a name that another setting has, or its default cannot
    be.
    """
    for each in rows:
        name = each.coefficient or each.name
        rule, (part, _, _) = next(iter(found[name].items()))
        brought = '' if each.name == name else f', which brings the setting {each.name}'
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
