"""A background thread that writes jobs in order and repeats each until an outage is over."""

import collections
import contextlib
import os
import threading
import time
from typing import Callable, Deque, List, Optional

from bson.errors import BSONError

from database.errors import StoreError
from database.spool import REFUSED, Spool
from database.types import Document

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
LAST_TRY_S = 5.0  # how long close() waits for an attempt in progress
KEEP_S = 5.0  # a job that waits longer is kept in the spool, too


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
        added: When it was added, on the monotonic clock.
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
        self.added = time.monotonic()


class Writer:
    """Writes jobs in a background thread, one after the other, in the order they were added.

    During an outage, all waiting jobs are also kept in the spool, so that they survive the end of
    the process. So is each job that waits longer than KEEP_S: a server that hangs is noticed only
    when a request has timed out. The constructor starts two threads: one writes, and the other
    keeps what waits too long.

    Args:
        is_outage: Takes an error; returns whether the same job may succeed later.
        explain: Takes an error; returns a short explanation.
        spool: The spool that keeps the waiting jobs, or None to keep nothing.
        suffix: Takes an error that is no outage; returns how the spool marks the entry.

    Attributes:
        errors: One message for each job that could not be written.
    """

    def __init__(
        self,
        is_outage: Callable[[Exception], bool],
        explain: Callable[[Exception], str],
        spool: Optional[Spool] = None,
        suffix: Callable[[Exception], str] = lambda error: REFUSED,
    ) -> None:
        self.errors: List[str] = []
        self._suffix = suffix
        self._full: Optional[str] = None  # why the spool cannot keep what waits
        # Held while an entry is written or removed, so that nobody waits for the disk to add a job.
        self._keeping = threading.Lock()
        self._is_outage, self._explain, self._spool = is_outage, explain, spool
        self._trouble: Optional[str] = None
        self._jobs: Deque[Job] = collections.deque()
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name='database writer', daemon=True)
        self._keeper = threading.Thread(target=self._watch, name='spool', daemon=True)
        for thread in (self._thread, self._keeper) if spool else (self._thread,):
            thread.start()

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
        if self._trouble is None or self._full is None:
            return self._trouble
        return f'{self._trouble}; {self._full}'

    @property
    def is_kept(self) -> bool:
        """Whether all jobs that are not done are in the spool."""
        with self._changed:
            return all(job.kept for job in self._jobs)

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
        if self._spool:
            self._keeper.join(LAST_TRY_S)

    def _watch(self) -> None:
        """Keeps each job that waits longer than KEEP_S in the spool."""
        while not self._closing.wait(KEEP_S / 5):
            self._keep(KEEP_S)

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
                        f'({self._explain(error)}){self._set_aside(job, error)}.'
                    )
                    return True
                self._trouble = self._explain(error)
                self._keep()
            self._closing.wait(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        self._trouble = None
        try:
            with self._keeping:
                job.written = True
                if job.kept:
                    with contextlib.suppress(FileNotFoundError):
                        os.remove(job.kept)
            if job.done:
                job.done()
        except Exception as error:  # an error in the caller's code must not end the thread either
            self.errors.append(
                f'MongoDB has stored {job.name}, but the next action failed '
                f'({self._explain(error)}).'
            )
        return True

    def _keep(self, older_than_s: float = 0.0) -> None:
        """Writes the waiting jobs to the spool in order; sets `_full` if they cannot be written.

        Args:
            older_than_s: Only jobs that have waited longer are written.
        """
        if not self._spool:
            return
        with self._changed:
            jobs = list(self._jobs)
        before = time.monotonic() - older_than_s
        try:
            for job in jobs:
                with self._keeping, contextlib.suppress(BSONError, OverflowError):
                    # A record that cannot be encoded is refused when its turn comes.
                    if not job.kept and not job.written and job.added <= before:
                        job.kept = self._spool.keep(job.entry)
                        self._full = None
        except OSError as error:
            self._full = f'{self._spool.folder} cannot store a copy either: {error.strerror}'

    def _set_aside(self, job: Job, error: Exception) -> str:
        """Keeps a job that is not written in the spool; returns a part of the message."""
        if not self._spool:
            return ''
        try:
            with self._keeping:
                kept = job.kept or self._spool.keep(job.entry)
                job.kept = self._spool.set_aside(kept, self._suffix(error))
        except (OSError, BSONError, OverflowError) as failure:
            reason = failure.strerror if isinstance(failure, OSError) else self._explain(failure)
            return f', and it could not be kept on disk ({reason})'
        return '; it is kept as ' + job.kept
