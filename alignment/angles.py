"""How well forward and backward kernels agree: angles in degrees, and sizes of weights and
activities, layer by layer.
"""

import math
from typing import Dict, Optional, Sequence

import tensorflow.compat.v1 as tf

from alignment.view import LayerRecord

BLOCK = 256  # numbers that are added up at a time


def angle(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """The angle between two tensors of one shape, flattened.

    It is exact to some 1e-5 degrees, whatever the lengths and the number of elements.

    Args:
        a, b: float32, of any shape that is static.

    Returns:
        float32 scalar, degrees from 0 to 180. NaN where there is no angle: one of them is zero, or
        holds a number that is not finite. (TensorFlow's CPU takes numbers below 1.2e-38 as zeros.)
    """
    u, v = [_unit(tf.reshape(t, [-1])) for t in (a, b)]
    # The arc cosine of u v would lose half of the digits near 0 and 180 degrees.
    return tf.atan2(_length(u - v), _length(u + v)) * (360.0 / math.pi)


def _unit(x: tf.Tensor) -> tf.Tensor:
    """x [n] at length 1. Its largest element becomes 1 first, so that no square is too small or
    large.
    """
    scaled = x / tf.reduce_max(tf.abs(x))  # 0 / 0 is NaN
    return scaled / _length(scaled)


def _length(x: tf.Tensor) -> tf.Tensor:
    """The length of x [n]. Sums of BLOCK numbers are added up, then their sums: millions would
    round.
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
    """What a validation reports of every layer: {measure: {layer name: float32 scalar}}.

    weight_angles: (W, B). projection_angles: (Wx, Bx). gradient_angles: (the dx that B gives, the
    dx that W would).
    weightsq_norm, actsq_norm: sum of squares of W, of the layer's output over the batch;
    weightsq_mean, actsq_mean:
    their means. hebb_angle: 0, as in every record of the original, which never finished it; kept
    for its readers. Angles are there only for layers that have a backward kernel; under direct
    feedback, whose kernels have another shape,
    those of gradients alone. task_loss: the scalar whose gradient the layers send. logits: [batch,
    classes], float32, which direct feedback needs. An angle is NaN where there is none; see
    `angle`.
    """
    aligned = [record for record in records if record.B is not None]
    sending = [record for record in records if record.B is not None or record.direct is not None]
    errors = tf.gradients(task_loss, [record.y for record in sending]) if sending else []
    at_logits = tf.gradients(task_loss, logits)[0] if len(sending) > len(aligned) else None

    def sent(record: LayerRecord, dy: tf.Tensor) -> tf.Tensor:
        """The dx that the rule gives."""
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
