"""The training loop: runs the steps, validations, checkpoints and records in a Session."""

import enum
import functools
import math
import time
from typing import Callable, List, NamedTuple, Optional, Tuple

import numpy as np
from bson import ObjectId
import tensorflow.compat.v1 as tf

from data.base import reason
from database import records
from database.archive import Archive, packed
from database.errors import StoreError
from database.store import Store
from database.types import Document
from training import checkpoints, environment, stopping
from training.tensorboard import Board
from training.devices.device import Asking
from training.errors import Lost, Stopped, TrainingError
from training.local import Copies, LocalCheckpoints
from training.output import Progress
from training.trainable import Plan, Trainable
from training.types import Results, Say
from training.validation import reading, take

ADVICE = 'try a smaller learning rate or smaller coefficients. Earlier checkpoints are intact.'


def due(step: int, every: Optional[int]) -> bool:
    """Returns whether something that happens every `every` steps (None: never) is due at `step`."""
    return every is not None and step % every == 0


class Kept(enum.Enum):
    """How long the checkpoint of a record is kept."""

    FOR_GOOD = 'for good'
    RECENT = 'until newer ones replace it'


class _Adopted(NamedTuple):
    """Steps of an earlier run whose record the next record replaces.

    Attributes:
        steps: Their number.
        seconds: How long they took.
    """

    steps: int
    seconds: float


_NOTHING = _Adopted(0, 0.0)


class Run:
    """One run of a training: steps, validations, checkpoints and records.

    Args:
        session: Session with restored or new variables.
        experiment: Experiment to train.
        store: Open store; None records nothing.
        folder: Folder for local checkpoints.
        params: Params dictionary of each record.
        say: Prints a line.
        leads: Whether this host validates, saves and records. A host that does not lead only
            computes its part of the steps.
        asking: How the hosts agree to stop; see Device.asking.
        copies: Copies of the checkpoints, or None.
        board: Writer of TensorBoard's files, or None.
        on_saved: Called with the step of each checkpoint that was written to the folder.
    """

    def __init__(
        self,
        session: tf.Session,
        experiment: Trainable,
        store: Optional[Store],
        folder: str,
        params: Document,
        say: Say = print,
        *,
        leads: bool = True,
        asking: Asking = lambda session, number: number,
        copies: Optional[Copies] = None,
        board: Optional[Board] = None,
        on_saved: Callable[[int], None] = lambda step: None,
    ) -> None:
        self.session = session
        self.experiment = experiment
        self.plan: Plan = experiment.plan
        self.store = store
        self.folder = folder
        self._local = LocalCheckpoints(folder, experiment.plan.keep)
        self._copies = copies
        self._board = board
        self._on_saved = on_saved
        self.params = params
        self.say = say
        self.leads = leads
        self._asking = functools.partial(asking, session)
        self._results: List[Document] = []  # results of the steps since the last record
        self._adopted = _NOTHING  # those of them that an earlier run had recorded when it stopped
        # (step, _id) of records of an earlier run that this run replaces
        self._stale: List[Tuple[int, ObjectId]] = []
        self._skipped = 0  # images that could not be used
        self._saved_at: Optional[int] = None  # step of the newest checkpoint
        self._recorded: Optional[Document] = None  # the last record of this run
        self._since = time.time()  # when the last record was queued
        self._validating = 0.0  # seconds of validation since the last record

    def train(self) -> Optional[Results]:
        """Trains to the end.

        Returns:
            {target: results} of the last validation; None if there was none.

        Raises:
            Lost: The training has diverged.
            TrainingError: The training has to stop for another reason.
            Stopped: A signal asked the run to stop; everything is saved.
        """
        plan, owes = self.plan, False
        step = int(self.session.run(self.experiment.global_step))
        if self.store:  # a run that was killed may have recorded steps after its last checkpoint
            self._stale = self.store.begin_after(step if step else -1)
            owes = self._continue(self.store, step)
        results = self._begin(step) if self.leads else None
        self.session.run(self.experiment.training_step.initializer)
        with stopping.Stop(self.say) as stop, self._progress(step) as bar:
            try:
                if owes:
                    results = self._finish(step, stop)
                stop.check(self._asking)
                self._since = time.time()
                while step < plan.steps:
                    step = self._steps(step, bar)
                    results = self._finish(step, stop) or results
                    stop.check(self._asking)
            except Stopped as stopped:
                if not stopped.agreed:
                    self._asking(stopped.signal)
                if self.leads and self._saved_at != step:
                    self._keep(step)
                self._asking(None)  # no host leaves before everything is saved
                raise
        return results

    def _continue(self, store: Store, step: int) -> bool:
        """Finds out what an earlier run left at the step that this run continues from.

        A record that only a stop made, or that lacks the validation or the weights that are due, is
        replaced by the next record, which takes over its steps.

        Returns:
            Whether the earlier run was stopped before or in a validation after this step.
        """
        if not step:
            return False
        plan, found = self.plan, list(store.records({'step': step}))
        self._saved_at = step if store.find_checkpoint(step) else None
        validated = any('validation_results' in record for record in found)
        owes = bool(found) and not validated and due(step, plan.validate_every)
        if step >= plan.steps and not _is_whole(found):
            left = found
        else:
            left = [
                record
                for record in found
                if self._is_of_a_stop(record) or owes and 'validation_results' not in record
            ]
        if not found:  # a later record, of which the checkpoint is missing, has replaced it
            recent = store.find_checkpoint(step, {'stopped': True})
            left = [recent] if recent and self._is_of_a_stop(recent) else []
        self._adopt(left)
        return owes and step < plan.steps

    def _is_of_a_stop(self, record: Document) -> bool:
        """Returns whether a record is there only because a run with these settings stopped."""
        digests = record.get('params', {}).get('digests')
        return bool(record.get('stopped')) and digests == self.params.get('digests')

    def _adopt(self, left: List[Document]) -> None:
        """Takes over the steps of records, which the next record replaces."""
        if set(self.plan.save_to_gfs) & set(self.plan.known):
            return  # some results of these steps are elsewhere
        steps = [result for record in left for result in record.get('train_results') or ()]
        if not all(isinstance(result, dict) for result in steps):
            return  # of another program
        seconds = sum(
            len(record['train_results']) * (record.get('duration') or 0.0)
            for record in left
            if record.get('train_results')
        )
        self._stale = [(record['step'], record['_id']) for record in left] + self._stale
        self._results, self._adopted = steps, _Adopted(len(steps), seconds)

    def _keep(self, step: int) -> None:
        """Saves a recent checkpoint of a run that stops; its step gets a record if it has none."""
        if not (self.store and self._recorded and self._recorded['step'] == step):
            self._record(step, weights=Kept.RECENT, stopped=True)
            return
        tar = self._checkpoint(step)
        if tar:
            self.store.save(
                self._recorded,
                recent=tar.path,
                on_written=self._local.stored,
                sha256=tar.sha256,
            )

    def _begin(self, step: int) -> Optional[Results]:
        """Does what is due before the first step, or in a run of a training that is complete.

        It validates, saves a checkpoint and records as the plan asks for, and returns the results
        of the validation.
        """
        plan, complete = self.plan, step >= self.plan.steps
        first = step == 0 and (plan.validate_first or plan.initial_weights)
        if not (complete or first):
            return None
        results = self._validate(step) if complete or plan.validate_first else None
        held = list(self.store.records({'step': step})) if self.store and step else []
        if not _is_whole(held, validated=bool(results)):
            self._record(step, results, Kept.FOR_GOOD if complete or plan.initial_weights else None)
        if complete and self._copies and not self._copies.holds(step):  # the last copy failed
            prefix = checkpoints.save(self.session, self.experiment, self.folder, step)
            self._copy(self._copies, prefix, step)
        return results

    def _finish(self, step: int, stop: stopping.Stop) -> Optional[Results]:
        """Does what is due after a step, and returns the results of a validation, if there is one.

        It validates, saves a checkpoint and records as the plan asks for.
        """
        if not self.leads:
            self._results = []
            return None
        plan, last = self.plan, step == self.plan.steps
        validated = None
        if last or due(step, plan.validate_every):
            validated = self._validate(step, stop.now)
        weights = (
            Kept.FOR_GOOD
            if last or due(step, plan.weights_every)
            else Kept.RECENT
            if due(step, plan.recent_every)
            else None
        )
        if validated or weights or due(step, plan.record_every):
            self._record(step, validated, weights)
        return validated

    def _steps(self, step: int, bar: Progress) -> int:
        """Runs one call of the device, keeps its results, and returns the step reached."""
        most = self.plan.next_event(step) - step
        find_damage = functools.partial(self.experiment.find_damage, step, most)
        try:
            with reading(f'step {step + 1}', self.plan.source, find_damage):
                taken = self.experiment.run_steps(self.session, most)
            for scalars in taken:
                self._note(step, scalars)
                step += 1
        except TrainingError:
            if self.leads and len(self._results) > self._adopted.steps:
                self._record(step)  # records the steps that were done before
            raise
        bar.update(self.plan.batch_size * len(taken))
        last = self._results[-1]
        loss = last['model_loss'] if 'model_loss' in last else last['loss']
        bar.reached(step, loss)
        return step

    def _note(self, step: int, scalars: Document) -> None:
        """Keeps the numbers of the step after `step` for the next record.

        Raises:
            Lost: One of them is not finite or is too large.
            TrainingError: More images were skipped than --skip_bad_records allows.
        """
        scalars = {
            name: value if name in self.plan.save_to_gfs else float(np.mean(value))
            for name, value in scalars.items()
        }
        lost = sorted(
            name
            for name, limit in self.plan.limits.items()
            if not math.isfinite(scalars[name]) or abs(scalars[name]) > limit
        )
        if lost:
            variables = self._not_finite()
            values = ', '.join(f'{n}={scalars[n]}' for n in lost)
            raise Lost(
                f'step {step + 1}: {" and ".join(lost)} {"is" if len(lost) == 1 else "are"} not '
                f'finite, or beyond {self.plan.limits[lost[0]]:g} ({values})'
                f'{variables and ", and NaN or infinite numbers are in " + variables}; {ADVICE}'
            )
        skipped = int(scalars.get('skipped_records', 0))
        if skipped:
            self._skipped += skipped
            words = (
                f'step {step + 1:,}: {skipped:,} images that cannot be used are skipped, '
                f'{self._skipped:,} in total'
            )
            if self._skipped > self.plan.skips:
                raise TrainingError(
                    f'{words}, more than --skip_bad_records={self.plan.skips} allows; '
                    f'{self.experiment.find_damage(step, 1, False)}'
                )
            self.say('warning: ' + words)
        self._results.append(scalars)

    def _not_finite(self) -> str:
        """Names the first few variables that hold a number that is not finite; '' if none does."""
        variables = self.experiment.variables
        return checkpoints.not_finite(
            variables,
            self.session.run({v.op.name: v for v in variables if v.dtype.base_dtype.is_floating}),
        )

    def _progress(self, step: int) -> Progress:
        plan = self.plan
        steps = None if math.isinf(plan.steps) else int(plan.steps)
        return Progress(step, steps, plan.batch_size, plan.steps_per_epoch, self.say)

    def _validate(self, step: int, between: Callable[[], None] = lambda: None) -> Results:
        started = time.time()
        results = self.experiment.validate(self.session, between, in_detail=step >= self.plan.steps)
        # The recorded duration of a step excludes validations.
        self._validating += time.time() - started
        if results:
            self.say(f'step {step:,} of {self.plan.steps:,}: {self.experiment.summary(results)}')
            for warning in self.experiment.warnings(results):
                self.say(warning)
        return results

    def _record(
        self,
        step: int,
        results: Optional[Results] = None,
        weights: Optional[Kept] = None,
        stopped: bool = False,
    ) -> None:
        """Queues a record of the steps since the last one.

        Args:
            step: The current step.
            results: Results of a validation, or None.
            weights: How long the checkpoint of the step is kept; None for no checkpoint.
            stopped: Whether there is a record only because the run stops here.
        """
        steps, results = self._results, results or {}
        spent = time.time() - self._since - self._validating + self._adopted.seconds
        duration = spent / len(steps) if steps else self._validating
        if self.store:
            if self.store.taken:
                raise TrainingError(f'step {step}: {self.store.taken}')
            if self._board:
                new = steps[self._adopted.steps :]
                self._board.write(step, self.plan.batch_size, duration, new, results)
            self._save(self.store, step, duration, results, weights, stopped)
        self._results, self._adopted = [], _NOTHING
        self._since, self._validating = time.time(), 0.0

    def _save(
        self,
        store: Store,
        step: int,
        duration: float,
        results: Results,
        weights: Optional[Kept],
        stopped: bool,
    ) -> None:
        """Queues a record and its checkpoint in a store; see `_record`."""
        steps = self._results
        named = take(self.plan.save_to_gfs, results, steps, known=self.plan.known)
        params = environment.updated(self.params)
        record = records.build(
            store.exp_id, step, params, duration, steps, results, stopped=stopped
        )
        tar = self._checkpoint(step) if weights else None
        replacing = [record_id for recorded, record_id in self._stale if recorded <= step]
        self._stale = self._stale[len(replacing) :]
        if any(named):  # first: a kill in between must leave no record without its results
            store.save_named_results(record['_id'], *named)
        store.save(
            record,
            checkpoint=tar.path if tar and weights is Kept.FOR_GOOD else None,
            recent=tar.path if tar and weights is Kept.RECENT else None,
            on_written=self._local.stored,
            replacing=replacing,
            sha256=tar.sha256 if tar else None,
        )
        self._saved_at = step if tar else self._saved_at
        self._recorded = record
        for message in store.news():
            self.say('warning: ' + message)

    def _checkpoint(self, step: int) -> Optional[Archive]:
        """Saves the variables, and returns the archive; None if that fails.

        Raises:
            Lost: A variable is not finite.
            TrainingError: The checkpoint of the last step cannot be saved.
        """
        lost = self._not_finite()
        if lost:
            have = 'has' if ',' not in lost else 'have'
            raise Lost(
                f'step {step}: {lost} {have} NaN or infinite values, so no checkpoint is saved; '
                f'{ADVICE}'
            )
        self._local.add(step)
        try:
            prefix = checkpoints.save(self.session, self.experiment, self.folder, step)
            self._local.prune()
            tar = packed(prefix, prefix + '.tar')
            self._on_saved(step)
        except (OSError, StoreError, tf.errors.OpError) as error:
            self._local.discard(step)
            words = f'step {step:,}: no checkpoint can be saved in {self.folder} ({reason(error)})'
            if step == self.plan.steps:
                raise TrainingError(words + '; make room there, then continue with --do_restore')
            self.say(f'warning: {words}; the training continues with the next checkpoint')
            return None
        if self._copies:
            self._copy(self._copies, prefix, step)
        return tar

    def _copy(self, copies: Copies, prefix: str, step: int) -> None:
        """Copies a checkpoint. If that fails, the training continues.

        Only the first of several failures in a row is reported.
        """
        told = copies.failure
        if not copies.copy(prefix, step) and not told:
            self.say(
                f'warning: {copies.failure}; the training continues, and the copy is tried again '
                'with the next checkpoint'
            )


def _is_whole(found: List[Document], validated: bool = True) -> bool:
    """Returns whether one of the records of the last step has all that it should have.

    Args:
        found: The records.
        validated: Whether the training validates.
    """
    return any(
        record.get('saved_filters') and ('validation_results' in record or not validated)
        for record in found
    )


def session(experiment: Trainable, config: tf.ConfigProto, target: str = '') -> tf.Session:
    """Opens a Session on the experiment's graph, and initialises the variables.

    Args:
        experiment: The experiment.
        config: Options of the Session.
        target: Address of the machine that runs it; '' for this process.
    """
    session = tf.Session(target, graph=experiment.graph, config=config)
    session.run(experiment.initializer)
    return session
