"""Measures the overhead of the training loop and of records in MongoDB.

    python -m benchmarks.overhead [--port 29029]

It prints the time of a step in the training loop over the bare session.run, and the time with a
record of every step in MongoDB over the time without records. The network is a ResNet-18 on images
so small that a step takes about 50 ms.
"""

from training import runtime  # first: it prepares TensorFlow

import argparse
import json
import statistics
import sys
import tempfile
import time
from typing import Dict, List, Optional

import bson
import tensorflow.compat.v1 as tf

from benchmarks.types import Ratios, Timer
from config.schema import Config
from database import server
from database.store import Store
from training import devices, environment, jobs, loop, provenance
from training.choices import choices
from training.experiment import Experiment

SETTINGS = dict(
    model='resnet18',
    dataset='synthetic',
    image_size=32,
    train_batch_size=4,
    eval_batch_size=4,
    alignment='symmetric',
    optimizer='momentum',
    learning_rate=1e-4,
    train_epochs=1e6,
)
DBNAME = 'benchmark_overhead'


class Looped:
    """Does steps as the training loop does, and stores a record of each if it has a store."""

    def __init__(
        self, session: tf.Session, experiment: Experiment, store: Optional[Store], folder: str
    ) -> None:
        params = jobs.merged_params(
            experiment.config,
            experiment.settings(),
            provenance.describe(),
            environment.describe(experiment.device, experiment.dataset),
        )
        self._run = loop.Run(session, experiment, store, folder, params, lambda line: None)
        self._bar = self._run._progress(0)
        self._step, self._records = 0, store is not None

    def seconds(self) -> float:
        """Does a step and returns its seconds."""
        started = time.perf_counter()
        self._step = self._run._steps(self._step, self._bar)
        if self._records:
            self._run._record(self._step)
        return time.perf_counter() - started


def measure(port: int, repeats: int) -> Ratios:
    """Measures steps in turns and compares their medians.

    Returns:
        'step_ms': the milliseconds of a bare step; 'loop': the loop over the bare step; 'records':
        the loop with records over the loop without.
    """
    config = Config.of(SETTINGS, choices())
    experiment = Experiment(config, devices.choose(config, devices.claim(config)))
    server.ensure('localhost', port)
    store = Store('localhost', port, DBNAME, experiment.collection, str(bson.ObjectId()))
    with tempfile.TemporaryDirectory() as folder, loop.session(
        experiment, runtime.session_config()
    ) as session:
        training = experiment.training_step
        session.run(training.initializer)

        def bare() -> float:
            started = time.perf_counter()
            session.run([training.train_op, training.scalars])
            return time.perf_counter() - started

        timers: Dict[str, Timer] = {
            'bare': bare,
            'loop': Looped(session, experiment, None, folder).seconds,
            'records': Looped(session, experiment, store, folder).seconds,
        }
        times: Dict[str, List[float]] = {name: [] for name in timers}
        for turn in range(5 + repeats):
            for name, seconds in timers.items():
                times[name].append(seconds())
        store.close()
    step = {name: statistics.median(taken[5:]) for name, taken in times.items()}
    return {
        'step_ms': 1e3 * step['bare'],
        'loop': step['loop'] / step['bare'],
        'records': step['records'] / step['loop'],
    }


def main() -> int:
    """Runs the command and returns its exit code."""
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks.overhead', description=__doc__.splitlines()[0]
    )
    parser.add_argument('--port', type=int, default=29029, help='port of the MongoDB server')
    parser.add_argument('--repeats', type=int, default=150, help='number of measured steps')
    parser.add_argument('--json', action='store_true', help='print only the figures, as JSON')
    arguments = parser.parse_args()
    found = measure(arguments.port, arguments.repeats)
    if arguments.json:
        print(json.dumps(found))
        return 0
    print(f'{runtime.describe()}\nbare step: {found["step_ms"]:.1f} ms')
    print(f'loop: {found["loop"]:.3f}\nrecords: {found["records"]:.3f}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
