"""Prints lines and the progress of a run, which does not depend on whether they can be written.

Nothing here imports TensorFlow.
"""

import contextlib
import os
import sys
import time
from typing import Iterator, Optional, TextIO

from tqdm import tqdm

from training.types import Say

LINE_S = 60.0  # seconds between two lines of progress where there is no terminal
WARNING, RESULTS = 'warning: ', 'results: '  # beginnings of lines that --quiet leaves

_is_quiet = False


class _Forgiving:
    """A text stream that loses what cannot be written.

    Its reader may have died, its disk may be full, or it may not know a letter. A signal handler
    may also print while the stream is in use.

    Args:
        stream: The stream.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes a text, if that is possible, and returns its length."""
        try:
            self._stream.write(text)
        except UnicodeEncodeError:
            known = text.encode(self._stream.encoding or 'ascii', 'backslashreplace')
            self.write(known.decode(self._stream.encoding or 'ascii'))
        except (OSError, ValueError, RuntimeError) as error:
            self._lose(error)
        return len(text)

    def flush(self) -> None:
        """Writes what is still in memory, if that is possible."""
        try:
            self._stream.flush()
        except (OSError, ValueError, RuntimeError) as error:
            self._lose(error)

    def finish(self) -> None:
        """Writes what is still in memory; Python would otherwise fail to do so at its end."""
        try:
            self._stream.flush()
        except (OSError, ValueError, RuntimeError):
            self._close()
            self.flush()

    def _lose(self, error: Exception) -> None:
        if isinstance(error, BrokenPipeError):
            self._close()

    def _close(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, self._stream.fileno())
            os.close(nothing)


@contextlib.contextmanager
def forgiving() -> Iterator[None]:
    """Context manager: nothing that is printed within it can end the program."""
    before = sys.stdout, sys.stderr
    streams = _Forgiving(sys.stdout), _Forgiving(sys.stderr)
    sys.stdout, sys.stderr = streams
    try:
        yield
    finally:
        for stream in streams:
            stream.finish()
        sys.stdout, sys.stderr = before


@contextlib.contextmanager
def quiet(is_quiet: bool) -> Iterator[None]:
    """Context manager: whether only warnings and results are printed within it."""
    global _is_quiet
    before, _is_quiet = _is_quiet, is_quiet
    try:
        yield
    finally:
        _is_quiet = before


def hidden() -> Optional[bool]:
    """Returns what tqdm calls `disable`: None shows a bar on a terminal only."""
    return True if _is_quiet else None


def say(text: str) -> None:
    """Prints a line, above a progress bar if there is one, and flushes it."""
    if not _is_quiet or text.startswith((WARNING, RESULTS)):
        tqdm.write(text, file=sys.stdout)
        sys.stdout.flush()


class Progress(tqdm):
    """The progress of a training: a bar on a terminal, elsewhere a line a minute.

    Args:
        step: The first step.
        steps: The last step, or None for a training without end.
        batch_size: Images per step.
        epoch: Steps per epoch, or None if that is unknown.
        say: Prints a line.
    """

    def __init__(
        self, step: int, steps: Optional[int], batch_size: int, epoch: Optional[int], say: Say
    ) -> None:
        super().__init__(
            total=steps and steps * batch_size,
            initial=step * batch_size,
            unit='img',
            unit_scale=True,
            desc='training',
            disable=hidden(),
            mininterval=1.0,
        )
        self._tells = bool(self.disable) and not _is_quiet
        self._steps, self._batch_size, self._epoch, self._tell = steps, batch_size, epoch, say
        self._told = step
        self._told_at = time.monotonic()

    def reached(self, step: int, loss: float) -> None:
        """Shows the step that was reached, and its loss."""
        if not self._tells:
            self.set_postfix(step=step, loss=f'{loss:.3f}', refresh=False)
            return
        took = time.monotonic() - self._told_at
        if took < LINE_S:
            return
        rate = (step - self._told) / took  # steps per second
        line = f'step {step:,}' + (f' of {self._steps:,}' if self._steps else '')
        if self._epoch:
            line += f', epoch {step / self._epoch:.2f}'
        line += f': loss {loss:.3f}, {rate * self._batch_size:,.1f} images/s'
        if self._steps and rate:
            line += f', {duration((self._steps - step) / rate)} left'
        self._tell(line)
        self._told, self._told_at = step, time.monotonic()


def duration(seconds: float) -> str:
    """Returns a duration as text: '40 s', '12 min' or '3.5 h'."""
    if seconds < 100:
        return f'{seconds:.0f} s'
    return f'{seconds / 60:.0f} min' if seconds < 6000 else f'{seconds / 3600:.1f} h'
