"""Measures steps in turns.

Several functions or processes do a step each, one after the other, while all others wait. The
ratios of their times then do not depend on what else the machine does.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from typing import IO, Callable, Collection, Dict, List, Mapping, Sequence, TypeVar, cast

from benchmarks.types import Timer

Key = TypeVar('Key')

WARM_UP = 3  # steps that are not measured


def parser(module: str, description: str) -> argparse.ArgumentParser:
    """Returns the ArgumentParser of a benchmark of training steps, with the flags they share.

    Args:
        module: The name of the benchmark, 'benchmarks.steps'.
        description: The docstring of the benchmark. Its first line becomes the description.
    """
    made = argparse.ArgumentParser(
        prog='python -m ' + module, description=description.splitlines()[0]
    )
    models = ['resnet18', 'resnet50', 'resnet20', 'lenet']
    made.add_argument('--model', default='resnet18', choices=models)
    made.add_argument('--image_size', type=int, default=128, help='size in pixels')
    made.add_argument('--batch', type=int, default=16, help='images per step')
    return made


def chosen(parser: argparse.ArgumentParser, text: str, names: Collection[str]) -> List[str]:
    """Returns the names in a comma-separated list.

    If one of them is not in `names`, the process ends with an error of the parser.
    """
    unknown = sorted(set(text.split(',')) - set(names))
    if unknown:
        parser.error(f'no such variant: {", ".join(unknown)}; choose from {", ".join(names)}')
    return text.split(',')


def serve(timers: Mapping[str, Timer]) -> None:
    """Does a step for every name read from standard input, and prints its seconds.

    This is the other end of a Worker.

    Args:
        timers: {name: function that does a step and returns its seconds}.
    """
    print(json.dumps(sorted(timers)), flush=True)
    for line in sys.stdin:
        print(json.dumps(timers[line.strip()]()), flush=True)


class Worker:
    """A process that runs `serve`.

    Anything else that it prints must go to standard error.

    Args:
        command: The command line of the process.
        environment: Its environment variables.

    Attributes:
        names: The names of the steps that it serves.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._command = command
        self._process: subprocess.Popen[str] = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            universal_newlines=True,
            env=environment,
        )
        self._input = cast(IO[str], self._process.stdin)
        self._output = cast(IO[str], self._process.stdout)
        self.names: List[str] = json.loads(self._answer())

    def seconds(self, name: str) -> float:
        """Lets the process do a step and returns its seconds."""
        self._input.write(name + '\n')
        self._input.flush()
        return float(self._answer())

    def close(self) -> None:
        """Ends the process."""
        self._input.close()
        self._process.wait()

    def _answer(self) -> str:
        line = self._output.readline()
        if not line:
            raise RuntimeError(f'{" ".join(self._command)} ended with code {self._process.wait()}')
        return line


def timed(act: Callable[[], object]) -> Timer:
    """Returns a function that calls `act` and returns the seconds it took."""

    def seconds() -> float:
        started = time.perf_counter()
        act()
        return time.perf_counter() - started

    return seconds


def medians(timers: Mapping[Key, Timer], repeats: int) -> Dict[Key, float]:
    """Calls functions in turns and returns the median of their seconds.

    Args:
        timers: {name: function that does a step and returns its seconds}.
        repeats: The number of measured calls of each function.

    Returns:
        {name: median seconds}.
    """
    times: Dict[Key, List[float]] = {name: [] for name in timers}
    for turn in range(WARM_UP + repeats):
        for name, seconds in timers.items():
            taken = seconds()
            if turn >= WARM_UP:
                times[name].append(taken)
    return {name: statistics.median(taken) for name, taken in times.items()}
