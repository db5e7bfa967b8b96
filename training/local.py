"""Decides which checkpoints of a run stay in its local folder, and copies them to a bucket."""

import contextlib
import glob
import json
import os
import re
import threading
from typing import Dict, List, Optional

import tensorflow.compat.v1 as tf

from data.base import reason
from database.store import Store
from database.types import Document
from training.errors import CheckpointError
from training.restoring import DESCRIPTION
from training.types import Say

MARK = 'claim.json'
OF_A_LIFE = re.compile(r'checkpoint-\d+\..*|settings\.json')
FILE = re.compile(r'checkpoint-(\d+)\.(index|data-\d{5}-of-\d{5})')


class Kept:
    """Keeps the checkpoints of a folder that were written last, and removes older ones.

    Checkpoints of this run are ordered by the calls of `add`. All others count as older, in the
    order of their files' times: a folder may hold checkpoints of an earlier run, at any step.

    Attributes:
        folder: Path of the folder, local or on one of TensorFlow's other file systems.
        keep: How many checkpoints to keep, at least 1.
    """

    def __init__(self, folder: str, keep: int) -> None:
        self.folder, self.keep = folder, keep
        self._order: Dict[int, int] = {}  # {step: which of this run's checkpoints it is}
        self._added = 0

    def add(self, step: int) -> None:
        """Marks the checkpoint of a step as the newest, before it is written."""
        self._added += 1
        self._order[step] = self._added

    def prune(self) -> None:
        """Removes all checkpoints but the newest, as far as they may and can be removed."""
        with contextlib.suppress(OSError, tf.errors.OpError):
            files: Dict[int, List[str]] = {}
            for name in self._names():
                match = FILE.fullmatch(name)
                if match:
                    files.setdefault(int(match.group(1)), []).append(f'{self.folder}/{name}')
            written = {
                step: (self._which(step), self._time(paths), step) for step, paths in files.items()
            }
            for step in sorted(files, key=lambda step: written[step])[: -self.keep]:
                # The index goes first: without it, the rest is no checkpoint.
                for path in sorted(files[step], reverse=True) if self._may_go(step) else ():
                    with contextlib.suppress(OSError, tf.errors.OpError):
                        self._remove(path)

    def _which(self, step: int) -> int:
        """Returns the place of a step in the order of `add`, from 1; 0 for an earlier run's."""
        return self._order.get(step, 0)

    def _may_go(self, step: int) -> bool:
        """Returns whether the checkpoint of a step may be removed."""
        return True

    def _time(self, paths: List[str]) -> int:
        """Returns when the newest of some files was written, in nanoseconds; 0 if all are gone."""
        newest = 0
        for path in paths:
            with contextlib.suppress(OSError, tf.errors.OpError):
                newest = max(newest, self._written(path))
        return newest

    def _names(self) -> List[str]:
        """Returns the names in the folder."""
        return tf.gfile.ListDirectory(self.folder)

    def _remove(self, path: str) -> None:
        """Removes a file of the folder."""
        tf.gfile.Remove(path)

    def _written(self, path: str) -> int:
        """Returns when a file of the folder was written, in nanoseconds."""
        return tf.gfile.Stat(path).mtime_nsec


class LocalCheckpoints(Kept):
    """The checkpoints of a run in its folder on this machine.

    A checkpoint is removed only if MongoDB holds it or a newer one, or if its archive is still
    beside it: the archive is removed once MongoDB has acknowledged it.

    Nothing here calls TensorFlow, because `stored` runs in the thread that writes to MongoDB. If
    Python ends while a thread is inside of C++ code, it ends the thread, and the C++ code ends the
    process with the words "FATAL: exception not rethrown" and SIGABRT.
    """

    def __init__(self, folder: str, keep: int) -> None:
        super().__init__(folder, keep)
        self._stored: Optional[int] = None  # the newest of this run in MongoDB, by `_which`
        self._pruning = threading.Lock()  # `stored` is called from a different thread

    def prune(self) -> None:
        """Removes all checkpoints but the newest, as far as they exist elsewhere."""
        with self._pruning:
            super().prune()

    def stored(self, tar: str) -> None:
        """Removes an archive that MongoDB has acknowledged, and then the older checkpoints."""
        step = int(tar[: -len('.tar')].rpartition('-')[2])
        with contextlib.suppress(FileNotFoundError):
            os.remove(tar)
        self._stored = max(self._stored or 0, self._which(step))
        self.prune()

    def discard(self, step: int) -> None:
        """Removes the files of a checkpoint that could not be saved completely."""
        for path in glob.glob(os.path.join(glob.escape(self.folder), f'checkpoint-{step}.*')):
            if re.search(r'\.(index|data-.*|tar.*)$', path):
                with contextlib.suppress(FileNotFoundError):
                    os.remove(path)

    def _names(self) -> List[str]:
        return os.listdir(self.folder)

    def _remove(self, path: str) -> None:
        os.remove(path)

    def _written(self, path: str) -> int:
        return os.stat(path).st_mtime_ns

    def _may_go(self, step: int) -> bool:
        stored = self._stored is not None and self._which(step) <= self._stored
        return stored or os.path.exists(os.path.join(self.folder, f'checkpoint-{step}.tar'))


def set_aside(folder: str, store: Store, say: Say) -> None:
    """Moves the checkpoints of another life of an experiment out of its local folder.

    Its database was dropped or is on another server, or it was deleted. The file MARK says whose
    checkpoints a folder contains.

    Args:
        folder: The local folder of the experiment.
        store: The exclusive store of the experiment.
        say: Prints a line.

    Raises:
        CheckpointError: The files cannot be moved.
    """
    if not store.owner:
        return
    mark, mine = os.path.join(folder, MARK), str(store.owner.life)
    own = {'life': mine, 'place': store.place.text()}
    try:
        found = _mark(mark)
        life = found.get('life')
        if life != mine and isinstance(life, str) and found.get('place') == own['place']:
            other = os.path.join(folder, 'life-' + re.sub(r'\W', '_', life))
            names = [name for name in sorted(os.listdir(folder)) if OF_A_LIFE.fullmatch(name)]
            if names:
                os.makedirs(other, exist_ok=True)
                for name in names:
                    os.replace(os.path.join(folder, name), os.path.join(other, name))
                say(
                    f'warning: the checkpoints in {folder} belong to an earlier experiment of this '
                    f'name, whose records are gone; they are moved to {other}'
                )
        if found != own:
            with open(mark + '.half', 'w') as file:
                json.dump(own, file)
            os.replace(mark + '.half', mark)
    except OSError as error:
        raise CheckpointError(f'{folder} cannot be used ({error.strerror}); choose another folder')


def _mark(path: str) -> Document:
    """Returns the content of a MARK; {} if there is none, or it is damaged."""
    try:
        with open(path) as file:
            found = json.load(file)
        return found if isinstance(found, dict) else {}
    except (FileNotFoundError, ValueError, RecursionError):
        return {}


class Copies(Kept):
    """Copies of a run's checkpoints on one of TensorFlow's file systems, such as gs://."""

    def __init__(self, folder: str, keep: int) -> None:
        super().__init__(folder, keep)
        # {step: path prefix} of the newest checkpoints that could not be copied
        self._missing: Dict[int, str] = {}
        self._reason: Optional[str] = None

    def copy(self, prefix: str, step: int) -> bool:
        """Copies a checkpoint, and recent ones whose copies failed.

        Args:
            prefix: Path of the checkpoint without .index.
            step: Its step.

        Returns:
            Whether the folder holds all copies that it should; otherwise `failure` says why not.
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
                self._reason = self._reason or reason(error)
                if number == step:  # the others would fail as well, each after minutes
                    break
        self.prune()
        return not self._missing

    def holds(self, step: int) -> bool:
        """Returns whether the checkpoint of a step is copied; False if the folder is unreadable."""
        with contextlib.suppress(tf.errors.OpError):
            return tf.gfile.Exists(f'{self.folder}/checkpoint-{step}.index')
        return False

    @property
    def failure(self) -> str:
        """Which of the newest checkpoints have no copy, and why; '' if all have one."""
        if not self._missing:
            return ''
        steps = ', '.join(f'{step:,}' for step in sorted(self._missing))
        return f'{self.folder} has no copy of the checkpoint of step {steps} ({self._reason})'

    def _copy(self, prefix: str) -> None:
        tf.gfile.MakeDirs(self.folder)
        description = os.path.join(os.path.dirname(prefix), DESCRIPTION)
        paths = [description] if os.path.exists(description) else []
        paths += sorted(glob.glob(glob.escape(prefix) + '.data-*'))
        paths.append(prefix + '.index')  # last: the copy counts once its index is there
        for path in paths:
            tf.gfile.Copy(path, f'{self.folder}/{os.path.basename(path)}', overwrite=True)


def has_file_system(path: str) -> bool:
    """Returns whether TensorFlow has a file system for a path such as gs://bucket/folder.

    No network is needed.
    """
    try:
        tf.gfile.Exists(path.split('://')[0] + '://')
    except tf.errors.UnimplementedError:
        return False
    except tf.errors.OpError:  # the scheme is known, and the name of a bucket is missing
        pass
    return True
