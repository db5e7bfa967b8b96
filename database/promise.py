"""Checks what MongoDB holds of an experiment against what a training promises (docs/faults.md).

Beside records that say `stopped`, the records of a training are those of one that was never
interrupted: each step is in one record, and the weights of the last step are there.
"""

import tempfile
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional

from database import layout, owner, records
from database.archive import prefix_of
from database.bucket import Bucket
from database.errors import StoreError
from database.experiment import Experiment
from database.types import Document

# Notes in params.load_params of a run whose settings differ from those of the run before.
CHANGES = ('changed_settings', 'overridden', 'not_recorded')


class Held(NamedTuple):
    """What MongoDB holds of an experiment.

    Attributes:
        experiment: The experiment.
        records: Its records, sorted by step.
        named: The `_id`s of the records that have named results.
        recent: The documents of its recent checkpoints, sorted by step.
        starts: {number of an owner: step after which it trained}; {} if that is not stored.
        is_over: Whether a training has ended, and neither a signal nor an error has ended it.
    """

    experiment: Experiment
    records: List[Document]
    named: List[object]
    recent: List[Document]
    starts: Dict[int, int]
    is_over: bool

    @property
    def of_training(self) -> bool:
        """Whether the records are those of a training, and not of a validation."""
        return not any('validates' in record for record in self.records)

    @property
    def steps(self) -> Optional[int]:
        """The number of steps of the training; None if the newest record does not say it."""
        params = self.records[-1].get('params') if self.records else None
        found = _group(params, 'train_params').get('num_steps')
        return found if isinstance(found, int) else None


def read(experiment: Experiment) -> Held:
    """Reads an experiment.

    Raises:
        PyMongoError: MongoDB cannot be read.
    """
    documents = list(experiment.documents())
    own = [document for document in documents if 'exp_id' in document]
    starts = experiment.owners.starts()
    return Held(
        experiment,
        sorted(own, key=_step),
        [document['item_for'] for document in documents if 'item_for' in document],
        sorted(experiment.recent_documents(), key=_step),
        starts,
        bool(starts) and experiment.claim() is None,
    )


def faults(held: Held) -> Iterator[str]:
    """Yields what is wrong with an experiment, one sentence each without a full stop.

    Raises:
        PyMongoError: MongoDB cannot be read.
    """
    if not held.records:
        yield 'There are no records'
        return
    for check in CHECKS:
        yield from check(held)


def _layout(held: Held) -> Iterator[str]:
    for record in held.records:
        for fault in layout.faults(record):
            yield f'The record of step {_step(record):,}: {fault}'


def _digests(held: Held) -> Iterator[str]:
    for document in held.records + held.recent:
        if 'digest' in document:
            if records.digest(document) != document['digest']:
                yield f'The record of step {_step(document):,} was changed after it was stored'
        elif layout.version(document) >= 3 and owner.of(document):
            yield f'The record of step {_step(document):,} has lost its digest'


def _steps(held: Held) -> Iterator[str]:
    """Compares the steps of each record with those of the record before it."""
    if not held.of_training:
        return
    before: Optional[Document] = None
    for record in held.records:
        step = _step(record)
        first = step - len(record.get('train_results') or ())
        end = _step(before) if before else 0
        if before and step == end:
            yield f'There are two records of step {step:,}'
        elif before and first < end:
            yield f'The steps {first + 1:,} to {end:,} are in two records'
        elif first > end and (before or not _begins_elsewhere(record)):
            yield f'The records of the steps {end + 1:,} to {first:,} are missing'
        before = record


def _begins_elsewhere(record: Document) -> bool:
    """Returns whether a training started from the checkpoint of another experiment."""
    load = _group(record.get('params'), 'load_params')
    names = ('load_checkpoint', 'load_db', 'load_exp_id', 'load_collname', 'load_dbname')
    return any(load.get(name) for name in names)


def _validations(held: Held) -> Iterator[str]:
    if not held.of_training:
        return
    first, last = held.records[0], held.records[-1]
    if _group(first.get('params'), 'train_params').get('validate_first') is True:
        if not _begins_elsewhere(first) and (_step(first) or 'validation_results' not in first):
            yield 'The validation of step 0 is missing'
    for record in held.records:
        every = _group(record.get('params'), 'save_params').get('save_valid_freq')
        step = _step(record)
        due = step == held.steps or isinstance(every, int) and step and not step % every
        waits = record is last and record.get('stopped')
        if due and not waits and 'model' in _group(record.get('params'), 'model_params'):
            if 'validation_results' not in record:
                yield f'The validation of step {step:,} is missing'


def _end(held: Held) -> Iterator[str]:
    if not held.of_training or held.steps is None:
        return
    last = held.records[-1]
    if _step(last) == held.steps and not last.get('stopped'):
        if not (last.get('saved_filters') and 'filename' in last):
            yield f'The weights of the last step, {held.steps:,}, are missing'
    elif held.is_over and _step(last) < held.steps:
        yield (
            f'The training has ended, but its records end at step {_step(last):,} of {held.steps:,}'
        )


def _owners(held: Held) -> Iterator[str]:
    """Compares the owners of the records, and each with those that have trained its step again."""
    highest = 0
    lives = set()
    for record in held.records:
        its, step = owner.of(record), _step(record)
        if not its:
            continue
        lives.add(its.life)
        if its.number < highest or owner.supersedes(held.starts, its.number, step):
            yield f'The record of step {step:,} was written by an older process than the others'
        highest = max(highest, its.number)
    if len(lives) > 1:
        yield 'Some of the records belong to another experiment of the same name'


def _settings(held: Held) -> Iterator[str]:
    """Compares the digests of the settings with those of the record before."""
    known: Dict[int, object] = {}
    before: Optional[object] = None
    for record in held.records:
        digests = (record.get('params') or {}).get('digests')
        load = _group(record.get('params'), 'load_params')
        if None not in (before, digests) and digests != before:
            if not any(name in load for name in CHANGES):
                yield f'The record of step {_step(record):,} has other settings than those before'
        before = digests or before
        known[_step(record)] = digests
    for document in held.recent:
        digests = (document.get('params') or {}).get('digests')
        if known.get(_step(document), digests) != digests:
            yield f'The recent checkpoint of step {_step(document):,} has other settings'


def _files(held: Held) -> Iterator[str]:
    """Reads every checkpoint, and compares it with its checksums and its step."""
    both = ((held.experiment.main, held.records), (held.experiment.recent, held.recent))
    for bucket, documents in both:
        for document in documents:
            if 'filename' in document:
                yield from _file(bucket, document)


def _file(bucket: Bucket, document: Document) -> Iterator[str]:
    step = _step(document)
    try:
        with tempfile.NamedTemporaryFile(prefix='check-', suffix='.tar') as file:
            bucket.download(document, file)
            file.flush()
            found = prefix_of(file.name)
    except (StoreError, KeyError) as error:
        yield f'The checkpoint of step {step:,} is damaged: {str(error).rstrip(".")}'
        return
    # The original program stored the whole path.
    names = {found, str(document['filename']).rpartition('/')[2].partition('.tar')[0]}
    if names != {f'checkpoint-{step}'}:
        yield f'The record of step {step:,} has the checkpoint {found}'


def _named(held: Held) -> Iterator[str]:
    """Looks for the results that --save_to_gfs stores beside the records."""
    for record in held.records:
        names = _group(record.get('params'), 'save_params').get('save_to_gfs') or ()
        targets = record.get('validation_results')
        if not isinstance(targets, dict) or not targets or record['_id'] in held.named:
            continue
        known = layout.VALIDATION + layout.VALIDATION_THAT_MEASURES + layout.BY_LAYER
        if any(name in known for name in names):
            yield f'The results {", ".join(names)} of step {_step(record):,} are missing'


CHECKS: List[Callable[[Held], Iterator[str]]] = [
    _layout,
    _digests,
    _steps,
    _validations,
    _end,
    _owners,
    _settings,
    _files,
    _named,
]


def _step(document: Document) -> int:
    found = document.get('step')
    return found if isinstance(found, int) else -1


def _group(params: object, name: str) -> Document:
    """Returns a group of a params dictionary; {} if it is missing."""
    found = params.get(name) if isinstance(params, dict) else None
    return found if isinstance(found, dict) else {}
