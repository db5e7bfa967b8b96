"""Schedules of the learning rates, the alignment coefficients and the weights of the losses.

Each schedule is an immutable description whose values are checked. Calling it with `step`, the
int64 scalar tensor that counts the updates done before this one, returns float32 scalar tensors.
An epoch is a real number, step / steps_per_epoch.

Source: step-wise drops after a linear warm-up, Goyal et al. 2017 (arXiv:1706.02677), as used by
Kunin et al. 2020 (arXiv:2003.01513).
"""

import dataclasses
from typing import Callable, Dict, Optional, Sequence, Tuple

import tensorflow.compat.v1 as tf

DROP_EPOCHS = (30, 60, 80)
LARGEST_EXPONENT = 88.0  # exp(88) is the largest integer power of e that is finite in float32


def epochs(step: tf.Tensor, steps_per_epoch: int) -> tf.Tensor:
    """Returns the number of epochs done before this step, a float32 scalar.

    Whole epochs are counted in integers. TensorFlow's graph optimiser replaces the division by a
    constant with the product with its reciprocal, and then the rounding of step / steps_per_epoch
    can miss 30.0.
    """
    return (
        tf.cast(step // steps_per_epoch, tf.float32)
        + tf.cast(step % steps_per_epoch, tf.float32) / steps_per_epoch
    )


def drops(
    epoch: tf.Tensor,
    stretch: float = 1,
    shift: float = 0,
    boundaries: Sequence[float] = DROP_EPOCHS,
) -> tf.Tensor:
    """Returns 1, or 0.1, 0.01, ... from epochs stretch * boundaries + shift: float32 scalar."""
    epochs_of_drops = tf.constant([stretch * each + shift for each in boundaries], tf.float32)
    passed = tf.reduce_sum(tf.cast(epoch >= epochs_of_drops, tf.int32))
    factors = [10.0**-number for number in range(len(boundaries) + 1)]
    return tf.gather(tf.constant(factors, tf.float32), passed)


def warmup(epoch: tf.Tensor, length: float) -> tf.Tensor:
    """Returns min(epoch / length, 1), or 1 if length is 0: float32 scalar."""
    return tf.minimum(epoch / length, 1.0) if length else tf.ones_like(epoch)


def triangle(epoch: tf.Tensor, cycle: float) -> tf.Tensor:
    """Returns a triangular wave, a float32 scalar: 0 at epoch 0, 1 at cycle / 2, 0 at cycle.

    Source: Smith 2017 (arXiv:1506.01186).
    """
    return 1.0 - tf.abs(2.0 * tf.floormod(epoch / cycle, 1.0) - 1.0)


@dataclasses.dataclass(frozen=True)
class LearningRate:
    """The learning rate of one optimiser: schedule(step) is a float32 scalar.

    With scaled = base * batch_size / base_batch_size, or scaled = base if `rescale` is false, it is

    - manual, drop 0: scaled * warmup(epoch), constant after the warm-up;
    - manual, drop d: scaled * 0.1^(d-1) up to and including `boundary_step`, then scaled * 0.1^d;
    - drop epochs: scaled * 0.1^n, where n is the number of these epochs that are over;
    - constant: scaled;
    - otherwise: scaled * min(warmup(epoch), drops(epoch)), with drops at epochs 30, 60 and 80.

    Attributes:
        base: Learning rate; for a batch of `base_batch_size` images if `rescale` is true.
        steps_per_epoch: Updates in one pass over the training images.
        batch_size: Images per update, on all devices.
        base_batch_size: Batch size that `base` refers to if `rescale` is true.
        rescale: Whether to scale the learning rate with the batch size.
        constant: Whether the learning rate never changes, except at `drop_epochs`.
        warmup_epochs: Epochs of linear warm-up from 0; 0 starts at scaled.
        alternate_step_freq: Number of task steps after each alignment step, k. The warm-up is
            (k + 1) times as long, and the drops come (k + 1) times as late.
        delay_epochs: Epochs for which the task loss is off; the schedule starts after them.
        drops_delayed_by: The value of `delay_epochs`, for the learning rate of the alignment loss:
            no warm-up, and drops that many epochs later, so that both learning rates drop together.
        drop_epochs: Epochs of the training at which a constant learning rate drops tenfold, rising.
            Neither `alternate_step_freq` nor a delay moves them.
        manual: Whether a run makes one drop that is chosen by hand; overrides `constant`.
        drop: Number of the drop that a manual run makes; 0 for none yet.
        boundary_step: Last step of a manual run before its drop.

    Raises:
        ValueError: Values contradict each other or are out of range.
    """

    base: float
    steps_per_epoch: int
    batch_size: int
    base_batch_size: int = 256
    rescale: bool = False
    constant: bool = True
    warmup_epochs: float = 5
    alternate_step_freq: Optional[int] = None
    delay_epochs: Optional[float] = None
    drops_delayed_by: Optional[float] = None
    drop_epochs: Tuple[int, ...] = ()
    manual: bool = False
    drop: int = 0
    boundary_step: Optional[int] = None

    def __post_init__(self) -> None:
        _check_counts(self.steps_per_epoch, self.alternate_step_freq)
        if self.warmup_epochs < 0:
            raise ValueError(f'warmup_epochs must be 0 or more, not {self.warmup_epochs}.')
        if self.delay_epochs is not None and self.drops_delayed_by is not None:
            raise ValueError(
                'A learning rate has delay_epochs (task loss) or drops_delayed_by (alignment '
                'loss), not both.'
            )
        if self.drop_epochs and (self.manual or not self.constant):
            raise ValueError('A learning rate with drop_epochs must be constant, and not manual.')
        if self.drop < 0:
            raise ValueError(f'drop must be 0 or more, not {self.drop}.')
        if self.manual and self.drop and self.boundary_step is None:
            raise ValueError(
                f'A manual learning rate with drop={self.drop} needs boundary_step, the last step '
                'before the drop.'
            )

    @property
    def scaled(self) -> float:
        """The learning rate at this batch size, before warm-up and drops."""
        return self.base * self.batch_size / self.base_batch_size if self.rescale else self.base

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Returns the learning rate at a step, a float32 scalar."""
        if self.manual:
            return self._manual(step)
        if self.drop_epochs:
            epoch = epochs(step, self.steps_per_epoch)
            return self.scaled * drops(epoch, boundaries=self.drop_epochs)
        if self.constant:
            return tf.constant(self.scaled, tf.float32)
        return self._steps(epochs(step, self.steps_per_epoch))

    def _manual(self, step: tf.Tensor) -> tf.Tensor:
        if self.drop == 0:
            return self.scaled * warmup(epochs(step, self.steps_per_epoch), self.warmup_epochs)
        before = tf.constant(self.scaled * 0.1 ** (self.drop - 1), tf.float32)
        after = tf.constant(self.scaled * 0.1**self.drop, tf.float32)
        return tf.where(step <= self.boundary_step, before, after)

    def _steps(self, epoch: tf.Tensor) -> tf.Tensor:
        stretch = 1 + (self.alternate_step_freq or 0)
        if self.drops_delayed_by is not None:
            return self.scaled * drops(epoch, stretch, self.drops_delayed_by)
        if self.delay_epochs is not None:
            epoch = tf.maximum(epoch - self.delay_epochs, 0.0)
        return self.scaled * tf.minimum(
            warmup(epoch, stretch * self.warmup_epochs), drops(epoch, stretch)
        )


KINDS: Dict[Optional[str], Callable[[float, float, tf.Tensor], tf.Tensor]] = {
    None: lambda value, rate, p: tf.constant(value, tf.float32),
    'linear': lambda value, rate, p: value + rate * p,
    'exponential': lambda value, rate, p: value * tf.exp(tf.minimum(rate * p, LARGEST_EXPONENT)),
    # Linear in p, which must be a triangular wave: 'cyclic' requires a cycle.
    'cyclic': lambda value, rate, p: value + rate * p,
}


@dataclasses.dataclass(frozen=True)
class Coefficient:
    """One alignment coefficient, such as alpha: schedule(step) is a float32 scalar.

    The coefficient is 0 before epoch start * train_epochs and after epoch stop * train_epochs.
    Between them it is KINDS[kind](value, rate, p), where p is the number of epochs since the start
    or, with a cycle, triangle(epochs since the start) * cycle / 2.

    Attributes:
        value: The coefficient at the start.
        steps_per_epoch: Updates in one pass over the training images.
        train_epochs: Epochs of the whole training.
        start: Fraction of the training after which the coefficient is on.
        stop: Fraction of the training after which it is off.
        cycle: Epochs of one rise and fall; None or 0 for no cycle.
        rate: Change per epoch: added ('linear', 'cyclic') or in the exponent ('exponential').
        kind: A key of KINDS.

    Raises:
        ValueError: The kind is unknown, the cycle is negative, or the kind is 'cyclic' without a
            cycle.
    """

    value: float
    steps_per_epoch: int
    train_epochs: float
    start: float = 0.0
    stop: float = 1.0
    cycle: Optional[float] = None
    rate: float = 0.0
    kind: Optional[str] = None

    def __post_init__(self) -> None:
        _check_counts(self.steps_per_epoch)
        if self.kind not in KINDS:
            kinds = ', '.join(sorted(filter(None, KINDS)))
            raise ValueError(
                f'Unknown kind of coefficient schedule {self.kind!r}: choose None or one of '
                f'{kinds}.'
            )
        if self.cycle is not None and self.cycle < 0:
            raise ValueError(f'cycle must be 0 epochs or more, not {self.cycle}.')
        if self.kind == 'cyclic' and not self.cycle:
            raise ValueError('A cyclic coefficient needs a cycle, in epochs.')

    @property
    def is_constant(self) -> bool:
        """Whether it is `value` at every step of the training."""
        return self.kind is None and self.start == 0.0 and self.stop >= 1.0

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Returns the coefficient at a step, a float32 scalar."""
        first, last = self.start * self.train_epochs, self.stop * self.train_epochs
        epoch = epochs(step, self.steps_per_epoch)
        p = tf.maximum(epoch - first, 0.0)
        if self.cycle:
            p = triangle(p, self.cycle) * self.cycle / 2
        active = tf.logical_and(epoch >= first, epoch <= last)
        return tf.where(active, KINDS[self.kind](self.value, self.rate, p), 0.0)


@dataclasses.dataclass(frozen=True)
class LossRates:
    """The weights of the losses: schedule(step) is (task rate, alignment rate), float32 scalars.

    Attributes:
        steps_per_epoch: Updates in one pass over the training images.
        loss_rate: Weight of the task loss and the regularisation loss while they are on.
        alignment_rate: Weight of the alignment loss while it is on.
        delay_epochs: Epochs at the start in which the task loss is off, and the alignment loss is
            on at every step.
        alternate_step_freq: Number of task steps, k, that follow each alignment step: the first of
            every k + 1 steps is an alignment step.
        constant: Whether the weights stay the same; False divides both by 10 at epochs 30, 60 and
            80.

    Raises:
        ValueError: steps_per_epoch or alternate_step_freq is below 1.
    """

    steps_per_epoch: int
    loss_rate: float = 1.0
    alignment_rate: float = 1.0
    delay_epochs: Optional[float] = None
    alternate_step_freq: Optional[int] = None
    constant: bool = True

    def __post_init__(self) -> None:
        _check_counts(self.steps_per_epoch, self.alternate_step_freq)

    def __call__(self, step: tf.Tensor) -> Tuple[tf.Tensor, tf.Tensor]:
        """Returns (task rate, alignment rate) at a step, float32 scalars."""
        epoch = epochs(step, self.steps_per_epoch)
        factor = tf.ones_like(epoch) if self.constant else drops(epoch)
        delayed = epoch < (self.delay_epochs or 0)
        task_on, alignment_on = tf.logical_not(delayed), tf.constant(True)
        if self.alternate_step_freq is not None:
            alignments_turn = tf.equal(step % (self.alternate_step_freq + 1), 0)
            task_on = tf.logical_and(task_on, tf.logical_not(alignments_turn))
            alignment_on = tf.logical_or(alignments_turn, delayed)
        return (
            tf.where(task_on, self.loss_rate * factor, 0.0),
            tf.where(alignment_on, self.alignment_rate * factor, 0.0),
        )


def _check_counts(steps_per_epoch: int, alternate_step_freq: Optional[int] = None) -> None:
    if steps_per_epoch < 1:
        raise ValueError(f'steps_per_epoch must be 1 or more, not {steps_per_epoch}.')
    if alternate_step_freq is not None and alternate_step_freq < 1:
        raise ValueError(f'alternate_step_freq must be 1 or more, not {alternate_step_freq}.')
