"""Signals that tests ignore because they were started in the background or under nohup."""

import signal


def end_here():
    """Lets the commands that this process starts receive SIGINT and SIGHUP.

    A command ignores the signals that its parent ignores, but not those that its parent handles. If
    this process ignores one of the two, it gets a handler that does nothing.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
