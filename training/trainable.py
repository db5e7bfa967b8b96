"""What the loop trains: the base of Experiment and FunctionExperiment, and the plan of its run."""

import abc
import math
from typing import Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

import tensorflow.compat.v1 as tf

from database.types import Document
from models.roles import Role, Slot
from training.types import Results


class Step(NamedTuple):
    """A training step, in terms of Session.run: initialise, then what devices.Call says."""

    initializer: tf.Operation
    train_op: tf.Operation
    scalars: Dict[str, tf.Tensor]
    steps: Optional[tf.Tensor]


class Plan(NamedTuple):
    """What a run does when. Durations are whole steps.

    Attributes:
        steps: length of the training; math.inf: until it is stopped.
        batch_size: images a step.
        validate_first: validate before the first step, too.
        validate_every: between two validations; None: at the end alone.
        weights_every: between two checkpoints that last.
        recent_every: between two checkpoints of which the newest few are kept; None: none.
        record_every: between two records without a validation or weights.
        initial_weights: keep the variables before the first step, too.
        keep: local checkpoints.
        save_to_gfs: names of results that go into GridFS instead of the record.
        known: those of them that need not be a validation's.
        limits: {name of a number of each step: size beyond which it will not come back}.
        skips: images that cannot be used of which so many are left out.
        source: where the images come from, for messages.
    """

    steps: float
    batch_size: int
    validate_first: bool
    validate_every: Optional[int]
    weights_every: Optional[int]
    recent_every: Optional[int]
    record_every: Optional[int]
    initial_weights: bool
    keep: int
    save_to_gfs: Sequence[str]
    known: Tuple[str, ...]
    limits: Mapping[str, float]
    skips: int
    source: str

    def next_event(self, step: int) -> int:
        """The first step after this one after which something is due: a validation, a checkpoint, a
        record or the end.
        """
        intervals = (self.validate_every, self.weights_every, self.recent_every, self.record_every)
        events = [step + every - step % every for every in intervals if every is not None]
        if not math.isinf(self.steps):
            events.append(int(self.steps))
        return min(events, default=step + 1)


class Trainable(abc.ABC):
    """A graph with the operations of a training step and of validations.

    Attributes:
        graph: holds them.
        global_step: the variable that counts the updates.
        step: the Step; None where the graph only validates.
        initializer: the operation that gives every variable its first value.
        variables: all that a checkpoint holds.
        roles: {name of a variable: what it is for}; empty where that is not known.
        saver: writes the variables.
        classes: how many the network tells apart; None where that is not known.
    """

    graph: tf.Graph
    global_step: tf.Variable
    step: Optional[Step]
    initializer: tf.Operation
    variables: List[tf.Variable]
    roles: Dict[str, Union[Role, Slot]]
    saver: tf.train.Saver
    classes: Optional[int] = None

    @property
    def training_step(self) -> Step:
        """The Step of a graph that trains. Raises ValueError for one that only validates."""
        if self.step is None:
            raise ValueError('this graph was built to validate: it has no training step')
        return self.step

    @property
    @abc.abstractmethod
    def plan(self) -> Plan:
        """What a run does when."""

    @abc.abstractmethod
    def run_steps(self, session: tf.Session, most: int) -> List[Document]:
        """Up to `most` training steps in one call: [{name: number} of the state before its update],
        one a step.
        """

    @abc.abstractmethod
    def validate(self, session: tf.Session, between: Callable[[], None] = lambda: None) -> Results:
        """{target: results} of every validation. between: is called before each batch, and what it
        raises ends the validation.
        """

    @abc.abstractmethod
    def find_damage(self, step: int, steps: int, in_files: bool) -> Optional[str]:
        """One sentence on the record that kept the steps after `step` from being done, or None.

        steps: in the call. in_files: the files themselves cannot be read.
        """

    @abc.abstractmethod
    def summary(self, results: Results) -> str:
        """One line of what `validate` gave."""

    @abc.abstractmethod
    def warnings(self, results: Results) -> List[str]:
        """What is odd about what `validate` gave: sentences."""
