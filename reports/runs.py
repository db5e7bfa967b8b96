"""Reads the runs of a database.

It reads records of any version of this program, of a tfutils script and of tfutils itself.
"""

import collections
import datetime
import glob
import math
import os
from typing import Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

import bson
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import PyMongoError

from config.declared import OLDER, inferred
from config.rows import Row
from config.schema import LOADING, in_order
from database import claim, connection, entries, server
from database.entries import RecordEntry
from database.errors import StoreError
from database.spool import Spool, database_folder, spool_of
from database.types import Document

LOSSES = ('loss', 'model_loss', 'reg_loss', 'alignment_loss', 'total_loss', 'learning_rate')
RUNNING, SPOOLED, FINISHED, DIED, VALIDATED, ENDED = (
    'running',
    'spooled',
    'finished',
    'died',
    'validated',
    'ended',
)
STATES = {
    RUNNING: 'a process is working on it',
    SPOOLED: 'records on this disk are waiting for MongoDB; run the same command with --do_restore '
    'to write them',
    FINISHED: 'all steps are done',
    DIED: 'it stopped or died before its last step; run the same command with --do_restore to '
    'continue it',
    VALIDATED: 'a validation by test.py',
    ENDED: 'no process is working on it, and its records do not say how many steps were planned',
}
FILES = '.files'


class Point(NamedTuple):
    """The parts of a record that a report uses.

    Attributes:
        step: The step of the record.
        losses: {name: mean since the last record}.
        results: Results of a validation, {name: number or {layer: number}}, or {}.
        duration: Seconds per step, or None.
        trained: How many steps the record contains.
        validates: The field `validates` of the record, or None.
        time: When the record was created (UTC).
    """

    step: int
    losses: Dict[str, float]
    results: Document
    duration: Optional[float]
    trained: int
    validates: object
    time: datetime.datetime


class RunKey(NamedTuple):
    """The identity of a run within a database."""

    collection: str
    exp_id: str


class Stored(NamedTuple):
    """The data of a run in MongoDB.

    Attributes:
        points: Its records.
        params: The params of its newest record, or {}.
        is_held: Whether a process has claimed it.
    """

    points: List[Point]
    params: Document
    is_held: bool


class Run:
    """One experiment.

    Args:
        collection: Name of its collection.
        exp_id: Name of the experiment.
        points: Its records, at least one.
        params: The params of its newest record, or {}.
        is_held: Whether a process has claimed it.
        waiting: How many of its records are waiting on this disk.

    Attributes:
        collection: Name of its collection.
        exp_id: Name of the experiment.
        waiting: How many of its records are waiting on this disk.
        points: Its records, sorted by step.
        params: {group: {name: value}} of its newest record, or {}.
        state: One of STATES.
    """

    def __init__(
        self,
        collection: str,
        exp_id: str,
        points: Iterable[Point],
        params: Document,
        is_held: bool = False,
        waiting: int = 0,
    ) -> None:
        self.collection, self.exp_id, self.waiting = collection, exp_id, waiting
        self.points = sorted(points, key=lambda point: (point.step, point.time))
        self.params = params
        self.state = self._state(is_held)

    def _state(self, is_held: bool) -> str:
        if is_held or self.waiting:
            return RUNNING if is_held else SPOOLED
        if self.points[-1].validates:
            return VALIDATED
        if self.steps is None:
            return ENDED
        return FINISHED if self.step >= self.steps else DIED

    @property
    def rule(self) -> str:
        """Its alignment rule, or '?' if its records do not contain one."""
        model = self._group('model_params')
        return _text(model['alignment'] or 'backprop') if 'alignment' in model else '?'

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
    def images_per_s(self) -> Optional[float]:
        """Images per second in its newest record with steps, or None without such a record."""
        batch = finite(self._group('train_params').get('train_batch_size'))
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
    def time(self) -> datetime.datetime:
        """When its newest record was created (UTC)."""
        return max(point.time for point in self.points)

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

    def last(self, name: str) -> Optional[float]:
        """Returns the value of a curve in the newest record that contains it.

        Returns None if that value is not a number, even if earlier records have one.
        """
        values = self._values(name)
        return values[-1][1] if values else None

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
) -> Tuple[List[Run], Optional[str]]:
    """Reads the runs of a database.

    Args:
        host: Name or address of the MongoDB server. An existing private server of this machine is
            started again if it is stopped.
        port: TCP port of the server.
        dbname: Name of the database.
        exp_ids: The experiments to read, or () for all.
        collname: Reads only the runs of this collection, or all if None.
        cache_dir: The cache folder, where records may be waiting for MongoDB; ~/.tfutils if None.

    Returns:
        (runs, trouble): the runs, sorted by collection and exp_id, and None. If MongoDB could not
        be read, trouble is a message that says why, and the runs consist of the records waiting on
        this disk.

    Raises:
        StoreError: MongoDB cannot be read and no records are waiting on this disk, or a waiting
            record is damaged.
    """
    folder = database_folder(cache_dir or server.DEFAULT_ROOT, f'{host}:{port}', dbname)
    waiting = _waiting(folder)
    trouble: Optional[str] = None
    try:
        with server.reach(host, port) as client:
            found = _of_database(client[dbname])
    except (PyMongoError, StoreError) as error:
        if not waiting:
            raise StoreError(connection.reason(error)) if isinstance(error, PyMongoError) else error
        found, trouble = {}, connection.reason(error)
    runs = []
    for key in sorted(set(found) | set(waiting)):
        stored, here = found.get(key, Stored([], {}, False)), waiting.get(key, [])
        more = [_point(_averaged(record), record['_id']) for record in here]
        run = Run(
            key.collection,
            key.exp_id,
            stored.points + more,
            stored.params or (here[-1].get('params', {}) if here else {}),
            stored.is_held,
            len(here),
        )
        if (not exp_ids or run.exp_id in exp_ids) and collname in (None, run.collection):
            runs.append(run)
    return runs, trouble


def _of_database(database: Database[Document]) -> Dict[RunKey, Stored]:
    """Reads the data of each run from MongoDB."""
    found: Dict[RunKey, Stored] = {}
    for name in sorted(name for name in database.list_collection_names() if name.endswith(FILES)):
        collection = name[: -len(FILES)]
        held = claim.held(database[collection + '.claims'])
        for document in database[name].aggregate(_pipeline()):
            key = RunKey(collection, document['exp_id'])
            if key not in found:
                found[key] = Stored([], _params(database[name], key.exp_id), key.exp_id in held)
            found[key].points.append(_point(document, document['_id']))
    return found


def _pipeline() -> List[Document]:
    """Returns the aggregation that selects the fields of a Point from each record.

    MongoDB averages the losses of the steps, so that they need not be transferred.
    """
    steps = {'$cond': [{'$isArray': '$train_results'}, '$train_results', []]}
    wanted: Document = dict.fromkeys(
        ('exp_id', 'step', 'duration', 'validation_results', 'validates'), 1
    )
    averages = {name: {'$avg': '$train_results.' + name} for name in LOSSES}
    return [
        {
            '$match': {
                'exp_id': {'$type': 'string'},
                'step': {'$type': 'number'},
                'item_for': {'$exists': False},
            }
        },
        {'$project': dict(wanted, trained={'$size': steps}, losses=averages)},
    ]


def _params(files: Collection[Document], exp_id: str) -> Document:
    """Returns the params of the newest record of an experiment that has params, or {}."""
    newest = files.find_one(
        {'exp_id': exp_id, 'params': {'$type': 'object'}}, {'params': 1}, sort=[('step', -1)]
    )
    params: Document = newest['params'] if newest else {}
    return params


def _averaged(record: Document) -> Document:
    """Returns a record in the form that `_pipeline` produces."""
    steps = [step for step in record.get('train_results', ()) if isinstance(step, dict)]
    return dict(
        record,
        trained=len(steps),
        losses={name: _average(step.get(name) for step in steps) for name in LOSSES},
    )


def _average(values: Iterable[object]) -> Optional[float]:
    numbers = [float(value) for value in values if isinstance(value, (int, float))]
    return sum(numbers) / len(numbers) if numbers else None


def _point(document: Document, identity: object) -> Point:
    time = (
        identity.generation_time
        if isinstance(identity, bson.ObjectId)
        else datetime.datetime.fromtimestamp(0, datetime.timezone.utc)
    )
    losses = {name: finite(value) for name, value in document['losses'].items()}
    return Point(
        int(document['step']),
        {name: value for name, value in losses.items() if value is not None},
        _results(document.get('validation_results')),
        finite(document.get('duration')),
        document['trained'],
        document.get('validates'),
        time,
    )


def _results(targets: object) -> Document:
    """Returns the results of the first target that has a top-1, or else of the first target."""
    found = (
        [results for _, results in sorted(targets.items()) if isinstance(results, dict)]
        if isinstance(targets, dict)
        else []
    )
    return next((results for results in found if 'top1' in results), found[0] if found else {})


def _waiting(folder: str) -> Dict[RunKey, List[Document]]:
    """Returns the records of each run that are waiting for MongoDB in spools below a folder.

    Raises:
        StoreError: A record is damaged.
    """
    found = {}
    for path in sorted(glob.glob(spool_of(os.path.join(glob.escape(folder), '*', '*')))):
        collection, exp_id, _ = path.split(os.sep)[-3:]
        records = [
            entry.record
            for entry in entries.kept(Spool(path)).values()
            if isinstance(entry, RecordEntry)
        ]
        if records:
            found[RunKey(collection, exp_id)] = records
    return found


def finite(value: object) -> Optional[float]:
    """Returns a finite number itself, or None for anything else."""
    return (
        value
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        else None
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else str(value)
