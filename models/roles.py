"""What the variables of a training are for."""

import enum
from typing import NamedTuple


class Role(enum.Enum):
    """What a variable is for. The value is its text for people."""

    FORWARD = 'forward kernel'
    BACKWARD = 'backward kernel'
    FIXED = 'fixed matrix of a backward kernel'
    BIAS = 'bias'
    BATCH_NORM = 'batch norm'
    LOSS_SCALE = 'slot of the loss scale'
    STEP = 'step counter'

    @property
    def text(self) -> str:
        """For people."""
        return self.value

    @property
    def is_of_network(self) -> bool:
        """Whether a network without its training has such a variable."""
        return self not in (Role.LOSS_SCALE, Role.STEP)


class Slot(NamedTuple):
    """The role of a variable in which an optimiser, by its name in --optimizer, keeps something."""

    optimizer: str

    @property
    def text(self) -> str:
        """For people."""
        return f'slot of {self.optimizer}'

    @property
    def is_of_network(self) -> bool:
        """See Role.is_of_network."""
        return False
