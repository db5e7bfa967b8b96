r"""Show what came out: a table of runs, plots, one HTML page; read from MongoDB.

    python report.py --dbname=quickstart
    python report.py --dbname=quickstart --html=report.html --png=report.png
    python report.py --dbname=quickstart --exp_id=symmetric,mirror --watch

It needs no TensorFlow, and changes nothing in the database.
"""

import missing_packages  # noqa: F401 (first: it tells which package this Python lacks)

import os
import sys
import time
from typing import List, Optional, Tuple

import rich.console
from absl import flags as absl_flags

from config import flags
from config.schema import ROWS, ConfigError
from database.errors import StoreError
from reports import page, plots, runs, searches, table
from reports.runs import Run
from reports.searches import Search

PLACES = ('host', 'port', 'dbname', 'cache_dir')
PIPE_COLUMNS = 200  # of a table that no terminal shows


def define_flags(flag_values: flags.FlagValues) -> None:
    """Defines the flags: those of train.py that say where, with its defaults, and our own."""
    for name in PLACES:
        row = ROWS[name]
        flags.define(
            row
            if name != 'cache_dir'
            else row._replace(
                help='folder of local files, as of train.py: records may wait there for MongoDB'
            ),
            {},
            flag_values,
        )
    absl_flags.DEFINE_string(
        'collname',
        None,
        'only this collection (resnet18, fc_32-16, ...); default: all',
        flag_values,
    )
    absl_flags.DEFINE_list(
        'exp_id', [], 'only these experiments (comma list); default: all', flag_values
    )
    absl_flags.DEFINE_string(
        'html',
        None,
        'write one page here that a browser shows without server or network',
        flag_values,
    )
    absl_flags.DEFINE_string('png', None, 'write the plots here', flag_values)
    absl_flags.DEFINE_integer(
        'most',
        12,
        'how many runs, the newest, are plotted',
        lower_bound=1,
        flag_values=flag_values,
    )
    absl_flags.DEFINE_bool(
        'watch', False, 'show it anew every --every_s seconds, until Ctrl-C', flag_values
    )
    absl_flags.DEFINE_integer(
        'every_s',
        10,
        'seconds between two looks of --watch',
        lower_bound=1,
        flag_values=flag_values,
    )


def look(values: flags.FlagValues) -> Tuple[List[Run], List[Search], Optional[str]]:
    """(runs, searches, None or why MongoDB could not be read) of what the flags ask for."""
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
            f'there is no experiment {", ".join(missing)} in database {values.dbname} at '
            f'{values.host}:{values.port}; `python report.py --dbname={values.dbname}` lists all'
        )
    searched = (
        []
        if trouble or values.exp_id
        else searches.read(values.host, values.port, values.dbname, values.collname)
    )
    return found, searched, trouble


def write(values: flags.FlagValues, found: List[Run], searched: List[Search]) -> List[str]:
    """Writes the PNG and the page that the flags ask for; returns a line for each."""
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
                else f'nothing to plot yet; {values.png} was not written'
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
        raise StoreError(f'{error.filename} cannot be written ({error.strerror})')
    return told


def show(values: flags.FlagValues, console: rich.console.Console) -> int:
    """Looks once; returns the exit code."""
    found, searched, trouble = look(values)
    console.print(
        table.of(found)
        if found
        else f'There is no run in database {values.dbname} at {values.host}:{values.port} yet.'
    )
    for search in searched:
        console.print(table.of_search(search))
    for line in write(values, found, searched):
        console.print(line, soft_wrap=True, markup=False, highlight=False)
    if trouble:
        print(f'error: shown is only what waits on this disk: {trouble}', file=sys.stderr)
    return 1 if trouble else 0


def watch(values: flags.FlagValues, console: rich.console.Console) -> int:
    """Looks again and again, until Ctrl-C."""
    try:
        while True:
            if console.is_terminal:
                console.clear()
            show(values, console)
            console.print(
                time.strftime('%H:%M:%S') + f', again in {values.every_s} s; Ctrl-C ends',
                highlight=False,
            )
            time.sleep(values.every_s)
    except KeyboardInterrupt:
        return 0


def report(values: flags.FlagValues, words: List[str]) -> int:
    """What the flags ask for. words: the program and what is no flag. Returns the exit code."""
    if len(words) > 1:
        raise ConfigError(f'{words[1]!r} is not understood; every setting is a flag, --name=value')
    console = rich.console.Console(width=None if sys.stdout.isatty() else PIPE_COLUMNS)
    return (watch if values.watch else show)(values, console)


def main(argv: Optional[List[str]] = None, flag_values: flags.FlagValues = flags.FLAGS) -> int:
    """The whole command: see config.flags.run."""
    define_flags(flag_values)
    return flags.run(report, (StoreError,), argv, flag_values)


if __name__ == '__main__':
    sys.exit(main())
