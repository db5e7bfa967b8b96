"""Commands that do not outlive the process that started them.

A process that is killed by SIGKILL cannot stop what it has started. Its end is noticed by a pipe:
only this process can write into it, and the commands read from it. When they come to its end, they
behave as if they had received SIGTERM: they save a checkpoint and stop.
"""

import os
import signal
import subprocess
import threading
from typing import Mapping, Optional, Sequence, Tuple

LIFELINE = 'TRAINING_LIFELINE'  # environment variable: the pipe, as the number of a file

_pipe: Optional[Tuple[int, int, int]] = None  # the process that opened it, and its two ends


def start(
    words: Sequence[str], env: Optional[Mapping[str, str]] = None, **how: object
) -> 'subprocess.Popen[bytes]':
    """Starts a command that stops when this process ends, however it ends.

    It runs in a separate session: a Ctrl-C reaches this process alone, which stops the command.

    Args:
        words: The command; one of our programs, which call `follow`.
        env: Its environment; None for the environment of this process.
        **how: More arguments of subprocess.Popen.

    Raises:
        OSError: It cannot be started.
    """
    global _pipe
    if _pipe is None or _pipe[0] != os.getpid():  # this may be a fork of who opened it
        _pipe = (os.getpid(), *os.pipe())
    reading = _pipe[1]
    given = dict(os.environ if env is None else env, **{LIFELINE: str(reading)})
    how.update(env=given, pass_fds=[reading], start_new_session=True)
    return subprocess.Popen(words, **how)  # type: ignore[call-overload]


def follow() -> None:
    """Lets this process stop, as on SIGTERM, when the one that started it by `start` has ended."""
    number = os.environ.pop(LIFELINE, None)
    if number is None:
        return
    try:
        os.set_inheritable(int(number), False)  # a MongoDB server that we start keeps running
    except (OSError, ValueError):
        return
    threading.Thread(target=_wait, args=[int(number)], name='parent', daemon=True).start()


def _wait(reading: int) -> None:
    """Reads from the pipe, into which nothing is ever written, to its end."""
    try:
        while os.read(reading, 1):
            pass
    except OSError:
        return
    os.kill(os.getpid(), signal.SIGTERM)
