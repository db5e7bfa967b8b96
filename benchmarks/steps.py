"""The time of a training step, rule by rule, over that of backpropagation: medians of steps taken in turns.

    python -m benchmarks.steps [--model resnet50] [--variants backprop,mirror]

Constant images; everything of a step but reading them: forward and backward pass, losses, update.
"""
from training import runtime  # first: it prepares TensorFlow

import argparse
import collections
import json
import statistics
import sys
import time

from config.schema import Config
from training import devices, loop
from training.experiment import Experiment, choices

# settings: what differs from backpropagation. closed: gradients by the rules' closed forms.
Variant = collections.namedtuple('Variant', ['settings', 'closed'])

VARIANTS = collections.OrderedDict([('backprop', Variant({}, True))])
for _rule in ('feedback', 'kolen_pollack', 'symmetric', 'activation', 'information', 'mirror'):
    VARIANTS[_rule] = Variant(dict(alignment=_rule), True)
VARIANTS['mirror on noise'] = Variant(dict(alignment='mirror', input_distribution='normal'), True)
for _rule in ('activation', 'information', 'mirror', 'mirror on noise'):
    VARIANTS[_rule + ' by autodiff'] = VARIANTS[_rule]._replace(closed=False)


class Steps:
    """A training of one variant, a step at a time."""

    def __init__(self, variant, model, image_size, batch, **settings):
        """Builds the graph; settings: more of the Config."""
        config = Config.of(dict(dict(model=model, dataset='synthetic', image_size=image_size, train_batch_size=batch,
                                     eval_batch_size=batch, optimizer='momentum', learning_rate=1e-3), **dict(
                                         variant.settings, **settings)), choices())
        self._experiment = Experiment(config, devices.choose(config), closed_forms=variant.closed)
        self._session = loop.session(self._experiment, runtime.session_config())
        self._session.run(self._experiment.step.initializer)

    def seconds(self):
        """Does a step, and says how long it took."""
        started = time.perf_counter()
        self._experiment.run_step(self._session)
        return time.perf_counter() - started


def measure(timers, repeats, warm_up=3):
    """{name: [seconds of a step]} of {name: function that does a step and says its seconds}, taken in turns."""
    times = {name: [] for name in timers}
    for turn in range(warm_up + repeats):
        for name, seconds in timers.items():
            taken = seconds()
            if turn >= warm_up:
                times[name].append(taken)
    return times


def main():
    parser = argparse.ArgumentParser(prog='python -m benchmarks.steps', description=__doc__.splitlines()[0])
    parser.add_argument('--model', default='resnet18')
    parser.add_argument('--image_size', type=int, default=128, help='pixels')
    parser.add_argument('--batch', type=int, default=16, help='images a step')
    parser.add_argument('--repeats', type=int, default=20, help='steps of each variant that count')
    parser.add_argument('--variants', default=','.join(VARIANTS), help='comma list of: ' + ', '.join(VARIANTS))
    parser.add_argument('--json', help='write the figures to this file, too')
    arguments = parser.parse_args()
    names = arguments.variants.split(',')
    timers = {name: Steps(VARIANTS[name], arguments.model, arguments.image_size, arguments.batch).seconds for name in names}
    medians = {name: statistics.median(times) for name, times in measure(timers, arguments.repeats).items()}
    print('{}, {}, {s} x {s}, batch {}'.format(runtime.describe(), arguments.model, arguments.batch, s=arguments.image_size))
    for name in names:
        print('{:28} {:7.1f} ms  {:.2f}'.format(name, 1e3 * medians[name], medians[name] / medians[names[0]]))
    if arguments.json:
        with open(arguments.json, 'w') as file:
            json.dump(medians, file)
    return 0


if __name__ == '__main__':
    sys.exit(main())
