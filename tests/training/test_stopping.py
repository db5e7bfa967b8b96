"""Signals ask a run to stop, wherever it is; and no process outlives the one that started it."""

import os
import signal
import subprocess
import sys
import time

import pytest

from training import stopping
from training.errors import Stopped

HERE = os.path.dirname(os.path.abspath(__file__))
CHILDREN = os.path.join(os.path.dirname(os.path.dirname(HERE)), 'training', 'children.py')
NAMES = ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGUSR1', 'SIGUSR2', 'SIGXCPU']
CODES = dict(SIGTERM=143, SIGINT=130, SIGHUP=129, SIGUSR1=138, SIGUSR2=140, SIGXCPU=152)


@pytest.fixture(autouse=True)
def handlers():
    """Restores all handlers of signals, and checks that nothing else had to."""
    numbers = [getattr(signal, name) for name in NAMES]
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    after = {number: signal.getsignal(number) for number in numbers}
    for number, handler in before.items():
        signal.signal(number, handler)
    assert after == before


@pytest.fixture
def ignored():
    """SIGHUP and SIGUSR2 are ignored, as under nohup."""
    numbers = signal.SIGHUP, signal.SIGUSR2
    before = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    yield
    for number, handler in zip(numbers, before):
        signal.signal(number, handler)


@pytest.mark.parametrize('name', NAMES)
def test_a_signal_is_remembered_until_the_run_can_stop(name):
    told = []
    with stopping.Stop(told.append) as stop:
        stop.now()
        os.kill(os.getpid(), getattr(signal, name))
        with pytest.raises(Stopped, match=name) as stopped:
            stop.now()
    assert stopped.value.exit_code == CODES[name] and stopping.SIGNALS[0] == signal.SIGTERM
    assert told == [f'{name}: saving, then stopping; a second signal stops at once']


def test_what_a_scheduler_sends_again_does_not_end_the_run():
    told = []
    with stopping.Stop(told.append) as stop:
        for name in ('SIGXCPU', 'SIGXCPU', 'SIGUSR1', 'SIGHUP', 'SIGUSR2'):
            os.kill(os.getpid(), getattr(signal, name))
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL  # this one ends it
        with pytest.raises(Stopped, match='SIGXCPU'):
            stop.now()
    assert len(told) == 1


def test_an_ignored_signal_stays_ignored(ignored):
    with stopping.Stop() as stop:
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGUSR2)
        stop.now()


@pytest.mark.parametrize('inside', [True, False])
def test_one_inside_of_another_one_stops_as_well(inside):
    told = []
    with stopping.Stop(told.append) as outer:
        if not inside:
            os.kill(os.getpid(), signal.SIGUSR1)
        with pytest.raises(Stopped, match='SIGUSR1'):
            with stopping.Stop(told.append) as inner:
                if inside:
                    os.kill(os.getpid(), signal.SIGUSR1)
                inner.now()
        with pytest.raises(Stopped, match='SIGUSR1'):
            outer.now()
    assert len(told) == 1


def test_hosts_agree_on_a_signal():
    with stopping.Stop() as stop:
        stop.check(lambda number: None)
        with pytest.raises(Stopped, match='SIGUSR2') as stopped:
            stop.check(lambda number: signal.SIGUSR2)
    assert stopped.value.agreed


# A process that starts a command, as a search starts a training, and waits for it.
PARENT = """
import importlib.util, os, subprocess, sys, time
spec = importlib.util.spec_from_file_location('children', sys.argv[1])
children = importlib.util.module_from_spec(spec)
spec.loader.exec_module(children)
if sys.argv[2] == 'parent':
    started = [
        children.start([sys.executable, '-c', sys.argv[3], sys.argv[1], 'child', str(n)],
                       stdout=subprocess.DEVNULL)
        for n in range(3)
    ]
    print(*[process.pid for process in started], flush=True)
    time.sleep(60)
else:
    children.follow()
    assert children.LIFELINE not in os.environ
    time.sleep(60)
"""


def is_alive(process):
    """Returns whether a process runs; one that has ended but was not waited for does not."""
    try:
        with open(f'/proc/{process}/stat') as file:
            return file.read().rpartition(')')[2].split()[0] != 'Z'
    except FileNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGTERM])
def test_no_command_outlives_the_process_that_started_it(number):
    with subprocess.Popen(
        [sys.executable, '-c', PARENT, CHILDREN, 'parent', PARENT], stdout=subprocess.PIPE
    ) as parent:
        started = [int(word) for word in parent.stdout.readline().split()]
        assert len(started) == 3 and all(map(is_alive, started))
        time.sleep(0.5)  # until they follow
        assert all(map(is_alive, started))
        parent.send_signal(number)
        parent.wait()
    deadline = time.monotonic() + 20
    while any(map(is_alive, started)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_alive, started))
