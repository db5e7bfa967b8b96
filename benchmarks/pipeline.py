"""Measures the speed of the input pipeline on one core, over a bare loop on the same JPEG files.

    python -m benchmarks.pipeline [--images 400]

The images are the photographs of scikit-image and scikit-learn, cut into pieces of ImageNet's mean
size, 500 x 375. The bare loop uses Pillow: it decodes a file, cuts out the central square of a
validation and resizes it, in this order. Pillow decodes the whole file with the accurate DCT, and
its bilinear filter uses every pixel of the square.
"""

from training import runtime  # first: it prepares TensorFlow

import argparse
import importlib.util
import io
import json
import os
import statistics
import sys
import tempfile
import time
from typing import Dict, List, Sequence

import numpy as np
import tensorflow.compat.v1 as tf
from PIL import Image

import data
from benchmarks.types import Ratios
from data import building, sources

PHOTOGRAPHS = (
    'skimage/data/astronaut.png',
    'skimage/data/chelsea.png',
    'skimage/data/coffee.png',
    'skimage/data/hubble_deep_field.jpg',
    'skimage/data/rocket.jpg',
    'skimage/data/retina.jpg',
    'sklearn/datasets/images/china.jpg',
    'sklearn/datasets/images/flower.jpg',
)
WIDTH, HEIGHT, QUALITY = 500, 375, 90
SIZE = 224
BATCH, WARM_UP = 20, 3


class Pieces(sources.Source):
    """A source of TFRecords: pieces of the photographs, each cut at a random position.

    Args:
        count: The number of images.
    """

    label_names = ['a', 'b']

    def __init__(self, count: int) -> None:
        random = np.random.RandomState(0)
        self.jpegs = [
            self._piece(random, PHOTOGRAPHS[index % len(PHOTOGRAPHS)]) for index in range(count)
        ]
        self.splits = {
            split: [(index, index % 2) for index in range(count)]
            for split in ('train', 'validation')
        }

    def jpeg(self, item: int) -> sources.Jpeg:
        """Returns (JPEG bytes, None)."""
        return self.jpegs[item], None

    @staticmethod
    def _piece(random: np.random.RandomState, photograph: str) -> bytes:
        package, _, inside = photograph.partition('/')
        spec = importlib.util.find_spec(package)
        if spec is None:
            raise SystemExit(f'error: {package}, which contains the photographs, is not installed')
        path = os.path.join(os.path.dirname(str(spec.origin)), inside)
        with Image.open(path) as file:
            image = file.convert('RGB').resize((2 * WIDTH, 2 * HEIGHT))
        left, top = random.randint(WIDTH), random.randint(HEIGHT)
        buffer = io.BytesIO()
        image.crop((left, top, left + WIDTH, top + HEIGHT)).save(buffer, 'JPEG', quality=QUALITY)
        return buffer.getvalue()


def bare_loop(jpegs: Sequence[bytes]) -> float:
    """Returns the seconds that Pillow needs to convert each JPEG to the array of its validation."""
    side = HEIGHT * SIZE // 256
    left, top = (WIDTH - side) // 2, (HEIGHT - side) // 2
    started = time.perf_counter()
    for jpeg in jpegs:
        with Image.open(io.BytesIO(jpeg)) as image:
            square = image.convert('RGB').crop((left, top, left + side, top + side))
        np.asarray(square.resize((SIZE, SIZE), Image.Resampling.BILINEAR))
    return time.perf_counter() - started


class Pipeline:
    """Reads the batches of a dataset in sessions with one thread."""

    def __init__(self, batches: tf.data.Dataset) -> None:
        self._next = tf.data.make_one_shot_iterator(batches).get_next()

    def seconds(self, count: int) -> float:
        """Returns the seconds that `count` batches take, after WARM_UP others."""
        # A separate session for each call, so that nothing is prefetched between measurements.
        with tf.Session(
            config=tf.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
        ) as session:
            for _ in range(WARM_UP):
                session.run(self._next)
            started = time.perf_counter()
            for _ in range(count):
                session.run(self._next)
            return time.perf_counter() - started


def measure(count: int, rounds: int) -> Ratios:
    """Measures the pipeline and the bare loop in turns.

    Args:
        count: The number of images.
        rounds: The number of rounds.

    Returns:
        {'training' and 'validation': images per second of the pipeline over the bare loop}, medians
        over the rounds.
    """
    source = Pieces(count)
    with tempfile.TemporaryDirectory() as folder, tf.Graph().as_default():
        out = os.path.join(folder, 'tfrecords')
        building.build(source, out, shards=4)
        dataset = data.load('imagenet', out)
        pipelines = {
            'training': Pipeline(dataset.train(BATCH, seed=0)),
            'validation': Pipeline(dataset.validation(BATCH).repeat()),
        }
        ratios: Dict[str, List[float]] = {name: [] for name in pipelines}
        for _ in range(rounds):
            bare = bare_loop(source.jpegs)
            for name, pipeline in pipelines.items():
                ratios[name].append(bare / pipeline.seconds(count // BATCH))
    return {name: statistics.median(found) for name, found in ratios.items()}


def main() -> int:
    """Runs the command and returns its exit code."""
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks.pipeline', description=__doc__.splitlines()[0]
    )
    parser.add_argument('--images', type=int, default=400, help='number of images per measurement')
    parser.add_argument('--rounds', type=int, default=5, help='number of measurements')
    parser.add_argument('--json', action='store_true', help='print only the figures, as JSON')
    arguments = parser.parse_args()
    if hasattr(os, 'sched_setaffinity'):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    found = measure(arguments.images, arguments.rounds)
    print(
        json.dumps(found)
        if arguments.json
        else '\n'.join(
            [runtime.describe()] + [f'{name}: {ratio:.2f}' for name, ratio in found.items()]
        )
    )
    return 0


if __name__ == '__main__':
    sys.exit(main())
