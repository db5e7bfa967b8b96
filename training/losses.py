"""The losses of a step, the objectives that optimisers minimise, and loss scaling for float16."""

from typing import Callable, Iterable, List, NamedTuple, Sequence, Tuple

import tensorflow.compat.v1 as tf

from alignment.draws import Number
from models.layers import Layers


class Losses(NamedTuple):
    """The losses of a batch, float32 scalars.

    Attributes:
        model: Task loss: the mean cross-entropy in nats.
        reg: Regularisation loss: the L2 loss of the forward kernels.
        alignment: Alignment loss: the sum over the layers.
    """

    model: tf.Tensor
    reg: tf.Tensor
    alignment: tf.Tensor


def cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Returns the cross-entropy of each image in nats, float32 [batch].

    Args:
        logits: float32 [batch, classes].
        labels: int64 [batch].
    """
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)


def of(
    logits: tf.Tensor,
    labels: tf.Tensor,
    layers: Layers,
    closed_forms: bool = True,
    part: Number = 0,
) -> Losses:
    """Returns the Losses of a batch.

    Args:
        logits: float32 [batch, classes].
        labels: int64 [batch].
        layers: Layers that the network was built from.
        closed_forms: Whether alignment losses use closed forms of their gradients where a rule has
            them.
        part: Index of these images among the parts of the step's batch; see
            alignment.rules.Rule.losses.
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
    """Returns the scalars to minimise, one for each optimiser.

    They are [task_rate * (model + reg) + alignment_rate * alignment], or a list of the two summands
    if `separate` is true.
    """
    parts = [task_rate * (losses.model + losses.reg), alignment_rate * losses.alignment]
    return parts if separate else [parts[0] + parts[1]]


class NoScale:
    """Replaces LossScale for the types that need none."""

    names: Tuple[str, ...] = ()

    def up(self, objective: tf.Tensor) -> tf.Tensor:
        """Returns the objective unchanged."""
        return objective

    def down(self, gradient: tf.Tensor) -> tf.Tensor:
        """Returns the gradient unchanged."""
        return gradient

    def guard(
        self, gradients: Sequence[tf.Tensor], update: Callable[[], tf.Operation]
    ) -> tf.Operation:
        """Returns the operation that update() builds."""
        del gradients
        return update()


class LossScale:
    """Dynamic loss scaling for float16 (arXiv:1710.03740, section 3.2).

    The loss is multiplied by a factor, so that small gradients do not underflow. If a gradient
    overflows, the step changes no variable and halves the factor, down to 1. After `steady_steps`
    steps in a row without an overflow, the factor doubles. It is always a power of 2, so that
    multiplying and dividing by it is exact.

    Attributes:
        names: Names of its two variables: the factor (float32), and the number of steps since it
            changed (int32).
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
        """Returns the scalar to differentiate instead of an objective."""
        return objective * self._scale

    def down(self, gradient: tf.Tensor) -> tf.Tensor:
        """Returns the gradient of an objective, from the gradient of `up(objective)`."""
        return gradient / self._scale

    def guard(
        self, gradients: Sequence[tf.Tensor], update: Callable[[], tf.Operation]
    ) -> tf.Operation:
        """Returns the operation that runs `update` if all gradients are finite.

        It also adjusts the factor.
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
