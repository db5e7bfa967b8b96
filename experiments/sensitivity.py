"""Draws the settings of mirror and information at random: how many of them learn?

    make sensitivity

Thirty random trials of each rule on two hidden layers, none of them stopped early. The settings are
drawn from the same ranges for both rules, evenly in the logarithm. A trial trains on 50,000 of the
training images, and its top-1 is that on the other 10,000; the test images are not read. The table
is how many trials reach 95 % of the best one. The figure shows each trial over each setting.

The second optimiser is Adam, which is indifferent to a common factor of all coefficients: for it,
only their ratios matter.

Source of the question: Kunin et al. 2020 (arXiv:2003.01513), who find mirror brittle and
information robust. Finished trials are not repeated: a second call prints the same table.
"""

from training import runtime  # noqa: F401 (first: it prepares TensorFlow)

import statistics
import sys
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence

from experiments import base, fashion, program
from experiments.base import Results
from experiments.fashion import DIGITS, RULE, RULES
from experiments.trials import TRIAL, Range, Row, Trials, draw

DEPTH, TRIALS, HELD_OUT = 2, 30, 10_000
SHARE = 0.95
COEFFICIENT = Range(1e-4, 1e-2)
RATES = {'learning_rate': Range(1e-3, 0.1), 'alignment_learning_rate': Range(1e-4, 1e-2)}
RANGES: Mapping[str, Mapping[str, Range]] = {
    'mirror': dict(RATES, alpha=COEFFICIENT, beta=COEFFICIENT),
    'information': dict(RATES, alpha=COEFFICIENT, beta=COEFFICIENT, gamma=COEFFICIENT),
}


def _row(rule: str) -> Row:
    settings = dict(fashion.network(DEPTH), **RULES[rule])
    return Row({RULE: rule}, dict(settings, validation_split=HELD_OUT), RANGES[rule])


class Share(NamedTuple):
    """How many of the trials of a rule learn.

    Attributes:
        trials: How many trials have ended.
        best: The largest top-1.
        median: The median of their top-1, in which a trial that diverged is 0.
        of_own: The share of them that reach SHARE of the best trial of this rule.
        of_all: The share of them that reach SHARE of the best trial of all rules.
    """

    trials: int
    best: float
    median: float
    of_own: float
    of_all: float


def shares(found: Mapping[str, Sequence[float]]) -> Dict[str, Share]:
    """Returns {rule: its Share}, from {rule: the top-1 of each of its trials}.

    A rule without trials is left out.
    """
    best = max((value for values in found.values() for value in values), default=0.0)
    return {
        rule: Share(
            len(values),
            max(values),
            statistics.median(values),
            _reaching(values, SHARE * max(values)),
            _reaching(values, SHARE * best),
        )
        for rule, values in found.items()
        if values
    }


def _reaching(values: Sequence[float], least: float) -> float:
    return sum(value >= least for value in values) / len(values)


class Sensitivity(Trials):
    """The trials of both rules."""

    def __init__(self) -> None:
        super().__init__('sensitivity', [_row(rule) for rule in RANGES], TRIALS, 'sensitivity')

    def table(self, results: Results) -> str:
        """Returns the share of trials that learn, and the table of the best trials."""
        rows = [
            [RULE, 'trials', 'best top-1', 'median']
            + [f'reach {SHARE:.0%} of its best', f'reach {SHARE:.0%} of the best of both']
        ]
        for rule, found in shares({rule: _values(results, rule) for rule in RANGES}).items():
            rows.append(
                [rule, str(found.trials)]
                + [base.number(value, DIGITS) for value in (found.best, found.median)]
                + [f'{value:.0%}' for value in (found.of_own, found.of_all)]
            )
        return f'{base.markdown(rows)}\n\n{super().table(results)}'

    def draw(self, results: Results, path: str) -> None:
        """Writes a figure: the top-1 of each trial over each setting.

        Raises:
            OSError: The file cannot be written.
        """
        from experiments import figures

        ratios = {'alpha / beta': ('alpha', 'beta')}
        panels: Dict[str, Dict[str, figures.Points]] = {}
        for rule, ranges in RANGES.items():
            for number, drawn in enumerate(draw(ranges, TRIALS, 0), 1):
                top1 = _top1(results, rule, number)
                given = {
                    **drawn,
                    **{name: drawn[one] / drawn[other] for name, (one, other) in ratios.items()},
                }
                for name, value in given.items():
                    points = panels.setdefault(name, {}).setdefault(rule, figures.Points([], []))
                    if top1 is not None:
                        points.x.append(value)
                        points.y.append(top1)
        figures.scatter(panels, 'top-1', 'Random settings, two layers, Fashion-MNIST', path)


def _top1(results: Results, rule: str, number: int) -> Optional[float]:
    """Returns the top-1 of a trial, 0 if it diverged, or None if it has not ended."""
    group = results.group(**{RULE: rule, TRIAL: str(number)})
    if any(line is None for line in group.lines.values()):
        return None
    return group.mean('top1') or 0.0


def _values(results: Results, rule: str) -> List[float]:
    found = [_top1(results, rule, number) for number in range(1, TRIALS + 1)]
    return [value for value in found if value is not None]


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Trains the missing trials and prints the tables. Returns the exit code."""
    arguments = program.parser('experiments.sensitivity', __doc__ or '').parse_args(argv)
    return program.run(lambda: program.main(Sensitivity(), arguments))


if __name__ == '__main__':
    sys.exit(main())
