"""The columns of a report: what is known of a run or of a group, by name."""

import dataclasses
import datetime
import json
from typing import TYPE_CHECKING, Callable, Generic, List, Optional, Sequence, TypeVar, Union

from config.schema import LOADING, ROWS, SEED, ConfigError
from database.layout import SIGNALS
from reports.runs import Run

if TYPE_CHECKING:
    from reports.groups import Difference, Group

Item = TypeVar('Item')  # what a row shows
Cell = Union[None, bool, int, float, str, datetime.datetime]


@dataclasses.dataclass(frozen=True)
class Column(Generic[Item]):
    """A column.

    Attributes:
        name: Its name in files, for --columns, --where and --sort.
        value: Returns the value of a row, or None if it has none.
        heading: Its heading in tables for readers.
        form: How tables for readers show a number.
        rank: Its place in the order in which columns are left out of a table that is too narrow,
            the highest first; None if only files contain it.
        show: How tables for readers show a row, if not by `form`.
        is_text: Whether it is aligned to the left.
    """

    name: str
    value: Callable[[Item], Cell]
    heading: str = ''
    form: str = '{}'
    rank: Optional[int] = None
    show: Optional[Callable[[Item], str]] = None
    is_text: bool = False

    @property
    def title(self) -> str:
        """Its heading in tables for readers."""
        return self.heading or self.name

    def text(self, item: Item) -> str:
        """Returns the cell of a row in tables for readers."""
        if self.show:
            return self.show(item)
        return shown(self.value(item), self.form)


def shown(value: Cell, form: str = '{}') -> str:
    """Returns a value for readers: None becomes '-'."""
    if value is None:
        return '-'
    if isinstance(value, datetime.datetime):
        return f'{value:%Y-%m-%d %H:%M}'
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return form.format(value) if is_number else str(value)


def of_runs() -> List[Column[Run]]:
    """Returns the columns of runs, in the order of files."""
    return [
        Column('exp_id', lambda run: run.exp_id, rank=0, is_text=True),
        Column('rule', lambda run: run.rule, rank=2, is_text=True),
        Column('dataset', lambda run: run.dataset, rank=8, is_text=True),
        Column('model', lambda run: run.collection, rank=6, is_text=True),
        Column('seed', lambda run: run.seed, rank=5),
        Column('step', lambda run: run.step, form='{:,}', rank=3, show=_step),
        Column('steps', lambda run: run.steps, form='{:,}'),
        Column('top1', lambda run: run.result('top1'), 'top-1', '{:.4f}', 1),
        Column('top5', lambda run: run.result('top5'), 'top-5', '{:.4f}', 11),
        Column('loss', lambda run: run.result('loss'), 'loss', '{:.4f}', 10),
        Column('weight_angle', lambda run: run.result('weight_angles'), 'weight°', '{:.1f}', 4),
        Column(
            'projection_angle',
            lambda run: run.result('projection_angles'),
            'projection°',
            '{:.1f}',
            12,
        ),
        Column(
            'gradient_angle', lambda run: run.result('gradient_angles'), 'gradient°', '{:.1f}', 7
        ),
        *[_mean_of(name) for name in SIGNALS],
        Column('images_per_s', lambda run: run.images_per_s, 'images/s', '{:,.0f}', 13),
        Column('duration', _duration, rank=14, show=lambda run: _clock(_duration(run))),
        Column('updated', lambda run: run.time, rank=15),
        Column('state', lambda run: run.state, rank=1, show=_state, is_text=True),
        Column('why', lambda run: run.why, is_text=True),
        Column('validations', _validations, is_text=True),
        Column('started', lambda run: run.started),
        Column('epoch', _epoch, form='{:.2f}'),
        Column('image_size', lambda run: run.image_size),
        *[_setting(name) for name in ('train_batch_size', 'optimizer', 'learning_rate')],
        _provenance('runtime'),
        Column(
            'commit', lambda run: _cell(run.provenance.get('commit')), show=_commit, is_text=True
        ),
        _provenance('uncommitted'),
        Column('tags', lambda run: ', '.join(run.remarks.tags) or None, is_text=True),
        Column('notes', lambda run: '; '.join(run.remarks.notes) or None, is_text=True),
    ]


def _mean_of(measure: str) -> Column[Run]:
    """Returns the column of a measure by layer, as its mean over the layers; only for files."""
    return Column(measure[:-1], lambda run: run.result(measure), form='{:.4g}')


def of_groups() -> List[Column['Group']]:
    """Returns the columns of groups, in the order of files."""
    from reports.groups import MEASURES  # only here, because it imports SciPy

    forms = {each.name: each for each in of_runs()}
    measured = [
        column
        for rank, name in enumerate(MEASURES)
        for column in _statistics(forms[name], 10 * rank)
    ]
    return [
        Column('exp_id', lambda group: group.name, rank=0, is_text=True),
        Column('rule', lambda group: group.first.rule, rank=2, is_text=True),
        Column('dataset', lambda group: group.first.dataset, rank=9, is_text=True),
        Column('model', lambda group: group.first.collection, rank=8, is_text=True),
        Column('image_size', lambda group: group.first.image_size),
        Column('n', lambda group: len(group.counted), rank=1),
        Column(
            'seeds', lambda group: ' '.join(group.by_seed('top1')) or None, rank=6, is_text=True
        ),
        *measured,
        Column('left_out', _left_out, 'left out', rank=7, is_text=True),
        Column('steps', lambda group: group.first.steps, form='{:,}'),
    ]


def _statistics(of: Column[Run], rank: int) -> List[Column['Group']]:
    """Returns the columns with the statistics of a column of runs.

    Args:
        of: The column of runs.
        rank: 0 for the first of them, whose statistics are all in the table; of the others, the
            table has the means.
    """
    name, form, is_first = of.name, of.form, rank == 0

    def statistic(field: str, heading: str, place: Optional[int]) -> Column['Group']:
        def value(group: 'Group') -> Cell:
            found = group.summary(name)
            if found.n == 0 or found.n == 1 and field in ('std', 'low', 'high'):
                return None
            return float(getattr(found, field))

        return Column(f'{name}_{field}', value, heading, form, place)

    return [
        statistic('mean', of.title, 1 if is_first else 10 + rank),
        statistic('std', 's.d.', 3 if is_first else None),
        statistic('low', '95 % from', 4 if is_first else None),
        statistic('high', 'to', 4 if is_first else None),
        statistic('least', 'least', None),
        statistic('most', 'most', None),
        Column(
            f'{name}_seeds',
            lambda group: (
                ' '.join(
                    f'{seed}:{shown(value, "{!r}")}' for seed, value in group.by_seed(name).items()
                )
                or None
            ),
            is_text=True,
        ),
    ]


def find(
    known: Sequence[Column[Item]],
    name: str,
    runs: Sequence[Run],
    runs_of: Callable[[Item], Sequence[Run]],
) -> Column[Item]:
    """Returns a column by name; the name of a setting is a column, too.

    Args:
        known: The columns that are not settings.
        name: The name.
        runs: The runs of the report. A name that their records contain is a setting.
        runs_of: Returns the runs of a row. Where a setting differs between them, it has no value.

    Raises:
        ConfigError: There is no such column. The message lists all.
    """
    for column in known:
        if column.name == name:
            return column
    if name == SEED:  # a column of runs
        raise ConfigError(
            f'the runs of a group differ in their {name}; the column {name}s has all of them, and '
            'without --group=seed each run has a row'
        )
    is_row = name in ROWS and ROWS[name].group not in LOADING
    if is_row or any(run.setting(name) is not None for run in runs):
        return Column(name, lambda item: _shared(runs_of(item), name), form='{:g}')
    raise ConfigError(
        f'there is no column {name!r}; choose from {", ".join(each.name for each in known)}, or '
        'the name of a setting'
    )


def of_differences() -> List[Column['Difference']]:
    """Returns the columns of a comparison of two groups."""
    forms = {each.name: each.form for each in of_runs()}

    def statistic(field: str, heading: str) -> Column['Difference']:
        def value(difference: 'Difference') -> Cell:
            return float(getattr(difference.summary, field))

        def show(difference: 'Difference') -> str:
            return forms[difference.measure].format(value(difference))

        return Column(field, value, heading, rank=0, show=show)

    return [
        Column('measure', lambda difference: difference.measure, rank=0, is_text=True),
        Column('n', lambda difference: difference.summary.n, rank=0),
        statistic('mean', 'mean difference'),
        statistic('std', 's.d.'),
        statistic('low', '95 % from'),
        statistic('high', 'to'),
    ]


def _provenance(name: str) -> Column[Run]:
    return Column(name, lambda run: _cell(run.provenance.get(name)), is_text=True)


def _setting(name: str) -> Column[Run]:
    return Column(name, lambda run: _cell(run.setting(name)), form='{:g}')


def _shared(runs: Sequence[Run], name: str) -> Cell:
    """Returns the value of a setting that all of these runs have, or None."""
    first, *others = [_cell(run.setting(name)) for run in runs]
    return first if all(each == first for each in others) else None


def _cell(value: object) -> Cell:
    """Returns a recorded value as a cell."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, list):
        return ','.join(map(str, value))
    return json.dumps(value, sort_keys=True, default=str)


def _commit(run: Run) -> str:
    commit = run.provenance.get('commit')
    if commit is None:
        return '-'
    return f'{commit}'[:12] + (
        ' with uncommitted changes' if run.provenance.get('uncommitted') else ''
    )


def _step(run: Run) -> str:
    return f'{run.step:,}' + ('' if run.steps in (None, run.step) else f' of {run.steps:,}')


def _state(run: Run) -> str:
    return run.state + (f' ({run.waiting:,} waiting)' if run.waiting else '')


def _duration(run: Run) -> float:
    """Returns the seconds from the first to the newest record of a run."""
    return (run.time - run.started).total_seconds()


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f'{minutes // 60}:{minutes % 60:02}:{rest:02}'


def _validations(run: Run) -> Cell:
    return ' '.join(sorted(each.exp_id for each in run.validations)) or None


def _epoch(run: Run) -> Cell:
    return run.step / run.steps_per_epoch if run.steps_per_epoch else None


def _left_out(group: 'Group') -> Cell:
    return '; '.join(f'{run.exp_id}: {why}' for run, why in group.left_out) or None
