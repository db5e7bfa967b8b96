"""Renders runs and searches as tables for a terminal."""

from typing import Callable, Optional, Sequence, Tuple

import rich.box
import rich.console
import rich.table
import rich.text

from database.layout import ANGLES
from reports import runs, searches

COLOURS = {runs.RUNNING: 'cyan', runs.FINISHED: 'green', runs.DIED: 'red', runs.SPOOLED: 'yellow'}
# (heading, function from a run to the text of the cell); `note` explains the angles.
COLUMNS: Sequence[Tuple[str, Callable[[runs.Run], str]]] = (
    ('exp_id', lambda run: run.exp_id),
    ('rule', lambda run: run.rule),
    ('model', lambda run: run.collection),
    (
        'step',
        lambda run: (
            f'{run.step:,}' + ('' if run.steps in (None, run.step) else f' of {run.steps:,}')
        ),
    ),
    ('top-1', lambda run: number(run.last('top1'), '{:.4f}')),
    ('weight°', lambda run: number(run.last('weight_angles'), '{:.1f}')),
    ('projection°', lambda run: number(run.last('projection_angles'), '{:.1f}')),
    ('gradient°', lambda run: number(run.last('gradient_angles'), '{:.1f}')),
    ('images/s', lambda run: number(run.images_per_s, '{:,.0f}')),
    ('state', lambda run: run.state + (f' ({run.waiting:,} waiting)' if run.waiting else '')),
)
LEFT = ('exp_id', 'rule', 'model', 'state')  # left-aligned columns; all others are numbers


def number(value: Optional[float], form: str) -> str:
    """Formats a number; None becomes '-'."""
    return '-' if value is None else form.format(value)


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


def of(found: Sequence[runs.Run]) -> rich.console.Group:
    """Returns a table of runs with a note below it, for rich to print."""
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
    for heading, _ in COLUMNS:
        table.add_column(heading, justify='left' if heading in LEFT else 'right', overflow='fold')
    for run in found:
        table.add_row(
            *[
                rich.text.Text(cell(run), COLOURS.get(run.state, '') if heading == 'state' else '')
                for heading, cell in COLUMNS
            ]
        )
    return rich.console.Group(table, *[rich.text.Text(line) for line in [note(found)] if line])


def of_search(search: searches.Search) -> rich.console.Group:
    """Returns the title of a search and a table of its best trials, for rich to print."""
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
    for heading, _ in searches.COLUMNS:
        table.add_column(
            heading, justify='right' if heading in searches.NUMBERS else 'left', overflow='fold'
        )
    for trial in searches.best(search):
        table.add_row(*[rich.text.Text(cell(trial)) for _, cell in searches.COLUMNS])
    return rich.console.Group(rich.text.Text(searches.title(search)), table)
