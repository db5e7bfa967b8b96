"""What each tier of the tests costs: how many tests it has, wall time, and CPU time of all of its
processes.

    python -m benchmarks.tiers [--tiers fast,slow] [--python .venv-3.7/bin/python]

A tier runs as `make check`, `make test` and `make test-all` run it, on two workers. CPU time is
that of the whole process tree, with the processes that outlived the one that started them (Linux
alone hands those over). Unlike the other benchmarks, these are seconds, not ratios: compare figures
of one machine.
"""

import argparse
import ctypes
import os
import platform
import re
import resource
import subprocess
import sys
import time
from typing import NamedTuple

from config.root import ROOT

TIERS = {
    'fast': 'not slow and not nightly',
    'slow': 'slow and not nightly',
    'nightly': 'nightly',
    'fast+slow': 'not nightly',
}
PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
PATIENCE = 15  # seconds for processes that pytest left behind to end


class Cost(NamedTuple):
    """What one run of a tier took.

    Attributes:
        summary: The last line that pytest printed, without its decoration.
        wall: Seconds from the start to the end of pytest.
        cpu: CPU seconds of pytest and of all processes below it.
        left: How many processes were still running PATIENCE seconds after pytest.
        status: The exit code of pytest.
    """

    summary: str
    wall: float
    cpu: float
    left: int
    status: int


def adopt() -> None:
    """Makes this process the parent of those below it whose own parent ends."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(
            ctypes.get_errno(), 'prctl: only Linux counts processes that were left behind'
        )


def _reap(patience: float) -> int:
    """Waits for the remaining children, so that their CPU time counts; how many did not end."""
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
    """CPU seconds of all children that have ended and been waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def run(python: str, marker: str, workers: int) -> Cost:
    """Runs the tests of one tier in this checkout."""
    before, start = _cpu(), time.monotonic()
    done = subprocess.run(
        [python, '-m', 'pytest', '-q', '-n', str(workers), '--dist', 'loadfile', '-m', marker]
        + ['tests'],
        cwd=ROOT,
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


def processor() -> str:
    """The processor by its name, and how many cores this process may use."""
    name = platform.processor() or platform.machine()
    with open('/proc/cpuinfo') as file:
        for line in file:
            if line.startswith('model name'):
                name = line.partition(':')[2].strip()
                break
    return f'{len(os.sched_getaffinity(0))} cores of {name}'


def main() -> int:
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks.tiers', description=__doc__.splitlines()[0]
    )
    parser.add_argument('--tiers', default='fast,slow', help='comma list of: ' + ', '.join(TIERS))
    parser.add_argument('--python', default=sys.executable, help='the interpreter of the tests')
    parser.add_argument('--workers', type=int, default=2, help='processes that share the tests')
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.tiers.split(',')) - set(TIERS))
    if unknown:
        parser.error(f'no such tier: {", ".join(unknown)}; there are {", ".join(TIERS)}')
    adopt()
    print(f'{processor()}; {arguments.python}')
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
