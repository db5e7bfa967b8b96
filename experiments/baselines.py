"""Trains parts of networks by backpropagation, which is what a rule has to beat.

    make baselines

In each network of the other experiments, everything learns, only the last layer learns, or only
biases and batch norm (gamma and beta) learn; the rest keeps its random initial values. A rule that
is not better than the last layer alone has assigned no credit to the layers below it. The table is
the top-1 on the test images after the last epoch.

Source of the warning: arXiv:2606.21126. Finished trainings are not repeated: a second call prints
the same table.
"""

from training import runtime  # noqa: F401 (first: it prepares TensorFlow)

import sys
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from config.rows import Value
from data import DATASETS
from experiments import base, fashion, program
from experiments.base import Experiment, Results, Run
from experiments.fashion import DEPTHS, DIGITS, SEEDS
from experiments.lines import Line

NETWORK, LEARNS = 'network', 'learns'  # factors of runs
ALL, LAST, SMALL = 'everything', 'the last layer', 'biases and batch norm'
CHANCE = 'nothing (chance)'


class Part(NamedTuple):
    """A network of which parts are trained.

    Attributes:
        settings: {name: value} of the settings that differ from their defaults.
        below: The names of all layers but the last one.
    """

    settings: Dict[str, Value]
    below: Tuple[str, ...]


def _fc(depth: int) -> Part:
    return Part(fashion.network(depth), tuple(f'dense{index}' for index in range(depth)))


def _of_resnet8() -> Tuple[str, ...]:
    blocks = [f'block_group{group}_0/conv{index}' for group in (1, 2, 3) for index in (1, 2)]
    return ('conv0', *blocks)


NETWORKS: Mapping[str, Part] = {
    **{f'fc, {depth} layers': _fc(depth) for depth in DEPTHS},
    'lenet': Part(dict(fashion.TRAINED, model='lenet'), ('conv0', 'conv1', 'conv2', 'dense0')),
    # A step takes many times as long.
    'resnet8, 150 steps': Part(
        dict(fashion.TRAINED, model='resnet8', train_epochs=0.25, epochs_per_checkpoint=0.25),
        _of_resnet8(),
    ),
}


def frozen(part: Part, learns: str) -> Dict[str, Value]:
    """Returns the setting that keeps all but a part of a network from learning."""
    found: Dict[str, Dict[str, Value]] = {
        ALL: {},
        LAST: {'freeze': part.below},
        SMALL: {'freeze': ('forward_kernel',)},
    }
    return found[learns]


class Baselines(Experiment):
    """Each network, of which everything or a part learns."""

    name = 'baselines'

    def runs(self, known: Sequence[Line]) -> List[Run]:
        """Returns the runs, network by network, the cheapest first."""
        del known
        return [
            fashion.run({NETWORK: name, LEARNS: learns}, seed, part.settings, frozen(part, learns))
            for name, part in NETWORKS.items()
            for seed in SEEDS
            for learns in (LAST, SMALL, ALL)
        ]

    def table(self, results: Results) -> str:
        """Returns the table: a row for each network, a column for what learns."""
        columns = (LAST, SMALL, ALL)
        rows = [[NETWORK, CHANCE, *columns]]
        chance = f'{1.0 / DATASETS[str(fashion.TRAINED["dataset"])].classes:.{DIGITS}f}'
        for name in NETWORKS:
            groups = [results.group(**{NETWORK: name, LEARNS: learns}) for learns in columns]
            rows.append([name, chance] + [fashion.cell(group) for group in groups])
        return base.markdown(rows)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Trains what is missing and prints the table. Returns the exit code."""
    arguments = program.parser('experiments.baselines', __doc__ or '').parse_args(argv)
    return program.run(lambda: program.main(Baselines(), arguments))


if __name__ == '__main__':
    sys.exit(main())
