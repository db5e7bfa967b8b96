"""Trains each rule once on the 5,000 MNIST images and prints a table of the results.

    make mnist_rules

Finished trainings are not repeated: a second call prints the same table.
"""

from training import runtime  # noqa: F401 (first: it prepares TensorFlow)

import sys
from typing import Dict, List, Optional, Sequence

from alignment import rules
from config import recipes
from config.rows import Value
from config.schema import Config
from experiments import base, program
from experiments.base import Experiment, Results, Run
from experiments.lines import Line
from training import places
from training.choices import choices

RULES = ('backprop', *rules.RULES)


def settings(rule: str) -> Dict[str, Value]:
    """Returns the settings of a rule's recipe, or those common to the recipes if it has none."""
    if 'mnist_' + rule in recipes.RECIPES:
        return recipes.RECIPES['mnist_' + rule].settings
    return dict(recipes.MNIST, alignment=rule)


class MnistRules(Experiment):
    """Each rule once, with the settings of its recipe.

    Args:
        data_dir: Folder of the MNIST TFRecords, or None if nothing is trained.
    """

    name = 'mnist_rules'

    def __init__(self, data_dir: Optional[str] = None) -> None:
        self._data_dir = places.absolute(data_dir) if data_dir else None

    def runs(self, known: Sequence[Line]) -> List[Run]:
        """Returns a run for each rule."""
        del known
        return [
            Run(
                {'rule': rule},
                Config.of(dict(settings(rule), data_dir=self._data_dir), choices()),
            )
            for rule in RULES
        ]

    def table(self, results: Results) -> str:
        """Returns the table of docs/paper.md: top-1 and mean angles of each rule."""
        header = f'| {"rule":<13} | top-1  | weight angle | gradient angle |\n|---|---|---|---|'
        return '\n'.join([header] + [_row(group) for group in results.groups])


def _row(group: base.Group) -> str:
    top1, weight, gradient = [
        base.number(group.mean(name), digits)
        for name, digits in (('top1', 4), ('weight_angle', 1), ('gradient_angle', 1))
    ]
    return f'| {group.factors["rule"]:<13} | {top1:>6} | {weight:>12} | {gradient:>14} |'


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Trains each rule and prints the table. Returns the exit code."""
    parser = program.parser('experiments.mnist_rules', __doc__ or '')
    parser.add_argument(
        '--data_dir',
        required=True,
        help='folder of the MNIST TFRecords that data.build_tfrecords writes',
    )
    arguments = parser.parse_args(argv)
    return program.run(lambda: program.main(MnistRules(arguments.data_dir), arguments))


if __name__ == '__main__':
    sys.exit(main())
