"""What ends a run before its end, each told to the user in one sentence."""

import signal


class TrainingError(Exception):
    """Training or validation had to stop; the message says at which step and why."""


class Lost(TrainingError):
    """The numbers of a training are no finite ones any more: its settings are bad, and nothing else
    is wrong.

    Attributes:
        exit_code: that of the process, by which a search tells it from every other failure.
    """

    exit_code = 3


class CheckpointError(Exception):
    """A checkpoint that cannot be restored; the message lists what is missing, extra or of another
    shape.
    """


class Stopped(Exception):
    """A run was asked to stop.

    Attributes:
        signal: the number of the signal.
        agreed: whether all hosts of the run know.
    """

    def __init__(self, number: int, agreed: bool = False) -> None:
        super().__init__(signal.Signals(number).name)
        self.signal = number
        self.agreed = agreed
