"""Which rows and columns a report shows, and in which order: --where, --sort and --columns."""

import dataclasses
import datetime
import fnmatch
import operator
import re
from typing import Callable, Dict, Generic, List, NamedTuple, Optional, Sequence, Tuple

from config.schema import ConfigError
from reports import columns
from reports.columns import Cell, Column, Item
from reports.runs import Run

CONDITION = re.compile(r'\s*([A-Za-z_]\w*)\s*(<=|>=|!=|==|=|<|>)\s*(.*?)\s*', re.DOTALL)
BETWEEN = re.compile(r',(?=\s*[A-Za-z_]\w*\s*[<>=!])')  # a comma before another condition
OPERATORS: Dict[str, Callable[[float, float], bool]] = {
    '=': operator.eq,
    '==': operator.eq,
    '!=': operator.ne,
    '<': operator.lt,
    '<=': operator.le,
    '>': operator.gt,
    '>=': operator.ge,
}
EQUAL = ('=', '==', '!=')
MISSING = ('', 'none', 'None')


@dataclasses.dataclass(frozen=True)
class Selection:
    """What a user asks to see.

    Attributes:
        where: Conditions on columns, such as 'rule=mirror,top1>0.9'; all must hold.
        sort: Names of columns; with a '-', from the largest to the smallest. Rows without a value
            come last.
        columns: Names of columns, or () for the usual ones.
    """

    where: str = ''
    sort: Tuple[str, ...] = ()
    columns: Tuple[str, ...] = ()


class Series(NamedTuple):
    """A column with its cells.

    Attributes:
        name: Its name in files.
        title: Its heading in tables for readers.
        is_text: Whether it is aligned to the left.
        rank: As in `columns.Column`.
        values: The value of each row.
        texts: Each value as tables for readers show it.
    """

    name: str
    title: str
    is_text: bool
    rank: Optional[int]
    values: List[Cell]
    texts: List[str]


class Sheet(NamedTuple):
    """The rows and columns that a report shows.

    Attributes:
        columns: All columns, or those that were asked for.
        is_chosen: Whether the columns were asked for.
        height: The number of rows.
    """

    columns: List[Series]
    is_chosen: bool
    height: int

    @property
    def usual(self) -> List[Series]:
        """The columns of tables for readers: those that were asked for, or the usual ones."""
        return [column for column in self.columns if self.is_chosen or column.rank is not None]


@dataclasses.dataclass(frozen=True)
class Listing(Generic[Item]):
    """The items that a report shows, one a row, and its columns.

    Attributes:
        items: What the rows show.
        columns: All columns, or those that were asked for.
        is_chosen: Whether the columns were asked for.
    """

    items: List[Item]
    columns: List[Column[Item]]
    is_chosen: bool = False

    def sheet(self) -> Sheet:
        """Returns the rows and columns with their values."""
        series = [
            Series(
                column.name,
                column.title,
                column.is_text,
                column.rank,
                [column.value(item) for item in self.items],
                [column.text(item) for item in self.items],
            )
            for column in self.columns
        ]
        return Sheet(series, self.is_chosen, len(self.items))


def select(
    items: Sequence[Item],
    known: Sequence[Column[Item]],
    runs_of: Callable[[Item], Sequence[Run]],
    selection: Selection,
) -> Listing[Item]:
    """Selects and sorts rows, and selects columns.

    Args:
        items: What the rows show.
        known: The columns that are not settings.
        runs_of: Returns the runs of a row, with its settings.
        selection: What the user asks to see.

    Raises:
        ConfigError: The selection names a column that does not exist, or cannot be understood.
    """
    runs = [run for item in items for run in runs_of(item)]

    def find(name: str) -> Column[Item]:
        return columns.find(known, name, runs, runs_of)

    chosen = list(items)
    for column, symbol, text in _conditions(selection.where, find):
        chosen = [item for item in chosen if _holds(column, item, symbol, text)]
    for name in reversed(selection.sort):
        column = find(name.lstrip('-'))
        there = [item for item in chosen if not _is_missing(column.value(item))]
        missing = [item for item in chosen if _is_missing(column.value(item))]
        there.sort(key=lambda item: _ordered(column.value(item)), reverse=name.startswith('-'))
        chosen = there + missing
    shown = [find(name) for name in selection.columns] or list(known)
    return Listing(chosen, shown, bool(selection.columns))


def _conditions(
    where: str, find: Callable[[str], Column[Item]]
) -> List[Tuple[Column[Item], str, str]]:
    """Returns the (column, operator, text) of each condition."""
    found = []
    for part in BETWEEN.split(where) if where.strip() else ():
        matched = CONDITION.fullmatch(part)
        if not matched:
            raise ConfigError(
                f'--where: {part!r} is not a condition; give a column, one of = != < <= > >= and a '
                'value, such as rule=mirror,top1>0.9'
            )
        found.append((find(matched.group(1)), matched.group(2), matched.group(3)))
    return found


def _holds(column: Column[Item], item: Item, symbol: str, text: str) -> bool:
    """Returns whether a condition holds for a row.

    A text may contain the placeholder '*'; after = and !=, '|' separates alternatives. A row
    without a value only equals 'none'.
    """
    value = column.value(item)
    if symbol in EQUAL:
        is_equal = any(_equals(column.name, value, each) for each in text.split('|'))
        return is_equal != (symbol == '!=')
    if value is None:
        return False
    if isinstance(value, (int, float)):
        return OPERATORS[symbol](value, _number(column.name, text))
    order = (_plain(value) > text) - (_plain(value) < text)
    return OPERATORS[symbol](order, 0)


def _equals(name: str, value: Cell, text: str) -> bool:
    if value is None:
        return text in MISSING
    if isinstance(value, bool):
        return text.lower() == str(value).lower()
    if isinstance(value, (int, float)):
        return text not in MISSING and value == _number(name, text)
    # Only * is a placeholder: brackets are part of many names.
    return fnmatch.fnmatchcase(_plain(value), text.replace('[', '[[]').replace('?', '[?]'))


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f'--where: {name} is a number and cannot be compared with {text!r}')


def _plain(value: Cell) -> str:
    """Returns a text, or a time as a text that is in the order of the times."""
    return value.isoformat() if isinstance(value, datetime.datetime) else str(value)


def _is_missing(value: Cell) -> bool:
    return value is None or value != value  # NaN


def _ordered(value: Cell) -> Tuple[bool, float, str]:
    """Returns a key that sorts numbers by size, before texts."""
    if isinstance(value, (int, float)):
        return False, value, ''
    return True, 0.0, _plain(value)
