"""Measures how much longer a validation takes because of the measures of errors.

    python -m benchmarks.validation [--model resnet50] [--rules None,symmetric]

For each rule, it prints the time of a validation of 1,000 images with all measures, over that of
one without those of database.layout.SIGNALS. It also prints the peak memory of the process, minus
what it held before its graph was built, which can only be read on Linux.

The parts of a validation are measured in turns: one batch of as many images as are measured, and
both sets of measures. Times are medians of processor time, which depends less than wall time
on what else the machine does.
"""

from training import runtime  # first: it prepares TensorFlow

import argparse
import json
import subprocess
import sys
import time
from typing import Callable, Dict, NamedTuple, Optional

from benchmarks import turns
from benchmarks.memory import resident
from benchmarks.types import Timer
from config.root import ROOT
from config.schema import Config
from database.layout import SIGNALS
from training import devices, loop
from training.choices import choices
from training.experiment import Experiment

IMAGES = 1000


class Cost(NamedTuple):
    """What a validation of one rule costs.

    Attributes:
        batch: The processor time of one batch without measures, in seconds.
        before: That of the measures but SIGNALS.
        after: That of all measures.
        memory: The peak memory, in MiB.
    """

    batch: float
    before: float
    after: float
    memory: float

    def ratio(self, batch_size: int) -> float:
        """Returns the time of a validation of IMAGES with all measures, over that without."""
        rest = IMAGES / batch_size * self.batch
        return (rest + self.after) / (rest + self.before)


def cost(rule: Optional[str], arguments: argparse.Namespace) -> Cost:
    """Returns the cost of a rule; it can only be called once in a process."""
    held = resident('VmRSS')
    settings = dict(
        model=arguments.model,
        dataset='synthetic',
        image_size=arguments.image_size,
        alignment=rule,
        eval_batch_size=arguments.batch,
        measure_images=arguments.batch,
    )
    config = Config.of(settings, choices())
    device = devices.choose(config, devices.claim(config))
    experiment = Experiment(config, device, training=False)
    validation = experiment.built_validation
    without = {name: found for name, found in validation.measures.items() if name not in SIGNALS}
    fetches = dict(batch=validation.totals, before=without, after=validation.measures)
    with loop.session(experiment, runtime.session_config()) as session:

        def timer(what: object) -> Timer:
            def seconds() -> float:
                session.run(validation.initializer)
                return processor_time(lambda: session.run(what))

            return seconds

        timers: Dict[str, Timer] = {name: timer(what) for name, what in fetches.items()}
        found = turns.medians(timers, arguments.repeats)
    return Cost(memory=resident('VmHWM') - held, **found)


def processor_time(act: Callable[[], object]) -> float:
    """Returns the processor time of a call, of all threads, in seconds."""
    started = time.process_time()
    act()
    return time.process_time() - started


def main() -> int:
    """Runs the command and returns its exit code."""
    parser = turns.parser('benchmarks.validation', __doc__)
    parser.set_defaults(image_size=224, batch=64)
    parser.add_argument('--rules', default='None,symmetric', help='comma-separated list of rules')
    parser.add_argument('--repeats', type=int, default=3, help='number of measured turns')
    parser.add_argument('--measure', help='only measure this rule, in this process')
    arguments = parser.parse_args()
    if arguments.measure:
        rule = None if arguments.measure == 'None' else arguments.measure
        print(json.dumps(cost(rule, arguments)))
        return 0
    print(
        f'{arguments.model}, {arguments.image_size} x {arguments.image_size}, {IMAGES:,} images, '
        f'{arguments.batch} of them measured, {runtime.describe()}'
    )
    for rule in arguments.rules.split(','):
        names = ('model', 'image_size', 'batch', 'repeats')
        printed = subprocess.run(
            [sys.executable, '-m', 'benchmarks.validation', '--measure=' + rule]
            + [f'--{name}={getattr(arguments, name)}' for name in names],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=True,
        ).stdout
        found = Cost(*json.loads(printed.splitlines()[-1]))
        print(
            f'{rule:12} {found.ratio(arguments.batch):.2f}  a batch {found.batch:.2f} s, measures '
            f'{found.before:.2f} s before and {found.after:.2f} s now, {found.memory:.0f} MiB',
            flush=True,
        )
    return 0


if __name__ == '__main__':
    sys.exit(main())
