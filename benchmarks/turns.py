"""Steps taken in turns by several processes: one process steps while all others wait, so that the
ratio of their times holds whatever else the machine does."""

import argparse
import json
import statistics
import subprocess
import sys
import time
from typing import IO, Callable, Collection, Dict, List, Mapping, Sequence, TypeVar, cast

from benchmarks.types import Timer

Key = TypeVar('Key')

WARM_UP = 3  # steps that do not count


def parser(module: str, description: str) -> argparse.ArgumentParser:
    """The ArgumentParser of a benchmark of training steps, with what all of them take: the network
    and its images.
    """
    made = argparse.ArgumentParser(
        prog='python -m ' + module, description=description.splitlines()[0]
    )
    made.add_argument('--model', default='resnet18', choices=['resnet18', 'resnet50'])
    made.add_argument('--image_size', type=int, default=128, help='pixels')
    made.add_argument('--batch', type=int, default=16, help='images a step')
    return made


def chosen(parser: argparse.ArgumentParser, text: str, names: Collection[str]) -> List[str]:
    """The names in a comma list; where one is not among `names`, the parser's error ends the
    process.
    """
    unknown = sorted(set(text.split(',')) - set(names))
    if unknown:
        parser.error(f'no such variant: {", ".join(unknown)}; there are {", ".join(names)}')
    return text.split(',')


def serve(timers: Mapping[str, Timer]) -> None:
    """A worker's side: for every name that comes in on standard input, do a step and answer with
    its seconds.

    timers: {name: function that does a step and returns its seconds}.
    """
    print(json.dumps(sorted(timers)), flush=True)
    for line in sys.stdin:
        print(json.dumps(timers[line.strip()]()), flush=True)


class Worker:
    """A process that serves steps; what it prints before it is ready goes to standard error."""

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
        """Let it do a step."""
        self._input.write(name + '\n')
        self._input.flush()
        return float(self._answer())

    def close(self) -> None:
        """End it."""
        self._input.close()
        self._process.wait()

    def _answer(self) -> str:
        line = self._output.readline()
        if not line:
            raise RuntimeError(f'{" ".join(self._command)} ended with code {self._process.wait()}')
        return line


def timed(act: Callable[[], object]) -> Timer:
    """A function that acts and returns how many seconds that took."""

    def seconds() -> float:
        started = time.perf_counter()
        act()
        return time.perf_counter() - started

    return seconds


def medians(timers: Mapping[Key, Timer], repeats: int) -> Dict[Key, float]:
    """{name: median seconds} of functions that do a step and return its seconds, called in
    turns.
    """
    times: Dict[Key, List[float]] = {name: [] for name in timers}
    for turn in range(WARM_UP + repeats):
        for name, seconds in timers.items():
            taken = seconds()
            if turn >= WARM_UP:
                times[name].append(taken)
    return {name: statistics.median(taken) for name, taken in times.items()}
