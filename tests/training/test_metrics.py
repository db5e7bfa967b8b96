"""What a validation counts, beside TensorFlow's own count."""
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from training import metrics

LOGITS = np.array([[3, 1, 2, 0, 9, 5, 7], [1, 1, 1, 1, 1, 1, 1], [np.nan, 2, 1, 0, 3, 4, 5], [5, 4, np.inf, 3, 2, 1, 0],
                   [0, 1, 2, 3, 4, 5, 6], [6, 6, 5, 4, 3, 2, 1]], np.float32)


@pytest.mark.parametrize('labels', [[0] * 6, [4] * 6, [0, 6, 0, 2, 6, 1], [3, 2, 1, 0, 1, 2]])
@pytest.mark.parametrize('dtype', [np.int32, np.int64])
def test_the_highest_are_those_of_tensorflow(labels, dtype):
    labels, mask = np.array(labels, dtype), np.array([1, 1, 1, 1, 0, 1], np.float32)
    with tf.Graph().as_default(), tf.Session() as session:
        found = session.run(metrics.totals(tf.constant(LOGITS), tf.constant(labels), tf.constant(mask)))
        one, five = [session.run(tf.nn.in_top_k(LOGITS, labels, k)) for k in (1, 5)]
    assert (found['images'], found['top1'], found['top5']) == (5, (mask * one).sum(), (mask * five).sum())
