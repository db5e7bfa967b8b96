"""Two convolutions of the same images, with W and with B, against one with both kernels side by
side; and their filter gradients.

    python -m benchmarks.side_by_side

Prints the time of the one over that of the two, the kernels' joining and the results' parting
included, for the kinds of layer
of a ResNet-18 on images of 128 x 128. Above 1: it does not pay to share.
"""

from training import runtime  # first: it prepares TensorFlow

import statistics
import sys
import time

import numpy as np
import tensorflow.compat.v1 as tf

from alignment.gradients import Convolution

BATCH, REPEATS = 16, 15
LAYERS = [  # pixels, size of the kernel, channels, filters, stride
    (32, 3, 64, 64, 1),
    (32, 3, 64, 128, 2),
    (16, 3, 128, 128, 1),
    (8, 3, 256, 256, 1),
    (4, 3, 512, 512, 1),
    (32, 1, 64, 128, 2),
]


def apart(linear, x, kernels, signals):
    """([x K of each kernel], [the filter gradient of each signal])."""
    return [linear.project(x, K) for K in kernels], [
        linear.kernel_gradient(x, y, K) for K, y in zip(kernels, signals)
    ]


def together(linear, x, kernels, signals):
    """The same by one operation each."""
    joined = tf.concat(kernels, axis=3)
    return (
        tf.split(linear.project(x, joined), 2, axis=3),
        tf.split(linear.kernel_gradient(x, tf.concat(signals, axis=3), joined), 2, axis=3),
    )


def ratios(pixels, size, channels, filters, stride):
    """(of the forward convolution, of the filter gradient): time together over time apart, medians
    of turns.
    """
    random = np.random.RandomState(0)

    def variable(*shape):
        return tf.Variable(random.standard_normal(shape).astype(np.float32))

    with tf.Graph().as_default(), tf.Session(config=runtime.session_config()) as session:
        linear, out = Convolution((stride, stride), 'SAME'), -(-pixels // stride)
        arguments = (
            linear,
            tf.identity(variable(BATCH, pixels, pixels, channels)),
            [tf.identity(variable(size, size, channels, filters)) for _ in range(2)],
            [tf.identity(variable(BATCH, out, out, filters)) for _ in range(2)],
        )
        done = [[tf.group(*tensors) for tensors in way(*arguments)] for way in (apart, together)]
        session.run(tf.global_variables_initializer())
        times = {operation: [] for way in done for operation in way}
        for _ in range(3 + REPEATS):
            for operation in times:
                started = time.perf_counter()
                session.run(operation)
                times[operation].append(time.perf_counter() - started)
    medians = [[statistics.median(times[operation][3:]) for operation in way] for way in done]
    return [one / two for two, one in zip(*medians)]


def main():
    print(runtime.describe())
    print('pixels  kernel  channels  filters  stride  forward  filter gradient')
    for layer in LAYERS:
        print(
            '{:6}  {:6}  {:8}  {:7}  {:6}  {:7.2f}  {:15.2f}'.format(
                *(list(layer) + ratios(*layer))
            )
        )
    return 0


if __name__ == '__main__':
    sys.exit(main())
