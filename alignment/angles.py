"""Measures of each layer: angles between forward and backward kernels, and sizes of weights."""

import math
from typing import Dict, Optional, Sequence

import tensorflow.compat.v1 as tf

from alignment.view import LayerRecord

BLOCK = 256  # how many numbers are added up at a time


def angle(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Returns the angle between two tensors of the same shape, as flat vectors.

    The error is about 1e-5 degrees for any lengths and any number of elements.

    Args:
        a: float32, any static shape.
        b: float32, the same shape.

    Returns:
        A float32 scalar from 0 to 180 degrees. It is NaN where no angle is defined: one of the
        tensors is zero or contains a number that is not finite. (TensorFlow treats numbers below
        1.2e-38 as zero on CPUs.)
    """
    u, v = [_unit(tf.reshape(t, [-1])) for t in (a, b)]
    # The arc cosine of the inner product would lose half of the digits near 0 and 180 degrees.
    return tf.atan2(_length(u - v), _length(u + v)) * (360.0 / math.pi)


def _unit(x: tf.Tensor) -> tf.Tensor:
    """Returns x [n], scaled to length 1.

    The largest element is scaled to 1 first, so that no square overflows or underflows.
    """
    scaled = x / tf.reduce_max(tf.abs(x))  # 0 / 0 is NaN
    return scaled / _length(scaled)


def _length(x: tf.Tensor) -> tf.Tensor:
    """Returns the length of x [n].

    Adds up blocks of BLOCK numbers, then the sums of the blocks: a single sum of millions of
    numbers would lose digits.
    """
    squares = tf.square(x)
    while squares.shape.num_elements() > BLOCK:
        whole = squares.shape.num_elements() // BLOCK * BLOCK
        rows = tf.reshape(squares[:whole], [-1, BLOCK])
        squares = tf.concat([tf.reduce_sum(rows, axis=1), squares[whole:]], axis=0)
    return tf.sqrt(tf.reduce_sum(squares))


def measure(
    records: Sequence[LayerRecord], task_loss: tf.Tensor, logits: Optional[tf.Tensor] = None
) -> Dict[str, Dict[str, tf.Tensor]]:
    """Returns the measures that a validation reports for each layer.

    Args:
        records: The layers of the network.
        task_loss: A float32 scalar. The errors of the layers are its gradients.
        logits: float32 [batch, classes]. Required under direct feedback.

    Returns:
        {measure: {layer name: float32 scalar}}. Angles are in degrees and NaN where they are
        undefined (see `angle`). Only layers with a backward kernel have angles. Under direct
        feedback, whose kernels do not have the shape of W, they only have the gradient angle.

        - weight_angles: between W and B.
        - projection_angles: between xW and xB.
        - gradient_angles: between the input gradient that the rule sends, and dy W^T.
        - hebb_angle: Always 0 for all layers, as in the records of the original code, which never
          implemented it. It is kept for programs that read these records.
        - weightsq_norm, weightsq_mean: sum and mean of the squares of W.
        - actsq_norm, actsq_mean: sum and mean of the squares of the layer's output, over the batch.
    """
    aligned = [record for record in records if record.B is not None]
    sending = [record for record in records if record.B is not None or record.direct is not None]
    errors = tf.gradients(task_loss, [record.y for record in sending]) if sending else []
    at_logits = tf.gradients(task_loss, logits)[0] if len(sending) > len(aligned) else None

    def sent(record: LayerRecord, dy: tf.Tensor) -> tf.Tensor:
        """Returns the input gradient that the rule sends."""
        if record.direct is None:
            return record.linear.reconstruct(dy, record.B, record.x)
        return record.linear.send(at_logits, record.direct, record.x, record.y)

    return {
        'weight_angles': {r.name: angle(r.W, r.B) for r in aligned},
        'projection_angles': {r.name: angle(r.y, r.linear.project(r.x, r.B)) for r in aligned},
        'gradient_angles': {
            r.name: angle(sent(r, dy), r.linear.reconstruct(dy, r.W, r.x))
            for r, dy in zip(sending, errors)
        },
        'hebb_angle': {r.name: tf.constant(0.0) for r in records},
        'weightsq_norm': {r.name: tf.reduce_sum(tf.square(r.W)) for r in records},
        'weightsq_mean': {r.name: tf.reduce_mean(tf.square(r.W)) for r in records},
        'actsq_norm': {r.name: tf.reduce_sum(tf.square(r.output)) for r in records},
        'actsq_mean': {r.name: tf.reduce_mean(tf.square(r.output)) for r in records},
    }
