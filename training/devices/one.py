"""A single device, which is a GPU or the CPU, and the loop that does several steps in one call."""

import contextlib
from typing import Callable, Iterator, List, Optional, Sequence, Tuple, Union

import tensorflow.compat.v1 as tf

from training import runtime
from training.devices.device import (
    Asking,
    Batch,
    Call,
    Counted,
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
    """The first GPU that TensorFlow sees (see training/gpus.py), or the CPU if it sees no GPU.

    The class neither changes the environment nor looks for GPUs: it is given their number.

    Args:
        minibatches: The number of equal parts of a batch that are computed one after the other.
            Their results are averaged.
        steps_per_call: The largest number of steps in one call.
        compiled: Whether each step is compiled by XLA.
        data_format: The layout of images between layers, 'NHWC' or 'NCHW'. The default is the one
            with the fastest convolutions: NCHW on a GPU and NHWC on a CPU.
        cpu_devices: The number of devices that the CPU is split into. None does not split it.
        gpu: The indices of --gpu.
        gpus: The number of these GPUs that TensorFlow finds, as returned by `claim`.
    """

    # The index of the block of the step's batch that `mean` receives: one block for each host, or
    # for each core of a TPU.
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

    def total(self, function: Callable[[Batch], Counted], batch: Batch) -> Counted:
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

        outcome, updates = replica_fn(part(0), first)  # the sums start with the first part
        with tf.control_dependencies(updates):
            sums = [tf.identity(tensor) for tensor in tensors_of(outcome)]
        # Otherwise the loop would read the statistics of batch norm before they are updated.
        with tf.control_dependencies(sums):
            second = tf.identity(1)

        def add_part(index: tf.Tensor, *sums: tf.Tensor) -> List[tf.Tensor]:
            # One part at a time, so that the activations of two parts are never in memory together.
            with tf.control_dependencies(sums):
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
    """Does `count` steps one after the other and returns their scalars.

    Args:
        step: See Device.call.
        next_batch: See Device.call.
        count: The number of steps, an int32 scalar. It is at most `size`.
        size: The number of rows in the result.
        form: Receives the form of the scalars.

    Returns:
        float32 [size, scalars]. The rows from `count` on are undefined.
    """

    def one_more(index: tf.Tensor, rows: tf.TensorArray) -> Tuple[tf.Tensor, tf.TensorArray]:
        with tf.control_dependencies([index]):  # otherwise one batch is read, before the loop
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
    """Returns {name: float32 [size]} for the rows that `loop` returned."""
    return form.pack([rows[:, column] for column in range(len(form.tensors))])


def _plain(step: Step, batch: Batch) -> Tuple[tf.Operation, Scalars]:
    """Returns (train_op, scalars) of a step."""
    return step(batch)


def _compiled(step: Step, batch: Batch) -> Tuple[tf.Operation, Scalars]:
    """Returns the same as `_plain`, with the step compiled by XLA."""
    names: List[str] = sorted(batch)
    form: Form[Scalars] = Form()

    def computation(*tensors: tf.Tensor) -> List[tf.Tensor]:
        train_op, scalars = step(dict(zip(names, tensors)))
        return form.flatten(scalars) + [train_op]

    values = runtime.xla_compile(computation, [batch[name] for name in names])
    return tf.group(*values), form.pack(values)
