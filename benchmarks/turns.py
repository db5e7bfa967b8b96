"""Steps taken in turns by several processes: one process steps while all others wait, so that the
ratio of their times holds whatever else the machine does."""

import argparse
import json
import statistics
import subprocess
import sys
import time

WARM_UP = 3  # steps that do not count


def parser(module, description):
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


def chosen(parser, text, names):
    """The names in a comma list; where one is not among `names`, the parser's error ends the
    process.
    """
    unknown = sorted(set(text.split(',')) - set(names))
    if unknown:
        parser.error(
            'no such variant: {}; there are {}'.format(', '.join(unknown), ', '.join(names))
        )
    return text.split(',')


def serve(timers):
    """A worker's side: for every name that comes in on standard input, do a step and answer with
    its seconds.

    timers: {name: function that does a step and returns its seconds}.
    """
    print(json.dumps(sorted(timers)), flush=True)
    for line in sys.stdin:
        print(json.dumps(timers[line.strip()]()), flush=True)


class Worker:
    """A process that serves steps; what it prints before it is ready goes to standard error."""

    def __init__(self, command, environment):
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            universal_newlines=True,
            env=environment,
        )
        self.names = self._answer()

    def seconds(self, name):
        """Let it do a step."""
        self._process.stdin.write(name + '\n')
        self._process.stdin.flush()
        return self._answer()

    def close(self):
        """End it."""
        self._process.stdin.close()
        self._process.wait()

    def _answer(self):
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(
                '{} ended with code {}'.format(' '.join(self._process.args), self._process.wait())
            )
        return json.loads(line)


def timed(act):
    """A function that acts and returns how many seconds that took."""

    def seconds():
        started = time.perf_counter()
        act()
        return time.perf_counter() - started

    return seconds


def medians(timers, repeats):
    """{name: median seconds} of functions that do a step and return its seconds, called in turns."""
    times = {name: [] for name in timers}
    for turn in range(WARM_UP + repeats):
        for name, seconds in timers.items():
            taken = seconds()
            if turn >= WARM_UP:
                times[name].append(taken)
    return {name: statistics.median(taken) for name, taken in times.items()}
