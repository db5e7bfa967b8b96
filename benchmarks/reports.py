"""The time of report.py on a database of many runs.

    python -m benchmarks.reports
    python -m benchmarks.reports --runs=200 --records=50 --steps=20

It fills a database on a private mongod, which it removes afterwards: runs of ResNet-18 that differ
in rule and seed, with the results of 22 layers in each tenth record and results by class in the
last one of these. It then prints the seconds of whole commands, from start to exit, and of the
aggregations of `reports/stored.py` alone, and the ratio to these.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence

import bson

from config.root import ROOT
from database import connection, records, server
from database.bucket import Bucket
from database.place import OWNERS
from database.types import Document
from reports import stored

DBNAME, COLLECTION = 'benchmark', 'resnet18'
RULES = ('symmetric', 'mirror', 'feedback', 'kolen_pollack', None)
LAYERS = tuple(f'layer{number}' for number in range(22))
BY_LAYER = (
    *('weight_angles', 'projection_angles', 'gradient_angles', 'hebb_angle'),
    *('weightsq_norm', 'weightsq_mean', 'actsq_norm', 'actsq_mean'),
)
THUMBNAIL = b'\xff\xd8\xff' + bytes(2500)  # what a report takes for a small JPEG
VALIDATED = 10  # each of how many records has a validation


class Size(NamedTuple):
    """The size of a database: runs, records per run and steps per record."""

    runs: int
    records: int
    steps: int


def params(number: int, size: Size) -> Document:
    """Returns the params of a run. They have about as many settings as real ones."""
    rule = RULES[number % len(RULES)]
    return {
        'model_params': {
            'alignment': rule,
            'model': 'resnet18',
            'image_shape': [224, 224, 3],
            **{f'setting{i}': 0.25 * i for i in range(50)},
        },
        'train_params': {
            'dataset': 'imagenet',
            'num_steps': size.records * size.steps,
            'train_batch_size': 256,
            'seed': number // len(RULES),
            **{f'option{i}': str(i) for i in range(50)},
        },
        'digests': {'meaning': str(rule), 'settings': str(rule)},
        'provenance': {'runtime': 'TensorFlow', 'commit': 'abc', 'uncommitted': False},
    }


def fill(bucket: Bucket, size: Size) -> None:
    """Inserts the records of all runs."""
    names = ('loss', 'model_loss', 'reg_loss', 'alignment_loss', 'total_loss', 'learning_rate')
    for number in range(size.runs):
        steps = [{name: 0.5 + 0.001 * i for name in names} for i in range(size.steps)]
        documents = []
        for index in range(1, size.records + 1):
            by_layer = {layer: 90.0 / index + i for i, layer in enumerate(LAYERS)}
            results = {name: by_layer for name in BY_LAYER}
            record = records.build(
                f'{RULES[number % len(RULES)]}_seed{number // len(RULES)}',
                index * size.steps,
                {},
                0.25,
                saved_filters=False,
                validation_results={
                    'topn_val': dict(results, top1=0.7 + 0.001 * number / size.runs, top5=0.9)
                }
                if index % VALIDATED == 0
                else None,
            )
            documents.append(dict(record, params=params(number, size), train_results=steps))
        validated = [document for document in documents if 'validation_results' in document]
        if validated:
            validated[-1]['validation_results']['topn_val'].update(by_class(number))
        bucket.insert(documents[0])  # it makes the indexes, too
        bucket.files.insert_many(documents[1:])
    exp_ids = bucket.files.distinct('exp_id')
    owners = [dict(_id=exp_id, life=bson.ObjectId(), number=1) for exp_id in exp_ids]
    bucket.files.database[COLLECTION + OWNERS].insert_many(owners)


def by_class(number: int) -> Document:
    """Returns results by class of 1,000 classes, as the last validation of a run records them."""
    places = range(1000)
    return dict(
        per_class=[
            dict(label=place, name=f'name of class {place}', images=50, top1=0.001 * place)
            for place in places
        ],
        confusion=dict(
            largest=[
                dict(label=place, answer=(place + number + 1) % 1000, images=9) for place in places
            ]
        ),
        mistakes=[
            dict(number=i, label=i, answer=i + 1, probability=0.9, image=THUMBNAIL)
            for i in range(16)
        ],
    )


class Timed(NamedTuple):
    """A measured time.

    Attributes:
        name: What was measured.
        seconds: Its time.
        cpu: The processor time of this process and of its children, without that of MongoDB. On a
            machine with other work, it says more than the time.
    """

    name: str
    seconds: float
    cpu: float


def fastest(name: str, call: Callable[[], object], times: int) -> Timed:
    """Returns the shortest of several times of a call."""
    found = []
    for _ in range(times):
        started, cpu = time.perf_counter(), _cpu()
        call()
        found.append(Timed(name, time.perf_counter() - started, _cpu() - cpu))
    return min(found, key=lambda timed: timed.seconds)


def _cpu() -> float:
    return sum(os.times()[:4])


@contextlib.contextmanager
def private_server(folder: str, port: int) -> Iterator[None]:
    """Context manager: runs a private mongod with its data in a folder."""
    server.ensure('localhost', port, folder)
    try:
        yield
    finally:
        server.stop(port, folder)


def measure(bucket: Bucket, port: int, folder: str, times: int) -> List[Timed]:
    """Returns the times of the aggregations and of the commands."""
    report = [sys.executable, 'report.py', f'--port={port}', f'--dbname={DBNAME}']
    report.append(f'--cache_dir={folder}')
    file = os.path.join(folder, 'runs.csv')
    commands: Dict[str, List[str]] = {
        'report.py --help': [sys.executable, 'report.py', '--help'],
        'report.py': report,
        'report.py --csv': [*report, f'--csv={file}'],
        'report.py --group=seed --csv': [*report, '--group=seed', f'--csv={file}'],
        'report.py --compare': [*report, '--compare=symmetric,mirror'],
        'report.py --html': [*report, f'--html={file}.html'],
    }

    def run(words: Sequence[str]) -> Callable[[], object]:
        return lambda: subprocess.run(
            words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False
        )

    timed = [fastest('the aggregations alone', lambda: stored.heads(bucket.files), times)]
    return timed + [fastest(name, run(words), times) for name, words in commands.items()]


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Runs the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').partition('\n')[0])
    for name, default, text in (
        ('runs', 1000, 'number of runs'),
        ('records', 100, 'records of each run'),
        ('steps', 100, 'steps of each record'),
        ('times', 3, 'how often each time is measured; the shortest counts'),
        ('port', 29777, 'port of the private mongod'),
    ):
        parser.add_argument('--' + name, type=int, default=default, help=f'{text} ({default})')
    args = parser.parse_args(argv)
    size = Size(args.runs, args.records, args.steps)
    with tempfile.TemporaryDirectory() as folder, private_server(folder, args.port):
        database = connection.connect('localhost', args.port)[DBNAME]
        bucket = Bucket(database, COLLECTION)
        started = time.perf_counter()
        fill(bucket, size)
        data = database.command('collstats', bucket.files.name)
        print(
            f'{size.runs:,} runs of {size.records:,} records of {size.steps:,} steps: '
            f'{data["size"] / 1e6:,.0f} MB, filled in {time.perf_counter() - started:.0f} s'
        )
        timed = measure(bucket, args.port, folder, args.times)
        for name, seconds, cpu in timed:
            ratio = seconds / timed[0].seconds
            print(f'{seconds:8.2f} s  {ratio:6.1f} x  {cpu:6.2f} s of CPU  {name}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
