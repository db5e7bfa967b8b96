"""Tests give the same result if they are started in the background or under nohup."""

import os
import signal
import subprocess
import sys

SHOW = 'import signal; print(*[signal.getsignal(number) == signal.SIG_IGN for number in (1, 2)])'
PARENT = f"""
import os, signal, subprocess, sys
import ignored
for number in (signal.SIGHUP, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
if sys.argv[1:]:
    ignored.end_here()
for number in (signal.SIGHUP, signal.SIGINT):
    os.kill(os.getpid(), number)
subprocess.run([sys.executable, '-c', {SHOW!r}])
"""


def test_commands_of_tests_do_not_ignore_what_the_tests_ignore():
    def shown(*words):
        return subprocess.check_output(
            [sys.executable, '-c', PARENT, *words], cwd=os.path.dirname(os.path.abspath(__file__))
        ).decode()

    assert shown() == 'True True\n'
    assert shown('end_here') == 'False False\n'


def test_these_tests_have_ended_it():
    assert signal.SIG_IGN not in map(signal.getsignal, (signal.SIGHUP, signal.SIGINT))
