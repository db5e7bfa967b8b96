"""Results by class: top-1, confusions, and the images that are most surely wrong.

A training records them at its last validation, and each validation by test.py does. They are much
larger than the other results, so that only those that are shown are read, one record at a time.
"""

import base64
import datetime
import json
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import bson
from pymongo.database import Database
from pymongo.errors import PyMongoError

from database import server
from database.errors import StoreError
from database.layout import DETAILS, MOST_WHOLE, TARGET
from database.place import FILES
from database.types import Document
from reports import groups
from reports.runs import Run
from reports.stored import LONG_AGO, RECORDS, TEXT, RunKey, by_collection, finite
from reports.types import Json

LIMIT = 400_000  # bytes of JSON of all results by class that are read
MOST_CONFUSIONS = 1000  # of a run
MOST_MISTAKES = 16
TOLD = 10  # confusions in a text alternative
LARGEST_IMAGE = 32_768  # bytes; the images that the program records are smaller
LONGEST_NAME = 100  # characters of the name of a class
# What the bytes of an image begin with, and its type. Nothing else is shown as an image.
SIGNATURES = {b'\x89PNG\r\n\x1a\n': 'image/png', b'\xff\xd8\xff': 'image/jpeg'}
WHERE = f'validation_results.{TARGET}'


class Confusion(NamedTuple):
    """How many images of a class got the answer of another one; classes as places in `names`."""

    label: int
    answer: int
    images: int


class Mistake(NamedTuple):
    """An image with a wrong answer.

    Attributes:
        source: The image as a `data:` URL.
        number: The place of the image among the validation images, or None.
        caption: Its label, the answer, and the probability of the answer.
    """

    source: str
    number: Optional[int]
    caption: str

    @property
    def alt(self) -> str:
        """A text alternative for readers who cannot see it."""
        number = '?' if self.number is None else f'{self.number:,}'
        return f'Validation image {number}: {self.caption}'


class Classes(NamedTuple):
    """The newest results by class of a run.

    Attributes:
        run: The run.
        told: Where they come from: the step, the images, top-1, the time, and the validation.
        names: The names of the classes.
        images: The number of validated images of each class.
        top1: The top-1 of each class; None without images.
        matrix: A row for each label with the number of images for each answer, or None if there
            are too many classes.
        largest: The largest confusions.
        mistakes: The images that are most surely wrong.
        skipped: The number of recorded images that are neither a PNG nor a JPEG, or too large.
    """

    run: Run
    told: str
    names: List[str]
    images: List[int]
    top1: List[Optional[float]]
    matrix: Optional[List[List[int]]]
    largest: List[Confusion]
    mistakes: List[Mistake]
    skipped: int

    def document(self) -> Json:
        """Returns all of it but `names`, for a script."""
        return dict(
            key='/'.join(self.run.key),
            name=self.run.exp_id,
            told=self.told,
            notes=self.notes,
            images=self.images,
            top1=self.top1,
            matrix=self.matrix,
            largest=[list(each) for each in self.largest],
            mistakes=[[each.source, each.alt, each.caption] for each in self.mistakes],
        )

    @property
    def shares(self) -> List[List[float]]:
        """The matrix, as shares of the images of each label that have an answer."""
        return [[images / (sum(row) or 1) for images in row] for row in self.matrix or []]

    @property
    def confused(self) -> str:
        """The largest confusions, for readers who cannot see them."""
        told = [
            f'{self.names[each.label]} answered {self.names[each.answer]}: {each.images:,}'
            for each in self.largest[:TOLD]
        ]
        return 'the largest confusions: ' + ('; '.join(told) or 'none')

    @property
    def notes(self) -> List[str]:
        """Sentences about what is not shown."""
        if not self.skipped:
            return []
        return [f'Not shown: {self.skipped} recorded images that are no small PNG or JPEG.']

    @property
    def size(self) -> int:
        """Its bytes in JSON."""
        return len(json.dumps([self.document(), self.names]))


class Found(NamedTuple):
    """The results by class of some runs.

    Attributes:
        shown: Those that are shown, the most important first.
        left: The runs whose results are left out, because all of them would be too large.
        lacking: The runs that have recorded none.
    """

    shown: List[Classes]
    left: List[Run]
    lacking: List[Run]

    def within(self, most: int) -> 'Found':
        """Returns as many of them as `most` bytes of JSON can hold."""
        shown: List[Classes] = []
        left: List[Run] = []
        used = 0
        for each in self.shown:
            size = each.size
            if used + size <= most:
                shown.append(each)
            else:
                left.append(each.run)
            used += 0 if size > most else size  # one that is too large alone is left out alone
        return Found(shown, left + self.left, self.lacking)

    @property
    def newest(self) -> List[Classes]:
        """Those of one run of each group, its newest one that is shown."""
        runs = [each.run for each in self.shown]
        firsts = {next(run.key for run in runs if run in group.runs) for group in groups.of(runs)}
        return [each for each in self.shown if each.run.key in firsts]


NONE = Found([], [], [])


def read(host: str, port: int, dbname: str, wanted: Sequence[Run]) -> Found:
    """Reads the newest results by class of some runs: those of the run or of its validations.

    The newest run of each group comes first, then the second one of each, until LIMIT is reached.

    Args:
        host: Name or address of the MongoDB server.
        port: TCP port of the server.
        dbname: Name of the database.
        wanted: The runs.

    Returns:
        What was found; NONE if MongoDB cannot be read.
    """
    try:
        with server.reach(host, port) as client:
            return _read(client[dbname], in_turn(wanted))
    except (PyMongoError, StoreError):
        return NONE


def in_turn(found: Sequence[Run]) -> List[Run]:
    """Returns the newest run of each group of seeds, then the second one of each, and so on."""
    turns: List[Tuple[int, Run]] = []
    for group in groups.of(found):
        newest = sorted(group.runs, key=lambda run: run.time, reverse=True)
        turns += enumerate(newest)
    turns.sort(key=lambda each: each[1].time, reverse=True)
    return [run for _, run in sorted(turns, key=lambda each: each[0])]


class _Place(NamedTuple):
    """Where results by class are. Of several records of a run, the largest place is the newest."""

    step: float
    time: datetime.datetime
    key: RunKey
    identity: object


def _read(database: Database[Document], wanted: Sequence[Run]) -> Found:
    places = _places(database, wanted)
    found = Found([], [], [])
    used = 0
    for run in wanted:
        place = places.get(run.key)
        if used > LIMIT:
            (found.left if place else found.lacking).append(run)
            continue
        record = _record(database, place) if place else None
        classes = of(run, record, place.key) if place and record else None
        if classes:
            found.shown.append(classes)
            used += 0 if classes.size > LIMIT else classes.size
        else:
            found.lacking.append(run)
    return found.within(LIMIT)


def _places(database: Database[Document], wanted: Sequence[Run]) -> Dict[RunKey, _Place]:
    """Returns where the newest results by class of each run are, for the runs that have any."""
    owner = {each.key: run.key for run in wanted for each in [run, *run.validations]}
    found: Dict[RunKey, _Place] = {}
    for collection, exp_ids in by_collection(owner).items():
        match = dict(RECORDS, exp_id=dict(TEXT, **{'$in': exp_ids}))
        match[f'{WHERE}.per_class.0'] = {'$exists': True}
        newest = {'$max': {'step': '$step', 'identity': '$_id'}}
        stages: List[Document] = [
            {'$match': match},
            {'$group': {'_id': '$exp_id', 'newest': newest}},
        ]
        for each in database[collection + FILES].aggregate(stages):
            key, newest = RunKey(collection, each['_id']), each['newest']
            place = _Place(newest['step'], _time(newest['identity']), key, newest['identity'])
            own = owner[key]
            if own not in found or place[:2] > found[own][:2]:
                found[own] = place
    return found


def _time(identity: object) -> datetime.datetime:
    return identity.generation_time if isinstance(identity, bson.ObjectId) else LONG_AGO


def _record(database: Database[Document], place: _Place) -> Optional[Document]:
    wanted = ['step', 'validates', *[f'{WHERE}.{name}' for name in (*DETAILS, 'top1', 'images')]]
    files = database[place.key.collection + FILES]
    return files.find_one({'_id': place.identity}, dict.fromkeys(wanted, 1))


# --- what a record holds --------------------------------------------------------------------------


def of(run: Run, record: Document, key: RunKey) -> Optional[Classes]:
    """Returns the results by class that a record holds; None if they are not of the usual form.

    Args:
        run: The run.
        record: The record, with its step and its results.
        key: Whose record it is: the run's, or that of one of its validations.
    """
    results = record['validation_results'][TARGET]
    per_class = _documents(results.get('per_class'))
    if not per_class or [each.get('label') for each in per_class] != list(range(len(per_class))):
        return None
    names = [str(each.get('name', each['label']))[:LONGEST_NAME] for each in per_class]
    confusion = results.get('confusion')
    confusion = confusion if isinstance(confusion, dict) else {}
    matrix = _matrix(confusion.get('matrix'), len(names))
    recorded = _documents(results.get('mistakes'))[:MOST_MISTAKES]
    mistakes = list(filter(None, [_mistake(each, names) for each in recorded]))
    return Classes(
        run,
        _told(record, key, run),
        names,
        [int(finite(each.get('images')) or 0) for each in per_class],
        [finite(each.get('top1')) for each in per_class],
        matrix,
        _of_matrix(matrix) if matrix else _recorded(confusion.get('largest'), len(names)),
        mistakes,
        len(recorded) - len(mistakes),
    )


def _told(record: Document, key: RunKey, run: Run) -> str:
    results = record['validation_results'][TARGET]
    top1, images = finite(results.get('top1')), finite(results.get('images'))
    parts = [f'step {int(record["step"]):,}']
    parts += [] if top1 is None else [f'top-1 {top1:.4f}']
    parts += [] if images is None else [f'{int(images):,} images']
    parts.append(f'recorded {_time(record["_id"]):%Y-%m-%d %H:%M} UTC')
    by = '' if 'validates' not in record else ' by a validation'
    return ', '.join(parts) + (f' by the validation {key.exp_id}' if key != run.key else by)


def _documents(value: object) -> List[Document]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _count(value: object, below: Optional[int] = None) -> Optional[int]:
    """Returns a whole number from 0 to `below` itself, or None for anything else."""
    is_count = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return value if is_count and (below is None or value < below) else None  # type: ignore


def _matrix(value: object, size: int) -> Optional[List[List[int]]]:
    """Returns the recorded matrix of confusions, or None if there is none of this size."""
    is_square = (
        isinstance(value, list)
        and len(value) == size <= MOST_WHOLE
        and all(
            isinstance(row, list)
            and len(row) == size
            and all(_count(images) is not None for images in row)
            for row in value
        )
    )
    return value if is_square else None  # type: ignore[return-value]


def _of_matrix(matrix: Sequence[Sequence[int]]) -> List[Confusion]:
    found = [
        Confusion(label, answer, images)
        for label, row in enumerate(matrix)
        for answer, images in enumerate(row)
        if images and label != answer
    ]
    return sorted(found, key=lambda each: (-each.images, each))[:MOST_CONFUSIONS]


def _recorded(value: object, size: int) -> List[Confusion]:
    """Returns the recorded confusions of so many classes."""
    found = []
    for each in _documents(value):
        label, answer = _count(each.get('label'), size), _count(each.get('answer'), size)
        images = _count(each.get('images'))
        if label is not None and answer is not None and images is not None:
            found.append(Confusion(label, answer, images))
    return found[:MOST_CONFUSIONS]


def _mistake(document: Document, names: Sequence[str]) -> Optional[Mistake]:
    """Returns a recorded mistake, or None if its image cannot be shown."""
    image = document.get('image')
    if not isinstance(image, bytes) or len(image) > LARGEST_IMAGE:
        return None
    kind = next((kind for start, kind in SIGNATURES.items() if image.startswith(start)), None)
    if kind is None:
        return None
    places = [_count(document.get(name), len(names)) for name in ('label', 'answer')]
    label, answer = ['?' if place is None else names[place] for place in places]
    probability = finite(document.get('probability'))
    sure = '' if probability is None else f' ({100.0 * probability:.4g} %)'
    return Mistake(
        f'data:{kind};base64,{base64.b64encode(image).decode()}',
        _count(document.get('number')),
        f'label {label}, answer {answer}{sure}',
    )
