"""How well forward and backward kernels agree: angles in degrees, and sizes of weights and activities, layer by layer."""
import math

import tensorflow.compat.v1 as tf


def angle(a, b):
    """The angle between two tensors of one shape, flattened: a float32 scalar in degrees, 0 to 180."""
    a, b = [tf.nn.l2_normalize(tf.reshape(t, [-1])) for t in (a, b)]
    return tf.acos(tf.clip_by_value(tf.reduce_sum(a * b), -1.0, 1.0)) * (180.0 / math.pi)


def measure(records, task_loss, logits=None):
    """What a validation reports of every layer: {measure: {layer name: float32 scalar}}.

    weight_angles: (W, B). projection_angles: (Wx, Bx). gradient_angles: (the dx that B gives, the dx that W would).
    weightsq_norm, actsq_norm: sum of squares of W, of the layer's output over the batch; weightsq_mean, actsq_mean:
    their means. hebb_angle: 0, as in every record of the original, which never finished it; kept for its readers.
    Angles are there only for layers that have a backward kernel; under direct feedback, whose kernels have another shape,
    those of gradients alone. task_loss: the scalar whose gradient the layers send. logits: [batch, classes], float32, which
    direct feedback needs.
    """
    aligned = [record for record in records if record.B is not None]
    sending = [record for record in records if record.B is not None or record.direct is not None]
    errors = tf.gradients(task_loss, [record.y for record in sending]) if sending else []
    at_logits = tf.gradients(task_loss, logits)[0] if len(sending) > len(aligned) else None

    def sent(record, dy):
        """The dx that the rule gives."""
        if record.direct is None:
            return record.linear.reconstruct(dy, record.B, record.x)
        return record.linear.send(at_logits, record.direct, record.x, record.y)

    return {
        'weight_angles': {r.name: angle(r.W, r.B) for r in aligned},
        'projection_angles': {r.name: angle(r.y, r.linear.project(r.x, r.B)) for r in aligned},
        'gradient_angles': {r.name: angle(sent(r, dy), r.linear.reconstruct(dy, r.W, r.x)) for r, dy in zip(sending, errors)},
        'hebb_angle': {r.name: tf.constant(0.0) for r in records},
        'weightsq_norm': {r.name: tf.reduce_sum(tf.square(r.W)) for r in records},
        'weightsq_mean': {r.name: tf.reduce_mean(tf.square(r.W)) for r in records},
        'actsq_norm': {r.name: tf.reduce_sum(tf.square(r.output)) for r in records},
        'actsq_mean': {r.name: tf.reduce_mean(tf.square(r.output)) for r in records},
    }
