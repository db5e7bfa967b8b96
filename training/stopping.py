"""Stops a run cleanly on SIGTERM or SIGINT (Ctrl-C)."""

import signal
from types import FrameType
from typing import Callable, Optional

from training.errors import Stopped
from training.types import Say

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stop:
    """Context manager: a first signal waits until the run can stop; a second ends the process.

    Use it in the main thread: Python delivers signals to no other.

    Args:
        say: Prints a line.
    """

    def __init__(self, say: Say = print) -> None:
        self._say = say
        self._asked: Optional[int] = None  # number of the signal that was received

    def __enter__(self) -> 'Stop':
        self._before = {number: signal.signal(number, self._ask) for number in SIGNALS}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self, asking: Callable[[Optional[int]], Optional[int]]) -> None:
        """Called at points where it is safe to stop and all hosts are in step.

        Args:
            asking: Gets the number of the signal that this host received, or None; returns the
                number that all hosts agree on, or None.

        Raises:
            Stopped: One of the hosts was asked to stop.
        """
        number = asking(self._asked)
        if number is not None:
            raise Stopped(number, agreed=True)

    def now(self) -> None:
        """Called where this host can stop in the middle of work that will be repeated.

        The signal handler itself must not raise: if TensorFlow holds a lock when the signal
        arrives, the lock would never be released.

        Raises:
            Stopped: This host was asked to stop.
        """
        if self._asked is not None:
            raise Stopped(self._asked)

    def _ask(self, number: int, frame: Optional[FrameType]) -> None:
        del frame
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        self._asked = number
        self._say(
            f'{signal.Signals(number).name}: saving, then stopping; a second signal stops at once'
        )
