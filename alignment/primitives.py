"""The terms of alignment losses (Kunin et al. 2020, arXiv:2003.01513, table 1).

W and B are kernels of the same shape, in the layout of the forward kernel. Wx and Bx are the
projections [batch, ...] of a layer's input through W and B. A reconstruction [batch, ...] has the
shape of the input. Each term is a float32 scalar: a sum over all elements, averaged over the batch
where the term has one.
"""

from typing import Union

import tensorflow.compat.v1 as tf


def decay(W: tf.Tensor, B: tf.Tensor) -> tf.Tensor:
    """Returns |W|^2 + |B|^2."""
    return square(W) + square(B)


def kernel_product(W: tf.Tensor, B: tf.Tensor) -> tf.Tensor:
    """Returns -sum(W * B), minus the inner product of both kernels. The paper calls it "self"."""
    return -inner(W, B)


def sparse(Wx: tf.Tensor, Bx: tf.Tensor) -> tf.Tensor:
    """Returns |Wx|^2 + |Bx|^2, the energy of both projections, averaged over the batch."""
    return batch_mean(square(Wx), Wx) + batch_mean(square(Bx), Bx)


def amp(Wx: tf.Tensor, Bx: tf.Tensor) -> tf.Tensor:
    """Returns -sum(Wx * Bx), averaged over the batch.

    The arguments are two projections, or the input and its reconstruction.
    """
    return -batch_mean(inner(Wx, Bx), Wx)


def null(reconstruction: tf.Tensor) -> tf.Tensor:
    """Returns |B(Wx)|^2, the energy of a reconstruction of the input, averaged over the batch."""
    return batch_mean(square(reconstruction), reconstruction)


def square(x: tf.Tensor) -> tf.Tensor:
    """Returns |x|^2, the sum of squares of a tensor of any shape, in one pass: a scalar."""
    return 2.0 * tf.nn.l2_loss(x)


def inner(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Returns sum(x * y) for two tensors of the same shape: a scalar."""
    return tf.reduce_sum(x * y)


def batch_mean(total: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """Returns a sum over a batch, divided by the number of examples in x [batch, ...]: a scalar."""
    return total / batch_size(x)


def batch_size(x: tf.Tensor) -> Union[float, tf.Tensor]:
    """Returns the number of examples in x [batch, ...].

    It is a number if the static shape gives it, and a float32 scalar tensor otherwise.
    """
    return (
        float(int(x.shape[0]))
        if x.shape[0:1].is_fully_defined()
        else tf.cast(tf.shape(x)[0], tf.float32)
    )
