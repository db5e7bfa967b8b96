"""The losses of a step, and the objectives that optimisers minimise."""
import collections

import tensorflow.compat.v1 as tf

# model: mean cross-entropy; reg: L2 loss; alignment: sum over the layers. float32 scalars.
Losses = collections.namedtuple('Losses', ['model', 'reg', 'alignment'])


def cross_entropy(logits, labels):
    """Per image, in nats: logits float32 [batch, classes], labels int64 [batch] -> float32 [batch]."""
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)


def of(logits, labels, layers, closed_forms=True):
    """The Losses of a batch; layers: the models.layers.Layers that the network was built of.

    closed_forms: of the gradients of alignment losses, where there are (see alignment.rules.Rule.losses).
    """
    alignment = layers.rule.losses(layers.records, closed_forms) if layers.rule else {}
    return Losses(model=tf.reduce_mean(cross_entropy(logits, labels)),
                  reg=_sum(layers.regularization_losses),
                  alignment=_sum(alignment.values()))


def objectives(losses, task_rate, alignment_rate, separate):
    """What to minimise: [task_rate * (model + reg) + alignment_rate * alignment], or its two parts if separate."""
    parts = [task_rate * (losses.model + losses.reg), alignment_rate * losses.alignment]
    return parts if separate else [parts[0] + parts[1]]


def _sum(scalars):
    scalars = list(scalars)
    return tf.add_n(scalars) if scalars else tf.constant(0.0)
