"""Writes event files for TensorBoard beside the checkpoints of a training."""

import functools
from typing import Callable, List, Optional, Sequence, Tuple, TypeVar

import numpy as np
import tensorflow.compat.v1 as tf

from data.base import reason
from database.layout import ANGLES
from database.types import Document
from training.types import Results, Say

Made = TypeVar('Made')

EDGES = np.arange(0.0, 181.0, 5.0)  # degrees: the bins of angles, [edge, next edge)


class Board:
    """Writes the results of a training as TensorFlow events.

    The scalars of each step are named train/<name>. The scalars of a validation are named
    <target>/<name>, or <target>/<name>/<layer> if there is one for each layer. Angles are also
    written as a histogram over the layers. If the folder cannot be written to, a warning is printed
    and the training continues without events.

    Args:
        folder: A folder in any of TensorFlow's file systems.
        step: The step from which the training continues. TensorBoard hides the events that an
            earlier run wrote for later steps.
        say: Prints a line.
    """

    def __init__(self, folder: str, step: int, say: Say = print) -> None:
        self._folder, self._say = folder, say
        self._writer = self._guarded(functools.partial(self._open, step))
        if self._writer and step:
            start = tf.SessionLog(status=tf.SessionLog.START)
            self._guarded(functools.partial(self._writer.add_session_log, start, step + 1))

    def write(
        self,
        step: int,
        batch_size: int,
        duration: float,
        train_results: Sequence[Document],
        results: Results,
    ) -> None:
        """Writes the results of the steps up to `step`, and of a validation.

        Args:
            step: The last step.
            batch_size: The number of images in a batch.
            duration: The time of a step in seconds.
            train_results: The results of each step, {name: number}.
            results: The results of a validation, {target: {name: number or {layer: number}}}.
        """
        first = step - len(train_results) + 1
        events = [
            (number, scalars('train', values)) for number, values in enumerate(train_results, first)
        ]
        if train_results and duration > 0:
            events.append((step, scalars('train', {'images_per_second': batch_size / duration})))
        events += [
            (step, scalars(target, found) + histograms(target, found))
            for target, found in results.items()
        ]
        if self._writer:
            self._guarded(functools.partial(_add, self._writer, events))

    def close(self) -> None:
        """Writes the remaining events and closes the file."""
        if self._writer:
            self._guarded(self._writer.close)

    def _open(self, step: int) -> tf.summary.FileWriter:
        tf.gfile.MakeDirs(self._folder)
        if not tf.gfile.IsDirectory(self._folder):
            raise OSError('it is not a folder')
        return tf.summary.FileWriter(self._folder, filename_suffix=f'.{step}')

    def _guarded(self, function: Callable[[], Made]) -> Optional[Made]:
        """Returns function(); if the folder cannot be written to, warns and stops writing."""
        try:
            return function()
        except (OSError, tf.errors.OpError) as error:
            self._writer = None
            self._say(
                f'warning: --tensorboard: cannot write to {self._folder} ({reason(error)}); the '
                'training continues without event files'
            )
            return None


def _add(
    writer: tf.summary.FileWriter, events: Sequence[Tuple[int, List[tf.Summary.Value]]]
) -> None:
    for step, values in events:
        writer.add_summary(tf.Summary(value=values), step)
    writer.flush()


def scalars(name: str, values: Document) -> List[tf.Summary.Value]:
    """Returns the numbers of a nested dictionary as [tf.Summary.Value], named by their path.

    Args:
        name: The first part of the paths.
        values: {name: number or dictionary}. None and values of other types are left out.
    """
    found: List[tf.Summary.Value] = []
    for key, value in sorted(values.items()):
        path = f'{name}/{key}'
        if isinstance(value, dict):
            found += scalars(path, value)
        elif value is not None and np.ndim(value) == 0:
            found.append(tf.Summary.Value(tag=path, simple_value=float(value)))
    return found


def histograms(name: str, values: Document) -> List[tf.Summary.Value]:
    """Returns histograms, as [tf.Summary.Value], of the angles among the results of a validation.

    Args:
        name: The first part of the names.
        values: The results; the angles are {layer: degrees or None}.
    """
    found = {
        key: [float(angle) for angle in angles.values() if angle is not None]
        for key, angles in values.items()
        if key in ANGLES
    }
    return [
        tf.Summary.Value(tag=f'{name}/{key}/all', histo=histogram(angles))
        for key, angles in sorted(found.items())
        if angles
    ]


def histogram(angles: Sequence[float]) -> tf.HistogramProto:
    """Returns the tf.HistogramProto of a list of angles in degrees."""
    counts, _ = np.histogram(angles, EDGES)
    return tf.HistogramProto(
        min=min(angles),
        max=max(angles),
        num=len(angles),
        sum=float(np.sum(angles)),
        sum_squares=float(np.sum(np.square(angles))),
        bucket_limit=list(EDGES[1:]),
        bucket=[float(count) for count in counts],
    )
