"""The terms that alignment losses are sums of (Kunin et al. 2020, arXiv:2003.01513, table 1).

W, B: kernels of one shape (layout of the forward kernel); Wx, Bx: projections [batch, ...] of the layer's input through
W and B; reconstructions [batch, ...] have the shape of the input. Every term is a float32 scalar: summed over
everything but the batch, averaged over the batch.
"""
import tensorflow.compat.v1 as tf


def decay(W, B):
    """|W|^2 + |B|^2."""
    return tf.reduce_sum(tf.square(W)) + tf.reduce_sum(tf.square(B))


def self(W, B):
    """-sum(W * B): minus the inner product of the two kernels."""
    return -tf.reduce_sum(W * B)


def sparse(Wx, Bx):
    """|Wx|^2 + |Bx|^2: the energy of both projections."""
    return batch_mean(tf.square(Wx)) + batch_mean(tf.square(Bx))


def amp(Wx, Bx):
    """-sum(Wx * Bx): minus the inner product of two projections (or of the input and its reconstruction)."""
    return -batch_mean(Wx * Bx)


def null(reconstruction):
    """|B(Wx)|^2: the energy of a reconstruction of the input."""
    return batch_mean(tf.square(reconstruction))


def batch_mean(x):
    """Sum over everything but the batch, mean over the batch: [batch, ...] -> scalar."""
    return tf.reduce_sum(tf.reduce_mean(x, axis=0))
