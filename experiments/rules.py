"""Trains each rule once on the 5,000 MNIST images and prints a table of the results in MongoDB.

    make rules

Finished trainings are not repeated: a second call prints the same table.
"""

from training import runtime  # noqa: F401 (first: it prepares TensorFlow)

import argparse
import subprocess
import sys
from typing import Dict

from alignment import rules
from config import recipes
from config.schema import Config
from database.types import Document
from experiments import trained
from training import validation
from training.choices import choices

DBNAME = 'rules'
RULES = ('backprop', *rules.RULES)
SUFFIX = f'_python{sys.version_info.major}.{sys.version_info.minor}'


def settings(rule: str) -> Dict[str, object]:
    """Returns the settings of a rule's recipe, or those common to the recipes if it has none."""
    if 'mnist_' + rule in recipes.RECIPES:
        return recipes.RECIPES['mnist_' + rule].settings
    return dict(recipes.MNIST, alignment=rule)


def train(rule: str, arguments: argparse.Namespace) -> Document:
    """Trains with the recipe of a rule and returns the newest record of a validation.

    Raises:
        subprocess.CalledProcessError: The training fails.
    """
    return trained.newest(
        Config.of(settings(rule), choices()),
        SUFFIX,
        DBNAME,
        arguments.port,
        ['--data_dir=' + arguments.data_dir, '--cache_dir=' + arguments.cache_dir],
    )


def row(rule: str, record: Document) -> str:
    """Returns one line of the table."""
    results = record['validation_results']['topn_val']
    angles = [validation.mean_angle(results, name) for name in ('weight_angles', 'gradient_angles')]
    weight, gradient = ['-' if angle is None else f'{angle:.1f}' for angle in angles]
    return f'| {rule:<13} | {trained.top1(record):.4f} | {weight:>12} | {gradient:>14} |'


def main() -> int:
    """Trains each rule and prints the table. Returns the exit code."""
    parser = trained.parser('experiments.rules', __doc__)
    parser.add_argument(
        '--data_dir',
        required=True,
        help='folder of the MNIST TFRecords that data.build_tfrecords writes',
    )
    arguments = parser.parse_args()
    print('| rule          | top-1  | weight angle | gradient angle |\n|---|---|---|---|')
    for rule in RULES:
        try:
            print(row(rule, train(rule, arguments)), flush=True)
        except subprocess.CalledProcessError as error:
            print(
                f'error: the training of {rule} ended with exit code {error.returncode}; '
                'see its message above',
                file=sys.stderr,
            )
            return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
