"""Compares one convolution with W and B side by side to two convolutions of the same images.

    python -m benchmarks.side_by_side

It prints the time of the one convolution over the time of the two, and the same for their filter
gradients, for the kinds of layer of a ResNet-18 on images of 128 x 128. The time includes joining
the kernels and splitting the results. If a ratio is above 1, sharing does not pay off.
"""

from training import runtime  # first: it prepares TensorFlow

import statistics
import sys
import time
from typing import Dict, List, NamedTuple, Sequence, Tuple

import numpy as np
import tensorflow.compat.v1 as tf

from alignment.gradients import Convolution

BATCH, REPEATS = 16, 15


class Layer(NamedTuple):
    """The sizes of a convolution.

    Attributes:
        pixels: The height and width of its input.
        kernel: The height and width of its kernel.
        channels: The number of input channels.
        filters: The number of output channels.
        stride: The stride in both directions.
    """

    pixels: int
    kernel: int
    channels: int
    filters: int
    stride: int


LAYERS = (
    Layer(32, 3, 64, 64, 1),
    Layer(32, 3, 64, 128, 2),
    Layer(16, 3, 128, 128, 1),
    Layer(8, 3, 256, 256, 1),
    Layer(4, 3, 512, 512, 1),
    Layer(32, 1, 64, 128, 2),
)
Made = Tuple[Sequence[tf.Tensor], Sequence[tf.Tensor]]  # projections, and filter gradients


def apart(
    linear: Convolution,
    x: tf.Tensor,
    kernels: Sequence[tf.Tensor],
    signals: Sequence[tf.Tensor],
) -> Made:
    """Returns ([xK for each kernel], [filter gradient for each signal]), computed separately."""
    return [linear.project(x, K) for K in kernels], [
        linear.kernel_gradient(x, y, K) for K, y in zip(kernels, signals)
    ]


def together(
    linear: Convolution,
    x: tf.Tensor,
    kernels: Sequence[tf.Tensor],
    signals: Sequence[tf.Tensor],
) -> Made:
    """Returns the same as `apart`, with one operation for the projections and one for gradients."""
    joined = tf.concat(kernels, axis=3)
    return (
        tf.split(linear.project(x, joined), 2, axis=3),
        tf.split(linear.kernel_gradient(x, tf.concat(signals, axis=3), joined), 2, axis=3),
    )


def ratios(layer: Layer) -> List[float]:
    """Returns the time together over the time apart, as medians over measurements in turns.

    Returns:
        [ratio for the forward convolution, ratio for the filter gradient].
    """
    random = np.random.RandomState(0)
    pixels, size, channels, filters, stride = layer

    def variable(*shape: int) -> tf.Variable:
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
        times: Dict[tf.Operation, List[float]] = {op: [] for way in done for op in way}
        for _ in range(3 + REPEATS):
            for operation in times:
                started = time.perf_counter()
                session.run(operation)
                times[operation].append(time.perf_counter() - started)
    medians = [[statistics.median(times[operation][3:]) for operation in way] for way in done]
    return [one / two for two, one in zip(*medians)]


def main() -> int:
    """Runs the command and returns its exit code."""
    print(runtime.describe())
    print('pixels  kernel  channels  filters  stride  forward  filter gradient')
    for layer in LAYERS:
        forward, gradient = ratios(layer)
        print(
            f'{layer.pixels:6}  {layer.kernel:6}  {layer.channels:8}  {layer.filters:7}  '
            f'{layer.stride:6}  {forward:7.2f}  {gradient:15.2f}'
        )
    return 0


if __name__ == '__main__':
    sys.exit(main())
