"""Trains every rule on Fashion-MNIST over several seeds, with settings that a search found.

    make rules

The network is `lenet`, and the protocol is that of BioTorch's benchmarks (arXiv:2108.13446), except
for the settings: the learning rate of each row, and what the rule adds, are the best of TRIALS
random trials of four epochs, which are validated on 10,000 of the training images. The runs
themselves use all 60,000 training images. Their result is the top-1 on the test images after the
last epoch. `best epoch` is the largest top-1 over the epochs, which chooses on the test images, as
BioTorch's published figures do. Its purpose is the comparison with those figures alone.

Finished trials and runs are not repeated: a second call prints the same tables.
"""

from training import runtime  # noqa: F401 (first: it prepares TensorFlow)

import argparse
import copy
import os
import sys
from typing import Dict, List, Mapping, Optional, Sequence, Type

from alignment import rules
from config.rows import Value
from config.schema import Config
from experiments import base, lines, program
from experiments.base import Experiment, Results, Run
from experiments.lines import Line
from experiments.trials import Range, Row, Trials
from training.choices import choices

SEEDS = (1, 2, 3, 4, 5)  # the trials use seed 0
TRIALS, HELD_OUT = 12, 10_000
BACKPROP, DATA, NOISE = 'backprop', 'data', 'normal'
REFERENCES = (BACKPROP, 'feedback')  # the rows that all rows are compared with, seed by seed
IN_SHORT = 'top1', 'weight_angle', 'projection_angle', 'gradient_angle'
# BioTorch's protocol. Its weight decay of 0.001 is the network's own.
SHARED: Dict[str, Value] = dict(
    dataset='fashion_mnist',
    model='lenet',
    optimizer='momentum',
    nesterov=False,
    train_batch_size=64,
    eval_batch_size=250,
    epochs_per_checkpoint=1.0,
    iterations_per_loop=10,
)
TRIAL: Dict[str, Value] = dict(
    SHARED,
    train_epochs=4.0,
    epochs_per_checkpoint=4.0,
    validate_first=False,
    validation_split=HELD_OUT,
)
RUN: Dict[str, Value] = dict(SHARED, train_epochs=100.0, drop_epochs=(50, 75))
# In trials of ten epochs, BioTorch's own code learns best at 0.03 or 0.01 with backpropagation and
# the sign rules, at 0.003 with feedback, and at 0.0003 with dfa. A rule that learns B starts as
# feedback alignment does, with a random B, and has its range.
WITH_SIGNS, RANDOM, DIRECT = Range(1e-3, 0.1), Range(3e-4, 3e-2), Range(3e-5, 3e-3)
ALIGNMENT_RATE = Range(3e-4, 3e-2)  # of Adam
AROUND = 10.0  # a coefficient is drawn from a tenth of its default to ten times its default
# Their defaults, beta = 2 alpha, put the minimum of the loss at B = W, so they are not searched.
BALANCED = ('symmetric', 'activation')
SIGNS = ('usf', 'frsf', 'brsf')  # B has the signs of W
# What a rule needs beside its coefficients.
OWN: Mapping[str, Mapping[str, Value]] = {
    'dfa': dict(undivided_error=True),  # as BioTorch does
    'pfa': dict(expansion=2),  # the default, 10, makes a step several times as long
}


def _around(default: float) -> Range:
    return Range(default / AROUND, default * AROUND)


def _rate(name: str) -> Range:
    """Returns the range of the learning rate."""
    if name == BACKPROP or name in SIGNS:
        return WITH_SIGNS
    return DIRECT if rules.RULES[name].is_direct else RANDOM


def _row(name: str, settings: Mapping[str, Value], ranges: Mapping[str, Range]) -> Row:
    rate = {'learning_rate': _rate(name)}
    sees = str(settings.get('input_distribution', DATA))
    given = dict(TRIAL, alignment=name, **settings) if name != BACKPROP else TRIAL
    return Row({'rule': name, 'input_distribution': sees}, given, dict(rate, **ranges))


def _rows_of(name: str, rule: Type[rules.Rule]) -> List[Row]:
    """Returns the rows of a rule: two if its loss is meant for noise, else one.

    A loss that trains B itself has a second optimiser, Adam, which is indifferent to the size of
    the loss. The first coefficient of such a rule therefore keeps its default.

    A rule whose B receives the task gradient lets W decay like B, in place of the network's decay.
    """
    own = dict(OWN.get(name, {}))
    coefficients = {each: _around(default) for each, default in rule.coefficients.items()}
    if rule.tie_gradients:
        return [_row(name, dict(own, update_forward=True, weight_decay=0.0), coefficients)]
    if not coefficients:
        return [_row(name, own, {})]
    own['alignment_optimizer'] = 'adam'
    ranges = {'alignment_learning_rate': ALIGNMENT_RATE}
    if name not in BALANCED:
        ranges.update(list(coefficients.items())[1:])
    found = [_row(name, own, ranges)]
    if rule.on_noise:
        found.append(_row(name, dict(own, input_distribution=NOISE), ranges))
    return found


def rows() -> List[Row]:
    """Returns a row for backpropagation, and one or two for each rule."""
    return [_row(BACKPROP, {}, {})] + [
        row for name, rule in rules.RULES.items() for row in _rows_of(name, rule)
    ]


def search() -> Trials:
    """Returns the trials that choose the settings of the runs."""
    return Trials('rules_search', rows(), TRIALS, Rules.name)


def found_in(folder: str) -> Dict[str, Dict[str, float]]:
    """Returns {name of a row: the settings of its best trial}, from the CSV file in a folder.

    Rows with missing trials are left out.

    Raises:
        ConfigError: The file cannot be read.
    """
    return _best(os.path.join(folder, search().name + '.csv'))


def _best(path: str) -> Dict[str, Dict[str, float]]:
    return search().best(lines.File(path).read())


class Rules(Experiment):
    """Each row with the settings of its best trial, over seeds.

    Args:
        best: {name of a row: the settings of its best trial}. Other rows have no runs.
    """

    name = 'rules'

    def __init__(self, best: Mapping[str, Mapping[str, Value]]) -> None:
        self._best = best

    def runs(self, known: Sequence[Line]) -> List[Run]:
        """Returns the runs, seed by seed, so that an unfinished experiment has all rules."""
        del known
        found = []
        for seed in SEEDS:
            for row in rows():
                best = self._best.get(base.named(row.factors))
                if best is not None:
                    given = {name: row.settings[name] for name in set(row.settings) - set(TRIAL)}
                    values = dict(RUN, seed=seed, **dict(given, **best))
                    found.append(Run(dict(row.factors), Config.of(values, choices())))
        return found

    def table(self, results: Results) -> str:
        """Returns the tables: top-1, IN_SHORT, and differences from REFERENCES over the seeds."""
        references = [group for group in results.groups if group.factors['rule'] in REFERENCES]
        tables = results.table(), results.overview(IN_SHORT), results.differences(references)
        return '\n\n'.join(tables)


def _of_the_trials(arguments: argparse.Namespace) -> argparse.Namespace:
    """Returns the arguments of the trials, whose files have other names."""
    own = copy.copy(arguments)
    for name in ('csv', 'json'):
        path = getattr(arguments, name)
        if path:
            start, ending = os.path.splitext(path)
            setattr(own, name, f'{start}_search{ending}')
    if arguments.figure:
        parts = map(os.path.splitext, arguments.figure.split(','))
        own.figure = ','.join(f'{start}_search{ending}' for start, ending in parts)
    return own


def _run(arguments: argparse.Namespace) -> int:
    trials = _of_the_trials(arguments)
    path = program.where_of(search(), trials).csv
    if len(_best(path)) < len(rows()):
        code = program.main(search(), trials)
        if code or arguments.dry_run:
            return code
    return program.main(Rules(_best(path)), arguments)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Trains what is missing and prints the tables. Returns the exit code."""
    arguments = program.parser('experiments.rules', __doc__ or '').parse_args(argv)
    return program.run(lambda: _run(arguments))


if __name__ == '__main__':
    sys.exit(main())
