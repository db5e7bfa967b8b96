"""Trains rules on networks of growing depth: does the gap to backpropagation grow?

    make depth

Seven rules, each with the settings of experiments/fashion.py at every depth, and three seeds. The
first table is the top-1 on the test images after the last epoch; the second one is how far a rule
stays behind backpropagation, in points of the mean top-1.

Source of the question: Kunin et al. 2020 (arXiv:2003.01513). Finished trainings are not repeated: a
second call prints the same tables.
"""

from training import runtime  # noqa: F401 (first: it prepares TensorFlow)

import sys
from typing import List, Optional, Sequence

from experiments import base, fashion, program
from experiments.base import Experiment, Results, Run
from experiments.fashion import BACKPROP, DEPTH, DEPTHS, RULE, RULES, SEEDS
from experiments.lines import Line


class Depth(Experiment):
    """Each rule at each depth."""

    name = 'depth'

    def runs(self, known: Sequence[Line]) -> List[Run]:
        """Returns the runs, seed by seed, so that an unfinished experiment has all rules."""
        del known
        return [
            fashion.run({RULE: rule, DEPTH: str(depth)}, seed, fashion.network(depth), RULES[rule])
            for seed in SEEDS
            for depth in DEPTHS
            for rule in RULES
        ]

    def table(self, results: Results) -> str:
        """Returns two tables with a row for each rule: top-1, and points behind backpropagation."""
        behind = [['points behind backprop'] + [f'{depth} layers' for depth in DEPTHS]]
        best = [group.mean('top1') for group in fashion.groups(results, RULE, BACKPROP)]
        for rule in list(RULES)[1:]:
            own = [group.mean('top1') for group in fashion.groups(results, RULE, rule)]
            behind.append([rule] + [_points(top, each) for top, each in zip(best, own)])
        return f'{fashion.by_depth(results, RULE, list(RULES))}\n\n{base.markdown(behind)}'

    def draw(self, results: Results, path: str) -> None:
        """Writes a figure: a line for each rule over the depths.

        Raises:
            OSError: The file cannot be written.
        """
        fashion.draw(results, RULE, list(RULES), 'Rules and depth, Fashion-MNIST', path)


def _points(top: Optional[float], own: Optional[float]) -> str:
    """Returns how far a top-1 is behind another one, in hundredths."""
    return base.number(None if top is None or own is None else 100.0 * (top - own), 1)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Trains what is missing and prints the tables. Returns the exit code."""
    arguments = program.parser('experiments.depth', __doc__ or '').parse_args(argv)
    return program.run(lambda: program.main(Depth(), arguments))


if __name__ == '__main__':
    sys.exit(main())
