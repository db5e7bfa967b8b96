"""Compares tensors as flat vectors by angles, norms and signs, and computes effective ranks."""

import math

import tensorflow.compat.v1 as tf

BLOCK = 256  # how many numbers are added up at a time


class Vector:
    """A tensor as a flat vector.

    The largest element is scaled to 1 first, so that no square overflows or underflows.

    Args:
        x: float32, any static shape.

    Attributes:
        flat: The elements, float32 [n].
        largest: The largest of their absolute values, a float32 scalar.
        scaled: The elements divided by it, float32 [n]; NaN if all are zero.
        square: The square of the length of `scaled`, a float32 scalar of at least 1, or NaN.
    """

    def __init__(self, x: tf.Tensor) -> None:
        self.flat = tf.reshape(x, [-1])
        self.largest = tf.reduce_max(tf.abs(self.flat))
        self.scaled = self.flat / self.largest  # 0 / 0 is NaN
        self.square = _sum(tf.square(self.scaled))

    @property
    def unit(self) -> tf.Tensor:
        """The vector scaled to length 1, float32 [n]; NaN if it is zero."""
        return self.scaled / tf.sqrt(self.square)

    @property
    def norm(self) -> tf.Tensor:
        """The length of the vector, a float32 scalar; 0 if it is zero."""
        # If another operation used the square root of `unit`, TensorFlow would no longer merge it
        # with the division into one operation, and the last digits of angles would change.
        length = self.square * tf.rsqrt(self.square)
        return tf.where(self.largest > 0.0, self.largest * length, self.largest)


def angle(a: Vector, b: Vector) -> tf.Tensor:
    """Returns the angle between two vectors of the same size.

    The error is about 1e-5 degrees for any lengths and any number of elements.

    Returns:
        A float32 scalar from 0 to 180 degrees. It is NaN where no angle is defined: one of the
        vectors is zero or contains a number that is not finite. (TensorFlow treats numbers below
        1.2e-38 as zero on CPUs.)
    """
    u, v = a.unit, b.unit
    # The arc cosine of the inner product would lose half of the digits near 0 and 180 degrees.
    return tf.atan2(_length(u - v), _length(u + v)) * (360.0 / math.pi)


def cosine(a: Vector, b: Vector) -> tf.Tensor:
    """Returns the cosine of the angle between two vectors of the same size.

    Returns:
        A float32 scalar from -1 to 1; NaN where `angle` is.
    """
    return tf.cos(angle(a, b) * (math.pi / 180.0))


def sign_agreement(a: Vector, b: Vector) -> tf.Tensor:
    """Returns how often two vectors of the same size have the same sign.

    Elements at which b is 0 are left out. An element at which only a is 0 counts as a disagreement.

    Returns:
        A float32 scalar from 0 to 1, the fraction of the elements at which b is not 0. It is NaN if
        one of the vectors is zero or contains a number that is not finite.
    """
    one, other = tf.sign(a.flat), tf.sign(b.flat)
    share = _sum(tf.nn.relu(one * other)) / _sum(tf.abs(other))
    defined = a.square + b.square  # NaN if one of them has no sign or is not finite
    return tf.where(tf.math.is_finite(defined), share, defined)


def participation_ratio(x: Vector, rows: int) -> tf.Tensor:
    """Returns the effective rank of a matrix: the effective number of directions of its rows.

    It is (sum l)^2 / sum l^2 over the eigenvalues l of the Gram matrix of the rows, which are the
    squares of the singular values of the matrix. Both sums are read from the Gram matrix itself:
    its trace, and the sum of the squares of its elements. The mean of the rows is not subtracted.

    Source: the measure is that of Gao et al. 2017 (doi:10.1101/214262). As the effective rank of
    the error under feedback alignment: arXiv:2606.11123.

    Args:
        x: The elements of the matrix, row by row.
        rows: The number of rows.

    Returns:
        A float32 scalar from 1 to the rank of the matrix; NaN if the matrix is zero or contains a
        number that is not finite.
    """
    matrix = tf.reshape(x.scaled, [rows, -1])
    gram = tf.matmul(matrix, matrix, transpose_b=True)
    return 1.0 / _sum(tf.square(tf.reshape(gram / tf.linalg.trace(gram), [-1])))


def _length(x: tf.Tensor) -> tf.Tensor:
    """Returns the length of x [n]."""
    return tf.sqrt(_sum(tf.square(x)))


def _sum(x: tf.Tensor) -> tf.Tensor:
    """Returns the sum of x [n].

    Adds up blocks of BLOCK numbers, then the sums of the blocks: a single sum of millions of
    numbers would lose digits.
    """
    while x.shape.num_elements() > BLOCK:
        blocks, rest = divmod(x.shape.num_elements(), BLOCK)
        whole, *others = tf.split(x, [blocks * BLOCK, rest]) if rest else [x]
        sums = tf.reduce_sum(tf.reshape(whole, [blocks, BLOCK]), axis=1)
        x = tf.concat([sums, *others], axis=0) if others else sums
    return tf.reduce_sum(x)
