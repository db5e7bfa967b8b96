"""Real trainings and a real mongod for the fault campaigns, and what the trainings must store.

All trainings are of fc on 4,000 digits: 150 steps, a validation and a kept checkpoint after each 30
of them, and a recent checkpoint after each third. `SETTINGS` are what they differ in.
"""

import collections
import contextlib
import datetime
import hashlib
import json
import mmap
import os
import random
import signal
import socket
import struct
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [ROOT, os.path.join(ROOT, 'tests'), os.path.join(ROOT, 'tests', 'cli')]

import forks  # noqa: E402 (it imports what all commands import, so that forks start fast)

import pymongo  # noqa: E402

from database import promise, server  # noqa: E402
from database.experiment import Experiment  # noqa: E402
from database.place import Place  # noqa: E402
from database.store import Store  # noqa: E402
from training import jobs, loop  # noqa: E402, F401 (so that forks need not import it)

STEPS, PART = 150, 30
PATIENCE = 300  # seconds after which a training counts as hanging
DBNAME, COLLECTION = 'faults', 'fc_7-5'
FLAGS = [
    'train.py',
    '--model=fc',
    '--layers_list=7,5',
    '--activation=tanh',
    '--learning_rate=0.05',
    '--eval_batch_size=307',
    '--train_epochs=5',
    '--epochs_per_checkpoint=1',
    '--epochs_per_recent_checkpoint=0.1',
    '--do_restore',
    '--dbname=' + DBNAME,
]
BATCH = '--train_batch_size=131'
TWO = ['--alignment=symmetric', '--alpha=0.02', '--beta=0.04', '--optimizer=momentum']
TWO += ['--alignment_optimizer=adam', '--alignment_learning_rate=0.01']
HOSTS = '3 hosts'
SETTINGS = {  # {name: flags}
    'mirror on normal noise': [BATCH, '--alignment=mirror', '--input_distribution=normal'],
    'mirror on uniform noise': [BATCH, '--alignment=mirror', '--input_distribution=uniform'],
    'activation on noise': [BATCH, '--alignment=activation', '--input_distribution=normal'],
    'information on noise': [BATCH, '--alignment=information', '--input_distribution=uniform'],
    'gd': [BATCH, '--alignment=feedback'],
    'momentum': [BATCH, '--alignment=kolen_pollack', '--optimizer=momentum'],
    'adagrad': [BATCH, '--alignment=usf', '--optimizer=adagrad'],
    'rmsprop': [BATCH, '--alignment=symmetric', '--optimizer=rmsprop', '--learning_rate=0.01'],
    'adam': [BATCH, '--optimizer=adam', '--learning_rate=0.01'],
    'radam': [BATCH, '--alignment=frsf', '--optimizer=radam', '--learning_rate=0.01'],
    'swats': [BATCH, '--alignment=dfa', '--optimizer=swats', '--learning_rate=0.01'],
    'swrats': [BATCH, '--alignment=feedback', '--optimizer=swrats', '--learning_rate=0.01'],
    'two optimisers': [BATCH] + TWO,
    'accumulation': ['--train_batch_size=132', '--minibatch_size=44'] + TWO,
    'delay': [BATCH, '--delay_epochs=1.5'] + TWO,
    'alternate steps': [BATCH, '--alternate_step_freq=2'] + TWO,
    '7 steps a call': [BATCH, '--iterations_per_loop=7', '--alignment=symmetric'],
    '2 devices': ['--train_batch_size=132', '--cpu_devices=2', '--gpu=0,1'] + TWO,
    HOSTS: ['--train_batch_size=132', '--alignment=symmetric'],
    'factored kernels': [BATCH, '--alignment=pfa'],
    'kernels drawn at each step': [BATCH, '--alignment=brsf'],
    'noise on updates': [
        BATCH,
        '--alignment=feedback',
        '--use_noisy_global_opt',
        '--noisy_global_opt_distribution=normal',
        '--noisy_global_opt_variance=0.001',
    ],
    'schedules': [
        BATCH,
        '--drop_epochs=2,4',
        '--alpha_cycle=2',
        '--alpha_schedule_type=cyclic',
        '--alpha_schedule_rate=0.01',
        '--grad_clip',
        '--weight_decay=0.0001',
    ]
    + TWO,
    'results in GridFS': [BATCH, '--save_to_gfs=weight_angles,top1', '--alignment=symmetric'],
    'float16': [BATCH, '--alignment=symmetric', '--precision=float16'],
}
ONE_PROCESS = [name for name in SETTINGS if name != HOSTS]

Results = collections.namedtuple('Results', 'records checkpoints faults')
Results.__doc__ = """What MongoDB holds of a training.

records: {step: [the content of each of its records as JSON]}; checkpoints: {step: SHA-256 of the
files of its kept checkpoint}; faults: what `runs.py check` finds.
"""


class Training:
    """The processes of one training that was started: one for each host, the leading one first.

    The leading one says through shared memory which step it is at, and its output comes through a
    pipe, so that a limit on the size of files does not reach it.
    """

    def __init__(self, commands, home, pace=0.0, hostname=None):
        self._step = mmap.mmap(-1, 8)
        struct.pack_into('q', self._step, 0, -1)
        self.codes, self.said, self._pipes = {}, b'', []
        self.processes = [self._fork(words, home, pace, hostname) for words in commands]

    def _fork(self, words, home, pace, hostname):
        leads = not self._pipes
        reading, writing = os.pipe()
        process = os.fork()
        if process:
            os.close(writing)
            os.set_blocking(reading, False)
            self._pipes.append(reading)
            return process
        os.environ.update(HOME=home, https_proxy='http://127.0.0.1:9', no_proxy='')
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number in (1, 2):
            os.dup2(writing, number)
        os.chdir(ROOT)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be ignored here
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # so may this, under nohup
        if hostname:
            socket.gethostname = lambda: hostname
        if leads:
            self._watch(pace)
        try:
            forks.be(words)
        finally:
            with contextlib.suppress(OSError):
                sys.stdout.flush()
                sys.stderr.flush()
            error = sys.exc_info()[1]
            os._exit(error.code or 0 if isinstance(error, SystemExit) else 1)

    def _watch(self, pace):
        """Makes this process tell its step, and wait `pace` seconds before each."""
        steps = loop.Run._steps

        def watched(run, step, bar):
            struct.pack_into('q', self._step, 0, step)
            time.sleep(pace)
            return steps(run, step, bar)

        loop.Run._steps = watched

    @property
    def step(self):
        """The step that it was at when it began the latest one; -1 before the first."""
        return struct.unpack_from('q', self._step, 0)[0]

    @property
    def code(self):
        """The exit code of the leading host, or minus the number of the signal that ended it."""
        return self.codes.get(self.processes[0])

    def has_ended(self):
        """Returns whether all of its processes have ended, and keeps their codes and output."""
        for process in self.processes:
            if process not in self.codes:
                found, status = os.waitpid(process, os.WNOHANG)
                if found:
                    code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)
                    self.codes[process] = code
        for pipe in self._pipes:
            with contextlib.suppress(BlockingIOError):
                for part in iter(lambda: os.read(pipe, 1 << 16), b''):
                    self.said += part
        return len(self.codes) == len(self.processes)

    def wait(self, seconds):
        """Waits for the end of all processes; returns whether they have ended."""
        return self.until(STEPS + 1, seconds)

    def until(self, step, seconds=PATIENCE):
        """Waits until the training is at a step, or has ended; returns whether it has ended."""
        deadline = time.monotonic() + seconds
        while not self.has_ended():
            if self.step >= step or time.monotonic() > deadline:
                return False
            time.sleep(0.005)
        return True

    def signal(self, number, host=0):
        """Sends a signal to one host, unless it has ended."""
        process = self.processes[host]
        if process not in self.codes:
            os.kill(process, number)

    def kill(self):
        """Ends all of its processes immediately."""
        for host in range(len(self.processes)):
            self.signal(signal.SIGKILL, host)
        self.wait(PATIENCE)
        self.close()

    def close(self):
        """Closes the pipes."""
        for pipe in self._pipes:
            os.close(pipe)
        self._pipes = []


class Trainings:
    """Trainings with a private MongoDB.

    Args:
        folder: A folder for their files and those of MongoDB.
    """

    def __init__(self, folder):
        self.folder = folder
        self.port = free_port()
        # The folder of the private server of a user whose home is `folder`.
        self.root = os.path.join(folder, '.tfutils')
        self.ensure()

    def ensure(self):
        """Starts MongoDB unless it is running."""
        server.ensure('localhost', self.port, self.root)

    def mongod(self):
        """Returns the process id of the server."""
        with open(os.path.join(self.root, f'mongod-{self.port}', 'mongod.pid')) as file:
            return int(file.read())

    def stop(self):
        """Stops MongoDB."""
        server.stop(self.port, self.root)

    @contextlib.contextmanager
    def client(self):
        """Context manager: a client of the server."""
        with pymongo.MongoClient('localhost', self.port) as client:
            yield client

    def start(self, setting, name, cache=None, pace=0.0, port=None, more=(), hostname=None):
        """Starts or resumes a training, and returns it.

        Args:
            setting: A key of SETTINGS.
            name: The name of the training.
            cache: The name of another cache folder than the default.
            pace: Seconds that it waits before each step.
            port: Another port than that of MongoDB, from which it is reached.
            more: More flags.
            hostname: What the machine of the training is called, if not as here.
        """
        words = FLAGS + SETTINGS[setting] + [f'--exp_id_suffix=_{name}', *more]
        words.append(f'--port={port or self.port}')
        words += [f'--cache_dir={self.folder}/{cache}'] if cache else []
        commands = [words]
        if setting == HOSTS:
            hosts = ','.join(f'127.0.0.1:{free_port()}' for _ in range(3))
            commands = [words + [f'--worker_hosts={hosts}', f'--task_index={n}'] for n in range(3)]
        return Training(commands, self.folder, pace, hostname)

    def complete(self, setting, name, **where):
        """Runs a training to its end and returns what went wrong, or ''."""
        training = self.start(setting, name, **where)
        if not training.wait(PATIENCE):
            training.kill()
            return f'{name}: it hangs'
        training.close()
        if set(training.codes.values()) == {0}:
            return ''
        codes = list(training.codes.values())
        return f'{name}: exit codes {codes}: {training.said[-700:].decode("utf-8", "replace")}'

    def exp_id(self, name):
        """Returns the exp_id of a training, or None if it has no records."""
        with self.client() as client:
            files = client[DBNAME][COLLECTION + '.files']
            found = files.distinct('exp_id', {'exp_id': {'$regex': f'_{name}$'}})
        return found[0] if found else None

    def results(self, name):
        """Returns the Results of a training."""
        found, exp_id = collections.defaultdict(list), self.exp_id(name)
        place = Place('localhost', self.port, DBNAME, COLLECTION, exp_id or name)
        with self.client() as client:
            for record in client[DBNAME][COLLECTION + '.files'].find({'exp_id': place.exp_id}):
                names = 'train_results', 'validation_results', 'saved_filters'
                content = [record.get(name) for name in names]
                found[record['step']].append(json.dumps(content, sort_keys=True, default=bytes.hex))
            faults = list(promise.faults(promise.read(Experiment(client, place))))
        return Results(dict(found), self._checkpoints(place), faults)

    def _checkpoints(self, place):
        """Returns {step: SHA-256 of the files of the kept checkpoint}."""
        found = {}
        with contextlib.closing(Store(*place)) as store:
            for record in list(store.records({'saved_filters': True})):
                with tempfile.TemporaryDirectory(dir=self.folder) as folder:
                    store.download(record, folder)
                    content = hashlib.sha256()
                    for file_name in sorted(os.listdir(folder)):
                        with open(os.path.join(folder, file_name), 'rb') as file:
                            content.update(file.read())
                found[record['step']] = content.hexdigest()
        return found

    def expire(self, name):
        """Makes the claim of a training look as if it had not been renewed for a long time."""
        with self.client() as client:
            client[DBNAME][COLLECTION + '.claims'].update_one(
                {'_id': {'$regex': f'_{name}$'}},
                {'$set': {'renewed': datetime.datetime.utcnow() - datetime.timedelta(hours=1)}},
            )


def free_port():
    """Returns a port of this machine that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def chance(*words):
    """Returns a random.Random that depends on some words alone."""
    return random.Random(' '.join(map(str, words)))
