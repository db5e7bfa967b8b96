"""Deletes experiments, or all of their checkpoints but the last."""

import argparse
import contextlib
import datetime
from typing import List, NamedTuple, Optional, Sequence

import bson

from config.rows import ConfigError
from database.claim import Claim
from database.connection import Client
from database.errors import StoreError
from database.experiment import Amount, Experiment
from database.place import FILES, Place
from manage import local, notes
from manage.command import Command, say
from manage.finding import Where, collections, locate, opened
from manage.text import counted, size


class Doomed(NamedTuple):
    """An experiment that is to be deleted.

    Attributes:
        experiment: What MongoDB holds of it.
        folder: The folder of its local files, or None.
    """

    experiment: Experiment
    folder: Optional[str]

    @property
    def place(self) -> Place:
        """Its place in MongoDB."""
        return self.experiment.place

    def text(self) -> str:
        """Returns a line about it for the user."""
        amount = self.experiment.amount()
        here = f'; {size(local.size(self.folder))} in {self.folder}' if self.folder else ''
        return f'{self.place.exp_id} ({self.place.collname}): {of_amount(amount)}{here}'


def of_amount(amount: Amount) -> str:
    """Returns how much there is of an experiment, as text."""
    return (
        f'{counted(amount.records, "record")}, {counted(amount.checkpoints, "checkpoint")} '
        f'({size(amount.size)})'
    )


class Delete(Command):
    """`delete RUN...`: deletes experiments, or their checkpoints but the last."""

    help = 'delete experiments, or all of their checkpoints but the last'
    description = (
        'Deletes experiments: records, checkpoints with the recent ones, tags, notes, and the '
        'local files in the cache folder. It asks first. It refuses to delete an experiment while '
        'a process is working on it. Trials of search.py and copies in a bucket are kept.'
    )

    def define(self, parser: argparse.ArgumentParser) -> None:
        """Adds the experiments and what to delete of them."""
        parser.add_argument(
            'exp_ids', metavar='RUN', nargs='*', help='exp_id of an experiment; or --older_than'
        )
        parser.add_argument(
            '--older_than',
            type=float,
            metavar='DAYS',
            help='only experiments whose newest record is older; without RUN: all of them',
        )
        parser.add_argument(
            '--keep_last_checkpoint',
            action='store_true',
            help='keep the records and the last checkpoint, from which the training can continue',
        )
        parser.add_argument('--yes', action='store_true', help='do not ask')

    def run(self, where: Where, options: argparse.Namespace) -> int:
        """Asks, and deletes the experiments."""
        days: Optional[float] = options.older_than
        if days is None and not options.exp_ids:
            raise ConfigError(
                'Nothing was named. Give the exp_ids of experiments, or --older_than.'
            )
        if days is not None and not days >= 0:
            raise ConfigError(f'--older_than={days:g} must be a number of days, 0 or more.')
        with opened(where) as client:
            found = select(client, where, options.exp_ids, days)
            if not found:
                unit = 'day' if days == 1 else 'days'
                say(f'No such experiment in {where.text()} is older than {days:g} {unit}.')
                return 0
            for each in found:
                say(each.text())
            if not (options.yes or _agreed(found, where, options.keep_last_checkpoint)):
                say('Nothing was deleted.')
                return 1
            delete(client, found, options.keep_last_checkpoint)
        return 0


def _agreed(found: Sequence[Doomed], where: Where, keeps_last: bool) -> bool:
    what = 'all of their checkpoints but the last' if keeps_last else 'all of this'
    try:
        answer = input(
            f'Delete {what} ({counted(len(found), "experiment")} in {where.text()})? [y/N] '
        )
    except EOFError:
        say()
        raise ConfigError('Nobody answered, so nothing was deleted. Give --yes to delete.')
    return answer.strip().lower() in ('y', 'yes')


def select(
    client: Client, where: Where, exp_ids: Sequence[str], days: Optional[float]
) -> List[Doomed]:
    """Returns the experiments that a command line selects, without duplicates.

    Args:
        client: A client of the server.
        where: Where to look for them.
        exp_ids: Their names, or () for all.
        days: Selects only those whose newest record is older than this number of days, if given.

    Raises:
        StoreError: A name is not that of an experiment.
        PyMongoError: MongoDB cannot be read.
    """
    places = [locate(client, where, exp_id, in_part=True) for exp_id in exp_ids]
    if not exp_ids:
        places = [
            where.place(collection, exp_id)
            for collection in collections(client, where.dbname)
            if where.collection in (None, collection)
            for exp_id in client[where.dbname][collection + FILES].distinct('exp_id')
            if isinstance(exp_id, str)
        ]
    unique = sorted(set(places))
    found = [
        Doomed(Experiment(client, place), local.folder_of(where.cache_dir, place))
        for place in unique
    ]
    if days is None:
        return found
    before = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=days)
    return [each for each in found if _is_older(each.experiment, before)]


def _is_older(experiment: Experiment, time: datetime.datetime) -> bool:
    times = [
        identity.generation_time
        for identity in experiment.record_ids()
        if isinstance(identity, bson.ObjectId)
    ]
    return bool(times) and max(times) < time


def delete(client: Client, found: Sequence[Doomed], keeps_last: bool) -> None:
    """Deletes experiments; first it claims all of them.

    Args:
        client: A client of the server.
        found: The experiments.
        keeps_last: Whether to delete only checkpoints, all but the last.

    Raises:
        StoreError: A process is working on one of them, so nothing is deleted; or a local file
            cannot be removed, or the last checkpoint of an experiment is damaged.
        PyMongoError: MongoDB cannot be read or written.
    """
    with contextlib.ExitStack() as entered:
        claims = []
        for each in found:
            try:
                claims.append(entered.enter_context(each.experiment.claimed('deleting')))
            except StoreError as error:
                raise StoreError(f'Nothing was deleted: {error}') from error
        for each, claim in zip(found, claims):
            if keeps_last:
                _thin(each)
            else:
                _delete(client, each, claim)


def _thin(each: Doomed) -> None:
    left = each.experiment.keep_last_checkpoint()
    kept = each.experiment.checkpoints()
    if each.folder and kept:
        local.remove_checkpoints(each.folder, kept[-1]['step'])
    say(f'{each.place.exp_id}: kept {of_amount(left)}')


def _delete(client: Client, each: Doomed, claim: Claim) -> None:
    # The records go last, so that the same command finds an experiment that is deleted in part.
    if each.folder:
        local.remove(each.folder)
    notes.collection_of(client, each.place.dbname, each.place.collname).delete_one(
        {'_id': each.place.exp_id}
    )
    claim.begin()  # otherwise, a new experiment of this name would seem to have ended like this one
    each.experiment.delete()
    say(f'deleted {each.place.exp_id} ({each.place.collname})')
