"""Signals that a process ignores because it was started in the background or under nohup."""

import signal


def end_here():
    """Makes the commands that this process starts not ignore SIGINT and SIGHUP.

    This process still does nothing at these signals if it ignored them. But a command ignores what
    its parent ignores, and not what its parent handles.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
