"""What a validation counts."""
import tensorflow.compat.v1 as tf

from training import losses


def totals(logits, labels, mask):
    """Sums over the images of a batch that count (mask 1): {images, top1, top5, loss}, float32 scalars.

    top1, top5: how many labels are the highest logit, among the five highest; loss: cross-entropy.
    """
    return {'images': tf.reduce_sum(mask),
            'top1': tf.reduce_sum(mask * _in_top(1, logits, labels)),
            'top5': tf.reduce_sum(mask * _in_top(5, logits, labels)),
            'loss': tf.reduce_sum(mask * losses.cross_entropy(logits, labels))}


def _in_top(k, logits, labels):
    return tf.cast(tf.nn.in_top_k(logits, labels, min(k, int(logits.shape[-1]))), tf.float32)
