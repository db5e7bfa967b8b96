"""A ResNet v1 in plain tf.nn, without this program: the baseline cost of backpropagation.

It has the same network, losses and optimiser as --model=resnet18 or resnet50 with
--optimizer=momentum, written as usual without rules, records or schedules.
"""

from training import runtime  # first: it prepares TensorFlow

import time

import numpy as np
import tensorflow.compat.v1 as tf

BLOCKS = {'resnet18': ((2, 2, 2, 2), False), 'resnet50': ((3, 4, 6, 3), True)}
CLASSES = 1000


def conv_norm(
    x: tf.Tensor,
    filters: int,
    size: int,
    stride: int = 1,
    relu: bool = True,
    gamma: float = 1.0,
) -> tf.Tensor:
    """Applies a convolution, batch norm and, if `relu`, a ReLU to NHWC images.

    Args:
        x: float32 [batch, height, width, channels].
        filters: The number of output channels.
        size: The height and width of the kernel.
        stride: The stride in both directions.
        relu: Whether to apply the ReLU.
        gamma: The initial scale of batch norm.
    """
    if stride > 1 and size > 1:
        before = (size - 1) // 2
        x = tf.pad(x, [[0, 0], [before, size - 1 - before], [before, size - 1 - before], [0, 0]])
    with tf.variable_scope(None, default_name='conv'):
        kernel = tf.get_variable(
            'kernel',
            [size, size, x.shape[-1], filters],
            initializer=tf.variance_scaling_initializer(),
        )
        scale = tf.get_variable('gamma', [filters], initializer=tf.constant_initializer(gamma))
        offset = tf.get_variable('beta', [filters], initializer=tf.zeros_initializer())
        moving = [
            tf.get_variable(name, [filters], initializer=initial(), trainable=False)
            for name, initial in (('mean', tf.zeros_initializer), ('variance', tf.ones_initializer))
        ]
    y = tf.nn.conv2d(x, kernel, [1, stride, stride, 1], 'VALID' if stride > 1 else 'SAME')
    y, mean, variance = tf.nn.fused_batch_norm(y, scale, offset, epsilon=1e-5, is_training=True)
    for variable, value in zip(moving, (mean, variance)):
        tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, variable.assign_sub(0.1 * (variable - value)))
    tf.add_to_collection(tf.GraphKeys.REGULARIZATION_LOSSES, 1e-4 * tf.nn.l2_loss(kernel))
    return tf.nn.relu(y) if relu else y


def logits_of(images: tf.Tensor, model: str) -> tf.Tensor:
    """Returns the logits of a model, float32 [batch, CLASSES].

    Args:
        images: float32 [batch, height, width, 3].
        model: A key of BLOCKS.
    """
    counts, bottleneck = BLOCKS[model]
    x = tf.nn.max_pool(conv_norm(images, 64, 7, 2), [1, 3, 3, 1], [1, 2, 2, 1], 'SAME')
    for group, count in enumerate(counts):
        filters = 64 * 2**group
        for index in range(count):
            stride, widened = (
                2 if group and not index else 1,
                4 * filters if bottleneck else filters,
            )
            shortcut = conv_norm(x, widened, 1, stride, relu=False) if not index else x
            if bottleneck:
                x = conv_norm(conv_norm(x, filters, 1), filters, 3, stride)
                x = conv_norm(x, widened, 1, relu=False, gamma=0.0)
            else:
                x = conv_norm(conv_norm(x, filters, 3, stride), filters, 3, relu=False, gamma=0.0)
            x = tf.nn.relu(x + shortcut)
    x = tf.reduce_mean(x, [1, 2])
    kernel = tf.get_variable(
        'dense', [x.shape[-1], CLASSES], initializer=tf.random_normal_initializer(stddev=0.01)
    )
    bias = tf.get_variable('bias', [CLASSES], initializer=tf.zeros_initializer())
    for variable in (kernel, bias):
        tf.add_to_collection(tf.GraphKeys.REGULARIZATION_LOSSES, 1e-4 * tf.nn.l2_loss(variable))
    return tf.nn.bias_add(tf.matmul(x, kernel), bias)


class PlainSteps:
    """A training that does one step at a time."""

    def __init__(self, model: str, image_size: int, batch: int) -> None:
        graph = tf.Graph()
        with graph.as_default():
            random = np.random.RandomState(0)
            images = tf.Variable(
                random.randn(batch, image_size, image_size, 3).astype(np.float32), trainable=False
            )
            labels = tf.constant(random.randint(0, CLASSES, batch))
            task = tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits(
                    labels=labels, logits=logits_of(images.read_value(), model)
                )
            )
            regular = tf.add_n(tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES))
            self._losses = [task, regular]
            update = tf.train.MomentumOptimizer(1e-3, 0.9, use_nesterov=True).minimize(
                task + regular, global_step=tf.train.get_or_create_global_step()
            )
            self._train_op = tf.group(update, *tf.get_collection(tf.GraphKeys.UPDATE_OPS))
            self._session = tf.Session(graph=graph, config=runtime.session_config())
            self._session.run(tf.global_variables_initializer())

    def seconds(self) -> float:
        """Does a step and returns its seconds."""
        started = time.perf_counter()
        self._session.run([self._train_op, self._losses])
        return time.perf_counter() - started
