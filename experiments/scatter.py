"""Trains backpropagation and feedback alignment with ten seeds: how much do the results scatter?

    make scatter

The network, the data and the protocol are those of `make rules`, for 20 epochs at a constant
learning rate: 0.03 for backpropagation, and 0.003 for feedback alignment. With the latter, ten
epochs of BioTorch's own code reached its smallest error. `make biotorch` trains the same with
BioTorch's layers.
"""

from training import runtime  # noqa: F401 (first: it prepares TensorFlow)

import sys
from typing import Dict, List, Optional, Sequence

from config.rows import Value
from config.schema import Config
from experiments import program, rules
from experiments.base import Experiment, Run
from experiments.lines import Line
from training.choices import choices

SEEDS = tuple(range(10))
EPOCHS = 20
RATES = {'backprop': 0.03, 'feedback': 0.003}


class Scatter(Experiment):
    """Two rules with ten seeds each."""

    name = 'scatter'

    def runs(self, known: Sequence[Line]) -> List[Run]:
        """Returns the runs, seed by seed."""
        del known
        return [Run({'rule': rule}, _config(rule, seed)) for seed in SEEDS for rule in RATES]


def _config(rule: str, seed: int) -> Config:
    given: Dict[str, Value] = dict(
        rules.SHARED, train_epochs=float(EPOCHS), learning_rate=RATES[rule], seed=seed
    )
    return Config.of(given if rule == rules.BACKPROP else dict(given, alignment=rule), choices())


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Trains all seeds and prints the table. Returns the exit code."""
    arguments = program.parser('experiments.scatter', __doc__ or '').parse_args(argv)
    return program.run(lambda: program.main(Scatter(), arguments))


if __name__ == '__main__':
    sys.exit(main())
