"""Checks that an experiment has all that its training promises, and can train a part again."""

import argparse
import os
import subprocess
import sys
from typing import List

from config.root import ROOT
from database import promise
from database.errors import StoreError
from database.experiment import Experiment
from database.place import Place
from manage import local
from manage.command import Command, say
from manage.finding import Where, locate, opened
from manage.text import counted


class Check(Command):
    """`check RUN`: says what is missing, doubled or changed."""

    help = 'say what is missing, doubled, changed or damaged in an experiment'
    description = (
        'Reads all of an experiment, and compares it with what a training promises: each step is '
        'in one record, no record was changed, every checkpoint has its checksum, and the weights '
        'of the last step are there. The exit code is 0 if nothing is wrong, and 1 otherwise.'
    )

    def define(self, parser: argparse.ArgumentParser) -> None:
        """Adds the experiment and --replay."""
        parser.add_argument('exp_id', metavar='RUN', help='exp_id of the experiment')
        parser.add_argument(
            '--replay',
            action='store_true',
            help='also train again from one kept checkpoint to the next, and compare losses and '
            'weights to the bit; this needs TensorFlow, the images, and the type of CPU of the run',
        )

    def run(self, where: Where, options: argparse.Namespace) -> int:
        """Prints what is wrong."""
        with opened(where) as client:
            place = locate(client, where, options.exp_id)
            experiment = Experiment(client, place)
            if experiment.is_held():
                raise StoreError(
                    f'A process is working on {place.exp_id}, so it cannot be checked as a whole. '
                    'Wait for it, or stop it.'
                )
            held = promise.read(experiment)
            found = list(promise.faults(held)) + _waiting(where, place)
        for fault in found:
            say(f'{fault}.')
        whole = not found
        checkpoints = sum('filename' in each for each in held.records + held.recent)
        say(
            f'{place.exp_id} ({place.collname}): {counted(len(held.records), "record")}, '
            f'{counted(checkpoints, "checkpoint")}, '
            + ('nothing is wrong' if whole else counted(len(found), 'fault'))
        )
        if options.replay:
            whole = _replay(place) and whole
        return 0 if whole else 1


def _waiting(where: Where, place: Place) -> List[str]:
    """Returns a sentence about the records on this disk that wait for MongoDB, if there are any."""
    count = local.waiting(local.folder_of(where.cache_dir, place))
    if not count:
        return []
    return [f'{counted(count, "record")} on this disk wait for MongoDB: run the command again']


def _replay(place: Place) -> bool:
    """Trains a part again in a process with TensorFlow; returns whether it is the same."""
    flags = [f'--{name}={value}' for name, value in place._asdict().items()]
    command = [sys.executable, '-m', 'training.replaying'] + flags
    return subprocess.run(command, cwd=ROOT, env=dict(os.environ)).returncode == 0
