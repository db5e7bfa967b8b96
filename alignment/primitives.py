"""The terms that alignment losses are sums of (Kunin et al. 2020, arXiv:2003.01513, table 1).

W, B: kernels of one shape (layout of the forward kernel); Wx, Bx: projections [batch, ...] of the
layer's input through W and B; reconstructions [batch, ...] have the shape of the input. Every term
is a float32 scalar: summed over everything but the batch, averaged over the batch.
"""

from typing import Union

import tensorflow.compat.v1 as tf


def decay(W: tf.Tensor, B: tf.Tensor) -> tf.Tensor:
    """|W|^2 + |B|^2."""
    return square(W) + square(B)


def self(W: tf.Tensor, B: tf.Tensor) -> tf.Tensor:
    """-sum(W * B): minus the inner product of the two kernels."""
    return -inner(W, B)


def sparse(Wx: tf.Tensor, Bx: tf.Tensor) -> tf.Tensor:
    """|Wx|^2 + |Bx|^2: the energy of both projections."""
    return batch_mean(square(Wx), Wx) + batch_mean(square(Bx), Bx)


def amp(Wx: tf.Tensor, Bx: tf.Tensor) -> tf.Tensor:
    """-sum(Wx * Bx): minus the inner product of two projections (or of the input and its
    reconstruction).
    """
    return -batch_mean(inner(Wx, Bx), Wx)


def null(reconstruction: tf.Tensor) -> tf.Tensor:
    """|B(Wx)|^2: the energy of a reconstruction of the input."""
    return batch_mean(square(reconstruction), reconstruction)


def square(x: tf.Tensor) -> tf.Tensor:
    """|x|^2, the sum of the squares of a tensor of any shape: a scalar, in one pass."""
    return 2.0 * tf.nn.l2_loss(x)


def inner(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """sum(x * y) of two tensors of one shape: a scalar."""
    return tf.reduce_sum(x * y)


def batch_mean(total: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """A sum over everything, over the number of examples in x [batch, ...]: a scalar."""
    return total / batch_size(x)


def batch_size(x: tf.Tensor) -> Union[float, tf.Tensor]:
    """How many examples [batch, ...] holds: a number where that is known before the graph runs,
    else a float32 scalar.
    """
    return (
        float(int(x.shape[0]))
        if x.shape[0:1].is_fully_defined()
        else tf.cast(tf.shape(x)[0], tf.float32)
    )
