"""LeNet for small images, in the two forms of BioTorch's benchmarks (arXiv:2108.13446).

Each network has three convolutions, with a max pool after the first and the second, and two dense
layers. Convolutions do not pad, every layer has a bias, and a ReLU follows every layer but the last
one. W and B are initialised Glorot uniform, and the biases with 0.

The sizes of the first form are those of LeCun et al. 1998 (doi:10.1109/5.726791). The facts are
from BioTorch 0.0.16 (github.com/jsalbert/biotorch).
"""

import functools
from typing import NamedTuple, Tuple

import tensorflow.compat.v1 as tf

from models.layers import Layers
from models.network import Network, NetworkOptions


class Form(NamedTuple):
    """One form of the network.

    Attributes:
        size: The side of the kernels of the convolutions, in pixels.
        filters: The filters of the three convolutions.
        averages: Whether the last feature maps are averaged over their pixels rather than
            flattened.
        units: The units of the hidden dense layer.
        l2: The weight of the L2 loss of each forward kernel and bias, the weight decay of
            BioTorch's benchmarks.
        smallest: The smallest image of which the convolutions and pools leave a pixel.
    """

    size: int
    filters: Tuple[int, int, int]
    averages: bool
    units: int
    l2: float
    smallest: int


FORMS = {
    'lenet': Form(5, (6, 16, 120), averages=False, units=84, l2=1e-3, smallest=32),
    'lenet_cifar': Form(3, (32, 64, 128), averages=True, units=256, l2=1e-4, smallest=18),
}


def build(
    name: str, images: tf.Tensor, layers: Layers, classes: int, options: NetworkOptions
) -> tf.Tensor:
    """Returns the logits [batch, classes] for images, float32 [batch, height, width, channels]."""
    del options
    form = FORMS[name]
    dense = functools.partial(
        layers.dense, initializer=tf.glorot_uniform_initializer, l2=form.l2, l2_bias=form.l2
    )
    x = layers.arrange(images)
    for index, filters in enumerate(form.filters):
        if index:
            x = layers.max_pool(x, size=2, stride=2, padding='VALID')
        with tf.variable_scope(f'conv{index}'):
            x = layers.conv2d(
                x,
                filters,
                form.size,
                use_bias=True,
                activation='relu',
                padding='VALID',
                initializer=tf.glorot_uniform_initializer,
                l2=form.l2,
                l2_bias=form.l2,
            )
    x = layers.average(x) if form.averages else layers.flatten(x)
    with tf.variable_scope('dense0'):
        x = dense(x, form.units, activation='relu')
    with tf.variable_scope('dense_output'):
        return dense(x, classes)


def label(name: str, options: NetworkOptions) -> str:
    """Returns the name of the collection, which is the name of the network. See Network.label."""
    del options
    return name


NETWORKS = {
    name: Network(
        functools.partial(build, name),
        functools.partial(label, name),
        image_size=32,
        smallest_image=form.smallest,
    )
    for name, form in FORMS.items()
}
