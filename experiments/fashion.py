"""The fully connected network on Fashion-MNIST that several experiments train.

It has layers of 64 tanh units and trains for three epochs, in which backpropagation learns at every
depth of DEPTHS. Rules that learn B by a loss have a second optimiser, Adam, as in the recipes.
"""

from typing import Dict, List, Mapping, Sequence

from config.rows import Value
from config.schema import Config
from experiments import base
from experiments.base import Group, Results, Run
from training.choices import choices

UNITS = 64
DEPTHS = (2, 4, 8, 16)  # hidden layers
SEEDS = (1, 2, 3)
DEPTH, RULE, BACKPROP = 'depth', 'rule', 'backprop'  # factors of runs, and a value of RULE
DIGITS = 4

TRAINED: Dict[str, Value] = dict(
    dataset='fashion_mnist',
    optimizer='momentum',
    learning_rate=0.01,
    train_batch_size=100,
    train_epochs=3.0,
    epochs_per_checkpoint=3.0,
    validate_first=False,
    iterations_per_loop=50,
)
_ADAM: Dict[str, Value] = dict(alignment_optimizer='adam')  # with learning rate 0.001
# The settings of each rule. Coefficients that are not named keep their defaults.
RULES: Mapping[str, Mapping[str, Value]] = {
    BACKPROP: {},
    'feedback': dict(alignment='feedback'),
    'mirror': dict(_ADAM, alignment='mirror', input_distribution='normal'),
    'information': dict(_ADAM, alignment='information'),
    'symmetric': dict(_ADAM, alignment='symmetric'),
    'activation': dict(_ADAM, alignment='activation'),
    # W decays like B, as in the recipe mnist_kolen_pollack.
    'kolen_pollack': dict(alignment='kolen_pollack', alpha=0.005, update_forward=True),
}


def network(depth: int) -> Dict[str, Value]:
    """Returns the settings of the network with `depth` hidden layers, without those of a rule."""
    return dict(TRAINED, model='fc', activation='tanh', layers_list=(UNITS,) * depth)


def run(factors: Dict[str, str], seed: int, *settings: Mapping[str, Value]) -> Run:
    """Returns a run with settings of which later ones replace earlier ones."""
    values: Dict[str, Value] = {}
    for each in settings:
        values.update(each)
    return Run(factors, Config.of(dict(values, seed=seed), choices()))


def cell(group: Group, metric: str = 'top1') -> str:
    """Returns the mean and standard deviation over the seeds as text.

    The number of seeds is added if it is not that of SEEDS.
    """
    found = group.summary(metric)
    text = base.spread(found, DIGITS)
    return text if found.n in (0, len(SEEDS)) else f'{text} (n = {found.n})'


def by_depth(results: Results, factor: str, names: Sequence[str]) -> str:
    """Returns a Markdown table with a row for each name of a factor, and a column for each depth.

    Args:
        results: The results; their groups have the factors `factor` and DEPTH.
        factor: The factor of the rows.
        names: The values of the factor, in the order of the rows.
    """
    rows = [[factor] + [f'{depth} layers' for depth in DEPTHS]]
    rows += [[name] + [cell(each) for each in groups(results, factor, name)] for name in names]
    return base.markdown(rows)


def groups(results: Results, factor: str, name: str) -> List[Group]:
    """Returns the groups of one value of a factor, one for each depth."""
    return [results.group(**{factor: name, DEPTH: str(depth)}) for depth in DEPTHS]


def draw(results: Results, factor: str, names: Sequence[str], title: str, path: str) -> None:
    """Writes a figure: a line for each name over the depths, with the interval of its mean.

    Raises:
        OSError: The file cannot be written.
    """
    from experiments import figures

    figures.curves(
        {name: [g.summary('top1').mean for g in groups(results, factor, name)] for name in names},
        [str(depth) for depth in DEPTHS],
        'hidden layers',
        'top-1: mean and its 95 % interval',
        title,
        path,
        {name: [half_width(each) for each in groups(results, factor, name)] for name in names},
    )


def half_width(group: Group) -> float:
    """Returns half of the length of the 95 % interval of the mean top-1; NaN for one seed."""
    found = group.summary('top1')
    return found.high - found.mean
