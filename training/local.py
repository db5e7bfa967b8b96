"""Which of a run's checkpoints stay in its folder, and the copies of them in a bucket."""

import contextlib
import glob
import os
import re
import threading
from typing import Dict, List, Optional

import tensorflow.compat.v1 as tf

from training.restoring import DESCRIPTION

FILE = re.compile(r'checkpoint-(\d+)\.(index|data-\d{5}-of-\d{5})')


class Kept:
    """The newest few checkpoints of a folder, by when they were written.

    Checkpoints of this run count as written in the order of `add`. All others count as older, in
    the order of their files' times: a folder may hold checkpoints of an earlier run, of any step.

    Attributes:
        folder: str, of this machine or of one of TensorFlow's other file systems.
        keep: int, at least 1.
    """

    def __init__(self, folder: str, keep: int) -> None:
        self.folder, self.keep = folder, keep
        self._order: Dict[int, int] = {}  # {step: which of this run's checkpoints it is}
        self._added = 0

    def add(self, step: int) -> None:
        """Count the checkpoint of a step as the newest, before it is written."""
        self._added += 1
        self._order[step] = self._added

    def prune(self) -> None:
        """Remove all but the newest that may be removed. A file that cannot be removed stays."""
        with contextlib.suppress(tf.errors.OpError):
            files: Dict[int, List[str]] = {}
            for name in tf.gfile.ListDirectory(self.folder):
                match = FILE.fullmatch(name)
                if match:
                    files.setdefault(int(match.group(1)), []).append(f'{self.folder}/{name}')
            written = {
                step: (self._which(step), self._time(paths), step) for step, paths in files.items()
            }
            for step in sorted(files, key=lambda step: written[step])[: -self.keep]:
                # The index first.
                for path in sorted(files[step], reverse=True) if self._may_go(step) else ():
                    with contextlib.suppress(tf.errors.OpError):
                        tf.gfile.Remove(path)

    def _which(self, step: int) -> int:
        """Which of this run's checkpoints that of a step is, from 1 in the order of `add`; 0 for
        one of an earlier run.
        """
        return self._order.get(step, 0)

    def _may_go(self, step: int) -> bool:
        return True

    @staticmethod
    def _time(paths: List[str]) -> int:
        """When the newest of some files was written; 0 for files that were removed meanwhile."""
        newest = 0
        for path in paths:
            with contextlib.suppress(tf.errors.OpError):
                newest = max(newest, tf.gfile.Stat(path).mtime_nsec)
        return newest


class LocalCheckpoints(Kept):
    """The checkpoints of a run in its folder on this machine.

    A checkpoint is removed only where MongoDB holds it or a newer one, or where its .tar still lies
    beside it: the .tar is removed once MongoDB has acknowledged it.
    """

    def __init__(self, folder: str, keep: int) -> None:
        super().__init__(folder, keep)
        self._stored: Optional[int] = None  # which is the newest of this run that MongoDB holds
        self._pruning = threading.Lock()  # `stored` is called from another thread than the rest

    def prune(self) -> None:
        """Remove all but the newest, as far as they exist elsewhere."""
        with self._pruning:
            super().prune()

    def stored(self, tar: str) -> None:
        """Remove the .tar of a checkpoint that MongoDB has acknowledged, and what need not be kept
        any longer.
        """
        step = int(tar[: -len('.tar')].rpartition('-')[2])
        with contextlib.suppress(FileNotFoundError):
            os.remove(tar)
        self._stored = max(self._stored or 0, self._which(step))
        self.prune()

    def discard(self, step: int) -> None:
        """Remove what is there of a checkpoint that could not be saved whole."""
        for path in glob.glob(os.path.join(glob.escape(self.folder), f'checkpoint-{step}.*')):
            if re.search(r'\.(index|data-.*|tar.*)$', path):
                with contextlib.suppress(FileNotFoundError):
                    os.remove(path)

    def _may_go(self, step: int) -> bool:
        stored = self._stored is not None and self._which(step) <= self._stored
        return stored or os.path.exists(os.path.join(self.folder, f'checkpoint-{step}.tar'))


class Copies(Kept):
    """Copies of a run's checkpoints in a folder of one of TensorFlow's file systems, gs:// for
    example.
    """

    def __init__(self, folder: str, keep: int) -> None:
        super().__init__(folder, keep)
        # {step: path prefix} of those of the newest that could not be copied
        self._missing: Dict[int, str] = {}
        self._reason: Optional[str] = None

    def copy(self, prefix: str, step: int) -> bool:
        """Copy a checkpoint, and those of the newest before it whose copies failed.

        Returns:
            Whether the folder holds all that it should; `failure` says otherwise why not.
        """
        self.add(step)
        newest = sorted(self._order, key=self._which)[-self.keep :]
        self._missing = {each: path for each, path in self._missing.items() if each in newest}
        self._missing[step] = prefix
        self._reason = None
        for number in sorted(self._missing, key=self._which, reverse=True):
            try:
                self._copy(self._missing[number])
                del self._missing[number]
            except (OSError, tf.errors.OpError) as error:
                self._reason = self._reason or str(error).split('\n')[0]
                if number == step:  # the others would fail, too, and each try may take minutes
                    break
        self.prune()
        return not self._missing

    def holds(self, step: int) -> bool:
        """Whether the copy of a step's checkpoint is there, as far as the folder can be read."""
        with contextlib.suppress(tf.errors.OpError):
            return tf.gfile.Exists(f'{self.folder}/checkpoint-{step}.index')
        return False

    @property
    def failure(self) -> str:
        """A few words on the newest checkpoints that the folder lacks, and why; '' where it lacks
        none.
        """
        if not self._missing:
            return ''
        steps = ', '.join(f'{step:,}' for step in sorted(self._missing))
        return f'{self.folder} holds no copy of the checkpoint of step {steps} ({self._reason})'

    def _copy(self, prefix: str) -> None:
        tf.gfile.MakeDirs(self.folder)
        description = os.path.join(os.path.dirname(prefix), DESCRIPTION)
        paths = [description] if os.path.exists(description) else []
        paths += sorted(glob.glob(glob.escape(prefix) + '.data-*'))
        paths.append(prefix + '.index')  # without an index there is none
        for path in paths:
            tf.gfile.Copy(path, f'{self.folder}/{os.path.basename(path)}', overwrite=True)


def has_file_system(path: str) -> bool:
    """Whether TensorFlow knows the scheme of a path such as gs://bucket/folder. Nothing is asked of
    the network.
    """
    try:
        tf.gfile.Exists(path.split('://')[0] + '://')
    except tf.errors.UnimplementedError:
        return False
    except tf.errors.OpError:  # it is known, and misses the name of a bucket
        pass
    return True
