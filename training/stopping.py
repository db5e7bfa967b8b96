"""Stops a run cleanly on a signal from a user, a scheduler, a terminal or a limit."""

import signal
from types import FrameType
from typing import Callable, ClassVar, Optional

from training.errors import Stopped
from training.types import Say

# The first two are always heeded, and a second one stops at once. The others are left alone where
# they are ignored, as SIGHUP is under nohup. They may be sent again, which has no effect.
ASKING = (signal.SIGTERM, signal.SIGINT)
NOTIFYING = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)
SIGNALS = ASKING + NOTIFYING


class Stop:
    """Context manager: a first signal waits until the run can stop; a second ends the process.

    Use it in the main thread: Python delivers signals to no other. A nested one
    shares its state with the outer one: both know a signal that either has received.

    Args:
        say: Prints a line.
    """

    _innermost: ClassVar[Optional['Stop']] = None

    def __init__(self, say: Say = print) -> None:
        self._say = say
        self._asked: Optional[int] = None  # number of the signal that was received
        self._outer: Optional[Stop] = None

    def __enter__(self) -> 'Stop':
        self._outer, Stop._innermost = Stop._innermost, self
        if self._outer:
            self._asked = self._outer._asked
            return self
        heeded = [
            number
            for number in SIGNALS
            if number in ASKING or signal.getsignal(number) is not signal.SIG_IGN
        ]
        self._before = {number: signal.signal(number, self._ask) for number in heeded}
        return self

    def __exit__(self, *exception: object) -> None:
        Stop._innermost = self._outer
        if self._outer:
            self._outer._asked = self._asked
            return
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
        for each in self._before:
            signal.signal(each, signal.SIG_DFL if each in ASKING else signal.SIG_IGN)
        innermost = Stop._innermost or self
        innermost._asked = number
        innermost._say(
            f'{signal.Signals(number).name}: saving, then stopping; a second signal stops at once'
        )
