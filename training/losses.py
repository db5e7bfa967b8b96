"""The losses of a step, the objectives that optimisers minimise, and the scale that float16
needs.
"""

from typing import Callable, Iterable, List, NamedTuple, Sequence, Tuple

import tensorflow.compat.v1 as tf

from alignment.draws import Number
from models.layers import Layers


class Losses(NamedTuple):
    """model: mean cross-entropy; reg: L2 loss; alignment: sum over the layers. float32 scalars."""

    model: tf.Tensor
    reg: tf.Tensor
    alignment: tf.Tensor


def cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Per image, in nats: logits float32 [batch, classes], labels int64 [batch] -> float32
    [batch].
    """
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)


def of(
    logits: tf.Tensor,
    labels: tf.Tensor,
    layers: Layers,
    closed_forms: bool = True,
    part: Number = 0,
) -> Losses:
    """The Losses of a batch; layers: those that the network was built of.

    closed_forms: of the gradients of alignment losses, where there are; part: which part of the
    step's batch this is (see alignment.rules.Rule.losses).
    """
    alignment = layers.rule.losses(layers.records, closed_forms, part) if layers.rule else {}
    return Losses(
        model=tf.reduce_mean(cross_entropy(logits, labels)),
        reg=_sum(layers.regularization_losses),
        alignment=_sum(alignment.values()),
    )


def objectives(
    losses: Losses, task_rate: tf.Tensor, alignment_rate: tf.Tensor, separate: bool
) -> List[tf.Tensor]:
    """What to minimise: [task_rate * (model + reg) + alignment_rate * alignment], or its two parts
    if separate.
    """
    parts = [task_rate * (losses.model + losses.reg), alignment_rate * losses.alignment]
    return parts if separate else [parts[0] + parts[1]]


class NoScale:
    """The LossScale of types that need none."""

    names: Tuple[str, ...] = ()

    def up(self, objective: tf.Tensor) -> tf.Tensor:
        """The objective."""
        return objective

    def down(self, gradient: tf.Tensor) -> tf.Tensor:
        """The gradient."""
        return gradient

    def guard(
        self, gradients: Sequence[tf.Tensor], update: Callable[[], tf.Operation]
    ) -> tf.Operation:
        """What update() gives."""
        del gradients
        return update()


class LossScale:
    """The factor that keeps gradients among the numbers of float16 (arXiv:1710.03740, section 3.2),
    and changes with need.

    A step of which a gradient overflows moves no variable, and halves the factor, down to 1; so
    many steps in a row without one double it. It is a power of 2: to multiply and to divide by it
    changes no digit.

    names: of its two variables, the factor (float32) and the steps since it changed (int32).
    """

    first, steady_steps = 2.0**15, 2000
    names: Tuple[str, ...] = ('loss_scale', 'loss_scale_steps')

    def __init__(self) -> None:
        self._variables = [
            tf.get_variable(name, [], dtype, tf.constant_initializer(value), trainable=False)
            for name, dtype, value in zip(self.names, (tf.float32, tf.int32), (self.first, 0))
        ]
        self._scale, self._steps = [variable.read_value() for variable in self._variables]

    def up(self, objective: tf.Tensor) -> tf.Tensor:
        """The scalar to differentiate instead of an objective."""
        return objective * self._scale

    def down(self, gradient: tf.Tensor) -> tf.Tensor:
        """The gradient of the objective, of that of `up`."""
        return gradient / self._scale

    def guard(
        self, gradients: Sequence[tf.Tensor], update: Callable[[], tf.Operation]
    ) -> tf.Operation:
        """The operation that does what update() -> operation does where all gradients are finite,
        and moves the factor.
        """
        finite = tf.reduce_all(
            tf.stack([tf.reduce_all(tf.is_finite(gradient)) for gradient in gradients])
        )
        steady = self._steps + 1 >= self.steady_steps
        scale = tf.where(
            finite,
            tf.where(steady, 2.0 * self._scale, self._scale),
            tf.maximum(self._scale / 2.0, 1.0),
        )
        steps = tf.where(tf.logical_and(finite, tf.logical_not(steady)), self._steps + 1, 0)
        return tf.group(
            tf.cond(finite, update, tf.no_op),
            *[
                variable.assign(value, read_value=False)
                for variable, value in zip(self._variables, (scale, steps))
            ],
        )


def _sum(scalars: Iterable[tf.Tensor]) -> tf.Tensor:
    scalars = list(scalars)
    return tf.add_n(scalars) if scalars else tf.constant(0.0)
