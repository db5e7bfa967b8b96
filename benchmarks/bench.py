"""Measures all speeds as ratios, on both versions of TensorFlow, and compares them to targets.

    make bench                              (all rows; about 30 minutes on two cores)
    make bench ARGS='--rows rules --models resnet18'

The two sides of each ratio are measured alternately in the same run. This program needs no packages
itself. It is given the interpreters of the environments to measure (the Makefile creates them).
"""

import argparse
import functools
import json
import os
import platform
import subprocess
import sys
from typing import Callable, Dict, List, Mapping, NamedTuple, Tuple

from benchmarks import turns
from benchmarks.types import Ratios
from config.root import ROOT

PAPER, MODERN, PEERS = 'TensorFlow 1.13.2', 'TensorFlow 2.x', 'PyTorch'
# The largest accepted time of a step, as a multiple of a step of backpropagation. The values for
# 1.13.2 are the ratios of the original code, and 1.60 for information.
MOST = {
    MODERN: {
        'feedback': 1.03,
        'kolen_pollack': 1.03,
        'symmetric': 1.06,
        'activation': 1.55,
        'information': 1.65,
        'mirror': 1.35,
        'mirror on noise': 1.60,
    },
    PAPER: {
        'symmetric': 1.06,
        'activation': 1.50,
        'information': 1.60,
        'mirror': 1.35,
        'mirror on noise': 1.55,
    },
}


class Row(NamedTuple):
    """A measured figure and its target."""

    figure: str
    value: float
    target: str
    reached: bool


class Table:
    """A table that prints each row as soon as it is added."""

    def __init__(self) -> None:
        self.rows: List[Row] = []

    def at_most(self, figure: str, value: float, target: float) -> None:
        """Adds a ratio that should not exceed the target."""
        self._add(Row(figure, value, f'at most {target:.2f}', value <= target))

    def at_least(self, figure: str, value: float, target: float) -> None:
        """Adds a ratio that should reach the target."""
        self._add(Row(figure, value, f'at least {target:.2f}', value >= target))

    def _add(self, row: Row) -> None:
        self.rows.append(row)
        reached = 'yes' if row.reached else 'NO'
        print(f'| {row.figure} | {row.value:.2f} | {row.target} | {reached} |', flush=True)


def workers(arguments: argparse.Namespace, model: str, peers: bool) -> Dict[str, turns.Worker]:
    """Starts a worker in each given environment and returns {runtime: Worker}."""
    interpreters = {
        PAPER: arguments.paper,
        MODERN: arguments.modern,
        PEERS: arguments.peers if peers else None,
    }
    started = {}
    for name, interpreter in interpreters.items():
        if interpreter:
            what = (
                ['-m', 'benchmarks.peers']
                if name == PEERS
                else ['-m', 'benchmarks.steps', '--serve', '--model=' + model]
            )
            # Waiting threads of PyTorch must not spin: that would slow down the other workers.
            started[name] = turns.Worker(
                [os.path.abspath(interpreter)] + what,
                dict(
                    os.environ, PYTHONPATH=ROOT, OMP_WAIT_POLICY='PASSIVE', CUDA_VISIBLE_DEVICES=''
                ),
            )
    return started


def rules(arguments: argparse.Namespace, table: Table) -> Dict[str, Ratios]:
    """Measures the steps of every rule, of plain layers, and of PyTorch and BioTorch."""
    seconds: Dict[str, Ratios] = {}
    for model in arguments.models.split(','):
        running = workers(arguments, model, peers=model == 'resnet18')
        timers = {
            (name, variant): functools.partial(worker.seconds, variant)
            for name, worker in running.items()
            for variant in worker.names
        }
        found = turns.medians(timers, arguments.repeats)
        for worker in running.values():
            worker.close()
        _rows_of_rules(table, model, found)
        seconds[model] = {
            f'{runtime}: {variant}': value for (runtime, variant), value in found.items()
        }
    return seconds


def _rows_of_rules(table: Table, model: str, found: Mapping[Tuple[str, str], float]) -> None:
    for runtime in (MODERN, PAPER):
        if (runtime, 'backprop') not in found:
            continue
        for rule, most in MOST[runtime].items():
            ratio = found[runtime, rule] / found[runtime, 'backprop']
            table.at_most(f'{runtime}, {model}: {rule} over backprop', ratio, most)
        plain = found[runtime, 'backprop'] / found[runtime, 'plain tf.nn']
        table.at_most(f'{runtime}, {model}: backprop over plain tf.nn', plain, 1.02)
    if {(MODERN, 'backprop'), (PAPER, 'backprop')} <= set(found):
        ours = [name for runtime, name in found if runtime == MODERN and name != 'plain tf.nn']
        for rule in ours:
            table.at_least(
                f'{model}: {rule}, 1.13.2 over 2.x', found[PAPER, rule] / found[MODERN, rule], 2.0
            )
    for rule, theirs in (('feedback', 'feedback'), ('usf', 'uSF')):
        if {(MODERN, rule), (PEERS, theirs)} <= set(found):
            ratio = found[PEERS, theirs] / found[MODERN, rule]
            table.at_least(f"{model}: BioTorch's {theirs} over ours (2.x)", ratio, 1.2)


def pipeline(arguments: argparse.Namespace, table: Table) -> Dict[str, Ratios]:
    """Measures the images per second of the input pipeline on one core, over a loop with Pillow."""
    found = _each(arguments, 'benchmarks.pipeline')
    for runtime, ratios in found.items():
        for split, ratio in ratios.items():
            table.at_least(
                f'{runtime}: {split} images through the pipeline over a bare loop of Pillow',
                ratio,
                0.85,
            )
    return found


def overhead(arguments: argparse.Namespace, table: Table) -> Dict[str, Ratios]:
    """Measures the training loop over the bare session, and steps with records over without."""
    found = _each(arguments, 'benchmarks.overhead', f'--port={arguments.port}')
    for runtime, ratios in found.items():
        step = f'(a step of {ratios["step_ms"]:.0f} ms)'
        table.at_most(f'{runtime}: the loop over the bare session.run {step}', ratios['loop'], 1.02)
        table.at_most(
            f'{runtime}: a record of every step in MongoDB over none', ratios['records'], 1.02
        )
    return found


def _each(arguments: argparse.Namespace, module: str, *words: str) -> Dict[str, Ratios]:
    """Runs a benchmark on each TensorFlow and returns {runtime: its JSON output}."""
    found: Dict[str, Ratios] = {}
    for name, interpreter in ((MODERN, arguments.modern), (PAPER, arguments.paper)):
        if interpreter:
            printed = subprocess.run(
                [interpreter, '-m', module, '--json'] + list(words),
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                check=True,
            ).stdout
            found[name] = json.loads(printed.splitlines()[-1])
    return found


ROWS: Dict[str, Callable[[argparse.Namespace, Table], Dict[str, Ratios]]] = {
    'rules': rules,
    'pipeline': pipeline,
    'overhead': overhead,
}


def main() -> int:
    """Runs the command and returns its exit code."""
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks.bench', description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        '--rows', default=','.join(ROWS), help='comma-separated list of: ' + ', '.join(ROWS)
    )
    parser.add_argument(
        '--models', default='resnet18,resnet50', help='comma-separated list of networks'
    )
    parser.add_argument(
        '--repeats', type=int, default=20, help='number of measured steps of each variant'
    )
    parser.add_argument('--modern', help='path of a Python interpreter with TensorFlow 2.x')
    parser.add_argument('--paper', help='path of a Python interpreter with TensorFlow 1.13.2')
    parser.add_argument('--peers', help='path of a Python interpreter with torch and biotorch')
    parser.add_argument('--port', type=int, default=29029, help='port of the MongoDB server')
    parser.add_argument('--json', help='also write the figures to this JSON file')
    arguments = parser.parse_args()
    table, seconds = Table(), {}
    print(f'{os.cpu_count()} processors ({platform.machine()}), 128 x 128, batch 16, float32\n')
    print('| figure | measured | target | reached |\n|---|---|---|---|')
    for name in arguments.rows.split(','):
        seconds[name] = ROWS[name](arguments, table)
    if arguments.json:
        with open(arguments.json, 'w') as file:
            rows = [row._asdict() for row in table.rows]
            json.dump(dict(rows=rows, seconds=seconds), file, indent=1)
    return 0


if __name__ == '__main__':
    sys.exit(main())
