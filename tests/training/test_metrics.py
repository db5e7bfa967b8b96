"""Compares the counts of a validation with TensorFlow's functions."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from training import metrics

LOGITS = np.array(
    [
        [3, 1, 2, 0, 9, 5, 7],
        [1, 1, 1, 1, 1, 1, 1],
        [np.nan, 2, 1, 0, 3, 4, 5],
        [5, 4, np.inf, 3, 2, 1, 0],
        [0, 1, 2, 3, 4, 5, 6],
        [6, 6, 5, 4, 3, 2, 1],
    ],
    np.float32,
)


@pytest.mark.parametrize('labels', [[0] * 6, [4] * 6, [0, 6, 0, 2, 6, 1], [3, 2, 1, 0, 1, 2]])
@pytest.mark.parametrize('dtype', [np.int32, np.int64])
def test_the_highest_are_those_of_tensorflow(labels, dtype):
    labels, mask = np.array(labels, dtype), np.array([1, 1, 1, 1, 0, 1], np.float32)
    with tf.Graph().as_default(), tf.Session() as session:
        found = session.run(
            metrics.totals(tf.constant(LOGITS), tf.constant(labels), tf.constant(mask))
        )
        one, five = [session.run(tf.nn.in_top_k(LOGITS, labels, k)) for k in (1, 5)]
    assert (found['images'], found['top1'], found['top5']) == (
        5,
        (mask * one).sum(),
        (mask * five).sum(),
    )
    decided = [
        np.isfinite(row).all() and row[label] == row.max() and (row == row.max()).sum() > 1
        for row, label in zip(LOGITS, labels)
    ]
    assert found['ties'] == (mask * decided).sum()


def test_ties_are_there_and_are_not():
    """Compares with counts by hand.

    The cases: all logits are equal; two share the largest logit, with and without the label; two
    are equal, but not the largest; some are not finite; the image with the tie is masked.
    """
    rows = [
        ([2, 2, 2], 1),
        ([5, 7, 7], 2),
        ([7, 7, 5], 2),
        ([1, 1, 4], 0),
        ([9, 1, 1], 0),
        ([np.inf, np.inf, 1], 0),
        ([np.nan, 3, 3], 1),
        ([-1, -1, -1], 0),
    ]
    logits, labels = (
        np.array([row for row, _ in rows], np.float32),
        np.array([label for _, label in rows]),
    )
    mask = np.array([1] * 7 + [0], np.float32)
    with tf.Graph().as_default(), tf.Session() as session:
        found = session.run(
            metrics.totals(tf.constant(logits), tf.constant(labels), tf.constant(mask))
        )
    assert (found['images'], found['top1'], found['ties']) == (7, 3, 2)


@pytest.mark.parametrize('padding', [0, 3])
def test_what_fills_up_a_batch_counts_nowhere(padding):
    """The labels have ranks 1 to 7, so five of them are among the five largest logits."""
    logits = np.array([[7, 6, 5, 4, 3, 2, 1]] * 7 + [[2, 9, 3, 1, 0, 8, 5]] * padding, np.float32)
    labels, mask = np.array(list(range(7)) + [1] * padding), np.array([1.0] * 7 + [0.0] * padding)
    with tf.Graph().as_default(), tf.Session() as session:
        found = session.run(
            metrics.totals(tf.constant(logits), tf.constant(labels), tf.constant(mask, tf.float32))
        )
    assert (found['images'], found['top1'], found['top5'], found['ties']) == (7, 1, 5, 0)
    each = np.log(np.exp(logits[:7]).sum(axis=1)) - logits[range(7), labels[:7]]
    np.testing.assert_allclose(found['loss'], each.sum(), rtol=1e-6)
