"""Shows one experiment, and the differences between two."""

import argparse
from typing import Callable, List, NamedTuple, Tuple

from config.flags import as_flag
from config.rows import Scope
from config.schema import ROWS
from database.connection import Client
from database.errors import StoreError
from database.experiment import Experiment
from database.place import Place
from database.types import Document
from manage import local, notes
from manage.command import Command, say
from manage.finding import Where, locate, opened
from manage.text import columns, size
from reports import repeat, runs, stored
from reports.runs import Run

# Groups of the params that are no settings, and names that say whose settings they are.
NO_SETTINGS = ('provenance', 'digests', 'environment')
IDENTITY = ('save_params.exp_id',)
RESULTS = ('top1', 'top5', 'loss', 'weight_angles', 'projection_angles', 'gradient_angles')


Row = Tuple[str, ...]  # a line of a table


class Section(NamedTuple):
    """A part of what `diff` compares.

    Attributes:
        title: Its heading.
        rows: Returns the rows (name, value of the first, value of the second) of two experiments.
    """

    title: str
    rows: Callable[[Run, Run], List[Row]]


def settings(run: Run) -> Document:
    """Returns {name: value} of the settings that decide what is trained, and how."""
    return {
        name: value for name, value in _params(run).items() if not _says_where(name.split('.')[-1])
    }


def places(run: Run) -> Document:
    """Returns {name: value} of the settings that decide where something is."""
    return {name: value for name, value in _params(run).items() if _says_where(name.split('.')[-1])}


def _says_where(name: str) -> bool:
    return name in ROWS and ROWS[name].scope in (Scope.PLACE, Scope.CALL)


def _params(run: Run) -> Document:
    """Returns {name: value} of the params; a name that is no setting begins with its group."""
    found: Document = {}
    for group, values in run.params.items():
        for name, value in values.items() if isinstance(values, dict) else [('', values)]:
            is_setting = name in ROWS and ROWS[name].group == group
            found[name if is_setting else f'{group}.{name}'.rstrip('.')] = value
    return {
        name: value
        for name, value in found.items()
        if name.split('.')[0] not in NO_SETTINGS + ('',)
        and name not in IDENTITY
        # Some groups repeat a setting of another one.
        and (name in ROWS or name.split('.')[-1] not in found)
    }


def environment(run: Run) -> Document:
    """Returns {name: value} of the versions and the commit."""
    return run.provenance


def results(run: Run) -> Document:
    """Returns {name: value} of the newest results; results by layer are means over the layers.

    `loss` is that of the validation images, as in a report. A result that is not there is left out.
    """
    found = {name: run.result(name) for name in RESULTS}
    found = {name: value for name, value in found.items() if value is not None}
    return dict(found, step=run.step, state=run.state)


def _by_name(of: Callable[[Run], Document]) -> Callable[[Run, Run], List[Row]]:
    """Returns the comparison of {name: value} of two experiments."""
    return lambda first, second: differences(of(first), of(second))


def environments(first: Run, second: Run) -> List[Row]:
    """Returns the differences in program, packages, machine and images of two experiments."""
    return [
        (name, *('-' if value is None else repr(value) for value in values))
        for name, *values in repeat.environment_differences(first.params, second.params)
    ]


# What `diff` compares. Another section is one line here.
SECTIONS: List[Section] = [
    Section('settings', _by_name(settings)),
    Section('places', _by_name(places)),
    Section('environment', environments),
    Section('results', _by_name(results)),
]


class Diff(Command):
    """`diff A B`: prints what differs between two experiments."""

    help = 'print what differs between two experiments: settings, environment and results'
    description = (
        'Prints the settings, the places, the environment (program, packages, machine and images) '
        'and the results '
        'that differ between two experiments of a database.'
    )

    def define(self, parser: argparse.ArgumentParser) -> None:
        """Adds the two experiments."""
        parser.add_argument('first', metavar='A', help='exp_id of an experiment')
        parser.add_argument('second', metavar='B', help='exp_id of another one')

    def run(self, where: Where, options: argparse.Namespace) -> int:
        """Prints the differences."""
        with opened(where) as client:
            found = [locate(client, where, name) for name in (options.first, options.second)]
        first, second = [read(where, place) for place in found]
        for section in SECTIONS:
            rows = section.rows(first, second)
            say(section.title + ('' if rows else ': no difference'))
            for line in columns(rows, ('', first.exp_id, second.exp_id)):
                say('  ' + line)
        return 0


def differences(first: Document, second: Document) -> List[Row]:
    """Returns rows (name, value of the first, value of the second), sorted by name.

    They are those of the values that differ. A value that one of them lacks is '-'.
    """
    rows: List[Row] = []
    for name in sorted(set(first) | set(second)):
        is_in_both = name in first and name in second
        exact = [repr(values[name]) if name in values else '-' for values in (first, second)]
        if exact[0] != exact[1] and not (is_in_both and first[name] == second[name]):
            short = [_short(values[name]) if name in values else '-' for values in (first, second)]
            rows.append((name, *(short if short[0] != short[1] else exact)))
    return rows


def _short(value: object) -> str:
    return f'{value:.6g}' if isinstance(value, float) else repr(value)


def read(where: Where, place: Place) -> Run:
    """Reads an experiment.

    Raises:
        StoreError: MongoDB cannot be read, or there are no records of the experiment.
    """
    found, trouble = runs.read(
        where.host, where.port, where.dbname, (place.exp_id,), place.collname, where.cache_dir
    )
    if trouble or not found:
        raise StoreError(trouble or f'There are no records of {place.text()}.')
    return found[0]


class Show(Command):
    """`show RUN`: shows an experiment."""

    help = 'show an experiment: settings, environment, results, checkpoints, tags and notes'
    description = (
        'Shows an experiment: its settings that differ from their defaults, its environment '
        '(versions and commit), its newest results, its checkpoints, and its tags and notes.'
    )

    def define(self, parser: argparse.ArgumentParser) -> None:
        """Adds the experiment."""
        parser.add_argument('exp_id', metavar='RUN', help='exp_id of the experiment')

    def run(self, where: Where, options: argparse.Namespace) -> int:
        """Prints the experiment."""
        with opened(where) as client:
            place = locate(client, where, options.exp_id, in_part=True)
            found = read(where, place)
            lines = _lines(where, found, Experiment(client, place))
            lines[3:3] = [('validates', each) for each in _validated(client, found, place)]
            labels = notes.read(client, place)
        lines.append(('tags', ', '.join(labels.tags) or 'none'))
        lines += [(f'note, {note.time:%Y-%m-%d %H:%M} UTC', note.text) for note in labels.notes]
        for line in columns(lines):
            say(line)
        return 0


def _validated(client: Client, run: Run, place: Place) -> List[str]:
    """Returns what a validation validates: the name of a training, or else what is recorded."""
    found = run.points[-1].validates
    if not found:
        return []
    owner = stored.owners(client[place.dbname], [found]).get(found)
    return [f'{owner.exp_id} ({owner.collection})' if owner else f'{found}, not in this database']


def _lines(where: Where, run: Run, experiment: Experiment) -> List[Tuple[str, ...]]:
    """Returns what `show` prints of an experiment, but its tags and notes, as (name, text)."""
    folder = local.folder_of(where.cache_dir, experiment.place)
    given = ' '.join(as_flag(name, value) for name, value in run.settings.items())
    planned = '' if run.steps is None else f' of {run.steps:,}'
    lines: List[Tuple[str, ...]] = [
        ('experiment', run.exp_id),
        ('where', f'{where.text()}, collection {run.collection}'),
        ('state', f'{run.state}: {runs.STATES[run.state]}'),
        *([('why', run.why)] if run.why else []),
        ('step', f'{run.step:,}{planned}'),
        *[('validation', f'{each.exp_id}, step {each.step:,}') for each in run.validations],
        ('records', f'{len(run.points):,}, the newest of {run.time:%Y-%m-%d %H:%M} UTC'),
        ('settings', given or 'all at their defaults'),
    ]
    lines += [(name, _text(value)) for name, value in environment(run).items()]
    lines += [(name, _text(value)) for name, value in results(run).items() if name in RESULTS]
    for file in experiment.checkpoints():
        step, length = file.get('step', -1), file.get('length', 0)
        lines.append(('checkpoint', f'step {step:,}, {size(length)}'))
    here = f'{size(local.size(folder))} in {folder}' if folder else 'none'
    return lines + [('local files', here)]


def _text(value: object) -> str:
    return value if isinstance(value, str) else '-' if value is None else _short(value)
