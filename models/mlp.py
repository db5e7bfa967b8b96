"""The fully connected network: hidden layers with a non-linearity, then a linear layer."""

import tensorflow.compat.v1 as tf

from models.layers import Layers
from models.network import Network, NetworkOptions

L2 = 1e-6  # the weight of the L2 loss of each forward kernel


def build(images: tf.Tensor, layers: Layers, classes: int, options: NetworkOptions) -> tf.Tensor:
    """Returns the logits [batch, classes] for images, float32 [batch, ...], which are flattened."""
    x = tf.reshape(images, [-1, images.shape[1:].num_elements()])
    for index, units in enumerate(options.layers_list):
        with tf.variable_scope(f'dense{index}'):
            x = layers.dense(x, units, activation=options.activation, l2=L2)
    with tf.variable_scope('dense_output'):
        return layers.dense(x, classes, l2=L2)


def label(options: NetworkOptions) -> str:
    """Returns the name of the collection, such as 'fc_32-16'. See Network.label."""
    return (
        'fc_' + '-'.join(str(units) for units in options.layers_list)
        if options.layers_list
        else 'fc'
    )


NETWORKS = {'fc': Network(build, label, uses=frozenset(['layers_list', 'activation']))}
