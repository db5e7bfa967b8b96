"""The purposes of the variables of a training."""

import enum
from typing import NamedTuple


class Role(enum.Enum):
    """The purpose of a variable. The value is the text that users see."""

    FORWARD = 'forward kernel'
    BACKWARD = 'backward kernel'
    FIXED = 'fixed matrix of a backward kernel'
    BIAS = 'bias'
    BATCH_NORM = 'batch norm'
    LOSS_SCALE = 'slot of the loss scale'
    STEP = 'step counter'

    @property
    def text(self) -> str:
        """The text that users see."""
        return self.value

    @property
    def is_of_network(self) -> bool:
        """Whether a network has such a variable even when it is not trained."""
        return self not in (Role.LOSS_SCALE, Role.STEP)


class Slot(NamedTuple):
    """The role of an optimiser's slot.

    Attributes:
        optimizer: The name of the optimiser, as in --optimizer.
    """

    optimizer: str

    @property
    def text(self) -> str:
        """The text that users see."""
        return f'slot of {self.optimizer}'

    @property
    def is_of_network(self) -> bool:
        """Always False. See Role.is_of_network."""
        return False
