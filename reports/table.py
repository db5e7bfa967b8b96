"""Renders runs, groups and searches as tables for a terminal."""

from typing import List, Sequence

import rich.box
import rich.cells
import rich.console
import rich.table
import rich.text

from database.layout import ANGLES
from reports import runs, searches
from reports.selection import Series, Sheet
from reports.text import safe
from reports.view import View

COLOURS = {
    runs.RUNNING: 'cyan',
    runs.FINISHED: 'green',
    runs.STOPPED: 'yellow',
    runs.PRUNED: 'yellow',
    runs.DIED: 'red',
    runs.HALF_IMPORTED: 'red',
    runs.HALF_DELETED: 'red',
    runs.SPOOLED: 'yellow',
}
GAP = 2  # columns of a terminal between two columns of a table: padding, and the box
NARROWEST = 16  # a text is folded in a column that is narrower than the text, but not than this
MOST_REASONS = 10  # how many runs that stopped or died are explained below the table


def note(found: Sequence[runs.Run]) -> str:
    """Returns one sentence about the angles of the runs, or '' if none of them has angles."""
    counts = {
        run.measured_images for run in found if any(run.last(name) is not None for name in ANGLES)
    }
    known = sorted(count for count in counts if count is not None)
    if not known:
        return 'Angles are means over the layers, measured on one batch.' if counts else ''
    ends = ' to '.join(f'{count:,}' for count in sorted({known[0], known[-1]}))
    older = ' (on one batch in older records)' if None in counts else ''
    return (
        f'Angles are means over the layers, measured on the first {ends} validation images{older}.'
    )


def reasons(found: Sequence[runs.Run]) -> List[str]:
    """Returns a line for each run that stopped or died and recorded why, the newest first."""
    told = sorted((run for run in found if run.why), key=lambda run: run.time, reverse=True)
    lines = [f'Run {run.exp_id} {run.state}: {run.why}' for run in told[:MOST_REASONS]]
    more = len(told) - len(lines)
    return lines + ([f'... and {more:,} more (--columns=exp_id,state,why)'] if more else [])


class Table:
    """A table that shows as many columns as fit the terminal, for rich to print.

    Numbers are never folded. Columns that do not fit are left out, unless they were asked for; then
    the table is wider than the terminal.

    Args:
        sheet: The rows and columns.
    """

    def __init__(self, sheet: Sheet) -> None:
        self._sheet = sheet

    def __rich_console__(
        self, console: rich.console.Console, options: rich.console.ConsoleOptions
    ) -> rich.console.RenderResult:
        """Yields the table, and a line about the columns that do not fit."""
        shown = list(self._sheet.usual)
        while not self._sheet.is_chosen and _width(shown) > options.max_width:
            shown.remove(max(shown, key=lambda column: column.rank or 0))
        drawn = rich.table.Table(
            box=rich.box.SIMPLE_HEAD, pad_edge=False, padding=(0, GAP - 1, 0, 0)
        )
        for column in shown:
            drawn.add_column(
                column.title,
                justify='left' if column.is_text else 'right',
                overflow='fold',
                no_wrap=not column.is_text,
                min_width=_least_width(column),
            )
        for row in zip(*[column.texts for column in shown]):
            drawn.add_row(*map(_cell, row, shown))
        width = max(options.max_width, _width(shown))
        yield from console.render(drawn, options.update(width=width))
        left = ', '.join(column.name for column in self._sheet.usual if column not in shown)
        if left:
            yield rich.text.Text(f'Not shown in {options.max_width} columns: {left}.')


def _least_width(column: Series) -> int:
    """Returns the smallest width of a column: that of its widest number, or a part of a text."""
    widest = max(rich.cells.cell_len(text) for text in [column.title, *column.texts])
    return min(widest, NARROWEST) if column.is_text else widest


def _width(shown: Sequence[Series]) -> int:
    """Returns the smallest width of a table."""
    return sum(_least_width(column) + GAP for column in shown) + 1


def _cell(text: str, column: Series) -> rich.text.Text:
    colour = COLOURS.get(text.partition(' ')[0], '') if column.name == 'state' else ''
    return rich.text.Text(safe(text), colour)


def of(seen: View) -> rich.console.Group:
    """Returns a table with notes below it, for rich to print."""
    angles = any(column.name.partition('_')[2].startswith('angle') for column in seen.sheet.usual)
    lines = ([note(seen.runs)] if angles else []) + seen.notes + reasons(seen.runs)
    notes = [rich.text.Text(safe(line)) for line in lines if line]
    return rich.console.Group(Table(seen.sheet), *notes)


def of_search(search: searches.Search) -> rich.console.Group:
    """Returns the title of a search and a table of its best trials, for rich to print."""
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
    for heading, _ in searches.COLUMNS:
        table.add_column(
            heading, justify='right' if heading in searches.NUMBERS else 'left', overflow='fold'
        )
    for trial in searches.best(search):
        table.add_row(*[rich.text.Text(safe(cell(trial))) for _, cell in searches.COLUMNS])
    return rich.console.Group(rich.text.Text(safe(searches.title(search))), table)
