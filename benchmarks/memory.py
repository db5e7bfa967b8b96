"""The peak memory of a training, rule by rule, over that of backpropagation: each in a process of its own.

    python -m benchmarks.memory [--model resnet50] [--variants backprop,mirror]

What is counted is the resident memory at its peak over a few steps, less what the process held before its graph was built:
variables, slots, activities and workspaces. Linux alone tells it.
"""
import argparse
import json
import os
import subprocess
import sys

from benchmarks.turns import WARM_UP

VARIANTS = ('backprop', 'feedback', 'kolen_pollack', 'symmetric', 'activation', 'information', 'mirror', 'mirror on noise')
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def resident(field):
    """MiB of this process: field 'VmRSS' (now) or 'VmHWM' (at its peak)."""
    with open('/proc/self/status') as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith(field + ':'))


def peak(variant, model, image_size, batch):
    """MiB that a training of one variant takes at its peak; to be called once in a process."""
    from benchmarks import steps  # TensorFlow is imported before the counting starts
    before = resident('VmRSS')
    training = steps.Steps(steps.VARIANTS[variant], model, image_size, batch)
    for _ in range(WARM_UP):
        training.seconds()
    return resident('VmHWM') - before


def main():
    parser = argparse.ArgumentParser(prog='python -m benchmarks.memory', description=__doc__.splitlines()[0])
    parser.add_argument('--model', default='resnet18', choices=['resnet18', 'resnet50'])
    parser.add_argument('--image_size', type=int, default=128, help='pixels')
    parser.add_argument('--batch', type=int, default=16, help='images a step')
    parser.add_argument('--variants', default=','.join(VARIANTS), help='comma list of: ' + ', '.join(VARIANTS))
    parser.add_argument('--measure', help='measure this variant alone, in this process')
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(peak(arguments.measure, arguments.model, arguments.image_size, arguments.batch)))
        return 0
    print('{}, {s} x {s}, batch {}'.format(arguments.model, arguments.batch, s=arguments.image_size))
    found = {}
    for variant in arguments.variants.split(','):
        printed = subprocess.run([sys.executable, '-m', 'benchmarks.memory', '--measure=' + variant] + [
            '--{}={}'.format(name, getattr(arguments, name)) for name in ('model', 'image_size', 'batch')],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, universal_newlines=True, check=True).stdout
        found[variant] = json.loads(printed.splitlines()[-1])
        first = found[next(iter(found))]
        print('{:20} {:7.0f} MiB  {:.2f}'.format(variant, found[variant], found[variant] / first), flush=True)
    return 0


if __name__ == '__main__':
    sys.exit(main())
