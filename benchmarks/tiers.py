"""Measures the number of tests, the wall time and the CPU time of each tier of the tests.

    python -m benchmarks.tiers [--tiers fast,slow] [--python .venv-3.7/bin/python]

A tier runs as in `make check`, `make test` and `make test-all`, on two workers. The CPU time is
that of the whole process tree, including processes that outlive their parent (this works on Linux
only). Unlike the other benchmarks, this one prints seconds and not ratios, so only figures of the
same machine can be compared.
"""

import argparse
import ctypes
import os
import re
import resource
import subprocess
import sys
import time
from typing import NamedTuple

from config.root import ROOT
from training import machine

TIERS = {
    'fast': 'not slow and not nightly',
    'slow': 'slow and not nightly',
    'nightly': 'nightly',
    'fast+slow': 'not nightly',
}
PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
PATIENCE = 15  # seconds to wait for processes that pytest left behind


class Cost(NamedTuple):
    """The cost of one run of a tier.

    Attributes:
        summary: The last line that pytest printed, without decoration.
        wall: Wall time of pytest in seconds.
        cpu: CPU time in seconds of pytest and of all processes that it started.
        left: Number of processes that were still running PATIENCE seconds after pytest ended.
        status: The exit code of pytest.
    """

    summary: str
    wall: float
    cpu: float
    left: int
    status: int


def adopt() -> None:
    """Makes this process the parent of its descendants whose own parent ends."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(
            ctypes.get_errno(), 'prctl: only Linux counts processes that were left behind'
        )


def _reap(patience: float) -> int:
    """Waits for the remaining children, so that their CPU time counts. Returns how many remain."""
    ends = time.monotonic() + patience
    while True:
        try:
            ended, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return 0
        if not ended:
            if time.monotonic() > ends:
                break
            time.sleep(0.1)
    with open(f'/proc/self/task/{os.getpid()}/children') as file:
        return len(file.read().split())


def _cpu() -> float:
    """Returns the CPU time in seconds of all children that have been waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def run(python: str, marker: str, workers: int) -> Cost:
    """Runs the tests of one tier in this checkout."""
    environment = dict(os.environ)
    environment.pop('PYTHONDONTWRITEBYTECODE', None)  # as in the Makefile
    before, start = _cpu(), time.monotonic()
    done = subprocess.run(
        [python, '-m', 'pytest', '-q', '-n', str(workers), '--dist', 'loadfile', '-m', marker]
        + ['tests'],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    wall = time.monotonic() - start
    if done.returncode != 0:
        sys.stderr.write(done.stdout)
    left = _reap(PATIENCE)
    last = done.stdout.rstrip().rpartition('\n')[2]
    summary = re.sub(r' in [\d.]+s.*', '', last.strip('= '))
    return Cost(summary, wall, _cpu() - before, left, done.returncode)


def main() -> int:
    """Runs the command and returns its exit code."""
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks.tiers', description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        '--tiers', default='fast,slow', help='comma-separated list of: ' + ', '.join(TIERS)
    )
    parser.add_argument('--python', default=sys.executable, help='Python interpreter for the tests')
    parser.add_argument(
        '--workers', type=int, default=2, help='number of processes that share the tests'
    )
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.tiers.split(',')) - set(TIERS))
    if unknown:
        parser.error(f'no such tier: {", ".join(unknown)}; there are {", ".join(TIERS)}')
    adopt()
    print(f'{machine.cores()} cores of {machine.cpu().model}; {arguments.python}')
    print(f'{"tier":12} {"wall s":>7} {"CPU s":>7} {"left":>5}   tests')
    status = 0
    for tier in arguments.tiers.split(','):
        cost = run(arguments.python, TIERS[tier], arguments.workers)
        print(
            f'{tier:12} {cost.wall:7.0f} {cost.cpu:7.0f} {cost.left:5}   {cost.summary}', flush=True
        )
        status = status or cost.status
    return status


if __name__ == '__main__':
    sys.exit(main())
