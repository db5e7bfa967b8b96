"""Exports experiments to a folder."""

import argparse
from typing import List, Optional, Sequence

import bson
from pymongo.errors import OperationFailure

from config.query import query_of
from config.rows import ConfigError
from database import connection, records, unfinished
from database.bucket import Bucket
from database.connection import Client
from database.errors import DamagedError, StoreError
from database.experiment import WEIGHTS, Experiment
from database.place import FILES, SEARCHES, Place
from database.types import Document
from manage import folder as folders
from manage import local, notes, studies
from manage.command import Command, say
from manage.finding import Where, collections, locate, opened
from manage.folder import ENDED, LABELS, RECENT, RECORDS, TRIAL, Listed, Manifest, Writing
from manage.text import counted, size

NO_RIGHTS = (13, 18)  # codes of MongoDB: all other failures of a query are about the query


class Export(Command):
    """`export RUN... --to=DIR`: writes experiments to a folder."""

    help = 'write experiments to a folder, to import them elsewhere'
    description = (
        'Writes experiments to a new folder: records, checkpoints with the recent ones, tags and '
        'notes, how they ended, the journals of the searches that they are trials of, and a '
        'manifest with a SHA-256 of each file. The folder appears when it is whole. The database '
        'is not changed. `runs.py import` reads the folder.'
    )

    def define(self, parser: argparse.ArgumentParser) -> None:
        """Adds the experiments, --where and --to."""
        parser.add_argument('exp_ids', metavar='RUN', nargs='*', help='exp_id of an experiment')
        parser.add_argument(
            '--where',
            metavar='JSON',
            help='a query of MongoDB, as in --load_query of train.py: all experiments with a '
            'record that it matches',
        )
        parser.add_argument('--to', metavar='DIR', required=True, help='the new folder')
        parser.add_argument(
            '--without_checkpoints',
            action='store_true',
            help='leave the checkpoints out; a training cannot be continued from such a folder',
        )

    def run(self, where: Where, options: argparse.Namespace) -> int:
        """Writes the folder."""
        if not options.exp_ids and options.where is None:
            raise ConfigError('Nothing was named. Give the exp_ids of experiments, or --where.')
        query = None if options.where is None else query_of(options.where, '--where')
        with opened(where) as client:
            places = [locate(client, where, exp_id) for exp_id in options.exp_ids]
            if query is not None:
                places += matching(client, where, query)
            written = export(
                client, where, sorted(set(places)), options.to, not options.without_checkpoints
            )
        say(written)
        return 0


def matching(client: Client, where: Where, query: Document) -> List[Place]:
    """Returns the places of the experiments with a record that a query matches.

    Raises:
        ConfigError: MongoDB does not understand the query.
        StoreError: There is none.
        PyMongoError: MongoDB cannot be read.
    """
    try:
        found = [
            where.place(collection, exp_id)
            for collection in collections(client, where.dbname)
            if where.collection in (None, collection)
            for exp_id in client[where.dbname][collection + FILES].distinct('exp_id', query)
            if isinstance(exp_id, str)
        ]
    except OperationFailure as error:
        if error.code in NO_RIGHTS:
            raise
        raise ConfigError(
            f'--where is no query of MongoDB ({connection.reason(error)}).'
        ) from error
    if not found:
        raise StoreError(f'No record in {where.text()} matches --where, so nothing was exported.')
    return found


def export(
    client: Client, where: Where, places: Sequence[Place], folder: str, checkpoints: bool
) -> str:
    """Writes experiments to a new folder; returns a sentence that says what was written.

    Args:
        client: A client of their server.
        where: Where they are.
        places: Their places.
        folder: Path of the folder.
        checkpoints: Whether to write their checkpoints, too.

    Raises:
        StoreError: The folder exists or cannot be written, or an experiment cannot be exported:
            a process is working on it, or some of its records wait for MongoDB.
        PyMongoError: MongoDB cannot be read.
    """
    experiments = [Experiment(client, place) for place in places]
    for each in experiments:
        _check(each, where)
    with folders.writing(folder) as new:
        listed = []
        for each in experiments:
            listed.append(_write(client, each, new, checkpoints))
            say(
                f'{each.place.exp_id} ({each.place.collname}): '
                f'{counted(listed[-1].records, "record")}, '
                f'{counted(listed[-1].checkpoints, "checkpoint")}'
            )
        for study in studies.of_trials(client, places):
            say(studies.export(client, where, study, new))
        new.finish(Manifest(where.dbname, checkpoints, listed, dict(new.files)))
    total = sum(digest.size for digest in new.files.values())
    return f'{counted(len(listed), "experiment")} exported to {new.folder} ({size(total)})'


def _check(experiment: Experiment, where: Where) -> None:
    """Checks that an experiment can be exported whole."""
    place = experiment.place
    records.check_names(place.dbname, place.collname, place.exp_id)
    unfinished.check(experiment.main.unfinished, place)
    _check_idle(experiment)
    waiting = local.waiting(local.folder_of(where.cache_dir, place))
    if waiting:
        raise StoreError(
            f'{counted(waiting, "record")} of {place.exp_id} on this disk wait for MongoDB. Run '
            'its command again with --do_restore to write them, and then export it.'
        )


def _check_idle(experiment: Experiment) -> None:
    if experiment.is_held():
        raise StoreError(
            f'A process is working on {experiment.place.exp_id}, so it cannot be exported as a '
            'whole. Wait for it, or stop it.'
        )


def _write(client: Client, experiment: Experiment, new: Writing, checkpoints: bool) -> Listed:
    """Writes an experiment into a new folder."""
    place, before = experiment.place, experiment.identities()
    listed = Listed(place.collname, place.exp_id, len(experiment.record_ids()), 0)
    count = 0
    with new.file(listed.documents(RECORDS)) as file:
        for document in experiment.documents():
            if 'exp_id' in document and not checkpoints:
                document = without_file(document)
            if 'filename' in document:
                _write_file(experiment.main, document, new, listed.file(RECORDS, document))
                count += 'exp_id' in document
            file.write(bson.encode(document))
    with new.file(listed.documents(RECENT)) as file:
        for document in experiment.recent_documents() if checkpoints else ():
            _write_file(experiment.recent, document, new, listed.file(RECENT, document))
            file.write(bson.encode(document))
            count += 1
    with new.file(listed.documents(LABELS)) as file:
        labels = notes.collection_of(client, place.dbname, place.collname)
        for document in labels.find({'_id': place.exp_id}):
            file.write(bson.encode(document))
    _write_if_any(new, listed.documents(ENDED), _ended(experiment))
    trial = client[place.dbname][place.collname + SEARCHES].find_one({'_id': place.exp_id})
    _write_if_any(new, listed.documents(TRIAL), trial)
    _check_idle(experiment)
    if experiment.identities() != before:
        raise StoreError(
            f'{place.exp_id} has changed while it was exported, so nothing was exported. Run the '
            'command again when no process is working on it.'
        )
    return listed._replace(checkpoints=count)


def _ended(experiment: Experiment) -> Optional[Document]:
    end = experiment.end()
    return dict(end._asdict()) if end else None


def _write_if_any(new: Writing, path: str, document: Optional[Document]) -> None:
    """Writes a file of one document, or none."""
    if document is not None:
        with new.file(path) as file:
            file.write(bson.encode(document))


def without_file(document: Document) -> Document:
    """Returns a record without its checkpoint, as records are that never had one."""
    kept = {name: value for name, value in document.items() if name not in WEIGHTS}
    return dict(kept, saved_filters=False)


def _write_file(bucket: Bucket, document: Document, new: Writing, path: str) -> None:
    """Writes a GridFS file."""
    with new.file(path) as file:
        try:
            bucket.download(document, file)
        except DamagedError as error:
            raise DamagedError(
                f'The file {document["filename"]} of record {document["_id"]} is damaged '
                f'({connection.reason(error)}). Nothing was exported; leave the checkpoints out '
                'with --without_checkpoints.'
            ) from error
