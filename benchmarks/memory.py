"""Measures the peak memory of a training with each rule, over that of backpropagation.

    python -m benchmarks.memory [--model resnet50] [--variants backprop,mirror]

Each variant runs in a separate process. The figure is the peak of the resident memory over a few
steps, minus the memory that the process held before its graph was built: the graph, variables,
slots, activities and workspaces. It can only be read on Linux.
"""

import json
import subprocess
import sys
from typing import Dict

from benchmarks import steps, turns  # TensorFlow is imported before the counting starts
from config.root import ROOT


def resident(field: str) -> float:
    """Returns the memory of this process in MiB.

    Args:
        field: 'VmRSS' for the current memory, or 'VmHWM' for its peak.
    """
    with open('/proc/self/status') as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith(field + ':'))


def peak(variant: str, model: str, image_size: int, batch: int) -> float:
    """Returns the peak memory in MiB of a training; it can only be called once in a process."""
    before = resident('VmRSS')
    training = steps.Steps(steps.VARIANTS[variant], model, image_size, batch)
    for _ in range(turns.WARM_UP):
        training.seconds()
    return resident('VmHWM') - before


def main() -> int:
    """Runs the command and returns its exit code."""
    parser = turns.parser('benchmarks.memory', __doc__)
    parser.add_argument(
        '--variants',
        default=','.join(steps.COMPARED),
        help='comma-separated list of: ' + ', '.join(steps.COMPARED),
    )
    parser.add_argument('--measure', help='only measure this variant, in this process')
    arguments = parser.parse_args()
    if arguments.measure:
        print(
            json.dumps(
                peak(arguments.measure, arguments.model, arguments.image_size, arguments.batch)
            )
        )
        return 0
    print(
        f'{arguments.model}, {arguments.image_size} x {arguments.image_size}, batch '
        f'{arguments.batch}'
    )
    found: Dict[str, float] = {}
    for variant in turns.chosen(parser, arguments.variants, steps.COMPARED):
        printed = subprocess.run(
            [sys.executable, '-m', 'benchmarks.memory', '--measure=' + variant]
            + [f'--{name}={getattr(arguments, name)}' for name in ('model', 'image_size', 'batch')],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=True,
        ).stdout
        found[variant] = json.loads(printed.splitlines()[-1])
        first = found[next(iter(found))]
        print(f'{variant:20} {found[variant]:7.0f} MiB  {found[variant] / first:.2f}', flush=True)
    return 0


if __name__ == '__main__':
    sys.exit(main())
