r"""Shows the runs of a MongoDB database as a table, as plots and as one HTML page.

    python report.py --dbname=quickstart
    python report.py --dbname=quickstart --html=report.html --png=report.png
    python report.py --dbname=quickstart --exp_id=symmetric,mirror --watch

It does not need TensorFlow and does not change the database.
"""

import missing_packages  # noqa: F401 (imported first: it reports missing packages)

import os
import sys
import time
from typing import Dict, List, Optional, Tuple

import rich.console
from absl import flags as absl_flags

from config import flags
from config.rows import ConfigError, HelpGroup
from config.schema import ROWS
from database.errors import StoreError
from reports import page, plots, runs, searches, table
from reports.runs import Run
from reports.searches import Search

PLACES = ('host', 'port', 'dbname', 'cache_dir')
MOST_USED = ('dbname', 'exp_id', 'html', 'png', 'watch')
PIPE_COLUMNS = 200  # width of a table that is not printed to a terminal


def define_flags(flag_values: flags.FlagValues) -> Dict[str, HelpGroup]:
    """Defines the flags: the places of train.py with the same defaults, and those of the report.

    Returns {name: HelpGroup} of them.
    """
    for name in PLACES:
        row = ROWS[name]
        flags.define(
            row
            if name != 'cache_dir'
            else row._replace(
                help='cache folder, as given to train.py; records may be waiting there'
            ),
            {},
            flag_values,
        )
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
    absl_flags.DEFINE_integer(
        'most',
        12,
        'plot at most this many runs, the newest ones',
        lower_bound=1,
        flag_values=flag_values,
    )
    absl_flags.DEFINE_bool(
        'watch', False, 'update the report every --every_s seconds until Ctrl-C', flag_values
    )
    absl_flags.DEFINE_integer(
        'every_s',
        10,
        'seconds between two repetitions of --watch',
        lower_bound=1,
        flag_values=flag_values,
    )
    ours = ['collname', 'exp_id', 'html', 'png', 'most', 'watch', 'every_s']
    groups = {name: ROWS[name].help_group for name in PLACES}
    return dict(dict.fromkeys(ours, HelpGroup.REPORT), **groups)


def look(values: flags.FlagValues) -> Tuple[List[Run], List[Search], Optional[str]]:
    """Reads the runs and searches that the flags select.

    Returns:
        (runs, searches, trouble). trouble is None, or a message that says why MongoDB could not be
        read; then the runs consist of the records waiting on this disk.

    Raises:
        StoreError: MongoDB cannot be read and no records are waiting on this disk, or an
            experiment does not exist.
    """
    found, trouble = runs.read(
        values.host,
        values.port,
        values.dbname,
        tuple(values.exp_id),
        values.collname,
        values.cache_dir,
    )
    missing = sorted(set(values.exp_id) - {run.exp_id for run in found})
    if missing and not values.watch:
        raise StoreError(
            f'There is no experiment {", ".join(missing)} in database {values.dbname} at '
            f'{values.host}:{values.port}. Run `python report.py --dbname={values.dbname}` to list '
            'all of them.'
        )
    searched = (
        []
        if trouble or values.exp_id
        else searches.read(values.host, values.port, values.dbname, values.collname)
    )
    return found, searched, trouble


def write(values: flags.FlagValues, found: List[Run], searched: List[Search]) -> List[str]:
    """Writes the PNG and the HTML page that the flags ask for.

    Returns:
        One line of output for each file.

    Raises:
        StoreError: A file cannot be written.
    """
    told = []
    newest = sorted(found, key=lambda run: run.time)[-values.most :]
    try:
        if values.png:
            drawn = plots.comparing(newest) + (plots.of_run(newest[0]) if len(newest) == 1 else [])
            drawn += [plot for search in searched for plot in plots.of_search(search)]
            if drawn:
                plots.png(drawn, values.png + '.tmp')
                os.replace(values.png + '.tmp', values.png)
            told.append(
                'plots: ' + values.png
                if drawn
                else f'There is nothing to plot yet, so {values.png} was not written.'
            )
        if values.html:
            now = time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime())
            text = page.of(
                found,
                f'Runs of database {values.dbname}',
                f'MongoDB at {values.host}:{values.port}, read {now} UTC',
                values.most,
                values.every_s if values.watch else None,
                searched,
            )
            with open(values.html + '.tmp', 'w', encoding='utf-8') as file:
                file.write(text)
            os.replace(values.html + '.tmp', values.html)
            told.append('page: ' + values.html)
    except OSError as error:
        raise StoreError(f'{error.filename} cannot be written ({error.strerror}).')
    return told


def show(values: flags.FlagValues, console: rich.console.Console) -> int:
    """Shows the report once; returns the exit code."""
    found, searched, trouble = look(values)
    console.print(
        table.of(found)
        if found
        else f'There are no runs in database {values.dbname} at {values.host}:{values.port} yet.'
    )
    for search in searched:
        console.print(table.of_search(search))
    for line in write(values, found, searched):
        console.print(line, soft_wrap=True, markup=False, highlight=False)
    if trouble:
        print(
            f'error: The report shows only the records waiting on this disk. {trouble}',
            file=sys.stderr,
        )
    return 1 if trouble else 0


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
    console = rich.console.Console(width=None if sys.stdout.isatty() else PIPE_COLUMNS)
    return (watch if values.watch else show)(values, console)


def main(argv: Optional[List[str]] = None, flag_values: flags.FlagValues = flags.FLAGS) -> int:
    """Runs the whole command and returns the exit code; see config.flags.run."""
    page = flags.Page(__doc__, define_flags(flag_values), MOST_USED)
    return flags.run(report, (StoreError,), argv, flag_values, page)


if __name__ == '__main__':
    sys.exit(main())
