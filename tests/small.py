"""A small network that has all parts of a ResNet. Its graph is built many times faster."""

import tensorflow.compat.v1 as tf


def build(images, layers, classes, options):
    """Returns the logits of two convolutions with batch norm and a dense layer.

    The signature is that of `build` in an entry of models.NETWORKS.
    """
    del options
    x = layers.arrange(images)
    for scope, stride in (('first', 2), ('second', 1)):
        with tf.variable_scope(scope):
            x = layers.conv2d(x, 6, size=3, stride=stride, followed_by='relu', l2=1e-2)
            x = tf.nn.relu(layers.batch_norm(x, momentum=0.9, epsilon=1e-5))
        x = layers.max_pool(x, size=3, stride=2)
    with tf.variable_scope('last'):
        return layers.dense(layers.average(x), classes, l2=1e-2, l2_bias=1e-2)
