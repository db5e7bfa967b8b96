"""What changes with the step: learning rates, alignment coefficients and the mix of the two losses.

Every schedule is a frozen, checked description; calling it with `step`, the int64 scalar tensor
that counts the updates done before this one, gives float32 scalar tensors. An epoch is a real
number, step / steps_per_epoch.

Source: step-wise drops after a linear warm-up, Goyal et al. 2017 (arXiv:1706.02677), as used by
Kunin et al. 2020 (arXiv:2003.01513).
"""

import dataclasses
from typing import Callable, Dict, Optional, Tuple

import tensorflow.compat.v1 as tf

DROP_EPOCHS = (30, 60, 80)
DROP_FACTORS = (1.0, 0.1, 0.01, 0.001)  # before the first drop, after the first, ...
LARGEST_EXPONENT = 88.0  # exp(88) is the last whole power of e that is finite in float32


def epochs(step: tf.Tensor, steps_per_epoch: int) -> tf.Tensor:
    """Epochs done before this step: float32 scalar.

    Whole epochs are counted in integers: TensorFlow's graph optimiser turns a division by a
    constant into a product with its reciprocal, and step / steps_per_epoch then misses 30.0 by one
    rounding.
    """
    return (
        tf.cast(step // steps_per_epoch, tf.float32)
        + tf.cast(step % steps_per_epoch, tf.float32) / steps_per_epoch
    )


def drops(epoch: tf.Tensor, stretch: float = 1, shift: float = 0) -> tf.Tensor:
    """1, then 0.1, 0.01, 0.001 from epochs stretch * (30, 60, 80) + shift on: float32 scalar."""
    boundaries = tf.constant([stretch * boundary + shift for boundary in DROP_EPOCHS], tf.float32)
    passed = tf.reduce_sum(tf.cast(epoch >= boundaries, tf.int32))
    return tf.gather(tf.constant(DROP_FACTORS, tf.float32), passed)


def warmup(epoch: tf.Tensor, length: float) -> tf.Tensor:
    """min(epoch / length, 1), and 1 at once where length is 0: float32 scalar."""
    return tf.minimum(epoch / length, 1.0) if length else tf.ones_like(epoch)


def triangle(epoch: tf.Tensor, cycle: float) -> tf.Tensor:
    """Triangular wave: 0 at epoch 0, 1 after cycle / 2 epochs, 0 again after cycle: float32 scalar.

    Source: Smith 2017 (arXiv:1506.01186).
    """
    return 1.0 - tf.abs(2.0 * tf.floormod(epoch / cycle, 1.0) - 1.0)


@dataclasses.dataclass(frozen=True)
class LearningRate:
    """The learning rate of one optimiser: schedule(step) is a float32 scalar.

    With scaled = base * batch_size / base_batch_size (just base without `rescale`) it is

    - manual, drop 0: scaled * warmup(epoch), held from then on;
    - manual, drop d: scaled * 0.1^(d-1) up to and including `boundary_step`, scaled * 0.1^d after
    it;
    - constant: scaled;
    - otherwise: scaled * min(warmup(epoch), drops(epoch)), drops at epochs 30, 60 and 80.

    Attributes:
      base: learning rate, for a batch of `base_batch_size` images where `rescale` is set.
      steps_per_epoch: updates in one pass over the training images.
      batch_size: images an update, over all devices.
      warmup_epochs: epochs of linear warm-up from 0; 0 starts at scaled.
      alternate_step_freq: k task steps to each alignment step: warm-up and drops come (k + 1) times
      later.
      delay_epochs: the task's loss is off for so many epochs, and its schedule starts after them.
      drops_delayed_by: the alignment's side of `delay_epochs`: no warm-up, the drops so many epochs
        later, so that both learning rates drop together.
      manual: one drop a run, chosen by hand; takes precedence over `constant`.
      drop: which drop a manual run makes, 0 for none yet.
      boundary_step: last step of a manual run before its drop.

    Raises:
      ValueError: values that contradict each other or are out of range.
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
    manual: bool = False
    drop: int = 0
    boundary_step: Optional[int] = None

    def __post_init__(self) -> None:
        _check_counts(self.steps_per_epoch, self.alternate_step_freq)
        if self.warmup_epochs < 0:
            raise ValueError(f'warmup_epochs must be 0 or more, not {self.warmup_epochs}.')
        if self.delay_epochs is not None and self.drops_delayed_by is not None:
            raise ValueError(
                'A learning rate takes delay_epochs (task) or drops_delayed_by (alignment), not '
                'both.'
            )
        if self.drop < 0:
            raise ValueError(f'drop must be 0 or more, not {self.drop}.')
        if self.manual and self.drop and self.boundary_step is None:
            raise ValueError(
                f'A manual learning rate with drop={self.drop} needs boundary_step, the last step '
                'before the drop.'
            )

    @property
    def scaled(self) -> float:
        """The learning rate of this batch size."""
        return self.base * self.batch_size / self.base_batch_size if self.rescale else self.base

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        if self.manual:
            return self._manual(step)
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
    # Linear, along a triangular wave it cannot do without.
    'cyclic': lambda value, rate, p: value + rate * p,
}


@dataclasses.dataclass(frozen=True)
class Coefficient:
    """One alignment coefficient (alpha, beta or gamma): schedule(step) is a float32 scalar.

    0 before start * train_epochs and after stop * train_epochs; between them KINDS[kind] of
    `value`, `rate` and p, the epochs since the start or, with a cycle, triangle(epochs since the
    start) * cycle / 2.

    Attributes:
      value: the coefficient at the start.
      steps_per_epoch: updates in one pass over the training images.
      train_epochs: epochs of the whole training.
      start, stop: fractions of the training.
      cycle: epochs of one rise and fall; None or 0 for none.
      rate: change an epoch: added ('linear', 'cyclic') or in the exponent ('exponential').
      kind: a key of KINDS.

    Raises:
      ValueError: an unknown kind, a negative cycle, or 'cyclic' without one.
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
            raise ValueError(
                'Unknown kind of coefficient schedule {!r}: choose None or one of {}.'.format(
                    self.kind, ', '.join(sorted(filter(None, KINDS)))
                )
            )
        if self.cycle is not None and self.cycle < 0:
            raise ValueError(f'cycle must be a positive number of epochs, not {self.cycle}.')
        if self.kind == 'cyclic' and not self.cycle:
            raise ValueError('A cyclic coefficient needs a cycle, in epochs.')

    @property
    def is_constant(self) -> bool:
        """Whether it is `value` at every step of the training."""
        return self.kind is None and self.start == 0.0 and self.stop >= 1.0

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        first, last = self.start * self.train_epochs, self.stop * self.train_epochs
        epoch = epochs(step, self.steps_per_epoch)
        p = tf.maximum(epoch - first, 0.0)
        if self.cycle:
            p = triangle(p, self.cycle) * self.cycle / 2
        active = tf.logical_and(epoch >= first, epoch <= last)
        return tf.where(active, KINDS[self.kind](self.value, self.rate, p), 0.0)


@dataclasses.dataclass(frozen=True)
class LossRates:
    """How much each loss weighs at a step: schedule(step) is (task rate, alignment rate), float32
    scalars.

    Attributes:
      steps_per_epoch: updates in one pass over the training images.
      loss_rate, alignment_rate: the weights while a loss is on.
      delay_epochs: the task's loss is off for so many epochs, and the alignment loss on at every
      step of them.
      alternate_step_freq: k task steps follow each alignment step, which is the first of every k +
      1.
      constant: False drops both by 10 at epochs 30, 60 and 80.

    Raises:
      ValueError: alternate_step_freq below 1.
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
