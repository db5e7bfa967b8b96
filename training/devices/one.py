"""One device: a GPU, or the CPU; and the loop of several steps in one call."""

import contextlib
from typing import Callable, Iterator, List, Optional, Sequence, Tuple, Union

import tensorflow.compat.v1 as tf

from training import runtime
from training.devices.device import (
    Asking,
    Batch,
    Call,
    Device,
    Outcome,
    Part,
    Replica,
    Scalars,
    Step,
)
from training.devices.nests import Form, Nest, tensors_of, with_tensors
from training.types import Say


class OneDevice(Device):
    """The first GPU that TensorFlow sees (see training/gpus.py), or the CPU where it sees none.

    It changes no environment and looks for no GPU: it is told how many there are.

    minibatches: how many equal parts of a batch are worked through one after the other, their
    results averaged.
    steps_per_call: the most steps in one call. compiled: each step is compiled by XLA.
    data_format: of images between layers; by default that of the fastest convolutions, NCHW on a
    GPU and NHWC on a CPU.
    cpu_devices: into how many devices the CPU is split; None leaves it whole.
    gpu: the indices of --gpu. gpus: how many of these GPUs TensorFlow finds, as `claim` has it.
    """

    # which of the equal blocks of a step's batch `mean` is given: this host's, or this core's of a
    # TPU
    _block: Part = 0

    def __init__(
        self,
        minibatches: int = 1,
        steps_per_call: int = 1,
        compiled: bool = False,
        data_format: Optional[str] = None,
        cpu_devices: Optional[int] = None,
        gpu: Sequence[str] = ('0',),
        gpus: int = 0,
    ) -> None:
        self.cpu_devices = cpu_devices
        self.gpu = tuple(gpu)
        self.gpus = gpus
        self.data_format = data_format or ('NCHW' if gpus else 'NHWC')
        self.minibatches = minibatches
        self.steps_per_call = steps_per_call
        self.compiled = compiled
        self._do = _compiled if compiled else _plain

    @property
    def title(self) -> str:
        """See Device.title."""
        gpu = ','.join(self.gpu)
        if self.cpu_devices:
            return f'devices {gpu} of a CPU split into {self.cpu_devices}'
        return f'GPU {gpu}' if self.gpus else 'CPU'

    def call(self, step: Step, next_batch: Callable[[], Batch]) -> Call:
        """See Device.call."""
        if self.steps_per_call == 1:
            return Call(*self._do(step, next_batch()), steps=None)
        count = tf.placeholder(tf.int32, [], name='steps')
        form: Form[Scalars] = Form()
        rows = loop(lambda batch: self._do(step, batch), next_batch, count, count, form)
        return Call(rows.op, by_name(rows, form), count)

    def session_config(self) -> tf.ConfigProto:
        """See Device.session_config."""
        return runtime.session_config(self.cpu_devices)

    @contextlib.contextmanager
    def ready(self, say: Say = print) -> Iterator[None]:
        """See Device.ready."""
        del say
        yield

    def at_loss(self, function: Callable[[], None]) -> None:
        """See Device.at_loss. There is no other host."""

    def shared(self, numbers: List[int]) -> List[int]:
        """See Device.shared."""
        return numbers

    def level(self, variables: Sequence[tf.Variable]) -> tf.Operation:
        """See Device.level."""
        del variables
        return tf.no_op()

    def asking(self) -> Asking:
        """See Device.asking."""
        return lambda session, number: number

    def once(self, function: Callable[[Batch], Nest], batch: Batch) -> Nest:
        """See Device.once."""
        return function(batch)

    def total(self, function: Callable[[Batch], Scalars], batch: Batch) -> Scalars:
        """See Device.total."""
        return function(batch)

    def over_replicas(self, tensor: tf.Tensor) -> tf.Tensor:
        """See Device.over_replicas."""
        return tensor

    def mean(self, replica_fn: Replica[Nest], batch: Batch) -> Outcome[Nest]:
        """See Device.mean."""
        first = self._block * self.minibatches
        if self.minibatches == 1:
            return replica_fn(batch, first)
        parts = {
            name: tf.reshape(tensor, [self.minibatches, -1] + tensor.shape[1:].as_list())
            for name, tensor in batch.items()
        }

        def part(index: Part) -> Batch:
            return {name: tf.gather(tensor, index) for name, tensor in parts.items()}

        outcome, updates = replica_fn(part(0), first)  # the first of the sums that the loop adds to
        with tf.control_dependencies(updates):
            sums = [tf.identity(tensor) for tensor in tensors_of(outcome)]
        with tf.control_dependencies(
            sums
        ):  # or the loop would read statistics of batch norm before they are updated
            second = tf.identity(1)

        def add_part(index: tf.Tensor, *sums: tf.Tensor) -> List[tf.Tensor]:
            with tf.control_dependencies(
                sums
            ):  # one part at a time: its activations are gone before the next one's
                next_part = {name: tf.identity(tensor) for name, tensor in part(index).items()}
            more, updates = replica_fn(next_part, first + index)
            with tf.control_dependencies(updates):
                return [index + 1] + [
                    total + tensor for total, tensor in zip(sums, tensors_of(more))
                ]

        sums = tf.while_loop(
            lambda index, *_: index < self.minibatches,
            add_part,
            [second] + sums,
            parallel_iterations=1,
            back_prop=False,
        )[1:]
        return with_tensors(outcome, [total / self.minibatches for total in sums]), []


def loop(
    step: Step,
    next_batch: Callable[[], Batch],
    count: tf.Tensor,
    size: Union[int, tf.Tensor],
    form: Form[Scalars],
) -> tf.Tensor:
    """`count` steps, one after the other, and the scalars of each: float32 [size, scalars].

    step, next_batch: as for Device.call. count: int32 scalar, at most `size`; the rows after it
    are undefined. form: gets that of the scalars.
    """

    def one_more(index: tf.Tensor, rows: tf.TensorArray) -> Tuple[tf.Tensor, tf.TensorArray]:
        with tf.control_dependencies([index]):  # or the batch would be read once, before the loop
            batch = next_batch()
        train_op, scalars = step(batch)
        with tf.control_dependencies([train_op]):
            return index + 1, rows.write(index, tf.stack(form.flatten(scalars)))

    rows = tf.while_loop(
        lambda index, _: index < count,
        one_more,
        [tf.constant(0), tf.TensorArray(tf.float32, size)],
        parallel_iterations=1,
        back_prop=False,
    )[1]
    return tf.reshape(rows.gather(tf.range(size)), [size, len(form.tensors)])


def by_name(rows: tf.Tensor, form: Form[Scalars]) -> Scalars:
    """{name: float32 [size]} of what `loop` gave."""
    return form.pack([rows[:, column] for column in range(len(form.tensors))])


def _plain(step: Step, batch: Batch) -> Tuple[tf.Operation, Scalars]:
    """(train_op, scalars) of a step."""
    return step(batch)


def _compiled(step: Step, batch: Batch) -> Tuple[tf.Operation, Scalars]:
    """The same, compiled by XLA."""
    names: List[str] = sorted(batch)
    form: Form[Scalars] = Form()

    def computation(*tensors: tf.Tensor) -> List[tf.Tensor]:
        train_op, scalars = step(dict(zip(names, tensors)))
        return form.flatten(scalars) + [train_op]

    values = runtime.xla_compile(computation, [batch[name] for name in names])
    return tf.group(*values), form.pack(values)
