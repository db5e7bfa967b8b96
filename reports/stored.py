"""Reads what MongoDB and the spools of this machine hold of each run.

It reads records of any version of this program, of a tfutils script and of tfutils itself.
"""

import datetime
import functools
import glob
import logging
import math
import os
from typing import Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import bson
from pymongo.collection import Collection
from pymongo.database import Database

from database import claim, entries
from database.claim import End
from database.entries import RecordEntry
from database.errors import StoreError
from database.layout import DETAILS, TARGET
from database.place import CLAIMS, FILES, NOTES, SEARCHES, UNFINISHED
from database.spool import Spool, damaged, spool_of
from database.types import Document

LOSSES = ('loss', 'model_loss', 'reg_loss', 'alignment_loss', 'total_loss', 'learning_rate')
PRUNED = 'pruned'  # the state of a trial that a search stopped early
# Numbers that count something. NaN, infinite and decimal numbers, which this program does not
# write, are no such numbers: a record that has one does not hide the others.
SINGLE: Document = {'$not': {'$type': 'array'}}  # a condition on a list is one on its elements
WHOLE: Document = dict(
    SINGLE, **{'$type': ['int', 'long', 'double'], '$gte': -(2**53), '$lte': 2**53}
)
TEXT: Document = dict(SINGLE, **{'$type': 'string'})
# Which documents of such a collection are records.
RECORDS: Document = {
    'exp_id': TEXT,
    'step': WHOLE,
    'item_for': {'$exists': False},
}
LONG_AGO = datetime.datetime.fromtimestamp(0, datetime.timezone.utc)
# The newest record of each experiment and the times of all, from the index of the records. Only
# texts are compared with a text, so that other exp_ids are left out.
HEADS: List[Document] = [
    {'$match': {'exp_id': {'$gte': ''}}},
    {'$sort': {'exp_id': 1, 'step': 1, '_id': 1}},
    {
        '$group': {
            '_id': '$exp_id',
            'newest': {'$last': '$_id'},
            'first': {'$min': '$_id'},
            'last': {'$max': '$_id'},
        }
    },
]
# The stage that leaves out results by class, which are much larger than the numbers.
WITHOUT_DETAILS: Document = {
    '$project': {f'validation_results.{TARGET}.{name}': 0 for name in DETAILS}
}
# The records of a training with its newest validation and its newest steps.
NEWEST: Dict[str, Document] = {
    'validated': {'validation_results': {'$type': 'object'}, 'validates': {'$exists': False}},
    'trained': {'train_results.0': {'$exists': True}, 'validates': {'$exists': False}},
}

log = logging.getLogger(__name__)


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


def by_collection(keys: Iterable[RunKey]) -> Dict[str, List[str]]:
    """Returns {collection: the exp_ids of its runs}."""
    found: Dict[str, List[str]] = {}
    for key in keys:
        found.setdefault(key.collection, []).append(key.exp_id)
    return found


class Span(NamedTuple):
    """When the first and the newest record of a run were created (UTC)."""

    first: datetime.datetime
    newest: datetime.datetime


class Remarks(NamedTuple):
    """What users have written about a run with `runs.py`.

    Attributes:
        tags: Its tags.
        notes: The texts of its notes, the oldest first.
    """

    tags: List[str]
    notes: List[str]


NO_REMARKS = Remarks([], [])


class Stored(NamedTuple):
    """The data of a run in MongoDB.

    Attributes:
        points: Its records, or those with its newest values.
        params: The params of its newest record, or {}.
        is_held: Whether a process has claimed it.
        end: How its last process ended before the last step, or None.
        span: The times of all of its records; None if `points` are all of them.
        remarks: Its tags and notes.
        is_pruned: Whether it is a trial that a search stopped early.
        begun: What was begun with it and is not finished; see database/unfinished.py.
    """

    points: List[Point]
    params: Document
    is_held: bool
    end: Optional[End] = None
    span: Optional[Span] = None
    remarks: Remarks = NO_REMARKS
    is_pruned: bool = False
    begun: Optional[str] = None


def collections_of(database: Database[Document]) -> List[str]:
    """Returns the names of the collections of runs in a database, sorted."""
    names = database.list_collection_names()
    return sorted(name[: -len(FILES)] for name in names if name.endswith(FILES))


def newest(database: Database[Document]) -> Dict[RunKey, Stored]:
    """Reads the records with the newest values of each run of a database.

    Raises:
        PyMongoError: MongoDB cannot be read.
    """
    found: Dict[RunKey, Stored] = {}
    for collection in collections_of(database):
        files, claims = database[collection + FILES], database[collection + CLAIMS]
        held, ends = claim.held(claims), claim.ends(claims)
        told = remarks(database[collection + NOTES])
        pruned = database[collection + SEARCHES].distinct('_id', {'state': PRUNED})
        begun = {
            each['_id']: str(each.get('doing')) for each in database[collection + UNFINISHED].find()
        }
        for exp_id, stored in _newest(files):
            found[RunKey(collection, exp_id)] = stored._replace(
                is_held=exp_id in held,
                end=ends.get(exp_id),
                remarks=told.get(exp_id, NO_REMARKS),
                is_pruned=exp_id in pruned,
                begun=begun.get(exp_id),
            )
    return found


def remarks(notes: Collection[Document]) -> Dict[str, Remarks]:
    """Returns {exp_id: tags and notes} of the runs of a collection that have any.

    Raises:
        PyMongoError: MongoDB cannot be read.
    """
    return {
        document['_id']: Remarks(
            [tag for tag in _list(document.get('tags')) if isinstance(tag, str)],
            [
                note['text']
                for note in _list(document.get('notes'))
                if isinstance(note, dict) and isinstance(note.get('text'), str)
            ],
        )
        for document in notes.find({'_id': {'$type': 'string'}})
    }


def _list(value: object) -> List[object]:
    return value if isinstance(value, list) else []


def _newest(files: Collection[Document]) -> Iterator[Tuple[str, Stored]]:
    """Yields (exp_id, data) of each run, with the records that hold its newest values.

    Validations, and runs whose newest record is not of the usual form, are read in whole.
    """
    others = []
    for head in heads(files):
        if not head.records:
            others.append(head.exp_id)
            continue
        points = [point(record, record['_id']) for record in head.records]
        yield head.exp_id, Stored(points, head.records[0]['params'], False, span=head.span)
    for exp_id, points in (whole(files, others) if others else {}).items():
        yield exp_id, Stored(points, _params(files, exp_id), False)


class Head(NamedTuple):
    """The newest records of a run, as MongoDB returns them.

    Attributes:
        exp_id: The experiment.
        span: The times of its records.
        records: Its newest record, and where this one has no validation or no steps, the newest
            ones that have. It is empty if the newest record is not of the usual form.
    """

    exp_id: str
    span: Span
    records: List[Document]


def heads(files: Collection[Document]) -> List[Head]:
    """Reads the newest records of each run of a collection.

    The newest step and the times of each run come from the index alone. Of most runs, one record is
    fetched.

    Raises:
        PyMongoError: MongoDB cannot be read.
    """
    found = [
        head
        for head in files.aggregate(HEADS, allowDiskUse=True)
        if isinstance(head['_id'], str)  # a list of texts is compared with a text as well
    ]
    match = dict(RECORDS, _id={'$in': [head['newest'] for head in found]})
    fields = _fields()
    fields['$project']['params'] = 1
    newest = {
        record['exp_id']: record
        for record in files.aggregate([{'$match': match}, fields, WITHOUT_DETAILS])
    }
    usual = {
        exp_id: [record]
        for exp_id, record in newest.items()
        if 'validates' not in record and isinstance(record.get('params'), dict)
    }
    short = [
        exp_id
        for exp_id, (record,) in usual.items()
        if not (record['trained'] and isinstance(record.get('validation_results'), dict))
    ]
    for document in files.aggregate(_lookups(files.name, short)) if short else ():
        own = usual[document['_id']]
        for record in [record for kind in NEWEST for record in document[kind]]:
            own += [] if record['_id'] in [each['_id'] for each in own] else [record]
    return [
        Head(
            head['_id'],
            Span(_time(head['first']), _time(head['last'])),
            usual.get(head['_id'], []),
        )
        for head in found
    ]


def _lookups(name: str, exp_ids: Sequence[str]) -> List[Document]:
    """Returns the aggregation that selects the records of NEWEST for each of some runs."""
    pipeline: List[Document] = [
        {'$match': {'exp_id': {'$in': list(exp_ids)}}},
        {'$group': {'_id': '$exp_id'}},
    ]
    for kind, query in NEWEST.items():
        chosen = [
            {'$match': dict(RECORDS, **query, **{'$expr': {'$eq': ['$exp_id', '$$exp_id']}})},
            {'$sort': {'exp_id': -1, 'step': -1, '_id': -1}},
            {'$limit': 1},
            _fields(),
            WITHOUT_DETAILS,
        ]
        lookup = {'from': name, 'let': {'exp_id': '$_id'}, 'pipeline': chosen, 'as': kind}
        pipeline.append({'$lookup': lookup})
    return pipeline


def whole(files: Collection[Document], exp_ids: Sequence[str]) -> Dict[str, List[Point]]:
    """Reads all records of some experiments of a collection: {exp_id: records}.

    Raises:
        PyMongoError: MongoDB cannot be read.
    """
    points: Dict[str, List[Point]] = {}
    match = dict(RECORDS, exp_id=dict(TEXT, **{'$in': list(exp_ids)}))
    for document in files.aggregate([{'$match': match}, _fields(), WITHOUT_DETAILS]):
        points.setdefault(document['exp_id'], []).append(point(document, document['_id']))
    return points


def owners(database: Database[Document], identities: Iterable[object]) -> Dict[object, RunKey]:
    """Returns {`_id`: run} of those records of a database that have one of the given `_id`s.

    Raises:
        PyMongoError: MongoDB cannot be read.
    """
    wanted = [each for each in identities if isinstance(each, bson.ObjectId)]
    found: Dict[object, RunKey] = {}
    for collection in collections_of(database) if wanted else ():
        query = {'_id': {'$in': wanted}, 'exp_id': TEXT}
        for record in database[collection + FILES].find(query, {'exp_id': 1}):
            found[record['_id']] = RunKey(collection, record['exp_id'])
    return found


def _fields() -> Document:
    """Returns the stage of an aggregation that selects the fields of a Point from each record.

    MongoDB averages the losses of the steps, so that they need not be transferred.
    """
    steps = {'$cond': [{'$isArray': '$train_results'}, '$train_results', []]}
    wanted: Document = dict.fromkeys(
        ('exp_id', 'step', 'duration', 'validation_results', 'validates'), 1
    )
    averages = {name: {'$avg': '$train_results.' + name} for name in LOSSES}
    return {'$project': dict(wanted, trained={'$size': steps}, losses=averages)}


def _params(files: Collection[Document], exp_id: str) -> Document:
    """Returns the params of the newest record of an experiment that has params, or {}.

    A record of a validation counts only if there is no other.
    """
    query: Document = {'exp_id': exp_id, 'params': {'$type': 'object'}}
    for more in ({'validates': {'$exists': False}}, {}):
        newest = files.find_one(
            dict(query, **more), {'params': 1}, sort=[('step', -1), ('_id', -1)]
        )
        if newest:
            found: Document = newest['params']
            return found
    return {}


def waiting(folder: str) -> Dict[RunKey, List[Document]]:
    """Returns the records of each run that are waiting for MongoDB in spools below a folder.

    A log message names each damaged one, which is left out.
    """
    found = {}
    for path in sorted(glob.glob(spool_of(os.path.join(glob.escape(folder), '*', '*')))):
        collection, exp_id, _ = path.split(os.sep)[-3:]
        records = []
        kept = entries.kept(Spool(path), refused=True, unreadable=_tell)
        for name, entry in kept.items():
            if isinstance(entry, RecordEntry):
                try:
                    waiting_point(entry.record)
                except (KeyError, TypeError, ValueError) as error:
                    _tell(damaged(name, error))
                else:
                    records.append(entry.record)
        if records:
            found[RunKey(collection, exp_id)] = records
    return found


def _tell(error: StoreError) -> None:
    _tell_once(str(error))


@functools.lru_cache(maxsize=None)
def _tell_once(message: str) -> None:
    """Logs a message, but only once in a report that is made again and again."""
    log.warning('%s', message)


def waiting_point(record: Document) -> Point:
    """Returns the Point of a record that is waiting for MongoDB."""
    steps = [step for step in record.get('train_results', ()) if isinstance(step, dict)]
    losses = {name: _average(step.get(name) for step in steps) for name in LOSSES}
    return point(dict(record, trained=len(steps), losses=losses), record['_id'])


def _average(values: Iterable[object]) -> Optional[float]:
    numbers = [float(value) for value in values if isinstance(value, (int, float))]
    return sum(numbers) / len(numbers) if numbers else None


def point(document: Document, identity: object) -> Point:
    """Returns the Point of a record in the form that the aggregations produce."""
    losses = {name: finite(value) for name, value in document['losses'].items()}
    return Point(
        int(document['step']),
        {name: value for name, value in losses.items() if value is not None},
        _results(document.get('validation_results')),
        finite(document.get('duration')),
        document['trained'],
        document.get('validates'),
        _time(identity),
    )


def _time(identity: object) -> datetime.datetime:
    """Returns when the record with an `_id` was created."""
    return identity.generation_time if isinstance(identity, bson.ObjectId) else LONG_AGO


def _results(targets: object) -> Document:
    """Returns the results of the first target that has a top-1, or else of the first target.

    Those by class are left out.
    """
    found = (
        [results for _, results in sorted(targets.items()) if isinstance(results, dict)]
        if isinstance(targets, dict)
        else []
    )
    chosen = next((results for results in found if 'top1' in results), found[0] if found else {})
    return {name: value for name, value in chosen.items() if name not in DETAILS}


def finite(value: object) -> Optional[float]:
    """Returns a finite number itself, or None for anything else."""
    return (
        value
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        else None
    )
