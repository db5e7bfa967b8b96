"""A thread that writes: jobs in, first in first out, each repeated until the outage it met is
over.
"""

import collections
import os
import threading
from typing import Callable, Deque, List, Optional

from database.errors import StoreError
from database.spool import Spool
from database.types import Document

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
LAST_TRY_S = 5.0  # how long close() lets a try in progress come to its end


class Job:
    """One thing to write. kept: the path of its entry in the spool, or None. written: whether it
    is.
    """

    def __init__(
        self,
        name: str,
        write: Callable[[], None],
        done: Optional[Callable[[], None]],
        entry: Document,
        kept: Optional[str],
    ) -> None:
        self.name, self.write, self.done = name, write, done
        self.entry, self.kept, self.written = entry, kept, False


class Writer:
    """Does jobs in a background thread, one after the other, in the order in which they were added.

    During an outage, all jobs that wait are kept in a spool, too, so that they outlive the process.

    Attributes:
        errors: one sentence a job that can never be written.
    """

    def __init__(
        self,
        is_outage: Callable[[Exception], bool],
        explain: Callable[[Exception], str],
        spool: Optional[Spool] = None,
    ) -> None:
        """Starts the thread.

        Args:
            is_outage: error -> whether the same job may succeed later.
            explain: error -> a few words.
            spool: what keeps the jobs that wait; None keeps nothing.
        """
        self.errors: List[str] = []
        self._is_outage, self._explain, self._spool = is_outage, explain, spool
        self._trouble: Optional[str] = None
        self._jobs: Deque[Job] = collections.deque()
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name='database writer', daemon=True)
        self._thread.start()

    def add(
        self,
        name: str,
        write: Callable[[], None],
        done: Optional[Callable[[], None]],
        entry: Document,
        kept: Optional[str] = None,
    ) -> None:
        """Queues a job and returns at once.

        Args:
            name: what is written, for messages.
            write: called until it meets no outage; must leave one and the same result however often
            it is called.
            done: called after it, once.
            entry: what the spool keeps of it, a document.
            kept: the path of that in the spool, where it comes from there.

        Raises:
            StoreError: the writer is closed.
        """
        with self._changed:
            if self._closing.is_set():
                raise StoreError(f'The store is closed: {name} was not written.')
            self._jobs.append(Job(name, write, done, entry, kept))
            self._changed.notify_all()

    @property
    def pending(self) -> List[str]:
        """The names of the jobs that are not done, first in first."""
        with self._changed:
            return [job.name for job in self._jobs]

    @property
    def trouble(self) -> Optional[str]:
        """A few words on the outage of the moment, or None."""
        return self._trouble

    def flush(self, timeout_s: Optional[float] = None) -> bool:
        """Waits until no job is left.

        Returns:
            Whether every job was done within `timeout_s` seconds.
        """
        with self._changed:
            return self._changed.wait_for(lambda: not self._jobs, timeout_s) and not self.errors

    def close(self, timeout_s: float) -> None:
        """Flushes and ends the thread; what is not done then stays in `pending`, and in the
        spool.
        """
        if not self.flush(timeout_s):
            self._keep()
        with self._changed:
            self._closing.set()
            self._changed.notify_all()
        self._thread.join(LAST_TRY_S)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._jobs) or self._closing.is_set())
                if self._closing.is_set():
                    return
                job = self._jobs[0]
            if self._write(job):
                with self._changed:
                    self._jobs.popleft()
                    self._changed.notify_all()

    def _write(self, job: Job) -> bool:
        """Tries a job until it is done or can never be; returns False when the writer closes before
        that.
        """
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                job.write()
                break
            except (
                Exception
            ) as error:  # whatever one job meets, those behind it must still be written
                if self._closing.is_set():
                    return False
                if not self._is_outage(error):
                    self.errors.append(
                        f'{job.name} can not be written '
                        f'({self._explain(error)}){self._set_aside(job)}.'
                    )
                    return True
                self._trouble = self._explain(error)
                self._keep()
            self._closing.wait(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        self._trouble = None
        try:
            with self._changed:
                job.written = True
                if job.kept:
                    os.remove(job.kept)
            if job.done:
                job.done()
        except Exception as error:  # the caller's code: it must not end the thread either
            self.errors.append(
                f'{job.name} is written, but what should follow failed ({self._explain(error)}).'
            )
        return True

    def _keep(self) -> None:
        """Everything that waits goes into the spool, in its order; a disk that takes nothing is
        told of in `trouble`.
        """
        if not self._spool:
            return
        with self._changed:
            try:
                for job in self._jobs:
                    if not job.kept and not job.written:
                        job.kept = self._spool.keep(job.entry)
            except OSError as error:
                self._trouble = (
                    f'{self._trouble}; and {self._spool.folder} takes no copy: {error.strerror}'
                )

    def _set_aside(self, job: Job) -> str:
        """Keeps what can never be written in the spool all the same; some words on where it
        lies.
        """
        if not self._spool:
            return ''
        try:
            job.kept = self._spool.refuse(job.kept or self._spool.keep(job.entry))
        except OSError as error:
            return f', nor kept ({error.strerror})'
        return ', but is kept as ' + job.kept
