"""Residual networks for any image size, v1 (arXiv:1512.03385) and v2 (arXiv:1603.05027).

Version 1 is post-activation and version 2 is pre-activation. Both share the stem, the four groups
of blocks and the head. They differ in the position of batch norm, in the initial kernel of the last
layer, and in the names of their scopes, which are the names in the original code's checkpoints.
"""

import functools
from typing import List, NamedTuple, Optional, Sequence, Tuple, Union

import tensorflow.compat.v1 as tf

from models.layers import Layers
from models.network import Network, NetworkOptions

L2 = 1e-4  # the weight of the L2 loss of each forward kernel and of the last bias
FILTERS = (64, 128, 256, 512)


class Depth(NamedTuple):
    """The blocks of a ResNet of one depth.

    Attributes:
        blocks: The number of blocks in each of the four groups.
        bottleneck: Whether a block is 1x1, 3x3, 1x1 with 4 times the filters at its end, rather
            than 3x3, 3x3.
    """

    blocks: Tuple[int, int, int, int]
    bottleneck: bool


DEPTHS = {
    18: Depth((2, 2, 2, 2), False),
    34: Depth((3, 4, 6, 3), False),
    50: Depth((3, 4, 6, 3), True),
    101: Depth((3, 4, 23, 3), True),
    152: Depth((3, 8, 36, 3), True),
    200: Depth((3, 24, 36, 3), True),
}


class Conv(NamedTuple):
    """One convolution of a block: its number of filters, its size and its stride in pixels."""

    filters: int
    size: int
    stride: int


class V1:
    """Version 1: convolution, batch norm, ReLU, and a ReLU after the sum."""

    group = 'block_group{}'
    final_initializer = staticmethod(functools.partial(tf.random_normal_initializer, stddev=0.01))

    def __init__(self, layers: Layers) -> None:
        self.layers = layers

    def stem(self, x: tf.Tensor) -> tf.Tensor:
        """Returns the output of the first convolution, batch norm and ReLU."""
        return tf.nn.relu(self._conv_norm('conv0', x, Conv(64, 7, 2), relu=True))

    def block(self, x: tf.Tensor, shortcut: Optional[Conv], convs: Sequence[Conv]) -> tf.Tensor:
        """Returns the output of one block.

        Args:
            x: [batch, height, width, channels].
            shortcut: The convolution of a projection shortcut, or None for the identity.
            convs: The convolutions of the residual branch.
        """
        residual = self._conv_norm('conv0', x, shortcut) if shortcut else x
        for index, conv in enumerate(convs[:-1], start=1):
            x = tf.nn.relu(self._conv_norm(f'conv{index}', x, conv, relu=True))
        x = self._conv_norm(f'conv{len(convs)}', x, convs[-1], zero_gamma=True)
        return tf.nn.relu(x + residual)

    def head(self, x: tf.Tensor) -> tf.Tensor:
        """Returns x: the last block ends with a ReLU."""
        return x

    def _conv_norm(
        self, scope: str, x: tf.Tensor, conv: Conv, relu: bool = False, zero_gamma: bool = False
    ) -> tf.Tensor:
        with tf.variable_scope(scope):
            x = self.layers.conv2d(
                x, conv.filters, conv.size, conv.stride, followed_by='relu' if relu else None, l2=L2
            )
            return self.layers.batch_norm(x, momentum=0.9, epsilon=1e-5, zero_gamma=zero_gamma)


class V2:
    """Version 2: batch norm, ReLU, convolution.

    A projection shortcut starts from the output of the block's first batch norm and ReLU.
    """

    group = 'block_layer{}'
    final_initializer = staticmethod(tf.glorot_uniform_initializer)

    def __init__(self, layers: Layers) -> None:
        self.layers = layers

    def stem(self, x: tf.Tensor) -> tf.Tensor:
        """Returns the output of the first convolution."""
        return self._conv('conv0', x, Conv(64, 7, 2))

    def block(self, x: tf.Tensor, shortcut: Optional[Conv], convs: Sequence[Conv]) -> tf.Tensor:
        """Returns the output of one block. See V1.block."""
        residual = x
        x = self._norm_relu('bn0', x)
        if shortcut:
            residual = self._conv('conv0', x, shortcut)
        for index, conv in enumerate(convs[:-1], start=1):
            scope = f'conv{index}'
            x = self._norm_relu(scope, self._conv(scope, x, conv, relu=True))
        return self._conv(f'conv{len(convs)}', x, convs[-1]) + residual

    def head(self, x: tf.Tensor) -> tf.Tensor:
        """Returns x after the final batch norm and ReLU."""
        return self._norm_relu('bnl4', x)

    def _conv(self, scope: str, x: tf.Tensor, conv: Conv, relu: bool = False) -> tf.Tensor:
        with tf.variable_scope(scope):
            return self.layers.conv2d(
                x, conv.filters, conv.size, conv.stride, followed_by='relu' if relu else None, l2=L2
            )

    def _norm_relu(self, scope: str, x: tf.Tensor) -> tf.Tensor:
        with tf.variable_scope(scope):
            return tf.nn.relu(self.layers.batch_norm(x, momentum=0.997, epsilon=1e-5))


def build(
    depth: int, images: tf.Tensor, layers: Layers, classes: int, options: NetworkOptions
) -> tf.Tensor:
    """Returns the logits [batch, classes] for images, float32 [batch, height, width, channels]."""
    version: Union[V1, V2] = V2(layers) if options.use_resnet_v2 else V1(layers)
    x = layers.max_pool(version.stem(layers.arrange(images)), size=3, stride=2)
    for group, (filters, blocks) in enumerate(zip(FILTERS, DEPTHS[depth].blocks), start=1):
        for index in range(blocks):
            with tf.variable_scope((version.group + '_{}').format(group, index)):
                x = version.block(
                    x, *_block(filters, DEPTHS[depth].bottleneck, group, first=index == 0)
                )
    x = layers.average(version.head(x))
    with tf.variable_scope('dense'):
        return layers.dense(x, classes, initializer=version.final_initializer, l2=L2, l2_bias=L2)


def _block(
    filters: int, bottleneck: bool, group: int, first: bool
) -> Tuple[Optional[Conv], List[Conv]]:
    """Returns (shortcut, convs) of a block.

    The first block of a group has a projection shortcut and, from group 2 on, halves the image
    size.
    """
    stride = 2 if first and group > 1 else 1
    if bottleneck:
        convs = [Conv(filters, 1, 1), Conv(filters, 3, stride), Conv(4 * filters, 1, 1)]
    else:
        convs = [Conv(filters, 3, stride), Conv(filters, 3, 1)]
    return (Conv(convs[-1].filters, 1, stride) if first else None), convs


def label(depth: int, options: NetworkOptions) -> str:
    """Returns the name of the collection, such as 'resnet50v2'. See Network.label."""
    return f'resnet{depth}{"v2" if options.use_resnet_v2 else ""}'


NETWORKS = {
    f'resnet{depth}': Network(
        functools.partial(build, depth),
        functools.partial(label, depth),
        uses=frozenset(['use_resnet_v2', 'bn_trainable', 'sync_batch_norm']),
    )
    for depth in DEPTHS
}
