"""Trains each rule with noise on the updates of backward kernels; prints a table, draws a plot.

    make noise

This is a small version of an experiment of Kunin et al. 2020 (arXiv:2003.01513): a network of two
hidden layers on the 5,000 MNIST images. After each step, normal numbers of mean 0 are added to the
backward kernels. They are multiplied by 0.001, the learning rate of the second optimiser, and their
standard deviation grows from training to training. Finished trainings are not repeated: a second
call prints the same table.
"""

from training import runtime  # noqa: F401 (first: it prepares TensorFlow)

import os
import subprocess
import sys
from typing import Dict, Mapping, Sequence, Type, cast

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from alignment import rules
from config import recipes
from config.schema import Config
from experiments import trained
from reports import plots
from training.choices import choices

DBNAME, RECIPE = 'noise', 'mnist_fc_mirror'
# Standard deviations, before they are multiplied by the learning rate.
NOISES = (0.0, 1.0, 10.0, 30.0, 100.0, 300.0)
ALIGNMENT: Dict[str, object] = dict(alignment_optimizer='adam', use_noisy_alignment_opt=True)
TIED: Dict[str, object] = dict(use_noisy_global_opt=True, update_forward=True)


def _learned(rule: Type[rules.Rule]) -> bool:
    """Returns whether a loss trains the backward kernel of a rule itself."""
    return bool(rule.sees) and rule.backward_kernel is rules.Rule.backward_kernel


def _of_rule(name: str, rule: Type[rules.Rule]) -> Dict[str, object]:
    """Returns the settings that a rule needs.

    A rule that uses the task gradient gets the coefficients of its recipe.
    """
    if not rule.tie_gradients:
        return dict(ALIGNMENT, **({'input_distribution': 'normal'} if rule.on_noise else {}))
    recipe = recipes.RECIPES.get('mnist_' + name)
    given = recipe.settings if recipe else {}
    return dict(TIED, **{key: value for key, value in given.items() if key in rule.declared})


RULES = {name: _of_rule(name, rule) for name, rule in rules.RULES.items() if _learned(rule)}


def settings(rule: str, noise: float, **more: object) -> Dict[str, object]:
    """Returns the settings of a training.

    Args:
        rule: The name of the rule.
        noise: The standard deviation of the noise, before it is multiplied by the learning rate.
        **more: Further settings.
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
    return dict(given, **more)


def top1(rule: str, noise: float, port: int, flags: Sequence[str], **more: object) -> float:
    """Trains, unless this was done before, and returns the top-1, a fraction.

    Args:
        rule: The name of the rule.
        noise: The standard deviation of the noise, before it is multiplied by the learning rate.
        port: The port of MongoDB.
        flags: Further flags of train.py.
        **more: Further settings.

    Raises:
        subprocess.CalledProcessError: The training fails.
    """
    config = Config.of(settings(rule, noise, **more), choices())
    return trained.top1(trained.newest(config, f'_noise{noise:g}', DBNAME, port, flags))


def draw(found: Mapping[str, Sequence[float]], path: str) -> None:
    """Writes the plot as a PNG file.

    Args:
        found: {rule: [top-1 at each of NOISES]}.
        path: The file to write.

    Raises:
        OSError: The file cannot be written.
    """
    with matplotlib.rc_context(plots.STYLE):
        figure = Figure((5.5, 3.8), dpi=plots.DPI)
        FigureCanvasAgg(figure)
        axes = figure.add_subplot(1, 1, 1)
        for index, (rule, values) in enumerate(found.items()):
            axes.plot(range(len(values)), values, marker='o', color=plots.FEW(index), label=rule)
        axes.set(
            xticks=range(len(NOISES)),
            xticklabels=[f'{noise:g}' for noise in NOISES],
            ylim=(0, 1),
            xlabel='standard deviation of the noise, divided by the learning rate',
            ylabel='top-1',
            title='Noise on the updates of backward kernels',
        )
        axes.legend()
        figure.tight_layout()
        figure.savefig(path, format='png', metadata={'Software': None})


def main() -> int:
    """Trains all rules, prints the table and draws the plot. Returns the exit code."""
    parser = trained.parser('experiments.noise', __doc__)
    parser.add_argument('--png', required=True, help='path of the plot')
    arguments = parser.parse_args()
    flags = ['--cache_dir=' + os.path.abspath(arguments.cache_dir)]
    print(
        '| rule | '
        + ' | '.join(f'{noise:g}' for noise in NOISES)
        + ' |\n'
        + '|---' * (len(NOISES) + 1)
        + '|'
    )
    found = {}
    for rule in RULES:
        try:
            found[rule] = [top1(rule, noise, arguments.port, flags) for noise in NOISES]
        except subprocess.CalledProcessError as error:
            print(
                f'error: a training of {rule} ended with exit code {error.returncode}; '
                'see its message above',
                file=sys.stderr,
            )
            return 1
        print(f'| {rule} | {" | ".join(f"{value:.3f}" for value in found[rule])} |', flush=True)
    draw(found, arguments.png)
    print('plot: ' + arguments.png)
    return 0


if __name__ == '__main__':
    sys.exit(main())
