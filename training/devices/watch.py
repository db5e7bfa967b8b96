"""A watch that tells when one of several hosts is gone."""

import contextlib
import faulthandler
import os
import select
import signal
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Callable, Dict, Iterator, List, Optional, Sequence, Tuple, Type

from config.schema import ConfigError
from training import runtime
from training.types import Say

Host = Tuple[int, str]  # the index of a process, and where it listens, 'host:port'
Failure = Type[OSError]  # ConnectionRefusedError, a machine's answer, or OSError, none at all

TRY_AGAIN = 1.0  # seconds between two looks at a host
NO_ANSWER = 5.0  # seconds after which one look is given up
REFUSED, SILENT = 2, 3  # looks one after the other of which none found the process, or the machine
LINGER = 4  # looks of the others
PATIENCE = 10.0  # seconds for this process to end by itself once a host is gone
STUCK = 300.0  # seconds after which a process is ended none of whose Python threads runs
TELL_AFTER = 5.0  # seconds after which it is told for which hosts we wait


class Watch:
    """Looks whether the other hosts are there: each listens on its port as long as its process
    lives.

    hosts: 'host:port' of each. own: the index of this process. at_loss: called before this process
    is ended because a host is gone. Within its context, which the main thread enters, a process
    that does not end by itself within PATIENCE after that is ended, with exit code 1; so is one
    that crashes, where that is to be expected: TensorFlow 1.13.2's collectives read from address 0
    when a host goes (BufRendezvous::DoneWithHook), and would end this process before it could say
    which.
    """

    def __init__(
        self, hosts: Sequence[str], own: int, at_loss: Callable[[], None] = lambda: None
    ) -> None:
        self._others = [(index, host) for index, host in enumerate(hosts) if index != own]
        self._at_loss = at_loss
        self._naming = threading.Lock()
        self._lost = threading.Event()
        self._over = threading.Event()
        self._gone: List[Host] = []
        self._crashes = contextlib.ExitStack()

    def wait(self, seconds: float, say: Say) -> None:
        """Until all are there, for so many seconds at most. say: prints a line. Raises ConfigError
        that names the missing.
        """
        started, told = time.time(), False
        missing = self._others
        while True:
            missing = [(index, host) for index, host in missing if _look(host) is not None]
            waited = time.time() - started
            if not missing:
                return
            names = _names(missing)
            if waited > seconds:
                raise ConfigError(
                    f'--worker_hosts: no process answers at {names} after {waited:.0f} s; start '
                    'the same command there, with '
                    'its own --task_index'
                )
            if waited > TELL_AFTER and not told:
                say('waiting for ' + names)
                told = True
            time.sleep(TRY_AGAIN)

    def gone(self, seconds: float) -> List[Host]:
        """The hosts that are gone, for lost, waiting so long for the watch to find out; empty where
        all are there.

        Where one is, this takes so long that all others find out, too, before this process goes and
        is taken for the first.
        """
        if self._lost.wait(seconds):
            time.sleep(LINGER * TRY_AGAIN)
        return self._gone

    def __enter__(self) -> 'Watch':
        for other in self._others:
            threading.Thread(target=self._look_after, args=[other], daemon=True).start()
        threading.Thread(target=self._end, daemon=True).start()
        if runtime.HOSTS_CRASH:
            self._crashes.enter_context(_crashes_told(self._crashed))
        return self

    def __exit__(self, *exception: object) -> None:
        self._crashes.close()
        self._over.set()

    def _look_after(self, other: Host) -> None:
        failures: Dict[Failure, int] = {}
        while not self._over.wait(TRY_AGAIN):
            failure = _look(other[1])
            failures = {failure: failures.get(failure, 0) + 1} if failure else {}
            if (
                failures.get(ConnectionRefusedError, 0) >= REFUSED
                or failures.get(OSError, 0) >= SILENT
            ):
                self._lose(other)
                return

    def _lose(self, other: Host) -> None:
        """Names the first that is found to be gone, and any that is gone by then, of which one may
        have been the first.
        """
        with self._naming:
            if not self._lost.is_set():
                with ThreadPoolExecutor(len(self._others)) as looks:
                    found = list(looks.map(_look, [host for _, host in self._others]))
                self._gone = [
                    each for each, failure in zip(self._others, found) if failure or each == other
                ]
                self._lost.set()

    def _end(self) -> None:
        self._lost.wait()
        if not self._over.wait(
            PATIENCE
        ):  # the runtime waits for the host that is gone, and would do so for ever
            self._leave(lost(self._gone))

    def _crashed(self) -> None:
        gone = self.gone(NO_ANSWER * (SILENT + 1))
        if not gone:
            faulthandler.dump_traceback()
        self._leave(
            lost(gone)
            if gone
            else 'TensorFlow crashed (SIGSEGV); start the same commands again with --do_restore'
        )

    def _leave(self, words: str) -> None:
        try:
            self._at_loss()
        except Exception as error:  # whatever it is, this process has to end
            print(f'error: {error}', file=sys.stderr, flush=True)
        finally:
            print('error: ' + words, file=sys.stderr, flush=True)
            os._exit(1)


@contextlib.contextmanager
def _crashes_told(function: Callable[[], None]) -> Iterator[None]:
    """Within the context, function is called, in a thread of its own, when a thread of the process
    crashes. Three steps:

    1. The signal SIGSEGV is handled by doing nothing. The thread that crashed returns to its fault
       and meets it again and again, while the other threads go on: function has to end the process.
    2. Python's handler in C writes the number of each signal to a pipe, whatever the thread. A
       thread of ours waits at its end, and calls function when it reads SIGSEGV.
    3. If the thread that crashed holds Python's lock, no other one goes on. For that case
       faulthandler's own thread, which needs no lock, ends the process STUCK seconds after our
       thread last put it off.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    threading.Thread(target=_wait_for_crash, args=[reading, function], daemon=True).start()
    enabled = faulthandler.is_enabled()
    faulthandler.disable()
    wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    handler = signal.signal(signal.SIGSEGV, lambda *args: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGSEGV, handler)
        signal.set_wakeup_fd(wakeup)
        os.close(writing)
        if enabled:
            faulthandler.enable()


def _wait_for_crash(reading: int, function: Callable[[], None]) -> None:
    """Calls function when the pipe tells of SIGSEGV; until then, and until the pipe is closed, puts
    off the end of the process.
    """
    number = b''
    with open(reading, 'rb', buffering=0) as signals:
        while True:
            faulthandler.dump_traceback_later(STUCK, exit=True)
            if not select.select([signals], [], [], STUCK / 10)[0]:
                continue
            number = signals.read(1)
            if not number or number[0] == signal.SIGSEGV:
                break
    faulthandler.cancel_dump_traceback_later()
    if number:
        function()


def lost(hosts: Sequence[Host]) -> str:
    """What a user is told when hosts, as Watch.gone gives them, are gone."""
    return (
        '{} {} gone; look there for the reason, then start the same commands again with '
        '--do_restore: they continue from '
        'the newest checkpoint'.format(_names(hosts), 'is' if len(hosts) == 1 else 'are')
    )


def _names(hosts: Sequence[Host]) -> str:
    return ', '.join(f'host {host} (task {index})' for index, host in hosts)


def _look(host: str) -> Optional[Failure]:
    """None where a process listens there; else ConnectionRefusedError, the machine's answer, or
    OSError, none at all.
    """
    name, _, port = host.rpartition(':')
    try:
        socket.create_connection((name, int(port)), NO_ANSWER).close()
    except ConnectionRefusedError:
        return ConnectionRefusedError
    except OSError:
        return OSError
    return None
