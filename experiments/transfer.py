"""Applies settings that were searched on two layers to deeper networks.

    make transfer

Mirror and information have the settings of their best trials on two hidden layers, which
experiments/sensitivity.py trains and validates on held-out training images. They are used unchanged
at every depth, over three seeds, on all training images. Symmetric and activation have their
default settings at every depth. The table is the top-1 on the test images after the last epoch.

Source of the question: Kunin et al. 2020 (arXiv:2003.01513), whose main claim is that the tuned
settings of mirror do not transfer to deeper networks, while the others need no tuning. Finished
trainings are not repeated: a second call prints the same table.
"""

from training import runtime  # noqa: F401 (first: it prepares TensorFlow)

import argparse
import os
import sys
from typing import List, Mapping, Optional, Sequence

from config.rows import ConfigError, Value
from experiments import base, fashion, lines, program
from experiments.base import Experiment, Results, Run
from experiments.fashion import DEPTH, DEPTHS, RULE, RULES, SEEDS
from experiments.lines import Line
from experiments.sensitivity import RANGES, Sensitivity

DEFAULT = ('symmetric', 'activation')  # beside those that are searched
ROWS = (*RANGES, *DEFAULT)


class Transfer(Experiment):
    """The rules at each depth, with the settings of two layers.

    Args:
        best: {rule: the settings of its best trial}, for the rules of RANGES. Rules that are
            missing have no runs.
    """

    name = 'transfer'

    def __init__(self, best: Mapping[str, Mapping[str, Value]]) -> None:
        self._settings = dict(best, **dict.fromkeys(DEFAULT, {}))

    @property
    def _rows(self) -> List[str]:
        return [rule for rule in ROWS if rule in self._settings]

    def runs(self, known: Sequence[Line]) -> List[Run]:
        """Returns the runs, seed by seed, so that an unfinished experiment has all rules."""
        del known
        return [
            fashion.run(
                {RULE: rule, DEPTH: str(depth)},
                seed,
                fashion.network(depth),
                RULES[rule],
                self._settings[rule],
            )
            for seed in SEEDS
            for depth in DEPTHS
            for rule in self._rows
        ]

    def table(self, results: Results) -> str:
        """Returns the table: a row for each rule, a column for each depth."""
        return fashion.by_depth(results, RULE, self._rows)

    def draw(self, results: Results, path: str) -> None:
        """Writes a figure: a line for each rule over the depths.

        Raises:
            OSError: The file cannot be written.
        """
        title = 'Settings of two layers on deeper networks, Fashion-MNIST'
        fashion.draw(results, RULE, self._rows, title, path)


def best(folder: str) -> Mapping[str, Mapping[str, Value]]:
    """Returns {rule: the settings of its best trial}, from the CSV file in a folder.

    Rules with missing trials are left out.

    Raises:
        ConfigError: The file cannot be read.
    """
    trials = Sensitivity()
    found = trials.best(lines.File(os.path.join(folder, trials.name + '.csv')).read())
    return {
        rule: found[name] for rule in RANGES for name in [base.named({RULE: rule})] if name in found
    }


def _run(arguments: argparse.Namespace) -> int:
    folder = os.path.dirname(program.where_of(Transfer({}), arguments).csv)
    found = best(folder)
    missing = [rule for rule in RANGES if rule not in found]
    if missing:
        raise ConfigError(
            f'{os.path.join(folder, Sensitivity().name)}.csv does not have all trials of '
            f'{", ".join(missing)}; run make {Sensitivity().target} first'
        )
    return program.main(Transfer(found), arguments)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Trains what is missing and prints the table. Returns the exit code."""
    arguments = program.parser('experiments.transfer', __doc__ or '').parse_args(argv)
    return program.run(lambda: _run(arguments))


if __name__ == '__main__':
    sys.exit(main())
