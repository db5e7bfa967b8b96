"""The errors that end a run early. Each is reported to the user in one sentence."""

import signal


class TrainingError(Exception):
    """A training or validation had to stop; the message says at which step and why."""


class Lost(TrainingError):
    """A training has diverged: a loss or a variable is not finite, or a loss is too large.

    The cause is the settings of the training, not the data, the machine or the database.

    Attributes:
        exit_code: Exit code of the process. A search tells a diverged trial from a failed one by
            it.
    """

    exit_code = 3


class CheckpointError(Exception):
    """A checkpoint cannot be found or restored, or its folder cannot be created.

    If it does not fit the network, the message lists the variables that are missing, extra or of
    another shape.
    """


class Stopped(Exception):
    """A run was asked to stop by a signal.

    Attributes:
        signal: Number of the signal.
        exit_code: Exit code of the process: 128 + signal.
        agreed: Whether all hosts of the run know about it.
    """

    def __init__(self, number: int, agreed: bool = False) -> None:
        super().__init__(signal.Signals(number).name)
        self.signal = number
        self.exit_code = 128 + number
        self.agreed = agreed
