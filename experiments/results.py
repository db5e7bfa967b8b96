"""Prints the tables of all experiments from their CSV files, without training anything.

    make results

A file of an experiment that the program ships is printed with the experiment's own table; any other
file, such as that of a grid, with one row for each combination of settings.
"""

from training import runtime  # noqa: F401 (first: it prepares TensorFlow)

import argparse
import glob
import os
import sys
from typing import List, Optional, Sequence

from config.root import ROOT
from config.rows import ConfigError
from experiments import lines, program
from experiments.base import Experiment, Results
from experiments.noise import Noise
from experiments.rules import Rules
from experiments.search import Search

SHIPPED: Sequence[Experiment] = (Rules(), Noise(), Search())
FOLDER = os.path.join(ROOT, 'docs', 'results')


def show(path: str) -> None:
    """Prints the tables of a CSV file, one for each runtime.

    Raises:
        ConfigError: The file cannot be read, or a line is damaged.
    """
    known = lines.File(path).read()
    name = os.path.splitext(os.path.basename(path))[0]
    experiment = next((each for each in SHIPPED if each.name == name), Experiment())
    for version in sorted({line.source.runtime for line in known}):
        own = [line for line in known if line.source.runtime == version]
        print(f'\n{name}, {version}')
        results = (
            Results.of(experiment.runs(own), own, version)
            if experiment.name
            else Results.of_lines(own)
        )
        program.show(experiment, results)


def show_all(folder: str) -> int:
    """Prints the tables of all CSV files of a folder. Returns the exit code.

    Raises:
        ConfigError: There is no such folder, or a file cannot be read.
    """
    if not os.path.isdir(folder):
        raise ConfigError(f'{folder} is not a folder')
    paths = sorted(glob.glob(os.path.join(glob.escape(folder), '*.csv')))
    for path in paths:
        show(path)
    names = [os.path.splitext(os.path.basename(path))[0] for path in paths]
    without: List[str] = [each.name for each in SHIPPED if each.name not in names]
    if without:
        print(f'no results in {folder}: ' + ', '.join(f'{each} (make {each})' for each in without))
    return 0


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Prints all tables. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog='python -m experiments.results', description=(__doc__ or '').splitlines()[0]
    )
    parser.add_argument('folder', nargs='?', default=FOLDER, help='folder of the CSV files')
    arguments = parser.parse_args(argv)
    return program.run(lambda: show_all(arguments.folder))


if __name__ == '__main__':
    sys.exit(main())
