"""A background thread that writes jobs in order and repeats each until an outage is over."""

import collections
import os
import threading
from typing import Callable, Deque, List, Optional

from database.errors import StoreError
from database.spool import Spool
from database.types import Document

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
LAST_TRY_S = 5.0  # how long close() waits for an attempt in progress


class Job:
    """One thing to write.

    Args:
        name: A description for messages.
        write: Writes it.
        done: Called once after it is written, or None.
        entry: The document that the spool keeps.
        kept: Path of the spool file it was loaded from, if any.

    Attributes:
        kept: Path of its file in the spool, or None.
        written: Whether it is written.
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
    """Writes jobs in a background thread, one after the other, in the order they were added.

    During an outage, all waiting jobs are also kept in the spool, so that they survive the end of
    the process. The constructor starts the thread.

    Args:
        is_outage: Takes an error; returns whether the same job may succeed later.
        explain: Takes an error; returns a short explanation.
        spool: The spool that keeps the waiting jobs, or None to keep nothing.

    Attributes:
        errors: One message for each job that can never be written.
    """

    def __init__(
        self,
        is_outage: Callable[[Exception], bool],
        explain: Callable[[Exception], str],
        spool: Optional[Spool] = None,
    ) -> None:
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
            name: A description of what is written, for messages.
            write: Writes it. It is called until no outage occurs, so it must be idempotent.
            done: Called once after it is written, or None.
            entry: The document that the spool keeps.
            kept: Path of the spool file it was loaded from, if any.

        Raises:
            StoreError: The writer is closed.
        """
        with self._changed:
            if self._closing.is_set():
                raise StoreError(f'The store is closed, so {name} was not written.')
            self._jobs.append(Job(name, write, done, entry, kept))
            self._changed.notify_all()

    @property
    def pending(self) -> List[str]:
        """The names of the jobs that are not done, first in first."""
        with self._changed:
            return [job.name for job in self._jobs]

    @property
    def trouble(self) -> Optional[str]:
        """A short explanation of the current outage, or None."""
        return self._trouble

    def flush(self, timeout_s: Optional[float] = None) -> bool:
        """Waits until no job is left.

        Args:
            timeout_s: How many seconds to wait at most, or None to wait without a limit.

        Returns:
            Whether no job is left and every job so far could be written.
        """
        with self._changed:
            return self._changed.wait_for(lambda: not self._jobs, timeout_s) and not self.errors

    def close(self, timeout_s: float) -> None:
        """Flushes and ends the thread. Unfinished jobs stay in `pending` and in the spool.

        Args:
            timeout_s: How many seconds to wait at most for the jobs.
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
        """Tries a job until it is written or has failed for good.

        Returns:
            False if the writer was closed first.
        """
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                job.write()
                break
            # Whatever happens to one job, the others must still be written.
            except Exception as error:
                if self._closing.is_set():
                    return False
                if not self._is_outage(error):
                    self.errors.append(
                        f'MongoDB cannot store {job.name} '
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
        except Exception as error:  # an error in the caller's code must not end the thread either
            self.errors.append(
                f'MongoDB has stored {job.name}, but the next action failed '
                f'({self._explain(error)}).'
            )
        return True

    def _keep(self) -> None:
        """Writes all waiting jobs to the spool in order; adds a failing disk to `trouble`."""
        if not self._spool:
            return
        with self._changed:
            try:
                for job in self._jobs:
                    if not job.kept and not job.written:
                        job.kept = self._spool.keep(job.entry)
            except OSError as error:
                self._trouble = (
                    f'{self._trouble}; {self._spool.folder} cannot store a copy either: '
                    f'{error.strerror}'
                )

    def _set_aside(self, job: Job) -> str:
        """Keeps a job that can never be written in the spool; returns words for the message."""
        if not self._spool:
            return ''
        try:
            job.kept = self._spool.refuse(job.kept or self._spool.keep(job.entry))
        except OSError as error:
            return f', and it could not be kept on disk ({error.strerror})'
        return '; it is kept as ' + job.kept
