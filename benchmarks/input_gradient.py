"""Compares two ways to compute the input gradient of a convolution with few output positions.

    python -m benchmarks.input_gradient

It prints the time of TensorFlow's own operation over the time of a plain convolution, for the deep
layers of a ResNet on small images. training.runtime.FEW_POSITIONS was chosen from these figures.
"""

from training import runtime  # first: it prepares TensorFlow

import statistics
import sys
import time

import numpy as np
import tensorflow.compat.v1 as tf

from alignment.gradients import Convolution

BATCH, CHANNELS, REPEATS = 50, 256, 15


def seconds(size: int, few_positions: int) -> float:
    """Returns the median seconds of the input gradient of a 3x3 convolution.

    Args:
        size: The height and width of the images in pixels.
        few_positions: See Convolution.
    """
    with tf.Graph().as_default(), tf.Session(config=runtime.session_config()) as session:
        y = tf.Variable(
            np.random.RandomState(0)
            .standard_normal((BATCH, size, size, CHANNELS))
            .astype(np.float32)
        )
        kernel = tf.Variable(
            np.random.RandomState(1).standard_normal((3, 3, CHANNELS, CHANNELS)).astype(np.float32)
        )
        linear = Convolution((1, 1), 'SAME', few_positions=few_positions)
        dx = linear.reconstruct(y, kernel, tf.identity(y)).op
        session.run(tf.global_variables_initializer())
        times = []
        for _ in range(3 + REPEATS):
            started = time.perf_counter()
            session.run(dx)
            times.append(time.perf_counter() - started)
    return statistics.median(times[3:])


def main() -> int:
    """Runs the command and returns its exit code."""
    print(runtime.describe())
    for size in (1, 2, 4, 7, 14):
        print(f'{size}x{size} positions: {seconds(size, 0) / seconds(size, 10**6):.2f}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
