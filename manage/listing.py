"""Lists the databases of a server and the experiments of a database."""

import argparse
import sys
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from pymongo.errors import OperationFailure

from database.connection import Client
from database.experiment import WITH_FILE
from database.place import FILES, RECENT
from database.records import RECENT_SUFFIX, SYSTEM_DATABASES, recent_database
from database.types import Document
from manage import local, notes
from manage.command import Command, say
from manage.finding import Where, collections, opened
from manage.notes import Labels
from manage.text import columns, size
from reports import runs
from reports.runs import Run

LONGEST_NOTE = 40  # characters of a note in the list
STRINGS: Document = {'$type': 'string'}


class ListAll(Command):
    """`list`: lists the databases of a server, or the experiments of one of them."""

    help = 'list databases and collections; with --dbname, the experiments of a database'
    description = (
        'Without --dbname, lists the databases and collections of the server with the number of '
        'their experiments and their size on disk. With --dbname, lists its experiments.'
    )
    any_database = True

    def define(self, parser: argparse.ArgumentParser) -> None:
        """Adds --tag."""
        parser.add_argument(
            '--tag', default=None, help='with --dbname: only experiments that have this tag'
        )

    def run(self, where: Where, options: argparse.Namespace) -> int:
        """Prints the list."""
        return list_experiments(where, options.tag) if where.dbname else list_databases(where)


def list_databases(where: Where) -> int:
    """Prints the collections of all databases; returns the exit code.

    Raises:
        StoreError: MongoDB cannot be read.
    """
    with opened(where) as client:
        rows = [
            _row_of_collection(client, dbname, collection)
            for dbname in sorted(client.list_database_names())
            if dbname not in SYSTEM_DATABASES and not dbname.endswith(RECENT_SUFFIX)
            for collection in collections(client, dbname)
            if where.collection in (None, collection)
            and client[dbname][collection + FILES].find_one({'exp_id': STRINGS}, {'_id': 1})
        ]
    heading = ('DATABASE', 'COLLECTION', 'RUNS', 'RECORDS', 'CHECKPOINTS', 'ON DISK')
    for line in columns(rows, heading, right=(2, 3, 4, 5)):
        say(line)
    if not rows:
        say(f'There are no experiments at {where.host}:{where.port} yet.')
    return 0


def _row_of_collection(client: Client, dbname: str, collection: str) -> Tuple[str, ...]:
    """Returns the cells of a collection."""
    files = client[dbname][collection + FILES]
    exp_ids = [exp_id for exp_id in files.distinct('exp_id') if isinstance(exp_id, str)]
    recent = _recent(client, dbname, collection, exp_ids).values()
    checkpoints = _checkpoints(client, dbname, collection, exp_ids)
    on_disk = sum(
        _on_disk(client, dbname, name)
        for name in client[dbname].list_collection_names()
        if name.rpartition('.')[0] == collection
    )
    on_disk += sum(
        _on_disk(client, name, each)
        for name in recent
        for each in client[name].list_collection_names()
    )
    return (
        dbname,
        collection,
        f'{len(exp_ids):,}',
        f'{files.count_documents({"exp_id": STRINGS}):,}',
        f'{sum(each.number for each in checkpoints.values()):,}',
        size(on_disk),
    )


def _on_disk(client: Client, dbname: str, collection: str) -> int:
    """Returns how many bytes a collection and its indexes take on the disk of the server."""
    try:
        told = client[dbname].command('collStats', collection)
    except OperationFailure:  # a view, or no right to ask
        return 0
    return int(told.get('storageSize', 0)) + int(told.get('totalIndexSize', 0))


def _recent(client: Client, dbname: str, collection: str, exp_ids: Sequence[str]) -> Dict[str, str]:
    """Returns {exp_id: database} of the databases of recent checkpoints that exist."""
    present = set(client.list_database_names())
    names = {exp_id: recent_database(dbname, collection, exp_id) for exp_id in exp_ids}
    return {exp_id: name for exp_id, name in names.items() if name in present}


class Files(NamedTuple):
    """The checkpoints of an experiment in MongoDB.

    Attributes:
        number: How many there are.
        size: Their bytes.
    """

    number: int = 0
    size: int = 0


def _checkpoints(
    client: Client, dbname: str, collection: str, exp_ids: Sequence[str]
) -> Dict[str, Files]:
    """Returns {exp_id: Files} of the experiments that have checkpoints, with the recent ones."""
    summed = {'_id': '$exp_id', 'count': {'$sum': 1}, 'size': {'$sum': '$length'}}
    own = dict(WITH_FILE, exp_id=STRINGS)
    found = {
        each['_id']: Files(each['count'], each['size'])
        for each in client[dbname][collection + FILES].aggregate(
            [{'$match': own}, {'$group': summed}]
        )
    }
    for exp_id, name in _recent(client, dbname, collection, exp_ids).items():
        ours = dict(WITH_FILE, exp_id=exp_id, collname={'$in': [collection, None]})
        for each in client[name][RECENT + FILES].aggregate([{'$match': ours}, {'$group': summed}]):
            before = found.get(exp_id, Files())
            found[exp_id] = Files(before.number + each['count'], before.size + each['size'])
    return found


def list_experiments(where: Where, tag: Optional[str] = None) -> int:
    """Prints the experiments of a database; returns the exit code.

    Args:
        where: The database, and the collection if only one is listed.
        tag: Lists only experiments that have this tag, if given.

    Raises:
        StoreError: MongoDB cannot be read, and no records are waiting on this disk.
    """
    found, trouble = runs.read(
        where.host, where.port, where.dbname, collname=where.collection, cache_dir=where.cache_dir
    )
    found = _with_validations(found)
    if trouble:
        rows = [_row(run, Labels(), Files(), where) for run in found]
    else:
        with opened(where) as client:
            rows = _rows(client, where, found, tag)
    heading = ('RUN', 'COLLECTION', 'STEP', 'TOP-1', 'STATE', 'RECORDS', 'CHECKPOINTS')
    more = ('SIZE', 'LOCAL', 'NEWEST RECORD', 'TAGS', 'NOTE')
    for line in columns(rows, heading + more, right=(2, 3, 5, 6, 7, 8)):
        say(line)
    if not rows:
        say(f'There are no experiments{f" tagged {tag}" if tag else ""} in {where.text()}.')
    if trouble:
        print(f'error: The list has only what waits on this disk. {trouble}', file=sys.stderr)
    return 1 if trouble else 0


def _with_validations(found: Sequence[Run]) -> List[Run]:
    """Returns runs and the validations of their checkpoints, sorted by collection and name."""
    every = {each.key: each for run in found for each in run.validations}
    every.update({run.key: run for run in found})  # a training may hold one under its own name
    return [every[key] for key in sorted(every)]


def _rows(
    client: Client, where: Where, found: Sequence[Run], tag: Optional[str]
) -> List[Tuple[str, ...]]:
    """Returns the cells of the experiments of a database."""
    rows = []
    for collection in sorted({run.collection for run in found}):
        labels = {
            document['_id']: notes.of_document(document)
            for document in notes.collection_of(client, where.dbname, collection).find()
        }
        its = [run for run in found if run.collection == collection]
        files = _checkpoints(client, where.dbname, collection, [run.exp_id for run in its])
        for run in its:
            own = labels.get(run.exp_id, Labels())
            if tag is None or tag in own.tags:
                rows.append(_row(run, own, files.get(run.exp_id, Files()), where))
    return rows


def _row(run: Run, labels: Labels, files: Files, where: Where) -> Tuple[str, ...]:
    """Returns the cells of an experiment."""
    top1 = run.last('top1')
    note = labels.notes[-1].text if labels.notes else ''
    folder = local.folder_of(where.cache_dir, where.place(run.collection, run.exp_id))
    return (
        run.exp_id,
        run.collection,
        f'{run.step:,}' + ('' if run.steps in (None, run.step) else f' of {run.steps:,}'),
        '-' if top1 is None else f'{top1:.4f}',
        run.state,
        f'{len(run.points):,}',
        f'{files.number:,}',
        size(files.size),
        size(local.size(folder)),
        f'{run.time:%Y-%m-%d %H:%M}',
        ','.join(labels.tags),
        note if len(note) <= LONGEST_NOTE else note[: LONGEST_NOTE - 3] + '...',
    )
