"""Trains each rule with noise on the updates of backward kernels; prints a table, draws a plot.

    make noise

This is a small version of an experiment of Kunin et al. 2020 (arXiv:2003.01513): a network of two
hidden layers on the 5,000 MNIST images. After each step, normal numbers of mean 0 are added to the
backward kernels. They are multiplied by 0.001, the learning rate of the second optimiser, and their
standard deviation grows from training to training. Finished trainings are not repeated: a second
call prints the same table.
"""

from training import runtime  # noqa: F401 (first: it prepares TensorFlow)

import math
import sys
from typing import Dict, List, Optional, Sequence, Type, cast

from alignment import rules
from config import recipes
from config.rows import Value
from config.schema import Config
from experiments import base, program
from experiments.base import Experiment, Results, Run
from experiments.lines import Line
from training.choices import choices

RECIPE = 'mnist_fc_mirror'
# Standard deviations, before they are multiplied by the learning rate.
NOISES = (0.0, 1.0, 10.0, 30.0, 100.0, 300.0)
ALIGNMENT: Dict[str, Value] = dict(alignment_optimizer='adam', use_noisy_alignment_opt=True)
TIED: Dict[str, Value] = dict(use_noisy_global_opt=True, update_forward=True)


def _learned(rule: Type[rules.Rule]) -> bool:
    """Returns whether a loss trains the backward kernel of a rule itself."""
    return bool(rule.sees) and rule.backward_kernel is rules.Rule.backward_kernel


def _of_rule(name: str, rule: Type[rules.Rule]) -> Dict[str, Value]:
    """Returns the settings that a rule needs.

    A rule that uses the task gradient gets the coefficients of its recipe.
    """
    if not rule.tie_gradients:
        return dict(ALIGNMENT, **({'input_distribution': 'normal'} if rule.on_noise else {}))
    recipe = recipes.RECIPES.get('mnist_' + name)
    given = recipe.settings if recipe else {}
    return dict(TIED, **{key: value for key, value in given.items() if key in rule.declared})


RULES = {name: _of_rule(name, rule) for name, rule in rules.RULES.items() if _learned(rule)}


def settings(rule: str, noise: float) -> Dict[str, Value]:
    """Returns the settings of a training.

    Args:
        rule: The name of the rule.
        noise: The standard deviation of the noise, before it is multiplied by the learning rate.
    """
    shared = {
        name: value
        for name, value in recipes.RECIPES[RECIPE].settings.items()
        if name != 'input_distribution'
    }
    given = dict(shared, **dict(RULES[rule], alignment=rule))
    if rules.RULES[rule].tie_gradients:  # the noise is multiplied by a larger learning rate
        noise *= 0.001 / cast(float, given['learning_rate'])
    if noise:
        given.update(noisy_opt_distribution='normal', noisy_opt_variance=noise**2)
    else:
        given = {name: value for name, value in given.items() if not name.startswith('use_noisy')}
    return given


class Noise(Experiment):
    """Each rule that learns its backward kernels by a loss, with each amount of noise."""

    name = 'noise'

    def runs(self, known: Sequence[Line]) -> List[Run]:
        """Returns a run for each rule and each amount of noise."""
        del known
        return [
            Run(
                {'rule': rule, 'noise': f'{noise:g}'},
                Config.of(settings(rule, noise), choices()),
            )
            for rule in RULES
            for noise in NOISES
        ]

    def table(self, results: Results) -> str:
        """Returns the table of docs/noise.md: a row for each rule, a column for each noise."""
        header = f'| rule | {" | ".join(f"{noise:g}" for noise in NOISES)} |'
        rows = [
            f'| {rule} | {" | ".join(base.number(value, 3) for value in _top1(results, rule))} |'
            for rule in RULES
        ]
        return '\n'.join([header, '|---' * (len(NOISES) + 1) + '|'] + rows)

    def draw(self, results: Results, path: str) -> None:
        """Writes the plot: a line for each rule.

        Raises:
            OSError: The file cannot be written.
        """
        from experiments import figures

        figures.curves(
            {rule: _top1(results, rule) for rule in RULES},
            [f'{noise:g}' for noise in NOISES],
            'standard deviation of the noise, divided by the learning rate',
            'top-1',
            'Noise on the updates of backward kernels',
            path,
        )


def _top1(results: Results, rule: str) -> List[float]:
    """Returns the top-1 of a rule at each amount of noise; NaN without a finished run."""
    found = [results.group(rule=rule, noise=f'{noise:g}').mean('top1') for noise in NOISES]
    return [math.nan if value is None else value for value in found]


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Trains all rules, prints the table and draws the plot. Returns the exit code."""
    arguments = program.parser('experiments.noise', __doc__ or '').parse_args(argv)
    return program.run(lambda: program.main(Noise(), arguments))


if __name__ == '__main__':
    sys.exit(main())
