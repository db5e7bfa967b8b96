"""The runs as a table for terminals."""
import rich.box
import rich.console
import rich.table
import rich.text

from reports import runs, searches

COLOURS = {runs.RUNNING: 'cyan', runs.FINISHED: 'green', runs.DIED: 'red', runs.SPOOLED: 'yellow'}
# (heading, what a run has there, as text); an angle is the mean over the layers, in degrees, of the newest validation.
COLUMNS = (
    ('exp_id', lambda run: run.exp_id),
    ('rule', lambda run: run.rule),
    ('model', lambda run: run.collection),
    ('step', lambda run: '{:,}'.format(run.step) + ('' if run.steps in (None, run.step) else ' of {:,}'.format(run.steps))),
    ('top-1', lambda run: number(run.last('top1'), '{:.4f}')),
    ('weight°', lambda run: number(run.last('weight_angles'), '{:.1f}')),
    ('projection°', lambda run: number(run.last('projection_angles'), '{:.1f}')),
    ('gradient°', lambda run: number(run.last('gradient_angles'), '{:.1f}')),
    ('images/s', lambda run: number(run.images_per_s, '{:,.0f}')),
    ('state', lambda run: run.state + (' ({:,} waiting)'.format(run.waiting) if run.waiting else '')),
)
LEFT = ('exp_id', 'rule', 'model', 'state')  # all others are numbers


def number(value, form):
    """A number as text; '-' for None."""
    return '-' if value is None else form.format(value)


def of(found):
    """A table of a list of Run, for rich to print."""
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
    for heading, _ in COLUMNS:
        table.add_column(heading, justify='left' if heading in LEFT else 'right', overflow='fold')
    for run in found:
        table.add_row(*[rich.text.Text(cell(run), COLOURS.get(run.state, '') if heading == 'state' else '')
                        for heading, cell in COLUMNS])
    return table


def of_search(search):
    """The title of a searches.Search, and a table of its best trials, for rich to print."""
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
    for heading, _ in searches.COLUMNS:
        table.add_column(heading, justify='right' if heading in searches.NUMBERS else 'left', overflow='fold')
    for trial in searches.best(search):
        table.add_row(*[rich.text.Text(cell(trial)) for _, cell in searches.COLUMNS])
    return rich.console.Group(rich.text.Text(searches.title(search)), table)
