"""Residual networks for small images (He et al. 2015, arXiv:1512.03385, section 4.2).

A 3x3 convolution and three groups of blocks with 16, 32 and 64 filters. Each block has two 3x3
convolutions with batch norm, and a ReLU after the sum. Where the filters double and the image
halves, the shortcut has no parameters (shortcut A of the paper): it takes every second pixel and
adds channels of zeros, half of them on each side, as in BioTorch 0.0.16
(github.com/jsalbert/biotorch). W and B are initialised Glorot uniform, also as there.
"""

import functools

import tensorflow.compat.v1 as tf

from models.layers import Layers
from models.network import Network, NetworkOptions

DEPTHS = (8, 14, 20, 32, 56)
FILTERS = (16, 32, 64)
L2 = 1e-4  # the weight of the L2 loss of each forward kernel and of the last bias


def build(
    depth: int, images: tf.Tensor, layers: Layers, classes: int, options: NetworkOptions
) -> tf.Tensor:
    """Returns the logits [batch, classes] for images, float32 [batch, height, width, channels]."""
    del options
    x = tf.nn.relu(_conv_norm('conv0', layers, layers.arrange(images), FILTERS[0], relu=True))
    for group, filters in enumerate(FILTERS, start=1):
        for index in range((depth - 2) // 6):
            with tf.variable_scope(f'block_group{group}_{index}'):
                x = _block(layers, x, filters, stride=2 if group > 1 and index == 0 else 1)
    with tf.variable_scope('dense'):
        return layers.dense(layers.average(x), classes, l2=L2, l2_bias=L2)


def _block(layers: Layers, x: tf.Tensor, filters: int, stride: int) -> tf.Tensor:
    shortcut = layers.widen(x, filters, stride) if stride > 1 else x
    x = tf.nn.relu(_conv_norm('conv1', layers, x, filters, stride, relu=True))
    return tf.nn.relu(_conv_norm('conv2', layers, x, filters) + shortcut)


def _conv_norm(
    scope: str, layers: Layers, x: tf.Tensor, filters: int, stride: int = 1, relu: bool = False
) -> tf.Tensor:
    with tf.variable_scope(scope):
        x = layers.conv2d(
            x,
            filters,
            size=3,
            stride=stride,
            followed_by='relu' if relu else None,
            initializer=tf.glorot_uniform_initializer,
            l2=L2,
        )
        return layers.batch_norm(x, momentum=0.9, epsilon=1e-5)


def label(depth: int, options: NetworkOptions) -> str:
    """Returns the name of the collection, such as 'resnet20'. See Network.label."""
    del options
    return f'resnet{depth}'


NETWORKS = {
    f'resnet{depth}': Network(
        functools.partial(build, depth),
        functools.partial(label, depth),
        uses=frozenset(['bn_trainable', 'sync_batch_norm']),
    )
    for depth in DEPTHS
}
