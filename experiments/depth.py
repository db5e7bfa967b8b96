"""Trains rules on networks of growing depth: does the gap to backpropagation grow, too?

    make depth

Seven rules, each with the settings of experiments/fashion.py at every depth, and three seeds. The
first table is the top-1 on the test images after the last epoch; the second one is how far a rule
stays behind backpropagation: the mean over the seeds of the differences in points of top-1, with
its 95 % interval.

Source of the question: Kunin et al. 2020 (arXiv:2003.01513). Finished trainings are not repeated: a
second call prints the same tables.
"""

from training import runtime  # noqa: F401 (first: it prepares TensorFlow)

import sys
from typing import List, Optional, Sequence

from experiments import base, fashion, program
from experiments.base import Experiment, Group, Results, Run
from experiments.fashion import BACKPROP, DEPTH, DEPTHS, RULE, RULES, SEEDS
from experiments.lines import Line
from reports import statistics


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
        best = fashion.groups(results, RULE, BACKPROP)
        for rule in list(RULES)[1:]:
            own = fashion.groups(results, RULE, rule)
            behind.append([rule] + [_points(top, each) for top, each in zip(best, own)])
        return f'{fashion.by_depth(results, RULE, list(RULES))}\n\n{base.markdown(behind)}'

    def draw(self, results: Results, path: str) -> None:
        """Writes a figure: a line for each rule over the depths.

        Raises:
            OSError: The file cannot be written.
        """
        fashion.draw(results, RULE, list(RULES), 'Rules and depth, Fashion-MNIST', path)


def _points(top: Group, own: Group) -> str:
    """Returns how far a group is behind another one, in hundredths, with the 95 % interval.

    The differences are paired over the seeds.
    """
    found = statistics.paired(top.values('top1'), own.values('top1'))
    mean, low, high = [base.number(100.0 * each, 1) for each in (found.mean, found.low, found.high)]
    return mean if found.n < 2 else f'{mean} ({low} to {high})'


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Trains what is missing and prints the tables. Returns the exit code."""
    arguments = program.parser('experiments.depth', __doc__ or '').parse_args(argv)
    return program.run(lambda: program.main(Depth(), arguments))


if __name__ == '__main__':
    sys.exit(main())
