"""Counts the correct images of a validation, sums their losses, and returns the answers."""

from typing import Dict

import numpy as np
import tensorflow.compat.v1 as tf

from training import losses

NO_ANSWER = -1  # of an image with a logit that is not finite


def totals(logits: tf.Tensor, labels: tf.Tensor, mask: tf.Tensor) -> Dict[str, tf.Tensor]:
    """Returns sums over the images of a batch whose mask is 1, as float32 scalars.

    Args:
        logits: float32 [batch, classes].
        labels: int64 [batch].
        mask: float32 [batch], 1 for images that count and 0 for padding.

    Returns:
        {images, top1, top5, ties, loss}. top1 and top5 count the images whose label has the largest
        logit, or one of the five largest. ties counts the images whose label shares the largest
        logit with another class; they count as correct in top1, as in the original. loss is the
        sum of the cross-entropies in nats.
    """
    top1 = mask * _in_top(1, logits, labels)
    return {
        'images': tf.reduce_sum(mask),
        'top1': tf.reduce_sum(top1),
        'top5': tf.reduce_sum(mask * _in_top(5, logits, labels)),
        'ties': tf.reduce_sum(top1 * _shared(logits, labels)),
        'loss': tf.reduce_sum(mask * losses.cross_entropy(logits, labels)),
    }


def answers(logits: tf.Tensor, labels: tf.Tensor) -> Dict[str, tf.Tensor]:
    """Returns the answer to each image, and how sure it is.

    Args:
        logits: float32 [batch, classes].
        labels: int64 or int32 [batch].

    Returns:
        {answer: int32 [batch], sureness: float32 [batch]}. The answer is the class with the largest
        logit, and the label if it shares it, so that the images whose answer is their label are
        those that `totals` counts in top1. It is NO_ANSWER if a logit is not finite. The sureness
        is the logarithm of the odds of the answer, log(p / (1 - p)), which distinguishes answers
        whose probability p rounds to 1.
    """
    own = tf.cast(labels, tf.int32)
    best = tf.argmax(logits, axis=1, output_type=tf.int32)
    found = tf.where(_in_top(1, logits, labels) > 0, own, best)
    is_answer = tf.one_hot(found, int(logits.shape[-1])) > 0
    others = tf.where(is_answer, tf.fill(tf.shape(logits), -np.inf), logits)
    return {
        'answer': tf.where(
            tf.is_finite(_of_label(logits, labels)), found, tf.fill(tf.shape(found), NO_ANSWER)
        ),
        'sureness': tf.reduce_max(logits, axis=1) - tf.reduce_logsumexp(others, axis=1),
    }


def _in_top(k: int, logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Returns 1 where fewer than k logits exceed the label's and all are finite, else 0.

    The result is float32 [batch]. It equals tf.nn.in_top_k, which XLA cannot compile on
    TensorFlow 1.13.2.
    """
    of_label = _of_label(logits, labels)
    higher = tf.reduce_sum(tf.cast(logits > of_label[:, tf.newaxis], tf.int32), axis=1)
    return tf.cast(tf.logical_and(higher < k, tf.is_finite(of_label)), tf.float32)


def _shared(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Returns 1 where another class has the same logit as the label, else 0: float32 [batch]."""
    equal = tf.equal(logits, _of_label(logits, labels)[:, tf.newaxis])
    return tf.cast(tf.reduce_sum(tf.cast(equal, tf.int32), axis=1) > 1, tf.float32)


def _of_label(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Returns the logit of each label, float32 [batch].

    It is not finite if any logit of the image is not finite.
    """
    return tf.reduce_sum(tf.one_hot(labels, int(logits.shape[-1])) * logits, axis=1)
