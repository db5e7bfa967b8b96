"""The fault campaign: kills real trainings and a real mongod at random times.

    python tests/faults/campaign.py [--crashes 200] [--stops 100] [--outages 50] [--hangs 20]
                                    [--takeovers 20] [--refusals 10] [--seed 0] [--seconds 30]

A training is repeatedly killed with SIGKILL, or stopped with SIGTERM, and started again until it
ends. Or its MongoDB is killed, shut down or frozen for a while, with the training killed meanwhile,
or refuses its records. Or another process takes its experiment over, from another cache folder,
while it is suspended or waits for MongoDB. In the end, its records and its last checkpoint, both in
MongoDB, must be equal to those of an undisturbed training, and `runs.py check` must find nothing. A
missing record counts as lost. A record that differs or is stored twice, a checkpoint with different
bits, and a fault that the check finds count as wrong. The exit code is 0 if all tries survived,
nothing was lost and nothing is wrong. Each number can be 0, so that a campaign can be run in parts.
"""

import argparse
import collections
import contextlib
import datetime
import gc
import json
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [ROOT, os.path.join(ROOT, 'tests', 'cli')]

import forks  # noqa: E402 (it imports what all commands import, so that forks start fast)

import pymongo  # noqa: E402

import commands  # noqa: E402
from database import promise, server  # noqa: E402
from database.experiment import Experiment  # noqa: E402
from database.place import Place  # noqa: E402
from database.store import Store  # noqa: E402

STEPS = 300
MOST_CRASHES = 6  # in one training
PATIENCE = 300  # seconds after which a training counts as hanging
DBNAME, COLLECTION = 'faults', 'fc_7-5'
FLAGS = (
    ['train.py']
    + commands.FC
    + [
        '--do_restore',
        '--train_epochs=10',
        '--epochs_per_checkpoint=2',
        '--epochs_per_recent_checkpoint=0.7',
        '--dbname=' + DBNAME,
    ]
)

Row = collections.namedtuple('Row', 'fault tries survived lost wrong')


class Campaign:
    """Trainings with a private MongoDB, in a temporary folder."""

    def __init__(self, folder, seed):
        self.folder = folder
        self.random = random.Random(seed)
        with socket.socket() as probe:
            probe.bind(('127.0.0.1', 0))
            self.port = probe.getsockname()[1]
        # The folder of the private server of a user whose home is `folder`.
        self.root = os.path.join(folder, '.tfutils')
        self.ensure()

    def ensure(self):
        """Starts MongoDB unless it is running."""
        server.ensure('localhost', self.port, self.root)

    def start(self, name, cache=None):
        """Starts or resumes a training, and returns the id of its process.

        Args:
            name: The name of the training.
            cache: The name of another cache folder than the default.
        """
        process = os.fork()
        if process:
            return process
        os.environ.update(HOME=self.folder, https_proxy='http://127.0.0.1:9', no_proxy='')
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, ending in ((1, 'out'), (2, 'err')):
            os.dup2(
                os.open(self._said(name, ending), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number
            )
        os.chdir(ROOT)
        try:
            more = [f'--cache_dir={self.folder}/{cache}'] if cache else []
            forks.be(FLAGS + ['--exp_id_suffix=_' + name, f'--port={self.port}'] + more)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(
                sys.exc_info()[1].code or 0 if isinstance(sys.exc_info()[1], SystemExit) else 1
            )

    def _said(self, name, ending):
        return os.path.join(self.folder, f'{name}.{ending}')

    def end(self, process, within):
        """Returns the exit code of a process, or minus the number of the signal that ended it.

        Returns None if the process does not end within `within` seconds.
        """
        until = time.time() + within
        while True:
            found, status = os.waitpid(process, os.WNOHANG)
            if found:
                return os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)
            if time.time() > until:
                return None
            time.sleep(0.01)

    def kill(self, process):
        """Ends a process immediately."""
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)

    def complete(self, name, cache=None):
        """Runs a training to its end and returns whether it succeeded."""
        process = self.start(name, cache)
        code = self.end(process, PATIENCE)
        if code is None:
            self.kill(process)
        if code != 0:
            with open(self._said(name, 'err')) as file:
                print(f'{name}: exit code {code}: {file.read()[-500:]}', flush=True)
        return code == 0

    def results(self, name):
        """Returns {step: [content of each record]}, the files of the last checkpoint, and faults.

        The faults are those that `runs.py check` finds.
        """
        with pymongo.MongoClient('localhost', self.port) as client:
            found = collections.defaultdict(list)
            for record in client[DBNAME][COLLECTION + '.files'].find(
                {'exp_id': 'symmetric_' + name}
            ):
                found[record['step']].append(
                    json.dumps(
                        [
                            record.get('train_results'),
                            record.get('validation_results'),
                            record['saved_filters'],
                        ],
                        sort_keys=True,
                    )
                )
            place = Place('localhost', self.port, DBNAME, COLLECTION, 'symmetric_' + name)
            faults = list(promise.faults(promise.read(Experiment(client, place))))
        return dict(found), self._last_checkpoint(place), faults

    def _last_checkpoint(self, place):
        """Returns the bytes of the files of the checkpoint of the last step, which is kept."""
        contents = []
        with contextlib.closing(Store(*place)) as store:
            kept = list(store.records({'step': STEPS, 'saved_filters': True}))
            with tempfile.TemporaryDirectory(dir=self.folder) as folder:
                for record in kept:
                    store.download(record, folder)
                    for file_name in sorted(os.listdir(folder)):
                        with open(os.path.join(folder, file_name), 'rb') as file:
                            contents.append(file.read())
        return contents

    def faults(self, name):
        """Returns the numbers of (lost records, wrong results) of a training that has ended."""
        (records, checkpoint, faults), (wanted, whole, _) = self.results(name), self.whole
        lost = sum(step not in records for step in wanted)
        wrong = sum(found != wanted.get(step) for step, found in records.items()) + (
            checkpoint != whole
        )
        wrong += len(faults)
        if lost or wrong:
            told = f'{name}: {lost} lost, {wrong} wrong; steps {sorted(records)}; {faults}'
            print(told, flush=True)
        return lost, wrong

    def reference(self):
        """Runs the undisturbed training and measures its duration in seconds."""
        started = time.time()
        if not self.complete('whole'):
            sys.exit('the training fails without any fault')
        self.whole = self.results('whole')
        self.seconds = time.time() - started

    def crashes(self, count, number=signal.SIGKILL):
        """Returns the Row for `count` interruptions of trainings, each by a signal."""
        title = signal.Signals(number).name
        killed = survived = trainings = lost = wrong = 0
        while killed < count:
            name, here = f'{title}{trainings}', 0
            while here < min(MOST_CRASHES, count - killed):
                process = self.start(name)
                code = self.end(process, self.random.uniform(0.2, self.seconds))
                if code is None:
                    os.kill(process, number)
                    code = self.end(process, PATIENCE)
                    here += code != 0  # 0: it had just ended
                    if code not in (0, -number, 128 + number):
                        print(f'{name}: exit code {code}', flush=True)
                        wrong += 1
                elif code != 0:
                    print(f'{name}: exit code {code}', flush=True)
                    wrong += 1
                else:
                    break
            whole = self.complete(name)
            more = self.faults(name) if whole else (0, 0)
            lost, wrong = lost + more[0], wrong + more[1]
            killed, survived, trainings = (
                killed + here,
                survived + (here if whole else 0),
                trainings + 1,
            )
        what = {signal.SIGKILL: 'kill -9', signal.SIGTERM: 'SIGTERM'}[number]
        return Row(f'{what} of a training ({trainings} trainings)', killed, survived, lost, wrong)

    def tries(self, fault, count, attempt):
        """Returns the Row for `count` trainings with a fault.

        Args:
            fault: The name of the fault.
            count: The number of trainings.
            attempt: Takes the name of a training; returns whether it has ended as it should.
        """
        row = Row(fault, 0, 0, 0, 0)
        for index in range(count):
            name = f'{attempt.__name__}{index}'
            survived = bool(attempt(name))
            lost, wrong = self.faults(name) if survived else (0, 0)
            row = row._replace(
                tries=row.tries + 1,
                survived=row.survived + survived,
                lost=row.lost + lost,
                wrong=row.wrong + wrong,
            )
        return row

    def begun(self, name, cache=None):
        """Starts a training, waits until it is somewhere in its steps, and returns its process."""
        process = self.start(name, cache)
        self.end(process, self.random.uniform(0.4, 0.9) * self.seconds)
        return process

    def hang(self, name):
        """The server hangs, and the training is killed meanwhile."""
        process = self.begun(name)
        os.kill(self.mongod(), signal.SIGSTOP)
        time.sleep(self.random.uniform(0.1, 7.0))
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            self.kill(process)
        os.kill(self.mongod(), signal.SIGCONT)
        return self.complete(name)

    def suspension(self, name):
        """The training is suspended until another process has taken over its experiment.

        That process runs with another cache folder. The first one goes on while it runs, or later.
        """
        process = self.begun(name)
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGSTOP)
        self.expire(name)
        second = self.start(name, 'elsewhere')
        code = self.end(second, self.random.uniform(0.3, 1.5) * self.seconds)
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGCONT)
        first = self.end(process, PATIENCE)
        code = self.end(second, PATIENCE) if code is None else code
        if first not in (0, 1) or code not in (0, 1):
            print(f'{name}: exit codes {first} and {code}', flush=True)
        return first in (0, 1) and (code == 0 or self.complete(name, 'elsewhere'))

    def left_spool(self, name):
        """A training that waits for MongoDB is killed; it is continued from another cache folder.

        That one is killed, too, and the first folder is used again.
        """
        process = self.begun(name)
        os.kill(self.mongod(), signal.SIGSTOP)
        time.sleep(self.random.uniform(5.5, 8.0))
        self.kill_if_there(process)
        os.kill(self.mongod(), signal.SIGCONT)
        self.kill_if_there(self.begun(name, 'elsewhere'))
        return self.complete(name)

    def refusal(self, name):
        """The server refuses all records of a while; they are stored when the cause is gone."""
        process = self.begun(name)
        self.validator({'never': {'$exists': True}})
        code = self.end(process, self.random.uniform(0.1, 0.5) * self.seconds)
        if self.random.random() < 0.5:
            self.kill_if_there(process)
            code = 1
        self.validator({})
        code = self.end(process, PATIENCE) if code is None else code
        if code not in (0, 1):
            print(f'{name}: exit code {code}', flush=True)
        return self.complete(name)

    def validator(self, query):
        """Makes MongoDB refuse all records that do not match a query."""
        with pymongo.MongoClient('localhost', self.port) as client:
            client[DBNAME].command('collMod', COLLECTION + '.files', validator=query)

    def kill_if_there(self, process):
        """Ends a process immediately, if it has not ended."""
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            self.kill(process)

    def expire(self, name):
        """Makes the claim of a training look as if it had not been renewed for a long time."""
        with pymongo.MongoClient('localhost', self.port) as client:
            client[DBNAME][COLLECTION + '.claims'].update_one(
                {'_id': 'symmetric_' + name},
                {'$set': {'renewed': datetime.datetime.utcnow() - datetime.timedelta(hours=1)}},
            )

    def outages(self, count, longest):
        """Returns a Row for each kind of outage of MongoDB, of 0.1 to `longest` seconds."""
        rows = {kind: Row(kind + f' for 0.1 to {longest:g} s', 0, 0, 0, 0) for kind in OUTAGES}
        for number in range(count):
            kind = sorted(OUTAGES)[number % len(OUTAGES)]
            name, seconds = f'outage{number}', 0.1 * (longest / 0.1) ** self.random.random()
            process = self.start(name)
            code = self.end(process, self.random.uniform(0.5, 0.9) * self.seconds)
            OUTAGES[kind](self, seconds)
            if code is None:
                code = self.end(process, PATIENCE)
            # With exit code 1, the training ended before MongoDB came back.
            survived = code == 0 or (code == 1 and self.complete(name))
            lost, wrong = self.faults(name) if survived else (0, 0)
            row = rows[kind]
            rows[kind] = Row(
                row.fault,
                row.tries + 1,
                row.survived + survived,
                row.lost + lost,
                row.wrong + wrong,
            )
        return list(rows.values())

    def mongod(self):
        """Returns the process id of the server."""
        with open(os.path.join(self.root, f'mongod-{self.port}', 'mongod.pid')) as file:
            return int(file.read())


def killed(campaign, seconds):
    """Kills MongoDB with SIGKILL and starts it again."""
    os.kill(campaign.mongod(), signal.SIGKILL)
    time.sleep(seconds)
    campaign.ensure()


def stopped(campaign, seconds):
    """Shuts down MongoDB and starts it again."""
    server.stop(campaign.port, campaign.root)
    time.sleep(seconds)
    campaign.ensure()


def frozen(campaign, seconds):
    """Freezes MongoDB, so that it does not answer, and lets it continue."""
    os.kill(campaign.mongod(), signal.SIGSTOP)
    time.sleep(seconds)
    os.kill(campaign.mongod(), signal.SIGCONT)


KINDS = {  # {flag: (default, meaning)}
    'crashes': (200, 'kills of a training'),
    'stops': (100, 'stops of a training'),
    'outages': (50, 'outages of MongoDB'),
    'hangs': (20, 'kills of a training while MongoDB hangs'),
    'takeovers': (20, 'trainings that another process takes over'),
    'refusals': (10, 'trainings whose records are refused'),
}
OUTAGES = {'mongod killed': killed, 'mongod shut down': stopped, 'mongod frozen': frozen}


def run(counts, seed, longest):
    """Runs a campaign of {kind: number} and returns its Rows."""
    folder = tempfile.mkdtemp(prefix='faults-')
    campaign = Campaign(folder, seed)
    try:
        campaign.reference()
        rows = [
            campaign.crashes(counts[kind], number)
            for kind, number in (('crashes', signal.SIGKILL), ('stops', signal.SIGTERM))
            if counts[kind]
        ]
        rows += campaign.outages(counts['outages'], longest) if counts['outages'] else []
        half = counts['takeovers'] // 2
        for fault, count, attempt in (
            ('mongod frozen, and the training killed meanwhile', counts['hangs'], campaign.hang),
            ('suspended, and taken over', counts['takeovers'] - half, campaign.suspension),
            ('spool in another cache folder', half, campaign.left_spool),
            ('records refused for a while', counts['refusals'], campaign.refusal),
        ):
            rows += [campaign.tries(fault, count, attempt)] if count else []
        return rows
    finally:
        server.stop(campaign.port, campaign.root)
        shutil.rmtree(folder)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for kind, (count, meaning) in KINDS.items():
        parser.add_argument('--' + kind, type=int, default=count, help='number of ' + meaning)
    parser.add_argument('--seed', type=int, default=0, help='seed of the random times')
    parser.add_argument('--seconds', type=float, default=30.0, help='longest outage in seconds')
    arguments = parser.parse_args()
    gc.freeze()
    counts = {kind: getattr(arguments, kind) for kind in KINDS}
    rows = run(counts, arguments.seed, arguments.seconds)
    print('| fault | tries | survived | records lost | wrong results |\n|---|---|---|---|---|')
    for row in rows:
        print('| {} | {} | {} | {} | {} |'.format(*row))
    return 0 if all(row.tries == row.survived and not row.lost + row.wrong for row in rows) else 1


if __name__ == '__main__':
    sys.exit(main())
