"""Prints the command that repeats an experiment."""

import argparse

from database.errors import StoreError
from database.place import FILES
from manage.command import Command, say
from manage.finding import Where, locate, newest, opened
from reports import repeat


class Repeat(Command):
    """`command RUN`: prints a shell script that repeats an experiment."""

    help = 'print the command that repeats an experiment, its commit and its images'
    description = (
        'Prints a shell script that repeats an experiment in a clone of this repository: the '
        'commit to check out, the images to check, and the command with its settings. The new '
        'experiment has another name, which ends in _repeated.'
    )

    def define(self, parser: argparse.ArgumentParser) -> None:
        """Adds the experiment."""
        parser.add_argument('exp_id', metavar='RUN', help='exp_id of the experiment')

    def run(self, where: Where, options: argparse.Namespace) -> int:
        """Prints the script."""
        with opened(where) as client:
            place = locate(client, where, options.exp_id)
            files = client[place.dbname][place.collname + FILES]
            query = {'exp_id': place.exp_id, 'params': {'$type': 'object'}}
            found = newest(client, place)
            digests = files.distinct('params.digests.settings', query)
        if found is None:
            raise StoreError(f'The records of {place.text()} hold no settings.')
        here = repeat.Here(place.host, place.port, place.dbname)
        for line in repeat.command(found['params'], digests, found.get('step'), here):
            say(line)
        return 0
