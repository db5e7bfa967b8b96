"""What a run does when the system (SIGTERM) or the user (SIGINT, Ctrl-C) asks it to stop."""

import signal
from types import FrameType
from typing import Callable, Optional

from training.errors import Stopped
from training.types import Say

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stop:
    """A context in which the first signal waits until the run can stop, and a second one ends the
    process at once.

    say: prints a line. Use it in the main thread, the only one to which Python gives signals.
    """

    def __init__(self, say: Say = print) -> None:
        self._say = say
        self._asked: Optional[int] = None  # the signal that came

    def __enter__(self) -> 'Stop':
        self._before = {number: signal.signal(number, self._ask) for number in SIGNALS}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self, asking: Callable[[Optional[int]], Optional[int]]) -> None:
        """Here the run can stop, and all its hosts are. Raises Stopped if one of them was asked to.

        asking: the number of the signal that came here, or None -> that of the signal that counts,
        or None.
        """
        number = asking(self._asked)
        if number is not None:
            raise Stopped(number, agreed=True)

    def now(self) -> None:
        """Here this host can stop, in the midst of what will be done anew. Raises Stopped if it was
        asked to.

        Never raise from the handler itself: TensorFlow's locks, if a signal finds it in one, would
        be held for ever.
        """
        if self._asked is not None:
            raise Stopped(self._asked)

    def _ask(self, number: int, frame: Optional[FrameType]) -> None:
        del frame
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        self._asked = number
        self._say(f'{signal.Signals(number).name}: saving, then stopping; once more stops at once')
