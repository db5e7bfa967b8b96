r"""Shows the runs of a MongoDB database as tables, files, plots and an HTML page.

    python report.py --dbname=quickstart
    python report.py --dbname=quickstart --html=report.html --png=report.png
    python report.py --dbname=quickstart --exp_id=symmetric,mirror --watch
    python report.py --dbname=quickstart --group=seed --csv=groups.csv
    python report.py --dbname=quickstart --where='rule=mirror,top1>0.9'
    python report.py --dbname=quickstart --compare=symmetric,mirror
    python report.py --dbname=quickstart --serve

It does not need TensorFlow and does not change the database.
"""

import missing_packages  # noqa: F401 (imported first: it reports missing packages)

import logging
import os
import sys
import time
from typing import TYPE_CHECKING, Callable, Dict, List, NamedTuple, Optional, Tuple

import rich.console
import rich.text
from absl import flags as absl_flags

from config import flags
from config.rows import ConfigError, HelpGroup
from config.schema import ROWS, SEED
from database.errors import StoreError
from reports import columns, digests, export, missing, runs, searches, table, view
from reports.repeat import Here
from reports.runs import Run
from reports.searches import Search
from reports.selection import Listing, Selection, Sheet
from reports.view import View

if TYPE_CHECKING:
    from reports import classes
    from reports.page.data import Contents

PLACES = ('host', 'port', 'dbname', 'cache_dir')
MOST_USED = ('dbname', 'exp_id', 'html', 'png', 'watch', 'serve')
SERVING = ('serve', 'serve_port')
# Flags that choose rows and columns, and where they are written.
TABLES = ('group', 'where', 'sort', 'columns', 'compare', 'csv', 'json', 'latex')
PIPE_COLUMNS = 200  # width of a table that is not printed to a terminal


class Found(NamedTuple):
    """What was read from a database.

    Attributes:
        view: The rows that the flags select.
        everything: All runs of the experiments that the flags select.
        searched: The searches.
        trouble: Why MongoDB could not be read, or None. If it could not, the runs consist of the
            records waiting on this disk.
    """

    view: View
    everything: List[Run]
    searched: List[Search]
    trouble: Optional[str]


def define_flags(flag_values: flags.FlagValues) -> Dict[str, HelpGroup]:
    """Defines the flags: the places of train.py with the same defaults, and those of the report.

    Returns {name: HelpGroup} of them.
    """
    for name in PLACES:
        row = ROWS[name]
        if name == 'cache_dir':
            row = row._replace(
                help='cache folder, as given to train.py; records may be waiting there'
            )
        flags.define(row, {}, flag_values)
    absl_flags.DEFINE_string(
        'collname',
        None,
        'show only this collection (resnet18, fc_32-16, ...); default: all',
        flag_values,
    )
    absl_flags.DEFINE_list(
        'exp_id',
        [],
        'show only these experiments (comma-separated list); default: all',
        flag_values,
    )
    absl_flags.DEFINE_string(
        'html',
        None,
        'write the report to this file, as one HTML page that needs no server or network',
        flag_values,
    )
    absl_flags.DEFINE_string('png', None, 'write the plots to this PNG file', flag_values)
    absl_flags.DEFINE_string(
        'figures',
        None,
        'write each plot to this folder, as PDF and as SVG, at the width of a column of a paper',
        flag_values,
    )
    _define_tables(flag_values)
    _define_serving(flag_values)
    absl_flags.DEFINE_integer(
        'most',
        12,
        'plot the curves of at most this many groups of runs that differ only in their seed, the '
        'newest ones',
        lower_bound=1,
        flag_values=flag_values,
    )
    absl_flags.DEFINE_bool(
        'watch', False, 'update the report every --every_s seconds until Ctrl-C', flag_values
    )
    absl_flags.DEFINE_integer(
        'every_s',
        10,
        'seconds between two repetitions of --watch and --serve',
        lower_bound=1,
        flag_values=flag_values,
    )
    ours = ['collname', 'exp_id', 'html', 'png', 'figures', 'most', 'watch', 'every_s']
    ours += [*TABLES, *SERVING]
    groups = {name: ROWS[name].help_group for name in PLACES}
    return dict(dict.fromkeys(ours, HelpGroup.REPORT), **groups)


def _define_tables(flag_values: flags.FlagValues) -> None:
    """Defines the flags that choose the rows and columns, and the files that they are written to.

    All of them count for the table, --csv, --json, --latex and --html.
    """
    absl_flags.DEFINE_enum(
        'group',
        None,
        [SEED],
        'one row per group of runs that differ only in their seed: how many they are, and the '
        'mean, the standard deviation and the 95 % interval of their results',
        flag_values=flag_values,
    )
    for name, text in (
        (
            'where',
            'show only the rows for which all of these conditions hold, such as '
            'rule=mirror,top1>0.9. Each is a column or a setting, one of = != < <= > >= and a '
            'value; * stands for any text, and | separates alternatives',
        ),
        ('csv', 'write the rows, with more columns, to this CSV file'),
        ('json', 'write the rows, with more columns, to this JSON file'),
    ):
        absl_flags.DEFINE_string(name, None, text, flag_values)
    for name, text in (
        ('sort', 'sort the rows by these columns; with a -, the largest first: --sort=rule,-top1'),
        ('columns', 'show these columns or settings; default: the usual columns'),
        (
            'compare',
            'compare the runs of two rules with the same seeds (--compare=symmetric,mirror): mean '
            'differences with 95 % intervals. Two exp_ids of --group=seed can be given, too',
        ),
    ):
        absl_flags.DEFINE_list(name, [], text, flag_values)
    absl_flags.DEFINE_bool(
        'latex', False, 'print the rows as a LaTeX table instead, which needs booktabs', flag_values
    )


def _define_serving(flag_values: flags.FlagValues) -> None:
    """Defines the flags of the server."""
    absl_flags.DEFINE_bool(
        'serve',
        False,
        'serve the page of --html to browsers on this machine until Ctrl-C; the page shows new '
        'data every --every_s seconds',
        flag_values,
    )
    absl_flags.DEFINE_integer(
        'serve_port',
        8229,
        'port of --serve on 127.0.0.1; 0 for any free one',
        lower_bound=0,
        upper_bound=65535,
        flag_values=flag_values,
    )


def look(values: flags.FlagValues) -> Found:
    """Reads the runs and searches that the flags select.

    Raises:
        ConfigError: A flag names a column that does not exist, or cannot be understood.
        StoreError: MongoDB cannot be read and no records are waiting on this disk, or the database,
            the collection or an experiment does not exist.
    """
    found, trouble = _read(values, curves=False)
    lost = set(values.exp_id) - {run.exp_id for run in found}
    if (lost or not found) and not (values.watch or trouble):
        told = missing.message(values.host, values.port, values.dbname, values.collname, lost)
        if told:
            raise StoreError(told)
    selection = Selection(values.where or '', tuple(values.sort), tuple(values.columns))
    shown = (view.of_groups if values.group else view.of_runs)(found, selection)
    searched = (
        []
        if trouble or values.exp_id
        else searches.read(values.host, values.port, values.dbname, values.collname)
    )
    return Found(shown, found, searched, trouble)


def _read(
    values: flags.FlagValues, curves: bool, exp_ids: Optional[List[str]] = None
) -> Tuple[List[Run], Optional[str]]:
    return runs.read(
        values.host,
        values.port,
        values.dbname,
        tuple(values.exp_id if exp_ids is None else exp_ids),
        values.collname,
        values.cache_dir,
        curves,
    )


def with_curves(values: flags.FlagValues, found: List[Run]) -> List[Run]:
    """Returns the runs whose curves are drawn, with all of their records; see sections.chosen."""
    from reports import sections  # only here, because it imports SciPy

    keys = {run.key for run in sections.chosen(found, values.most)}
    exp_ids = [key.exp_id for key in keys]
    return [run for run in (_read(values, True, exp_ids)[0] if keys else []) if run.key in keys]


def write(values: flags.FlagValues, found: Found) -> List[str]:
    """Writes the files that the flags ask for.

    Returns:
        One line of output for each file.

    Raises:
        StoreError: A file cannot be written.
    """
    told = []
    for name, path, render in (
        ('CSV', values.csv, export.as_csv),
        ('JSON', values.json, export.as_json),
    ):
        if path:
            told.append(_save(name, path, _text(render(found.view.sheet))))
    if not (values.png or values.html or values.figures):
        return told
    _silence_plots()
    whole = with_curves(values, found.view.runs)
    if values.png:
        told.append(_png(values, found, whole))
    if not (values.html or values.figures):
        return told
    by_class = _by_class(values, found, whole)
    if values.figures:
        told.append(_figures(values, found, whole, by_class))
    if values.html:
        from reports.page import document  # only here, because it imports Matplotlib

        page = document.of(contents(values, found, whole, by_class))
        told.append(_save('page', values.html, _text(page)))
    return told


def _by_class(values: flags.FlagValues, found: Found, whole: List[Run]) -> 'classes.Found':
    """Reads the results by class of the runs whose curves are drawn."""
    from reports import classes  # only here, because it imports SciPy

    if found.trouble:
        return classes.NONE
    return classes.read(values.host, values.port, values.dbname, whole)


def _silence_plots() -> None:
    """Leaves out what Matplotlib and its fonts log: absl prints it from INFO on."""
    for name in ('matplotlib', 'fontTools'):
        logging.getLogger(name).setLevel(logging.WARNING)


def _png(values: flags.FlagValues, found: Found, whole: List[Run]) -> str:
    """Writes the plots as a PNG; returns a line of output."""
    from reports import plots, sections  # only here, because they import Matplotlib

    drawn = plots.of_sections(sections.of(found.view.runs, whole))
    drawn += plots.of_run(whole[0]) if len(whole) == 1 else []
    drawn += [plot for search in found.searched for plot in plots.of_search(search)]
    if not drawn:
        return f'There is nothing to plot yet, so {values.png} was not written.'
    return _save('plots', values.png, lambda path: plots.png(drawn, path))


def _figures(
    values: flags.FlagValues, found: Found, whole: List[Run], by_class: 'classes.Found'
) -> str:
    """Writes each plot of the page as PDF and SVG; returns a line of output.

    Raises:
        StoreError: A file cannot be written.
    """
    from reports import plots, sections  # only here, because they import Matplotlib

    of = sections.of(found.view.runs, whole)
    drawn = plots.of_sections(of) + plots.of_layers(of)
    drawn += [plot for each in by_class.newest for plot in plots.of_classes(each)]
    for search in found.searched:
        drawn += plots.of_search(search) + plots.of_settings(search)
    try:
        names = plots.files(drawn, os.path.expanduser(values.figures))
    except OSError as error:
        raise StoreError(f'{values.figures} cannot be written ({error.strerror}).')
    return f'figures: {len(names)} files in {values.figures}'


def contents(
    values: flags.FlagValues, found: Found, whole: List[Run], by_class: 'classes.Found'
) -> 'Contents':
    """Returns what the page shows.

    Args:
        values: The parsed flags.
        found: What was read from the database.
        whole: The runs whose curves are drawn, with all of their records.
        by_class: Their results by class.
    """
    from reports.page.data import Contents  # only here, because it imports Matplotlib

    now = time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime())
    runs_seen = found.view.runs
    if values.group:
        run_sheet = view.of_runs(runs_seen, Selection()).sheet
        group_sheet: Optional[Sheet] = found.view.sheet
    else:  # the groups as well, if any has several runs
        run_sheet = found.view.sheet
        grouped = view.of_groups(runs_seen, Selection()).sheet
        group_sheet = grouped if grouped.height < len(runs_seen) else None
    here = Here(values.host, values.port, values.dbname)
    note = f'MongoDB at {values.host}:{values.port}, read {now} UTC.'
    if found.trouble:
        note += f' This page shows only the records waiting on this disk. {found.trouble}'
    if len(runs_seen) < len(found.everything):
        chosen = f'{len(runs_seen):,} of {len(found.everything):,}'
        note += f' It shows {chosen} runs: --where={values.where}.'
    return Contents(
        f'Runs of database {values.dbname}',
        note,
        runs_seen,
        whole,
        run_sheet,
        group_sheet,
        found.searched,
        by_class,
        {} if found.trouble else digests.read(*here, runs_seen),
        here,
        values.every_s if values.watch or values.serve else None,
        values.serve,
    )


def _text(text: str) -> Callable[[str], None]:
    """Returns a function that writes a text to the file of a path."""

    def save(path: str) -> None:
        with open(path, 'w', encoding='utf-8', newline='') as file:
            file.write(text)

    return save


def _save(name: str, path: str, save: Callable[[str], None]) -> str:
    """Writes a file, which replaces an older one at once; returns a line of output.

    Raises:
        StoreError: The file cannot be written.
    """
    whole = os.path.expanduser(path)
    try:
        save(whole + '.tmp')
        os.replace(whole + '.tmp', whole)
    except OSError as error:
        raise StoreError(f'{path} cannot be written ({error.strerror}).')
    return f'{name}: {path}'


def _compare(values: flags.FlagValues, found: Found, console: rich.console.Console) -> None:
    """Prints the comparison that --compare asks for.

    Raises:
        ConfigError: The two rules cannot be compared.
    """
    from reports import groups  # only here, because it imports SciPy

    compared = groups.compare(groups.of(found.view.runs), values.compare)
    first, second = compared.first.first.rule, compared.second.first.rule
    names = (first, second) if first != second else (compared.first.name, compared.second.name)
    sheet = Listing(compared.differences, columns.of_differences(), is_chosen=True).sheet()
    seeds = ', '.join(map(str, compared.seeds))
    lines = [
        f'{names[0]} - {names[1]} in {compared.first.first.collection}, paired by seed '
        f"({seeds}), with the 95 % interval of the mean by Student's t"
    ]
    for name, (one, other) in compared.others.items():
        lines.append(f'warning: they differ in --{name}, too: {one} and {other}')
    if values.latex:
        print(''.join(f'% {line}\n' for line in lines) + export.as_latex(sheet), end='')
        return
    for line in lines:
        console.print(rich.text.Text(line), soft_wrap=True)
    console.print(table.Table(sheet), crop=False)


def show(values: flags.FlagValues, console: rich.console.Console) -> int:
    """Shows the report once; returns the exit code."""
    found = look(values)
    if values.compare:
        _compare(values, found, console)
    elif values.latex:
        print(export.as_latex(found.view.sheet, found.view.notes), end='')
    else:
        _print(values, found, console)
    for line in write(values, found):
        line = f'% {line}' if values.latex else line  # what is printed stays a table of LaTeX
        console.print(line, soft_wrap=True, markup=False, highlight=False)
    if found.trouble:
        print(
            f'error: The report shows only the records waiting on this disk. {found.trouble}',
            file=sys.stderr,
        )
    return 1 if found.trouble else 0


def _print(values: flags.FlagValues, found: Found, console: rich.console.Console) -> None:
    """Prints the tables."""
    if found.view.runs:
        console.print(table.of(found.view), crop=False)
    elif found.everything:
        console.print(
            f'None of {len(found.everything):,} runs matches --where={values.where}.',
            markup=False,
            highlight=False,
        )
    else:
        console.print(
            f'There are no runs in database {values.dbname} at {values.host}:{values.port} yet.',
            markup=False,
            highlight=False,
        )
    for search in found.searched:
        console.print(table.of_search(search))


def watch(values: flags.FlagValues, console: rich.console.Console) -> int:
    """Shows the report again and again until Ctrl-C."""
    try:
        while True:
            if console.is_terminal:
                console.clear()
            show(values, console)
            console.print(
                time.strftime('%H:%M:%S')
                + f', next update in {values.every_s} s; press Ctrl-C to stop',
                highlight=False,
            )
            time.sleep(values.every_s)
    except KeyboardInterrupt:
        return 0


def serve(values: flags.FlagValues, console: rich.console.Console) -> int:
    """Serves the page until Ctrl-C.

    Raises:
        StoreError: The database cannot be read, or the port is in use.
    """
    _silence_plots()
    from reports.page import serving  # only here, because it imports Matplotlib

    def contents_now() -> 'Contents':
        found = look(values)
        whole = with_curves(values, found.view.runs)
        return contents(values, found, whole, _by_class(values, found, whole))

    source = serving.Source(contents_now, values.every_s)
    source.contents()  # errors are printed here, and not in the browser
    try:
        server = serving.Server(source, values.serve_port)
    except OSError as error:
        raise StoreError(
            f'Port {values.serve_port} cannot be used ({error.strerror}); choose another with '
            '--serve_port.'
        )
    with server:
        console.print(f'{server.url} (press Ctrl-C to stop)', highlight=False)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            pass
    return 0


def report(values: flags.FlagValues, words: List[str]) -> int:
    """Prints the report that the flags ask for and returns the exit code.

    Args:
        values: The parsed flags.
        words: The program, then the words of the command line that are not flags.

    Raises:
        ConfigError: The settings are not valid.
    """
    if len(words) > 1:
        raise ConfigError(f'{words[1]!r} is not a flag; settings are given as --name=value')
    if values.serve and values.watch:
        raise ConfigError('--serve and --watch cannot be combined; --serve shows new data, too')
    console = rich.console.Console(width=None if sys.stdout.isatty() else PIPE_COLUMNS)
    call = serve if values.serve else watch if values.watch else show
    return call(values, console)


def main(argv: Optional[List[str]] = None, flag_values: flags.FlagValues = flags.FLAGS) -> int:
    """Runs the whole command and returns the exit code; see config.flags.run."""
    page = flags.Page(__doc__, define_flags(flag_values), MOST_USED)
    return flags.run(report, (StoreError,), argv, flag_values, page)


if __name__ == '__main__':
    sys.exit(main())
