"""The fault campaign: kills real trainings and a real mongod at random times.

    python tests/faults/campaign.py [--crashes 200] [--outages 50] [--seed 0] [--seconds 30]

A training is repeatedly killed with SIGKILL and started again until it ends, or its MongoDB is
killed, shut down or frozen for a while. In the end, its records and its last checkpoint must be
equal to those of an undisturbed training. A missing record counts as lost. A record that differs or
is stored twice, and a checkpoint with different bits, count as wrong. The exit code is 0 if all
tries survived, nothing was lost and nothing is wrong.
"""

import argparse
import collections
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
from database import server  # noqa: E402

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

    def start(self, name):
        """Starts or resumes a training and returns the id of its process."""
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
            forks.be(FLAGS + ['--exp_id_suffix=_' + name, f'--port={self.port}'])
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

    def complete(self, name):
        """Runs a training to its end and returns whether it succeeded."""
        process = self.start(name)
        code = self.end(process, PATIENCE)
        if code is None:
            self.kill(process)
        if code != 0:
            with open(self._said(name, 'err')) as file:
                print(f'{name}: exit code {code}: {file.read()[-500:]}', flush=True)
        return code == 0

    def results(self, name):
        """Returns {step: [content of each record]} and the bytes of the last checkpoint."""
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
        prefix = os.path.join(
            self.root,
            f'localhost:{self.port}',
            DBNAME,
            COLLECTION,
            'symmetric_' + name,
            f'checkpoint-{STEPS}',
        )
        contents = []
        for ending in ('.index', '.data-00000-of-00001'):
            with open(prefix + ending, 'rb') as file:
                contents.append(file.read())
        return dict(found), contents

    def faults(self, name):
        """Returns the numbers of (lost records, wrong results) of a training that has ended."""
        (records, checkpoint), (wanted, whole) = self.results(name), self.whole
        lost = sum(step not in records for step in wanted)
        wrong = sum(found != wanted.get(step) for step, found in records.items()) + (
            checkpoint != whole
        )
        if lost or wrong:
            print(f'{name}: {lost} lost, {wrong} wrong; steps {sorted(records)}', flush=True)
        return lost, wrong

    def reference(self):
        """Runs the undisturbed training and measures its duration in seconds."""
        started = time.time()
        if not self.complete('whole'):
            sys.exit('the training fails without any fault')
        self.whole = self.results('whole')
        self.seconds = time.time() - started

    def crashes(self, count):
        """Returns the Row for `count` SIGKILLs of trainings."""
        killed = survived = trainings = lost = wrong = 0
        while killed < count:
            name, here = f'crash{trainings}', 0
            while here < min(MOST_CRASHES, count - killed):
                process = self.start(name)
                code = self.end(process, self.random.uniform(0.2, self.seconds))
                if code is None:
                    self.kill(process)
                    here += 1
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
        return Row(f'kill -9 of a training ({trainings} trainings)', killed, survived, lost, wrong)

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


OUTAGES = {'mongod killed': killed, 'mongod shut down': stopped, 'mongod frozen': frozen}


def run(crashes, outages, seed, longest):
    """Runs a campaign and returns its Rows."""
    folder = tempfile.mkdtemp(prefix='faults-')
    campaign = Campaign(folder, seed)
    try:
        campaign.reference()
        return ([campaign.crashes(crashes)] if crashes else []) + (
            campaign.outages(outages, longest) if outages else []
        )
    finally:
        server.stop(campaign.port, campaign.root)
        shutil.rmtree(folder)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--crashes', type=int, default=200, help='number of kills of a training')
    parser.add_argument('--outages', type=int, default=50, help='number of outages of MongoDB')
    parser.add_argument('--seed', type=int, default=0, help='seed of the random times')
    parser.add_argument('--seconds', type=float, default=30.0, help='longest outage in seconds')
    arguments = parser.parse_args()
    gc.freeze()
    rows = run(arguments.crashes, arguments.outages, arguments.seed, arguments.seconds)
    print('| fault | tries | survived | records lost | wrong results |\n|---|---|---|---|---|')
    for row in rows:
        print('| {} | {} | {} | {} | {} |'.format(*row))
    return 0 if all(row.tries == row.survived and not row.lost + row.wrong for row in rows) else 1


if __name__ == '__main__':
    sys.exit(main())
