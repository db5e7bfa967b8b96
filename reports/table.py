"""The runs as a table for terminals."""

from typing import Callable, Optional, Sequence, Tuple

import rich.box
import rich.console
import rich.table
import rich.text

from database.layout import ANGLES
from reports import runs, searches

COLOURS = {runs.RUNNING: 'cyan', runs.FINISHED: 'green', runs.DIED: 'red', runs.SPOOLED: 'yellow'}
# (heading, what a run has there, as text); what an angle is, `note` says.
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
LEFT = ('exp_id', 'rule', 'model', 'state')  # all others are numbers


def number(value: Optional[float], form: str) -> str:
    """A number as text; '-' for None."""
    return '-' if value is None else form.format(value)


def note(found: Sequence[runs.Run]) -> str:
    """One line on what the angles of a list of Run are; '' where none of them has any."""
    counts = {
        run.measured_images for run in found if any(run.last(name) is not None for name in ANGLES)
    }
    known = sorted(count for count in counts if count is not None)
    if not known:
        return 'Angles: mean over layers, measured on a batch' if counts else ''
    ends = ' to '.join(f'{count:,}' for count in sorted({known[0], known[-1]}))
    older = ' (in older records on a batch)' if None in counts else ''
    return f'Angles: mean over layers, measured on the first {ends} validation images{older}'


def of(found: Sequence[runs.Run]) -> rich.console.Group:
    """A table of a list of Run, and a note below it, for rich to print."""
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
    """The title of a searches.Search, and a table of its best trials, for rich to print."""
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
    for heading, _ in searches.COLUMNS:
        table.add_column(
            heading, justify='right' if heading in searches.NUMBERS else 'left', overflow='fold'
        )
    for trial in searches.best(search):
        table.add_row(*[rich.text.Text(cell(trial)) for _, cell in searches.COLUMNS])
    return rich.console.Group(rich.text.Text(searches.title(search)), table)
