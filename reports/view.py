"""What a report shows: rows of runs or of groups, and the runs in them."""

from typing import List, NamedTuple, Sequence

from reports import columns
from reports.runs import Run
from reports.selection import Selection, Sheet, select


class View(NamedTuple):
    """What a report shows.

    Attributes:
        sheet: The rows, of runs or of groups of runs.
        runs: The runs in them.
        notes: Lines for readers about what the rows do not contain.
    """

    sheet: Sheet
    runs: List[Run]
    notes: List[str]


def of_runs(found: Sequence[Run], selection: Selection) -> View:
    """Returns a view with one row per run; see `selection.select`."""
    listing = select(found, columns.of_runs(), lambda run: [run], selection)
    return View(listing.sheet(), listing.items, [])


def of_groups(found: Sequence[Run], selection: Selection) -> View:
    """Returns a view with one row per group of runs that differ only in their seed.

    See `selection.select`; the conditions are on groups, not on runs.
    """
    from reports import groups  # only here, because it imports SciPy

    listing = select(groups.of(found), columns.of_groups(), lambda group: group.runs, selection)
    left_out = [f'{run.exp_id} ({why})' for group in listing.items for run, why in group.left_out]
    return View(
        listing.sheet(),
        [run for group in listing.items for run in group.runs],
        [f'Not in the statistics: {", ".join(left_out)}.'] if left_out else [],
    )
