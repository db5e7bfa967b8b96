"""Prints the tables of all experiments from their CSV files.

    make results

A file of an experiment that the program ships is printed with the experiment's own table; any other
file, such as that of a grid, with one row for each combination of settings. `--figures=DIR` also
writes their figures. `--update=PAGE` replaces the tables of a page of the documentation by those
that are printed. Nothing is trained without `--train`, which first trains the runs that are missing
in the files.
"""

from training import runtime  # noqa: F401 (first: it prepares TensorFlow)

import argparse
import contextlib
import glob
import io
import os
import sys
from typing import Dict, List, Optional, Sequence

from config.root import ROOT
from config.rows import ConfigError
from experiments import (
    baselines,
    biotorch,
    depth,
    dynamics,
    files,
    lines,
    mnist_rules,
    noise,
    pages,
    program,
    rules,
    scatter,
    search,
    sensitivity,
    transfer,
    validations,
)
from experiments.base import Experiment, Results
from experiments.lines import Line

# The programs of the experiments: those that are sweeps, each before those that need its results,
# and those that need no database.
SWEEPS = (rules, scatter, noise, sensitivity, transfer, depth, baselines, mnist_rules, search)
ALONE = (biotorch, dynamics)
FOLDER = os.path.join(ROOT, 'docs', 'results')


def shipped(folder: str = FOLDER) -> Sequence[Experiment]:
    """Returns the experiments that the program ships.

    Args:
        folder: Folder of the CSV files, for experiments whose settings come from results.

    Raises:
        ConfigError: A file of these results cannot be read.
    """
    return (
        rules.search(),
        rules.Rules(rules.found_in(folder)),
        scatter.Scatter(),
        biotorch.BioTorch(folder),
        noise.Noise(),
        depth.Depth(),
        sensitivity.Sensitivity(),
        transfer.Transfer(transfer.best(folder)),
        baselines.Baselines(),
        mnist_rules.MnistRules(),
        search.Search(),
    )


class _Unknown(Experiment):
    """An experiment of which only the name and the lines are known."""

    def __init__(self, name: str) -> None:
        self.name = name

    def results(self, known: Sequence[Line], version: str) -> Results:
        """Returns the results of lines."""
        del version
        return Results.of_lines(known)


def show(path: str, experiments: Sequence[Experiment], figures: Optional[str] = None) -> None:
    """Prints the tables of a CSV file, one for each runtime.

    Args:
        path: The file. Its name is that of its experiment.
        experiments: Those that have their own table.
        figures: Folder for the figures, or None for none. They are of the newest runtime.

    Raises:
        ConfigError: The file cannot be read, or a line is damaged.
        OSError: A figure cannot be written.
    """
    name = _name(path)
    figure = os.path.join(figures, name + '.png') if figures else None
    if name == dynamics.NAME:
        print(f'\n{name}\n\n{dynamics.table(dynamics.read(path))}')
        if figure:
            dynamics.draw(dynamics.drawn(), figure)
        return
    known = lines.File(path).read()
    experiment = next((each for each in experiments if each.name == name), _Unknown(name))
    for version in sorted({line.source.runtime for line in known}):
        own = [line for line in known if line.source.runtime == version]
        print(f'\n{name}, {version}')
        results = experiment.results(own, version)
        program.show(experiment, results)
        if figure:
            experiment.draw_all(results, path, figure)


def _name(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]


def _paths(folder: str) -> List[str]:
    """Returns the paths of the CSV files of a folder whose lines are runs, sorted."""
    paths = sorted(glob.glob(os.path.join(glob.escape(folder), '*.csv')))
    return [path for path in paths if not _name(path).endswith(validations.SUFFIX)]


def _targets(experiments: Sequence[Experiment]) -> Dict[str, str]:
    """Returns {name of an experiment: its target in the Makefile}."""
    return {**{each.name: each.target for each in experiments}, dynamics.NAME: dynamics.NAME}


def update(page: str, folder: str) -> None:
    """Replaces the tables of a page of the documentation by those that are printed.

    Args:
        page: Path of a Markdown file.
        folder: Folder of the CSV files.

    Raises:
        ConfigError: A file cannot be read or written, or a line is damaged.
    """
    experiments = shipped(folder)
    targets = _targets(experiments)
    printed: Dict[pages.Name, str] = {}
    for path in _paths(folder):
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            show(path, experiments)
        if _name(path) in targets:
            printed.update(pages.tables(output.getvalue(), targets[_name(path)]))
    try:
        with open(page, encoding='utf-8') as file:
            text = file.read()
        files.replace(page, pages.updated(text, printed).encode())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f'{page} cannot be updated ({error})')


def show_all(folder: str, figures: Optional[str] = None) -> int:
    """Prints the tables of all CSV files of a folder. Returns the exit code.

    Args:
        folder: The folder.
        figures: Folder for the figures, or None for none.

    Raises:
        ConfigError: There is no such folder, or a file cannot be read or written.
    """
    if not os.path.isdir(folder):
        raise ConfigError(f'{folder} is not a folder')
    experiments = shipped(folder)
    paths = _paths(folder)
    for path in paths:
        try:
            show(path, experiments, figures)
        except OSError as error:
            raise ConfigError(f'{error.filename or figures} cannot be written ({error.strerror})')
    names = [_name(path) for path in paths]
    targets = _targets(experiments)
    without = [name for name in targets if name not in names]
    if without:
        listed = ', '.join(f'{name} (make {targets[name]})' for name in without)
        print(f'no results in {folder}: {listed}')
    return 0


def train_all(folder: str, flags: Sequence[str]) -> int:
    """Runs the program of each experiment, which trains what is missing. Returns the exit code.

    Args:
        folder: Folder of the CSV files.
        flags: Flags for the experiments that are sweeps, such as '--workers=2'.
    """

    def of(module: str) -> List[str]:
        """Returns the flag with the CSV file of a module."""
        return [f'--csv={os.path.join(folder, module.rpartition(".")[2])}.csv']

    codes = [each.main([*of(each.__name__), *flags]) for each in SWEEPS]
    codes += [each.main(of(each.__name__)) for each in ALONE]
    return max(codes)


def _run(arguments: argparse.Namespace, flags: Sequence[str]) -> int:
    code = 0
    if arguments.train:
        os.makedirs(arguments.folder, exist_ok=True)
        code = train_all(arguments.folder, flags)
    code = max(code, show_all(arguments.folder, arguments.figures))
    if arguments.update:
        update(arguments.update, arguments.folder)
    return code


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Prints all tables. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog='python -m experiments.results',
        description=(__doc__ or '').splitlines()[0],
        epilog='Other flags, such as --workers=2, are those of each experiment that is trained.',
        allow_abbrev=False,
    )
    parser.add_argument('folder', nargs='?', default=FOLDER, help='folder of the CSV files')
    parser.add_argument('--figures', metavar='DIR', help='folder to write all figures to, as PNG')
    parser.add_argument(
        '--update', metavar='PAGE', help='Markdown file whose tables are replaced by those printed'
    )
    parser.add_argument(
        '--train', action='store_true', help='train the runs that are missing, for many hours'
    )
    arguments, flags = parser.parse_known_args(argv)
    if flags and not arguments.train:
        parser.error(f'{flags[0]} has no effect without --train')
    return program.run(lambda: _run(arguments, flags))


if __name__ == '__main__':
    sys.exit(main())
