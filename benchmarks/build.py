"""Measures how fast TFRecords are built from a folder of JPEG files.

    python -m benchmarks.build [--images 2000] [--processes 2]

The result is the number of images per second and process, divided by the same number for a bare
loop that decodes the images on one core. The images are those of benchmarks.pipeline, one per file.
The time is that of the whole build, including the start of its processes.
"""

from training import runtime  # first: it prepares TensorFlow

import argparse
import io
import os
import statistics
import sys
import tempfile
import time
from typing import Iterable

from benchmarks import pipeline
from data import build_tfrecords


def write_folder(folder: str, jpegs: Iterable[bytes]) -> None:
    """Writes JPEG files into a folder for each class."""
    for index, jpeg in enumerate(jpegs):
        place = os.path.join(folder, f'class{index % 10}')
        os.makedirs(place, exist_ok=True)
        with open(os.path.join(place, f'{index}.jpg'), 'wb') as file:
            file.write(jpeg)


def build_seconds(folder: str, out: str, processes: int) -> float:
    """Returns the seconds that the command takes, without the start of Python and TensorFlow."""
    bar = io.StringIO()
    stderr, sys.stderr = sys.stderr, bar
    try:
        started = time.perf_counter()
        code = build_tfrecords.main(['folder', folder, out, f'--processes={processes}'])
        seconds = time.perf_counter() - started
    finally:
        sys.stderr = stderr
    if code:
        raise SystemExit(bar.getvalue())
    return seconds


def main() -> int:
    """Runs the command and returns its exit code."""
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks.build', description=__doc__.splitlines()[0]
    )
    parser.add_argument('--images', type=int, default=2000, help='number of JPEG files')
    parser.add_argument(
        '--processes', type=int, default=1, help='number of processes that read images'
    )
    parser.add_argument('--rounds', type=int, default=3, help='number of measurements')
    arguments = parser.parse_args()
    jpegs = pipeline.Pieces(arguments.images).jpegs
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        write_folder(os.path.join(folder, 'images'), jpegs)
        for turn in range(arguments.rounds):
            bare = pipeline.bare_loop(jpegs)
            built = build_seconds(
                os.path.join(folder, 'images'),
                os.path.join(folder, f'out{turn}'),
                arguments.processes,
            )
            ratios.append(bare / built / arguments.processes)
            print(f'bare loop {bare:.1f} s, build {built:.1f} s')
    print(
        f'{runtime.describe()}: {statistics.median(ratios):.2f} of the bare loop '
        f'({min(ratios):.2f} to {max(ratios):.2f}) per process, processes: {arguments.processes}'
    )
    return 0


if __name__ == '__main__':
    sys.exit(main())
