"""The runs of a database, for reports."""

import collections
import datetime
from typing import Dict, Iterable, List, Optional, Sequence, Set, Tuple

from pymongo.database import Database
from pymongo.errors import PyMongoError

from config.declared import OLDER, inferred
from config.rows import Row
from config.schema import LOADING, SEED, in_order
from database import connection, server, unfinished
from database.claim import End
from database.errors import StoreError
from database.place import FILES
from database.spool import database_folder
from database.types import Document
from reports import stored
from reports.stored import (
    LOSSES,
    NO_REMARKS,
    Point,
    Remarks,
    RunKey,
    Span,
    Stored,
    finite,
)

RUNNING, SPOOLED, FINISHED, STOPPED, PRUNED, DIED, VALIDATED, ENDED = (
    'running',
    'spooled',
    'finished',
    'stopped',
    stored.PRUNED,
    'died',
    'validated',
    'ended',
)
HALF_IMPORTED, HALF_DELETED = 'half imported', 'half deleted'
HALF = {unfinished.IMPORT: HALF_IMPORTED, unfinished.DELETE: HALF_DELETED}
STATES = {
    RUNNING: 'a process is working on it',
    SPOOLED: 'records on this disk are waiting for MongoDB; run the same command with --do_restore '
    'to write them',
    FINISHED: 'all steps are done',
    STOPPED: 'its user stopped it before its last step; run the same command with --do_restore to '
    'continue it',
    PRUNED: 'a search stopped it early, because others were better at the same step',
    DIED: 'it failed or was killed before its last step; run the same command with --do_restore to '
    'continue it',
    VALIDATED: 'a validation by test.py',
    ENDED: 'no process is working on it, and its records do not say how many steps were planned',
    HALF_IMPORTED: 'only a part of it is here; run the same `runs.py import` again to finish it',
    HALF_DELETED: 'only a part of it is left; run the same `runs.py delete` again to finish it',
}


class Run:
    """One experiment.

    Args:
        collection: Name of its collection.
        exp_id: Name of the experiment.
        points: Its records, or those with its newest values; at least one.
        params: The params of its newest record, or {}.
        is_held: Whether a process has claimed it.
        waiting: How many of its records are waiting on this disk.
        end: How its last process ended before the last step, or None.
        span: The times of all of its records; None if `points` are all of them.
        remarks: Its tags and notes.
        is_pruned: Whether it is a trial that a search stopped early.
        begun: What was begun with it and is not finished, an import or a deletion, or None.

    Attributes:
        collection: Name of its collection.
        exp_id: Name of the experiment.
        remarks: Its tags and notes.
        waiting: How many of its records are waiting on this disk.
        points: Its records, sorted by step. Validations that were recorded under the name of a
            training are left out.
        params: {group: {name: value}} of its newest record, or {}.
        state: One of STATES.
        validations: The validations of its checkpoints, by test.py.
    """

    def __init__(
        self,
        collection: str,
        exp_id: str,
        points: Iterable[Point],
        params: Document,
        is_held: bool = False,
        waiting: int = 0,
        end: Optional[End] = None,
        span: Optional[Span] = None,
        remarks: Remarks = NO_REMARKS,
        is_pruned: bool = False,
        begun: Optional[str] = None,
    ) -> None:
        self.collection, self.exp_id, self.waiting = collection, exp_id, waiting
        self.remarks = remarks
        ordered = sorted(points, key=lambda point: (point.step, point.time))
        trained = [point for point in ordered if not point.validates]
        self.points = trained or ordered
        self.params = params
        self.validations: List[Run] = []
        self._validated: Dict[str, List[Tuple[int, float]]] = {}  # what `validated` has returned
        if len(trained) not in (0, len(ordered)):
            checks = [point for point in ordered if point.validates]
            self.validations.append(Run(collection, exp_id, checks, params))
        self._end = end
        self._span = span or Span(
            min(point.time for point in self.points), max(point.time for point in self.points)
        )
        self.state = HALF.get(begun or '') or self._state(is_held, is_pruned)

    def _state(self, is_held: bool, is_pruned: bool) -> str:
        if is_held or self.waiting:
            return RUNNING if is_held else SPOOLED
        if self.points[-1].validates:
            return VALIDATED
        if self.steps is None:
            return ENDED
        if self.step >= self.steps:
            return FINISHED
        if is_pruned:
            return PRUNED
        return STOPPED if self._end and self._end.signal else DIED

    @property
    def key(self) -> RunKey:
        """Its identity within the database."""
        return RunKey(self.collection, self.exp_id)

    @property
    def is_in_part(self) -> bool:
        """Whether only a part of it is in the database: its import or deletion is not finished."""
        return self.state in HALF.values()

    @property
    def why(self) -> Optional[str]:
        """Why it stopped or died, or None if it did not or if this is not recorded."""
        return self._end.message if self._end and self.state in (STOPPED, DIED) else None

    @property
    def rule(self) -> str:
        """Its alignment rule, or '?' if its records do not contain one."""
        model = self._group('model_params')
        return _text(model['alignment'] or 'backprop') if 'alignment' in model else '?'

    @property
    def dataset(self) -> str:
        """Its data set, or '?' if its records do not contain one."""
        return _text(self._group('train_params').get('dataset', '?'))

    @property
    def seed(self) -> Optional[int]:
        """Its seed, or None if its records do not contain one."""
        for group in ('train_params', 'model_params'):
            seed = finite(self._group(group).get(SEED))
            if seed is not None:
                return int(seed)
        return None

    @property
    def step(self) -> int:
        """The step of its newest record."""
        return self.points[-1].step

    @property
    def steps(self) -> Optional[int]:
        """The planned number of steps, or None."""
        steps = finite(self._group('train_params').get('num_steps'))
        return None if steps is None else int(steps)

    @property
    def steps_per_epoch(self) -> Optional[float]:
        """The number of steps of an epoch, or None if its records do not contain it."""
        return finite(self.setting('steps_per_epoch')) or None

    @property
    def batch_size(self) -> Optional[float]:
        """The number of images of a step, or None if its records do not contain it."""
        return finite(self._group('train_params').get('train_batch_size'))

    @property
    def image_size(self) -> Optional[int]:
        """The height of an image in pixels, or None if its records do not contain it."""
        shape = self.setting('image_shape')
        recorded = shape[0] if isinstance(shape, list) and shape else self.setting('image_size')
        size = finite(recorded)
        return None if size is None else int(size)

    @property
    def images_per_s(self) -> Optional[float]:
        """Images per second in its newest record with steps, or None without such a record."""
        batch = self.batch_size
        durations = [point.duration for point in self.points if point.trained and point.duration]
        return batch / durations[-1] if batch and durations else None

    @property
    def measured_images(self) -> Optional[int]:
        """The number of measured images in its newest validation, or None if it is not recorded."""
        told = [
            finite(point.results.get('measured_images')) for point in self.points if point.results
        ]
        newest = told[-1] if told else None
        return None if newest is None else int(newest)

    @property
    def started(self) -> datetime.datetime:
        """When its first record was created (UTC)."""
        return self._span.first

    @property
    def time(self) -> datetime.datetime:
        """When its newest record was created (UTC)."""
        return self._span.newest

    def setting(self, name: str) -> object:
        """Returns the recorded value of a setting, or None if its records do not contain it."""
        for group in self.params:
            if group not in LOADING and name in self._group(group):
                return self._group(group)[name]
        return None

    @property
    def settings(self) -> Document:
        """{name: value} of the settings of the training that differ from their defaults.

        They include the settings that its rule declares, even if this program does not have the
        rule.
        """
        rows = in_order(self._rows_of_the_rule())
        found = {
            name: self._group(row.group).get(name, row.default)
            for name, row in rows.items()
            if row.group not in LOADING
        }
        return {
            name: value
            for name, value in found.items()
            if (tuple(value) if isinstance(value, list) else value) != rows[name].default
        }

    def _rows_of_the_rule(self) -> List[Row]:
        """Returns rows for the settings that the rule declares according to the records."""
        own = self._group('model_params').get('declared')
        own = own if isinstance(own, dict) else OLDER
        return inferred(own, own)

    @property
    def provenance(self) -> Document:
        """{name: value} with the runtime and the commit."""
        return self._group('provenance')

    def _group(self, name: str) -> Document:
        group = self.params.get(name)
        return group if isinstance(group, dict) else {}

    def curve(self, name: str) -> List[Tuple[int, float]]:
        """Returns [(step, number)] of a loss or a result.

        Args:
            name: The name of the loss or result. A result by layer is averaged over the layers.
        """
        return [(step, value) for step, value in self._values(name) if value is not None]

    def validated(self, name: str) -> List[Tuple[int, float]]:
        """Returns [(step, number)] of a result of the validations, as `curve` does.

        'loss' is the cross-entropy of the validation images here, and not a loss of the training.
        """
        found = [
            (point.step, mean(point.results[name]))
            for point in self.points
            if name in point.results
        ]
        return [(step, value) for step, value in found if value is not None]

    def hours(self) -> List[Tuple[int, float]]:
        """Returns [(step, hours of training until there)], without validations and pauses.

        It ends at the first record whose duration is not known.
        """
        found, hours = [], 0.0
        for point in self.points:
            if point.trained and point.duration is None:
                break
            hours += point.trained * (point.duration or 0.0) / 3600.0
            found.append((point.step, hours))
        return found

    def last(self, name: str) -> Optional[float]:
        """Returns the value of a curve in the newest record that contains it.

        Returns None if that value is not a number, even if earlier records have one.
        """
        values = self._values(name)
        return values[-1][1] if values else None

    def result(self, name: str) -> Optional[float]:
        """Returns a number of the newest validation that contains it, or None; see `last`."""
        found = [point.results[name] for point in self.points if name in point.results]
        return mean(found[-1]) if found else None

    def _values(self, name: str) -> List[Tuple[int, Optional[float]]]:
        """Returns a curve, with None if a record contains the name but not a number."""
        found: List[Tuple[int, Document]] = [
            (point.step, point.losses if name in LOSSES else point.results) for point in self.points
        ]
        return [(step, mean(named[name])) for step, named in found if name in named]

    def layers(self, name: str) -> Dict[str, List[Tuple[int, float]]]:
        """Returns {layer: [(step, number)]} of a result by layer, in the order of the layers."""
        found: Dict[str, List[Tuple[int, float]]] = collections.OrderedDict()
        for point in self.points:
            by_layer = point.results.get(name)
            for layer, value in by_layer.items() if isinstance(by_layer, dict) else ():
                if finite(value) is not None:
                    found.setdefault(_text(layer), []).append((point.step, float(value)))
        return found


def mean(value: object) -> Optional[float]:
    """Returns a number itself, or the mean of {layer: number}; None without a finite number."""
    values = value.values() if isinstance(value, dict) else [value]
    numbers = [number for number in map(finite, values) if number is not None]
    return sum(numbers) / len(numbers) if numbers else None


def read(
    host: str,
    port: int,
    dbname: str,
    exp_ids: Sequence[str] = (),
    collname: Optional[str] = None,
    cache_dir: Optional[str] = None,
    curves: bool = True,
) -> Tuple[List[Run], Optional[str]]:
    """Reads the runs of a database.

    A validation of a checkpoint that a training of the database has recorded is no run: it is among
    the `validations` of that training, unless `exp_ids` names it.

    Args:
        host: Name or address of the MongoDB server. An existing private server of this machine is
            started again if it is stopped.
        port: TCP port of the server.
        dbname: Name of the database.
        exp_ids: The experiments to read, or () for all.
        collname: Reads only the runs of this collection, or all if None.
        cache_dir: The cache folder, where records may be waiting for MongoDB; ~/.tfutils if None.
        curves: Whether to read all records of the runs. Without, only the newest values of each
            run are read, which is faster.

    Returns:
        (runs, trouble): the runs, sorted by collection and exp_id, and None. If MongoDB could not
        be read, trouble is a message that says why, and the runs consist of the records waiting on
        this disk.

    Raises:
        StoreError: MongoDB cannot be read and no records are waiting on this disk.
    """
    folder = database_folder(cache_dir or server.DEFAULT_ROOT, f'{host}:{port}', dbname)
    waiting = stored.waiting(folder)
    trouble: Optional[str] = None

    def is_wanted(key: RunKey) -> bool:
        return (not exp_ids or key.exp_id in exp_ids) and collname in (None, key.collection)

    try:
        with server.reach(host, port) as client:
            found = stored.newest(client[dbname])
            checked = {point.validates for each in found.values() for point in each.points}
            owners = stored.owners(client[dbname], checked)
            if curves:
                _add_curves(found, filter(is_wanted, found), client[dbname])
    except (PyMongoError, StoreError) as error:
        if not waiting:
            raise StoreError(connection.reason(error)) if isinstance(error, PyMongoError) else error
        found, owners, trouble = {}, {}, connection.reason(error)
    runs = {
        key: _run(key, found.get(key), waiting.get(key, []))
        for key in sorted(set(found) | set(waiting))
    }
    nested = _nest(runs, owners)
    return [
        run
        for key, run in runs.items()
        if is_wanted(key) and (key not in nested or key.exp_id in exp_ids)
    ], trouble


def _add_curves(
    found: Dict[RunKey, Stored], keys: Iterable[RunKey], database: Database[Document]
) -> None:
    """Replaces the newest records of some runs by all of their records."""
    of_collection: Dict[str, List[str]] = {}
    for key in keys:
        of_collection.setdefault(key.collection, []).append(key.exp_id)
    for collection, exp_ids in of_collection.items():
        for exp_id, points in stored.whole(database[collection + FILES], exp_ids).items():
            key = RunKey(collection, exp_id)
            found[key] = found[key]._replace(points=points, span=None)


def _run(key: RunKey, held: Optional[Stored], waiting: Sequence[Document]) -> Run:
    """Returns a run from its data in MongoDB and its records that are waiting on this disk."""
    held = held or Stored([], {}, False)
    more = [stored.waiting_point(record) for record in waiting]
    times = [point.time for point in more]
    return Run(
        key.collection,
        key.exp_id,
        held.points + more,
        held.params or (waiting[-1].get('params', {}) if waiting else {}),
        held.is_held,
        len(waiting),
        held.end,
        held.span and Span(min(times + [held.span.first]), max(times + [held.span.newest])),
        held.remarks,
        held.is_pruned,
        held.begun,
    )


def _nest(runs: Dict[RunKey, Run], owners: Dict[object, RunKey]) -> Set[RunKey]:
    """Adds validations to the trainings that they validate; returns the keys of the validations."""
    nested = set()
    for key, run in runs.items():
        owner = owners.get(run.points[-1].validates)
        if owner and owner != key and owner in runs:
            runs[owner].validations.append(run)
            nested.add(key)
    return nested


def _text(value: object) -> str:
    return value if isinstance(value, str) else str(value)
