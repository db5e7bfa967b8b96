"""Measures the time of a training step with each rule, over that of backpropagation.

    python -m benchmarks.steps [--model resnet50] [--variants backprop,mirror]

The figures are medians of steps that are measured in turns. The images are constant, so a step
contains everything except reading images: forward and backward pass, losses and update.
"""

from training import runtime  # first: it prepares TensorFlow

import sys
import time
from typing import Dict, NamedTuple

import tensorflow.compat.v1 as tf

from benchmarks import plain, turns
from benchmarks.types import Timer

from alignment.rules import PROJECTIONS, RULES, Rule
from config.schema import Config
from training import devices, loop
from training.choices import choices
from training.experiment import Experiment


class Variant(NamedTuple):
    """A way to train.

    Attributes:
        settings: The settings that differ from backpropagation.
        closed: Whether the closed forms of the rules are used for gradients.
    """

    settings: Dict[str, object]
    closed: bool = True


VARIANTS: Dict[str, Variant] = {'backprop': Variant({})}
for _name, _rule in RULES.items():  # with all sizes 1, where a step is fastest
    _settings: Dict[str, object] = dict(dict.fromkeys(_rule.sizes, 1), alignment=_name)
    VARIANTS[_name] = Variant(_settings)
    if _rule.on_noise:
        VARIANTS[_name + ' on noise'] = Variant(dict(_settings, input_distribution='normal'))
COMPARED = tuple(VARIANTS)  # the variants that benchmarks.bench and benchmarks.memory compare
for _name in COMPARED[1:]:
    _rule = RULES[str(VARIANTS[_name].settings['alignment'])]
    if _rule.sees == PROJECTIONS and _rule.closed_form is not Rule.closed_form:
        VARIANTS[_name + ' by autodiff'] = VARIANTS[_name]._replace(closed=False)
PLAIN = 'plain tf.nn'  # benchmarks/plain.py
# Ways to compute backpropagation. They are only measured if --variants names them.
WAYS = {
    'bfloat16': Variant(dict(precision='bfloat16')),
    'float16': Variant(dict(precision='float16')),
    'compiled': Variant(dict(xla=True)),
    'ten a call': Variant(dict(iterations_per_loop=10)),
    'fifty a call': Variant(dict(iterations_per_loop=50)),
}


class Steps:
    """A training of one variant that does one step at a time.

    Args:
        variant: The variant.
        model: The model.
        image_size: The height and width of the images in pixels.
        batch: The number of images in a step.
        **settings: More settings of the Config.
    """

    def __init__(
        self, variant: Variant, model: str, image_size: int, batch: int, **settings: object
    ) -> None:
        config = Config.of(
            dict(
                dict(
                    model=model,
                    dataset='synthetic',
                    image_size=image_size,
                    train_batch_size=batch,
                    eval_batch_size=batch,
                    optimizer='momentum',
                    learning_rate=1e-3,
                ),
                **dict(variant.settings, **settings),
            ),
            choices(),
        )
        self._experiment = Experiment(
            config,
            devices.choose(config, devices.claim(config)),
            validating=False,
            closed_forms=variant.closed,
        )
        self._session = loop.session(self._experiment, runtime.session_config())
        self._session.run(self._experiment.training_step.initializer)

    def seconds(self) -> float:
        """Does one call of the variant, and returns the seconds per step."""
        started = time.perf_counter()
        steps = self._experiment.run_steps(self._session, most=100)
        return (time.perf_counter() - started) / len(steps)

    def run(self, options: tf.RunOptions, run_metadata: tf.RunMetadata) -> None:
        """Does a step with tf.RunOptions, and fills the tf.RunMetadata."""
        step = self._experiment.training_step
        self._session.run([step.train_op, step.scalars], options=options, run_metadata=run_metadata)


def timer(name: str, model: str, image_size: int, batch: int) -> Timer:
    """Returns the function that does a step of a variant and returns its seconds.

    Args:
        name: PLAIN, or a key of VARIANTS or WAYS.
        model: The model.
        image_size: The height and width of the images in pixels.
        batch: The number of images in a step.
    """
    if name == PLAIN:
        return plain.PlainSteps(model, image_size, batch).seconds
    return Steps({**VARIANTS, **WAYS}[name], model, image_size, batch).seconds


def main() -> int:
    """Runs the command and returns its exit code."""
    parser, by_default = turns.parser('benchmarks.steps', __doc__), list(VARIANTS) + [PLAIN]
    parser.add_argument(
        '--repeats', type=int, default=20, help='number of measured steps of each variant'
    )
    parser.add_argument(
        '--variants',
        default=','.join(by_default),
        help='comma-separated list of: ' + ', '.join(by_default + list(WAYS)),
    )
    parser.add_argument(
        '--serve',
        action='store_true',
        help='run steps of all rules and of plain layers when benchmarks.bench asks for them',
    )
    arguments = parser.parse_args()
    if arguments.serve:
        arguments.variants = ','.join(COMPARED + (PLAIN,))
    names = turns.chosen(parser, arguments.variants, by_default + list(WAYS))
    timers = {
        name: timer(name, arguments.model, arguments.image_size, arguments.batch) for name in names
    }
    if arguments.serve:
        turns.serve(timers)
        return 0
    found = turns.medians(timers, arguments.repeats)
    print(
        f'{runtime.describe()}, {arguments.model}, {arguments.image_size} x '
        f'{arguments.image_size}, batch {arguments.batch}'
    )
    for name in names:
        print(f'{name:28} {1e3 * found[name]:7.1f} ms  {found[name] / found[names[0]]:.2f}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
