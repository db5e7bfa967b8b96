"""Rules under noise on the updates of their backward kernels: a training for each rule and each
noise, a table and a plot.

    make noise

The experiment of Kunin et al. 2020 (arXiv:2003.01513), in small: a network of two hidden layers on
the 5,000 MNIST images. After each step, 0.001 (the second optimiser's learning rate) times normal
numbers of mean 0 and a growing standard deviation are added to the backward kernels. A training
that has ended is not repeated: a second call prints the same table.
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
NOISES = (0.0, 1.0, 10.0, 30.0, 100.0, 300.0)  # standard deviations, before the learning rate
ALIGNMENT: Dict[str, object] = dict(alignment_optimizer='adam', use_noisy_alignment_opt=True)
TIED: Dict[str, object] = dict(use_noisy_global_opt=True, update_forward=True)


def _learned(rule: Type[rules.Rule]) -> bool:
    """Whether a rule's backward kernel is itself what is learned, by a loss."""
    return bool(rule.sees) and rule.backward_kernel is rules.Rule.backward_kernel


def _of_rule(name: str, rule: Type[rules.Rule]) -> Dict[str, object]:
    """What a rule needs. One that is tied to the task gradient has the coefficients of its
    recipe.
    """
    if not rule.tie_gradients:
        return dict(ALIGNMENT, **({'input_distribution': 'normal'} if rule.on_noise else {}))
    recipe = recipes.RECIPES.get('mnist_' + name)
    given = recipe.settings if recipe else {}
    return dict(TIED, **{key: value for key, value in given.items() if key in rule.declared})


RULES = {name: _of_rule(name, rule) for name, rule in rules.RULES.items() if _learned(rule)}


def settings(rule: str, noise: float, **more: object) -> Dict[str, object]:
    """The settings of a training. noise: standard deviation, before the learning rate."""
    shared = {
        name: value
        for name, value in recipes.RECIPES[RECIPE].settings.items()
        if name != 'input_distribution'
    }
    given = dict(shared, **dict(RULES[rule], alignment=rule))
    if rules.RULES[rule].tie_gradients:  # its noise is multiplied by a larger learning rate
        noise *= 0.001 / cast(float, given['learning_rate'])
    if noise:
        given.update(noisy_opt_distribution='normal', noisy_opt_variance=noise**2)
    else:
        given = {name: value for name, value in given.items() if not name.startswith('use_noisy')}
    return dict(given, **more)


def top1(rule: str, noise: float, port: int, flags: Sequence[str], **more: object) -> float:
    """The top-1 after a training, a fraction. port: of MongoDB. flags: of train.py. more: settings.
    Raises subprocess.CalledProcessError."""
    config = Config.of(settings(rule, noise, **more), choices())
    return trained.top1(trained.newest(config, f'_noise{noise:g}', DBNAME, port, flags))


def draw(found: Mapping[str, Sequence[float]], path: str) -> None:
    """Writes the plot as PNG. found: {rule: [top-1 at each of NOISES]}. Raises OSError."""
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
            xlabel='standard deviation of the noise, over the learning rate',
            ylabel='top-1',
            title='Noise on the updates of backward kernels',
        )
        axes.legend()
        figure.tight_layout()
        figure.savefig(path, format='png', metadata={'Software': None})


def main() -> int:
    parser = trained.parser('experiments.noise', __doc__)
    parser.add_argument('--png', required=True, help='where the plot goes')
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
                f'error: a training of {rule} ended with exit code {error.returncode}; its '
                'message stands above',
                file=sys.stderr,
            )
            return 1
        print(f'| {rule} | {" | ".join(f"{value:.3f}" for value in found[rule])} |', flush=True)
    draw(found, arguments.png)
    print('the plot: ' + arguments.png)
    return 0


if __name__ == '__main__':
    sys.exit(main())
