"""What a validation counts."""

from typing import Dict

import tensorflow.compat.v1 as tf

from training import losses


def totals(logits: tf.Tensor, labels: tf.Tensor, mask: tf.Tensor) -> Dict[str, tf.Tensor]:
    """Sums over the images of a batch that count (mask 1): {images, top1, top5, ties, loss},
    float32 scalars.

    top1, top5: how many labels are the highest logit, among the five highest; loss: cross-entropy.
    ties: how many labels are the highest logit together with another class. They count as right in
    top1, as in the original.
    """
    return {
        'images': tf.reduce_sum(mask),
        'top1': tf.reduce_sum(mask * _in_top(1, logits, labels)),
        'top5': tf.reduce_sum(mask * _in_top(5, logits, labels)),
        'ties': tf.reduce_sum(mask * _in_top(1, logits, labels) * _shared(logits, labels)),
        'loss': tf.reduce_sum(mask * losses.cross_entropy(logits, labels)),
    }


def _in_top(k: int, logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """1 where fewer than k logits are higher than the label's and all are finite, else 0: float32
    [batch].

    As tf.nn.in_top_k, which XLA does not compile on TensorFlow 1.13.2.
    """
    of_label = _of_label(logits, labels)
    higher = tf.reduce_sum(tf.cast(logits > of_label[:, tf.newaxis], tf.int32), axis=1)
    return tf.cast(tf.logical_and(higher < k, tf.is_finite(of_label)), tf.float32)


def _shared(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """1 where another class has the label's logit, else 0: float32 [batch]."""
    equal = tf.equal(logits, _of_label(logits, labels)[:, tf.newaxis])
    return tf.cast(tf.reduce_sum(tf.cast(equal, tf.int32), axis=1) > 1, tf.float32)


def _of_label(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """The logit of each label, float32 [batch]; it is not finite where any logit of the image is
    not.
    """
    return tf.reduce_sum(tf.one_hot(labels, int(logits.shape[-1])) * logits, axis=1)
