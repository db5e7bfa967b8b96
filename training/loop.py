"""The training loop and the validation, in a Session."""
import contextlib
import math
import os
import time

import tensorflow.compat.v1 as tf
from tqdm import tqdm

from database import records
from database.archive import pack
from training import checkpoints

RECORD_EVERY = 100     # steps between two records without a validation
EXPLODED = 1e12        # a loss beyond this will not come back


class TrainingError(Exception):
    """Training or validation had to stop; the message says at which step and why."""


@contextlib.contextmanager
def _reading(what, config):
    """Around a run that reads images: what TensorFlow says of a damaged one becomes a TrainingError."""
    try:
        yield
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
        raise TrainingError('{}: {}; look for a damaged image or a wrong label in --data_dir={}'.format(
            what, error.message.splitlines()[0], config.data_dir))


def due(step, every):
    """Whether something that happens every so many steps (None: never) happens after this one."""
    return every is not None and step % every == 0


def validate(session, experiment):
    """{top1, top5, loss, images, global_step, weight_angles: {layer: degrees}, ...} over the whole validation set.

    top1, top5: fractions; loss: mean cross-entropy in nats. Raises TrainingError if not every image was seen once.
    """
    validation = experiment.validation
    session.run(validation.initializer)
    with _reading('validation', experiment.config):
        results = session.run([validation.measures, validation.coefficients, experiment.global_step])
    session.run(validation.initializer)
    sums = dict.fromkeys(validation.totals, 0.0)
    with tqdm(total=validation.steps, desc='validating', unit='batch', leave=False, disable=None) as bar:
        while True:  # to the end of the files, so that images too many are seen, too
            try:
                with _reading('validation', experiment.config):
                    batch = session.run(validation.totals)
            except tf.errors.OutOfRangeError:
                break
            for name, value in batch.items():
                sums[name] += float(value)
            bar.update()
    images = int(round(sums.pop('images')))
    if images != experiment.dataset.validation_images:
        raise TrainingError('the validation saw {:,} images, but the dataset has {:,}; check the files in --data_dir and '
                            'the counts in its dataset.json'.format(images, experiment.dataset.validation_images))
    measured, coefficients, step = results
    outcome = dict({name: total / images for name, total in sums.items()}, images=images, global_step=int(step), **measured)
    return dict(outcome, alignment_coefficients=coefficients) if coefficients else outcome


class Run:
    """One training run: steps, validations, checkpoints and records.

    session: with restored or fresh variables. store: database.mongo.Store. folder: for local checkpoints.
    params: what each record tells of the settings. say: prints a line.
    """

    def __init__(self, session, experiment, store, folder, params, say=print):
        self.session = session
        self.experiment = experiment
        self.store = store
        self.folder = folder
        self.params = params
        self.say = say
        self._results = []    # of the steps since the last record
        self._since = time.time()

    def train(self):
        """Train to the end. Returns the results of the last validation. Raises TrainingError on a loss that is lost."""
        experiment, config = self.experiment, self.experiment.config
        validate_every = experiment.to_steps(config.epochs_per_checkpoint)
        recent_every = experiment.to_steps(config.epochs_per_recent_checkpoint)
        step = int(self.session.run(experiment.global_step))
        results = None
        if step >= experiment.train_steps or (step == 0 and config.validate_first):
            results = self._validate(step)
            self._record(step, results)
        self.session.run(experiment.step.initializer)
        with self._progress(step) as bar:
            self._since = time.time()
            while step < experiment.train_steps:
                step = self._step(step, bar)
                last = step == experiment.train_steps
                if last or due(step, validate_every):
                    results = self._validate(step)
                    self._record(step, results, weights='lasting')
                elif due(step, recent_every):
                    self._record(step, weights='recent')
                elif due(step, RECORD_EVERY):
                    self._record(step)
        return results

    def _step(self, step, bar):
        with _reading('step {}'.format(step + 1), self.experiment.config):
            _, scalars = self.session.run([self.experiment.step.train_op, self.experiment.step.scalars])
        scalars = {name: float(value) for name, value in scalars.items()}
        lost = sorted(name for name, value in scalars.items() if not math.isfinite(value) or abs(value) > EXPLODED)
        if lost:
            raise TrainingError('step {}: {} {} no finite number any more ({}); try a smaller learning rate or smaller '
                                'coefficients. The checkpoints before it are whole.'.format(
                                    step + 1, ' and '.join(lost), 'is' if len(lost) == 1 else 'are',
                                    ', '.join('{}={}'.format(name, scalars[name]) for name in lost)))
        self._results.append(scalars)
        bar.update(self.experiment.config.train_batch_size)
        bar.set_postfix(step=step + 1, loss='{:.3f}'.format(scalars['model_loss']), refresh=False)
        return step + 1

    def _progress(self, step):
        batch = self.experiment.config.train_batch_size
        return tqdm(total=self.experiment.train_steps * batch, initial=step * batch, unit='img', unit_scale=True,
                    desc='training', disable=None, mininterval=1.0)

    def _validate(self, step):
        started = time.time()
        results = validate(self.session, self.experiment)
        self._since += time.time() - started  # the duration of a step is that of training alone
        self.say('step {:,} of {:,}: {}'.format(step, self.experiment.train_steps, summary(results)))
        return results

    def _record(self, step, results=None, weights=None):
        """Queue a record; weights: None, 'lasting' (a checkpoint in the record) or 'recent' (one of the newest few)."""
        duration = (time.time() - self._since) / len(self._results) if self._results else None
        validation = {'topn_val': results} if results else {}
        named = take(results, self.experiment.config.save_to_gfs) if results else {}
        record = records.build(self.store.exp_id, step, self.params, duration, self._results, validation)
        tar = self._checkpoint(step) if weights else None
        record_id = self.store.save(record, on_written=os.remove, **(
            {'checkpoint': tar} if weights == 'lasting' else {'recent': tar} if tar else {}))
        if named:
            self.store.save_named_results(record_id, named)
        if self.store.failure:
            self.say(self.store.failure)
        self._results = []
        self._since = time.time()

    def _checkpoint(self, step):
        prefix = checkpoints.save(self.session, self.experiment, self.folder, step)
        checkpoints.prune(self.folder, self.experiment.config.checkpoint_max)
        return pack(prefix, prefix + '.tar')


def take(results, names):
    """Move the named results out of a dictionary. Raises TrainingError for a name that it lacks."""
    missing = sorted(set(names) - set(results))
    if missing:
        raise TrainingError('--save_to_gfs: a validation has no {}; it has {}'.format(
            ', '.join(missing), ', '.join(sorted(results))))
    return {name: results.pop(name) for name in names}


def mean_angle(results, name):
    """The mean over the layers of results[name], in degrees, or None where there are none."""
    angles = list(results.get(name, {}).values())
    return sum(float(angle) for angle in angles) / len(angles) if angles else None


def summary(results):
    """One line of a validation: 'top-1 0.9710, top-5 0.9990, weight angle 12.3'."""
    parts = ['top-1 {:.4f}'.format(results['top1']), 'top-5 {:.4f}'.format(results['top5'])]
    for name in ('weight_angles', 'gradient_angles'):
        angle = mean_angle(results, name)
        if angle is not None:
            parts.append('mean {} {:.1f} degrees'.format(name[:-1].replace('_', ' '), angle))
    return ', '.join(parts)


def session(experiment, config):
    """A Session on the experiment's graph with initial variables."""
    session = tf.Session(graph=experiment.graph, config=config)
    session.run(experiment.initializer)
    return session
