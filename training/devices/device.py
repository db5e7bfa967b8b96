"""The interface of all devices."""

import abc
from typing import (
    Callable,
    ContextManager,
    Dict,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    Union,
)

import tensorflow.compat.v1 as tf

from training.devices.nests import Nest
from training.types import Say

Batch = Dict[str, tf.Tensor]  # {name: tensor [batch, ...]}
Scalars = Dict[str, tf.Tensor]  # {name: float32 scalar}
Part = Union[int, tf.Tensor]  # the index of a part of a batch: an int or an int32 scalar
# step(batch) -> (an operation that updates the variables, the scalars of the step)
Step = Callable[[Batch], Tuple[tf.Operation, Scalars]]
# A nest of tensors (see nests.py), and operations that update variables.
Outcome = Tuple[Nest, List[tf.Operation]]
# replica_fn(batch, part) -> the Outcome for one part of a batch, computed by one replica
Replica = Callable[[Batch, Part], Outcome[Nest]]
# asking(session, number of a signal or None) -> number of a signal or None
Asking = Callable[[tf.Session, Optional[int]], Optional[int]]


class Counted(NamedTuple):
    """What a validation computes from the images of a batch.

    Attributes:
        totals: Sums over the images, {name: float32 scalar}.
        each: A value for each image, in the order of the batch, {name: tensor [batch]}.
    """

    totals: Scalars
    each: Batch


class Call(NamedTuple):
    """What Session.run runs and fetches to do one or several steps.

    Attributes:
        train_op: The operation to run.
        scalars: The scalars to fetch, {name: float32}. They describe the state before each update.
            Each has the shape [steps], or [] if `steps` is None.
        steps: A placeholder, an int32 scalar, for the number of steps to do. None if a call does
            exactly one step.
    """

    train_op: tf.Operation
    scalars: Scalars
    steps: Optional[tf.Tensor]


class Device(abc.ABC):
    """What the steps and validations of a training run on.

    Attributes:
        replicas: The number of replicas that compute a step together, on all hosts.
        hosts: The number of processes that train together.
        part: The part of each batch that this process reads: (index, number of parts).
        leads: Whether this process validates, saves and records.
        target: The target of Sessions.
        gpus: The number of GPUs of this process that it uses.
        answers_within: Seconds to wait for other machines in `ready`.
        minibatches: The number of equal parts of a batch that are computed one after the other.
            Their results are averaged.
        steps_per_call: The largest number of steps in one call.
        compiled: Whether each step is compiled by XLA.
        data_format: The layout of images between layers, 'NHWC' or 'NCHW'.
    """

    replicas: int = 1
    hosts: int = 1
    part: Tuple[int, int] = (0, 1)
    leads: bool = True
    target: str = ''
    gpus: int = 0
    answers_within: int = 0
    minibatches: int
    steps_per_call: int
    compiled: bool
    data_format: str

    @property
    @abc.abstractmethod
    def title(self) -> str:
        """A description for people, such as 'GPU 0' or 'CPU'."""

    @abc.abstractmethod
    def call(self, step: Step, next_batch: Callable[[], Batch]) -> Call:
        """Builds the Call that does steps.

        Args:
            step: The function of a step.
            next_batch: Returns another batch at each step.
        """

    @abc.abstractmethod
    def mean(self, replica_fn: Replica[Nest], batch: Batch) -> Outcome[Nest]:
        """Returns the mean of replica_fn over the parts of a batch.

        It equals replica_fn(batch, 0) if the tensors of the outcome are means over the batch.

        Args:
            replica_fn: The function (images, part). `part` is the index of these images among the
                equal parts into which hosts, minibatches and replicas split the batch of the step,
                in the order of the images: an int or an int32 scalar.
            batch: The batch, {name: tensor [batch, ...]}.
        """

    @abc.abstractmethod
    def over_replicas(self, tensor: tf.Tensor) -> tf.Tensor:
        """Returns the mean of a float32 tensor over the replicas, on each of them.

        It is called within a step.
        """

    @abc.abstractmethod
    def once(self, function: Callable[[Batch], Nest], batch: Batch) -> Nest:
        """Returns function(batch), computed once on the device: a nest of float32 scalars."""

    @abc.abstractmethod
    def total(self, function: Callable[[Batch], Counted], batch: Batch) -> Counted:
        """Returns what a function counts in a batch; each replica computes its part of it.

        Args:
            function: Counts a part of the batch.
            batch: The batch, {name: tensor [batch, ...]}.
        """

    @abc.abstractmethod
    def session_config(self) -> tf.ConfigProto:
        """Returns the options of Sessions on this device."""

    @abc.abstractmethod
    def ready(self, say: Say = print) -> ContextManager[None]:
        """Context manager: within it, Sessions on `target` can use the device.

        Args:
            say: Prints a line.
        """

    @abc.abstractmethod
    def at_loss(self, function: Callable[[], None]) -> None:
        """Registers a function to call before the process is ended because another host is lost."""

    @abc.abstractmethod
    def shared(self, numbers: List[int]) -> List[int]:
        """Returns the numbers of the first host.

        Every host must call it within `ready`, with equally many numbers.
        """

    @abc.abstractmethod
    def level(self, variables: Sequence[tf.Variable]) -> tf.Operation:
        """Returns the operation that sets variables to their values on the first host."""

    @abc.abstractmethod
    def asking(self) -> Asking:
        """Builds, in the current graph, the function that shares a signal with all hosts.

        Every host has to call the function equally often.

        Returns:
            A function of (session, number of a signal or None). It returns that number, or SIGTERM
            if another host has a signal, or None.
        """
