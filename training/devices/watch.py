"""Watches the other hosts of a training, and ends this process when one of them is lost."""

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

Host = Tuple[int, str]  # the index of a process, and its address, 'host:port'
# ConnectionRefusedError if the machine answers but no process listens; OSError if nothing answers.
Failure = Type[OSError]

TRY_AGAIN = 1.0  # seconds between two connection attempts to a host
NO_ANSWER = 5.0  # timeout of one attempt, in seconds
REFUSED, SILENT = 2, 3  # a host is lost after this many refused, or unanswered, attempts in a row
LINGER = 4  # attempts that the other hosts can make before this process ends
PATIENCE = 10.0  # seconds in which this process may end by itself once a host is lost
PARTING = 60.0  # seconds that this process waits for the others once its work is done
STUCK = 300.0  # seconds without any running Python thread after which the process is ended
TELL_AFTER = 5.0  # seconds of waiting after which the missing hosts are printed


class Watch:
    """Checks that the other hosts are alive: each listens on its port while its process runs.

    It is a context manager that the main thread enters. When a host is lost within it, this process
    is ended with exit code 1 unless it ends by itself within PATIENCE. A crash of this process is
    handled too, on the runtimes where one is expected: the collectives of TensorFlow 1.13.2 read
    from address 0 when a host is lost (BufRendezvous::DoneWithHook), which would end this process
    before it could name that host.

    Args:
        hosts: The addresses of all hosts, 'host:port' each.
        own: The index of this process.
        at_loss: Called before this process is ended because a host is lost.
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
        self._code: Optional[int] = None  # exit code of this process once its work is done
        self._parting = threading.Timer(PARTING, self._leave, ['the other hosts do not end'])
        self._parting.daemon = True
        self._crashes = contextlib.ExitStack()

    def wait(self, seconds: float, say: Say) -> None:
        """Waits until all hosts answer.

        Args:
            seconds: The longest time to wait.
            say: Prints a line.

        Raises:
            ConfigError: A host does not answer in this time. The message names it.
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
        """Returns the lost hosts, for `lost`; an empty list if all hosts are alive.

        If a host is lost, this waits until the other hosts have noticed it too. Otherwise they
        could take this process, once it ends, for the first lost host.

        Args:
            seconds: How long to wait for the watch to notice a loss.
        """
        if self._lost.wait(seconds):
            time.sleep(LINGER * TRY_AGAIN)
        return self._gone

    def finish(self, code: int) -> None:
        """Marks the work as done, after which the loss of a host is no longer an error.

        The process is ended if it is still within this context manager after PARTING.

        Args:
            code: The exit code of this process if it has to be ended.
        """
        self._code = code
        self._parting.start()

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
        self._parting.cancel()

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
        """Records a lost host and all others lost by now: one of them may have been the first."""
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
        if not self._over.wait(PATIENCE):  # TensorFlow would wait for the lost host for ever
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
        except Exception as error:  # this process has to end, whatever the error
            print(f'error: {error}', file=sys.stderr, flush=True)
        finally:
            with contextlib.suppress(OSError, ValueError):  # the output may be closed
                if self._code is None:
                    print('error: ' + words, file=sys.stderr, flush=True)
                sys.stdout.flush()
            os._exit(1 if self._code is None else self._code)


@contextlib.contextmanager
def _crashes_told(function: Callable[[], None]) -> Iterator[None]:
    """Context manager: calls a function in a separate thread when a thread of the process crashes.

    It works in three steps:

    1. The handler of the signal SIGSEGV does nothing. The thread that crashed returns to the faulty
       instruction and faults again and again, while the other threads continue. The function has to
       end the process.
    2. Python's signal handler in C writes the number of each signal to a pipe, in any thread. A
       thread of this module reads the pipe and calls the function when it reads SIGSEGV.
    3. If the thread that crashed holds Python's global lock, no other Python thread can continue.
       For this case, the thread of faulthandler, which needs no lock, ends the process STUCK
       seconds after this module's thread last postponed it.
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
    """Calls the function when SIGSEGV is read from the pipe.

    Until then, or until the pipe is closed, it keeps postponing the end of the process.
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
    """Returns the message to the user when hosts, as returned by Watch.gone, are lost."""
    return (
        f'{_names(hosts)} {"is" if len(hosts) == 1 else "are"} gone; look for the reason in the '
        'output there, then start the same commands again with --do_restore to resume from the '
        'newest checkpoint'
    )


def _names(hosts: Sequence[Host]) -> str:
    return ', '.join(f'host {host} (task {index})' for index, host in hosts)


def _look(host: str) -> Optional[Failure]:
    """Returns None if a process listens at the address, and its Failure otherwise."""
    name, _, port = host.rpartition(':')
    try:
        socket.create_connection((name, int(port)), NO_ANSWER).close()
    except ConnectionRefusedError:
        return ConnectionRefusedError
    except OSError:
        return OSError
    return None
