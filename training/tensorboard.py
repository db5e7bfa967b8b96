"""What TensorBoard shows of a training: event files beside its checkpoints."""

import numpy as np
import tensorflow.compat.v1 as tf

from database.layout import ANGLES

EDGES = np.arange(0.0, 181.0, 5.0)  # degrees: the bins of angles, [edge, next edge)


class Board:
    """Writes the numbers of a training as TensorFlow events.

    Scalars of each step are train/<name>; those of a validation <target>/<name>, and of each layer
    <target>/<name>/<layer>.
    Angles are a histogram over the layers, too. folder: of TensorFlow's file systems. step: from
    which the training goes on;
    what an earlier run wrote of later steps is hidden. say: prints a line.
    """

    def __init__(self, folder, step, say=print):
        self._folder, self._say = folder, say
        self._writer = self._guarded(self._open, step)
        if self._writer and step:
            self._guarded(
                self._writer.add_session_log, tf.SessionLog(status=tf.SessionLog.START), step + 1
            )

    def write(self, step, batch_size, duration, train_results, results):
        """Write the steps up to `step`, [{name: number}] a step, and a validation, {target: {name:
        number or {layer: number}}}.

        duration: seconds a step took.
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
            self._guarded(self._add, events)

    def close(self):
        """Write what is left."""
        if self._writer:
            self._guarded(self._writer.close)

    def _open(self, step):
        tf.gfile.MakeDirs(self._folder)
        if not tf.gfile.IsDirectory(self._folder):
            raise OSError('it is no folder')
        return tf.summary.FileWriter(self._folder, filename_suffix=f'.{step}')

    def _add(self, events):
        for step, values in events:
            self._writer.add_summary(tf.Summary(value=values), step)
        self._writer.flush()

    def _guarded(self, function, *arguments):
        """function(*arguments); where the folder takes no more, the training goes on without."""
        try:
            return function(*arguments)
        except (OSError, tf.errors.OpError) as error:
            self._writer = None
            self._say(
                'warning: --tensorboard: nothing more can be written in {} ({}); the training '
                'goes on'.format(self._folder, str(error).split('\n')[0])
            )
            return None


def scalars(name, values):
    """[tf.Summary.Value] of {name: number or a dictionary of such}, named by their path; None and
    what is neither are left out."""
    found = []
    for key, value in sorted(values.items()):
        path = f'{name}/{key}'
        if isinstance(value, dict):
            found += scalars(path, value)
        elif value is not None and np.ndim(value) == 0:
            found.append(tf.Summary.Value(tag=path, simple_value=float(value)))
    return found


def histograms(name, values):
    """[tf.Summary.Value] of the angles, {layer: degrees}, among the results of a validation."""
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


def histogram(angles):
    """The tf.HistogramProto of a list of angles in degrees."""
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
