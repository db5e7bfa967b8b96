"""What the loop trains: the base class of Experiment and FunctionExperiment, and a run's Plan."""

import abc
import math
from typing import Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

import tensorflow.compat.v1 as tf

from database.types import Document
from models.roles import Role, Slot
from training.types import Results


class Step(NamedTuple):
    """A training step, as operations for Session.run.

    Attributes:
        initializer: Operation to run once before the first step.
        train_op: See devices.device.Call.
        scalars: See devices.device.Call.
        steps: See devices.device.Call.
    """

    initializer: tf.Operation
    train_op: tf.Operation
    scalars: Dict[str, tf.Tensor]
    steps: Optional[tf.Tensor]


class Plan(NamedTuple):
    """The schedule of a run. All durations are whole steps.

    Attributes:
        steps: Length of the training; math.inf trains until the run is stopped.
        batch_size: Images per step.
        validate_first: Whether to validate before the first step as well.
        validate_every: Steps between two validations; None validates only at the end.
        weights_every: Steps between two checkpoints that are kept for good; None keeps only the
            last.
        recent_every: Steps between two recent checkpoints, of which only the newest few are kept;
            None for no recent checkpoints.
        record_every: Steps between two records that hold neither a validation nor a checkpoint.
        initial_weights: Whether to keep a checkpoint of the variables before the first step.
        keep: How many local checkpoints to keep.
        save_to_gfs: Names of results that are stored in GridFS instead of the record.
        known: Names that the steps produce, so that save_to_gfs may list them although a validation
            does not have them.
        limits: {name of a number of each step: absolute value beyond which the run has diverged}.
        skips: How many images that cannot be used may be skipped.
        source: Where the images come from, for messages.
        steps_per_epoch: Steps per epoch; None if unknown.
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
    steps_per_epoch: Optional[int] = None

    def next_event(self, step: int) -> int:
        """Returns the next step at which a validation, a checkpoint, a record or the end is due."""
        intervals = (self.validate_every, self.weights_every, self.recent_every, self.record_every)
        events = [step + every - step % every for every in intervals if every is not None]
        if not math.isinf(self.steps):
            events.append(int(self.steps))
        return min(events, default=step + 1)


class Trainable(abc.ABC):
    """A graph with the operations of a training step and of validations.

    Attributes:
        graph: The graph.
        global_step: Variable that counts the updates.
        step: The training step; None if the graph only validates.
        initializer: Operation that gives every variable its initial value.
        variables: All variables that a checkpoint holds.
        roles: {name of a variable: its role}; empty if the roles are unknown.
        saver: Writes the variables.
        classes: Number of classes of the network; None if unknown.
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
        """The training step.

        Raises:
            ValueError: The graph only validates.
        """
        if self.step is None:
            raise ValueError('this graph was built to validate: it has no training step')
        return self.step

    @property
    @abc.abstractmethod
    def plan(self) -> Plan:
        """The schedule of a run."""

    @abc.abstractmethod
    def run_steps(self, session: tf.Session, most: int) -> List[Document]:
        """Runs up to `most` training steps in one call.

        Returns:
            [{name: number}], one dictionary per step, of the state before its update.
        """

    @abc.abstractmethod
    def validate(
        self,
        session: tf.Session,
        between: Callable[[], None] = lambda: None,
        in_detail: bool = False,
    ) -> Results:
        """Runs all validations and returns {target: results}.

        Args:
            session: Session with restored or trained variables.
            between: Called before each batch; an exception that it raises ends the validation.
            in_detail: Whether the results include layout.DETAILS, if the experiment has them.
        """

    @abc.abstractmethod
    def find_damage(self, step: int, steps: int, in_files: bool) -> Optional[str]:
        """Describes the damaged image because of which steps failed, in one sentence.

        Args:
            step: The last step that was done.
            steps: Number of steps in the call that failed.
            in_files: Whether the files themselves cannot be read.

        Returns:
            The sentence, or None if no damage was found.
        """

    @abc.abstractmethod
    def summary(self, results: Results) -> str:
        """Returns one line about the results of `validate`."""

    @abc.abstractmethod
    def warnings(self, results: Results) -> List[str]:
        """Returns warnings about the results of `validate`, as sentences."""
