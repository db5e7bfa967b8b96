"""The command line that all experiments share: train what is missing, then print and write results.

Each experiment is a program, `python -m experiments.<name>`.
"""

import argparse
import os
import sys
from typing import Callable, List, NoReturn, Optional, Sequence

from config.rows import ConfigError
from config.schema import ROWS
from database import connection, server
from database.errors import StoreError
from experiments import base, lines, sweep, timing, verify
from experiments.base import METRICS, Experiment, Results, Run
from experiments.sweep import Where
from training import machine, places, runtime
from training.choices import check
from training.errors import Stopped, TrainingError

FORMATS = ('.png', '.pdf', '.svg')  # of figures
USER_ERRORS = (StoreError, TrainingError)


class _Parser(argparse.ArgumentParser):
    """Reports a mistake in one sentence, without the usage of all settings."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f'error: {message} (--help lists all flags)\n')


def parser(module: str, description: str) -> argparse.ArgumentParser:
    """Returns a parser with the arguments that all experiments share.

    Args:
        module: The module that the user runs, such as 'experiments.noise'.
        description: The docstring of the module. Its first line is shown.
    """
    made = _Parser(
        prog='python -m ' + module,
        description=description.splitlines()[0],
        allow_abbrev=False,
    )
    where = made.add_argument_group('where')
    where.add_argument('--host', default=ROWS['host'].default, help='host of MongoDB')
    where.add_argument('--port', type=int, default=server.DEFAULT_PORT, help='port of MongoDB')
    where.add_argument('--dbname', help='database for the records (default: the experiment)')
    where.add_argument('--cache_dir', help='folder for checkpoints and other local files')
    work = made.add_argument_group('work')
    work.add_argument('--workers', type=_positive, default=1, help='trainings at a time (1)')
    work.add_argument(
        '--threads',
        type=_positive,
        help='threads of each training (default: the CPU cores divided by the workers)',
    )
    work.add_argument(
        '--dry_run', action='store_true', help='list what would be trained, and how long it takes'
    )
    work.add_argument(
        '--verify', type=_positive, metavar='N', help='train N finished runs again, and compare'
    )
    work.add_argument('--verify_seed', type=int, default=0, help='seed that chooses these runs (0)')
    output = made.add_argument_group('output')
    output.add_argument('--csv', help='file of the results, which is also read')
    output.add_argument('--json', help='file of the statistics (default: beside the CSV file)')
    output.add_argument(
        '--figure',
        help='comma list of figures to write, .png, .pdf or .svg (default: a PNG and a PDF file '
        'beside the CSV file)',
    )
    output.add_argument(
        '--metric',
        default='top1',
        help=f'comma list of the tables to print: {", ".join(METRICS)} (default: top1)',
    )
    return made


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'must be a whole number above 0, not {text!r}')
    return int(text)


def where_of(experiment: Experiment, arguments: argparse.Namespace) -> Where:
    """Returns where and how the runs of an experiment are trained.

    Raises:
        ServerError: The environment variable MONGODB_URI is not a URI.
    """
    host, port = arguments.host, arguments.port
    uris = connection.uri_places()
    if uris and (host, port) == (ROWS['host'].default, ROWS['port'].default):
        host, port = uris[0]
    cache = arguments.cache_dir
    return Where(
        host,
        port,
        arguments.dbname or experiment.name,
        places.absolute(cache) if cache else None,
        arguments.workers,
        arguments.threads or max(1, machine.cores() // arguments.workers),
        runtime.describe().partition(' on ')[0],
        os.path.expanduser(arguments.csv or experiment.csv()),
    )


def run(make: Callable[[], int]) -> int:
    """Returns what a program returns, or prints the error of a user, and returns its exit code."""
    try:
        return make()
    except ConfigError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    except USER_ERRORS as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    except Stopped as stopped:
        print(f'stopped by {stopped}; the same command continues', file=sys.stderr)
        return 128 + stopped.signal
    except KeyboardInterrupt:
        print('stopped; the same command continues', file=sys.stderr)
        return 130


def main(experiment: Experiment, arguments: argparse.Namespace) -> int:
    """Trains the missing runs of an experiment, and prints and writes its results.

    Args:
        experiment: The experiment.
        arguments: What `parser` has parsed.

    Returns:
        The exit code: 1 if a run failed, or if a repeated run differs.

    Raises:
        ConfigError: A run is impossible, or a file cannot be used.
        StoreError: MongoDB cannot be used.
        TrainingError: A short training, for --dry_run, failed.
        Stopped: A signal asked the program to stop.
    """
    metrics = _metrics(arguments.metric)
    where = where_of(experiment, arguments)
    file = lines.File(where.csv)
    written = _figures(arguments, where)
    runs = base.checked(experiment.runs(file.read()), experiment.name)
    _check(runs)
    work = sweep.Sweep(experiment.name, runs, where)
    if arguments.dry_run:
        return _dry_run(experiment, runs, work, where)
    if arguments.verify:
        places.say(server.ensure(where.host, where.port))
        found = verify.verify(experiment.name, runs, where, arguments.verify, arguments.verify_seed)
        return 0 if found else 1
    missing = work.missing()
    places.say(
        f'{experiment.name}: {_counted(len(runs), "run")}, {len(missing)} to train, '
        f'{where.workers} at a time with {_counted(where.threads, "thread")} each'
    )
    if missing:
        file.prepare()
        places.say(server.ensure(where.host, where.port))
        work.run()
    results = Results.of(runs, file.read(), where.runtime, work.failures)
    show(experiment, results, metrics)
    _write(experiment, results, where, arguments.json or _beside(where, '.json'), written)
    return 1 if results.failures else 0


def _counted(number: int, noun: str) -> str:
    return f'{number} {noun}' + ('' if number == 1 else 's')


def _check(runs: Sequence[Run]) -> None:
    """Checks that all runs are possible.

    Raises:
        ConfigError: Some are not; the message tells why.
    """
    problems = []
    for each in runs:
        try:
            check(each.config)
        except ConfigError as error:
            problems.append(f'{each.name}: {error}')
    if problems:
        raise ConfigError(
            f'{len(problems)} of {len(runs)} runs are impossible, the first one is {problems[0]}'
        )


def _metrics(text: str) -> List[str]:
    names = text.split(',')
    unknown = [name for name in names if name not in METRICS]
    if unknown:
        raise ConfigError(f'--metric={unknown[0]} is not one of {", ".join(METRICS)}')
    return names


def _figures(arguments: argparse.Namespace, where: Where) -> List[str]:
    """Returns the paths of the figures to write."""
    given: Optional[str] = arguments.figure
    if given is None:
        return [_beside(where, ending) for ending in ('.png', '.pdf')]
    return [_checked(os.path.expanduser(path)) for path in given.split(',')]


def _checked(path: str) -> str:
    """Returns the path of a figure, if its ending is that of a format."""
    if os.path.splitext(path)[1].lower() not in FORMATS:
        raise ConfigError(f'--figure={path} must end in {", ".join(FORMATS)}')
    return path


def _beside(where: Where, ending: str) -> str:
    return os.path.splitext(where.csv)[0] + ending


def _dry_run(experiment: Experiment, runs: Sequence[Run], work: sweep.Sweep, where: Where) -> int:
    """Prints what would be trained, and how long it would take."""
    missing = work.missing()
    places.say(
        f'{experiment.name}: {_counted(len(runs), "run")}, '
        f'{len(runs) - len(missing)} of them in {where.csv}, {len(missing)} to train'
    )
    if not missing:
        return 0
    places.say(server.ensure(where.host, where.port))
    found = timing.estimates(experiment.name, runs, missing, where)
    for each in missing:
        places.say(f'{each.name}: {sweep.duration(found[each.name])}')
    seconds = sum(found.values())
    places.say(
        f'in all: {seconds / 3600:.2f} hours, one at a time with '
        f'{_counted(where.threads, "thread")}; '
        f'{seconds / 3600 / where.workers:.2f} hours with --workers={where.workers}, if there are '
        'enough CPU cores'
    )
    return 0


def show(experiment: Experiment, results: Results, metrics: Sequence[str] = ('top1',)) -> None:
    """Prints the table of an experiment, and what a reader of it has to know.

    Args:
        experiment: The experiment.
        results: Its results.
        metrics: The metrics; the table of the experiment itself stands for ('top1',).
    """
    tables = (
        [experiment.table(results)]
        if list(metrics) == ['top1']
        else [f'{METRICS[each].title}:\n\n{results.table(each)}' for each in metrics]
    )
    for table in tables:
        print(f'\n{table}')
    print(''.join(f'\n{note}' for note in results.notes()), flush=True)


def _write(
    experiment: Experiment,
    results: Results,
    where: Where,
    path: str,
    drawn: Sequence[str],
) -> None:
    """Writes the statistics and the figures of an experiment.

    Raises:
        ConfigError: A file cannot be written.
    """
    path = os.path.expanduser(path)
    try:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        with open(path + '.part', 'w', encoding='utf-8') as file:
            file.write(results.json(experiment.name, where.runtime))
        os.replace(path + '.part', path)
        figures = [each for path in drawn for each in experiment.draw_all(results, where.csv, path)]
    except OSError as error:
        raise ConfigError(f'{error.filename or path} cannot be written ({error.strerror})')
    places.say(f'written: {", ".join([where.csv, path, *figures])}')
