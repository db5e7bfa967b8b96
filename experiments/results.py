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
from typing import Optional, Sequence

from config.root import ROOT
from config.rows import ConfigError
from experiments import dynamics, lines, program, rules, transfer
from experiments.base import Experiment, Results
from experiments.baselines import Baselines
from experiments.biotorch import BioTorch
from experiments.depth import Depth
from experiments.lines import Line
from experiments.mnist_rules import MnistRules
from experiments.noise import Noise
from experiments.scatter import Scatter
from experiments.search import Search
from experiments.sensitivity import Sensitivity

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
        Scatter(),
        BioTorch(folder),
        Noise(),
        Depth(),
        Sensitivity(),
        transfer.Transfer(transfer.best(folder)),
        Baselines(),
        MnistRules(),
        Search(),
    )


class _Unknown(Experiment):
    """An experiment of which only the lines are known."""

    def results(self, known: Sequence[Line], version: str) -> Results:
        """Returns the results of lines."""
        del version
        return Results.of_lines(known)


def show(path: str, experiments: Sequence[Experiment]) -> None:
    """Prints the tables of a CSV file, one for each runtime.

    Args:
        path: The file. Its name is that of its experiment.
        experiments: Those that have their own table.

    Raises:
        ConfigError: The file cannot be read, or a line is damaged.
    """
    name = _name(path)
    if name == dynamics.NAME:
        print(f'\n{name}\n\n{dynamics.table(dynamics.read(path))}')
        return
    known = lines.File(path).read()
    experiment = next((each for each in experiments if each.name == name), _Unknown())
    for version in sorted({line.source.runtime for line in known}):
        own = [line for line in known if line.source.runtime == version]
        print(f'\n{name}, {version}')
        program.show(experiment, experiment.results(own, version))


def _name(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]


def show_all(folder: str) -> int:
    """Prints the tables of all CSV files of a folder. Returns the exit code.

    Raises:
        ConfigError: There is no such folder, or a file cannot be read.
    """
    if not os.path.isdir(folder):
        raise ConfigError(f'{folder} is not a folder')
    experiments = shipped(folder)
    paths = sorted(glob.glob(os.path.join(glob.escape(folder), '*.csv')))
    for path in paths:
        show(path, experiments)
    names = [_name(path) for path in paths]
    targets = {**{each.name: each.target for each in experiments}, dynamics.NAME: dynamics.NAME}
    without = [name for name in targets if name not in names]
    if without:
        listed = ', '.join(f'{name} (make {targets[name]})' for name in without)
        print(f'no results in {folder}: {listed}')
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
