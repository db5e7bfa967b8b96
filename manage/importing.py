"""Imports experiments from a folder that `export` has written."""

import argparse
import os
from typing import Iterator, List, NamedTuple, Optional

import bson

from config.rows import ConfigError
from database import connection, records, server, unfinished
from database.bucket import Bucket
from database.claim import End
from database.connection import Client
from database.errors import DamagedError, StoreError
from database.experiment import Experiment, verify
from database.place import SEARCHES
from database.types import Document
from manage import folder as folders
from manage import notes, studies
from manage.command import Command, say
from manage.exporting import without_file
from manage.finding import Where, opened
from manage.folder import ENDED, LABELS, RECENT, RECORDS, TRIAL, Listed, Manifest
from manage.text import counted


class Import(Command):
    """`import DIR --dbname=NEW`: reads experiments into a database."""

    help = 'read experiments from a folder into a database'
    description = (
        'Reads the experiments of a folder that `export` has written into a database, after a '
        'comparison of all files with their checksums. If it is interrupted, nothing opens the '
        'experiment in question until the same command has finished it. Importing again changes '
        'nothing. An experiment is never mixed with another one of the same name. If no MongoDB '
        'answers on this machine, a private server is started, as train.py does.'
    )
    any_database = True
    without_database = 'required'

    def define(self, parser: argparse.ArgumentParser) -> None:
        """Adds the folder."""
        parser.add_argument('folder', metavar='DIR', help='the folder')

    def run(self, where: Where, options: argparse.Namespace) -> int:
        """Reads the folder."""
        if not where.dbname:
            raise ConfigError('Give the database to import into as --dbname=NAME.')
        folder = os.path.abspath(os.path.expanduser(options.folder))
        manifest = folders.read(folder)
        listed = [
            each for each in manifest.experiments if where.collection in (None, each.collection)
        ]
        for each in listed:
            records.check_names(where.dbname, each.collection, each.exp_id)
        server.ensure(where.host, where.port)
        with opened(where) as client:
            found = [_arrival(client, where, folder, each, manifest) for each in listed]
            recent = [
                records.recent_database(where.dbname, each.collection, each.exp_id)
                for each in listed
            ]
            connection.check_case(client, f'{where.host}:{where.port}', [where.dbname] + recent)
            for arrival in found:  # nothing is written if one of them cannot be imported
                missing(arrival)
            journals = list(studies.arrivals(where, folder, manifest))
            for arrival in found:
                say(_import(arrival))
            for journal in journals:
                say(studies.bring(journal))
        return 0


class Arrival(NamedTuple):
    """An experiment that is imported.

    Attributes:
        client: A client of the server.
        experiment: The experiment at its new place.
        folder: Path of the exported folder.
        listed: The experiment in that folder.
        manifest: What that folder holds.
    """

    client: Client
    experiment: Experiment
    folder: str
    listed: Listed
    manifest: Manifest

    def documents(self, kind: str) -> Iterator[Document]:
        """Iterates over its documents of a kind, such as RECORDS, in the folder."""
        return folders.documents(self.folder, self.listed.documents(kind))

    def only(self, kind: str) -> Optional[Document]:
        """Returns its document of a kind that not every experiment has, ENDED or TRIAL."""
        if self.listed.documents(kind) not in self.manifest.files:
            return None
        return next(self.documents(kind), None)


def _arrival(
    client: Client, where: Where, folder: str, listed: Listed, manifest: Manifest
) -> Arrival:
    experiment = Experiment(client, where.place(listed.collection, listed.exp_id))
    return Arrival(client, experiment, folder, listed, manifest)


def missing(arrival: Arrival) -> List[bson.ObjectId]:
    """Returns the `_id`s of the documents of an experiment that are not at its new place yet.

    Raises:
        StoreError: There is a different experiment, a deletion of it is not finished, or the
            folder does not contain what its manifest says.
        PyMongoError: MongoDB cannot be read.
    """
    experiment, place = arrival.experiment, arrival.experiment.place
    if unfinished.doing(experiment.main.unfinished, place.exp_id) == unfinished.DELETE:
        unfinished.check(experiment.main.unfinished, place)
    present = set(experiment.identities()['main'])
    absent: List[bson.ObjectId] = []
    replaced: List[bson.ObjectId] = []
    count = 0
    for document in arrival.documents(RECORDS):
        if 'exp_id' in document and document['exp_id'] != place.exp_id:
            raise DamagedError(
                f'{arrival.folder} lists a record of {document["exp_id"]} under {place.exp_id}. '
                'Export the experiments again.'
            )
        count += 1
        stored = experiment.main.files.find_one({'_id': document['_id']})
        if stored is None:
            (replaced if document.get('stopped') else absent).append(document['_id'])
        else:
            _compare(stored, document, experiment)
            present.discard(document['_id'])
    if not present:  # otherwise, the training has gone on there and replaced the record of a stop
        absent += replaced
    if present and absent:
        raise _different(
            experiment, f'it has {counted(len(present), "other record")} and lacks {len(absent)}'
        )
    return absent


def _compare(stored: Document, document: Document, experiment: Experiment) -> None:
    """Checks that a record is the one of the folder, which may lack its checkpoint."""
    if bson.encode(stored) == bson.encode(document):
        return
    step = f'step {document.get("step")}'
    if bson.encode(without_file(stored)) != bson.encode(without_file(document)):
        raise _different(experiment, f'its record of {step} is not the same')
    if 'filename' in document:
        raise StoreError(
            f'{experiment.place.exp_id} is in database {experiment.place.dbname} already, but its '
            f'checkpoint of {step} was left out or deleted there. Delete it with `python runs.py '
            'delete` to import it with its checkpoints.'
        )


def _different(experiment: Experiment, how: str) -> StoreError:
    return StoreError(
        f'A different experiment {experiment.place.exp_id} is in database '
        f'{experiment.place.dbname}, collection {experiment.place.collname}.files: {how}. Nothing '
        'was imported; choose another --dbname, or delete that one with `python runs.py delete`.'
    )


def _import(arrival: Arrival) -> str:
    """Imports an experiment, or finishes its import; returns a line that says what was done."""
    experiment, place = arrival.experiment, arrival.experiment.place
    with experiment.claimed('importing') as claim:
        absent = set(missing(arrival))  # again: it may have changed before it was claimed
        marks = experiment.main.unfinished
        if not absent and unfinished.doing(marks, place.exp_id) is None:
            return f'{place.exp_id} ({place.collname}): there already, nothing was changed'
        with unfinished.marked(marks, place.exp_id, unfinished.IMPORT):
            _restore(arrival, experiment.main, RECORDS)
            _restore(arrival, experiment.recent, RECENT)
            labels = notes.collection_of(arrival.client, place.dbname, place.collname)
            for document in arrival.documents(LABELS):
                labels.update_one({'_id': place.exp_id}, {'$setOnInsert': document}, upsert=True)
            trial = arrival.only(TRIAL)
            if trial:
                trials = arrival.client[place.dbname][place.collname + SEARCHES]
                trials.update_one({'_id': place.exp_id}, {'$setOnInsert': trial}, upsert=True)
            ended = arrival.only(ENDED)
            if ended:
                claim.end(End(ended.get('signal'), str(ended.get('message', ''))))
            else:  # what an earlier experiment of the name has left
                claim.begin()
    amount = experiment.amount()
    return (
        f'{place.exp_id} ({place.collname}): imported, {counted(amount.records, "record")}, '
        f'{counted(amount.checkpoints, "checkpoint")}'
    )


def _restore(arrival: Arrival, bucket: Bucket, kind: str) -> None:
    """Stores the documents of one kind that are missing, and then checks all of their files.

    Until the document of a file is stored, the file may be deleted as one that is unfinished (see
    Bucket.sweep). A process that began to do so before this import could still do it.
    """
    for document in arrival.documents(kind):
        if not bucket.holds(document):
            _put(arrival, bucket, kind, document)
    for document in arrival.documents(kind):
        if 'filename' in document:
            try:
                verify(bucket, document)
            except DamagedError:
                _put(arrival, bucket, kind, document)
                verify(bucket, document)


def _put(arrival: Arrival, bucket: Bucket, kind: str, document: Document) -> None:
    """Stores a document, and its file if it has one.

    Raises:
        DamagedError: The file in the folder is missing, or has changed since it was compared.
        PyMongoError: MongoDB does not store it.
    """
    if 'filename' not in document:
        bucket.restore(document)
        return
    path = arrival.listed.file(kind, document)
    try:
        with folders.opened(arrival.folder, path) as file:
            bucket.restore(document, file)
    except OSError as error:
        raise DamagedError(
            f'{os.path.join(arrival.folder, path)} cannot be read ({error.strerror}). Export the '
            'experiments again.'
        ) from error
