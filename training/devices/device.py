"""What every device is and does."""

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
Part = Union[int, tf.Tensor]  # the index of a part of a batch, an int or int32 scalar
# step(batch) -> (an operation that updates the variables, the scalars of the step)
Step = Callable[[Batch], Tuple[tf.Operation, Scalars]]
# A nest of tensors (see nests.py), and operations that update variables.
Outcome = Tuple[Nest, List[tf.Operation]]
# replica_fn(batch, part) -> the Outcome of the part of a batch that a replica is given
Replica = Callable[[Batch, Part], Outcome[Nest]]
# asking(session, a signal's number or None) -> a signal's number or None
Asking = Callable[[tf.Session, Optional[int]], Optional[int]]


class Call(NamedTuple):
    """What Session.run does: run train_op and fetch scalars, of the state before each update.

    steps: the int32 scalar to feed, how many to do; then each of scalars is [steps]. None: one
    step, and each of scalars is a number.
    """

    train_op: tf.Operation
    scalars: Scalars
    steps: Optional[tf.Tensor]


class Device(abc.ABC):
    """Where the steps of a training run, and its validations.

    Attributes:
        replicas: how many replicas of a step work at the same time, on all hosts.
        hosts: how many processes take the steps together.
        part: of each batch that this process reads: (index, how many).
        leads: whether this process validates, saves and records.
        target: of Sessions.
        minibatches: how many equal parts of a batch are worked through one after the other, their
            results averaged.
        steps_per_call: the most steps in one call.
        compiled: whether each step is compiled by XLA.
        data_format: of images between layers, 'NHWC' or 'NCHW'.
    """

    replicas: int = 1
    hosts: int = 1
    part: Tuple[int, int] = (0, 1)
    leads: bool = True
    target: str = ''
    minibatches: int
    steps_per_call: int
    compiled: bool
    data_format: str

    @property
    @abc.abstractmethod
    def title(self) -> str:
        """What it is, for people: 'GPU 0', 'CPU'."""

    @abc.abstractmethod
    def call(self, step: Step, next_batch: Callable[[], Batch]) -> Call:
        """The Call that does steps.

        next_batch() gives another batch at each step.
        """

    @abc.abstractmethod
    def mean(self, replica_fn: Replica[Nest], batch: Batch) -> Outcome[Nest]:
        """The mean of replica_fn over the parts of a batch.

        part: the index of these images among the equal parts that hosts, minibatches and replicas
        cut the step's batch into, in the order of the images; an int or int32 scalar.
        Equal to replica_fn(batch, 0) where its tensors are batch means.
        """

    @abc.abstractmethod
    def over_replicas(self, tensor: tf.Tensor) -> tf.Tensor:
        """Within a step: the mean of a float32 tensor of each replica; what each of them knows
        then.
        """

    @abc.abstractmethod
    def once(self, function: Callable[[Batch], Nest], batch: Batch) -> Nest:
        """function(batch) -> dictionary, or nested ones, of float32 scalars, computed on the
        device.
        """

    @abc.abstractmethod
    def total(self, function: Callable[[Batch], Scalars], batch: Batch) -> Scalars:
        """The same of sums over the images of a batch, each replica doing its part."""

    @abc.abstractmethod
    def session_config(self) -> tf.ConfigProto:
        """The options of Sessions on this device."""

    @abc.abstractmethod
    def ready(self, say: Say = print) -> ContextManager[None]:
        """While the device can be used by Sessions on its `target`. say: prints a line."""

    @abc.abstractmethod
    def at_loss(self, function: Callable[[], None]) -> None:
        """What to call before the process is ended because another host is gone."""

    @abc.abstractmethod
    def shared(self, numbers: List[int]) -> List[int]:
        """The numbers that the first host gives; every host gives as many. While the device is
        ready.
        """

    @abc.abstractmethod
    def level(self, variables: Sequence[tf.Variable]) -> tf.Operation:
        """The operation that gives variables the values that they have on the first host."""

    @abc.abstractmethod
    def asking(self) -> Asking:
        """Of a graph: the function of (session, a signal's number or None) that gives it, or
        SIGTERM where another host has one; every host has to call it as often."""
