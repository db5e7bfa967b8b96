"""What the tests of this folder share: running commands, their outputs, and their files."""

import array
import collections
import contextlib
import functools
import importlib.util
import io
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from unittest import mock

from training import runtime  # noqa: F401 (first, because it prepares TensorFlow)
import tensorflow.compat.v1 as tf

from config import flags
from data import mnist
from database import layout

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FORKS = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'forks.py')
PIPES = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, cwd=ROOT)

Done = collections.namedtuple('Done', 'code out err')


def numbers(record):
    """Returns the results of a validation that every validation records."""
    results = record['validation_results']['topn_val']
    return {name: value for name, value in results.items() if name not in layout.DETAILS}


digits = functools.lru_cache(maxsize=None)(mnist.read_subset)

# The run that most tests examine: 30 steps per epoch with the 4,000 images, and 1,000 images to
# validate in 4 batches, the last of 79 images.
FC = [
    '--model=fc',
    '--layers_list=7,5',
    '--activation=tanh',
    '--alignment=symmetric',
    '--alpha=0.02',
    '--beta=0.04',
    '--train_batch_size=131',
    '--eval_batch_size=307',
    '--optimizer=momentum',
    '--learning_rate=0.1',
    '--alignment_optimizer=adam',
    '--alignment_learning_rate=0.01',
    '--epochs_per_checkpoint=0.2',
]


def environment(home):
    """Returns an environment with an empty home folder, without MNIST, and without network.

    The proxy in it does not answer.
    """
    return dict(
        {name: value for name, value in os.environ.items() if name != 'TFUTILS_HOME'},
        HOME=home,
        https_proxy='http://127.0.0.1:9',
        no_proxy='',
    )


def process(words, home, **variables):
    """Starts a command in a separate process. `variables` are added to its environment."""
    return subprocess.Popen(
        [sys.executable] + list(words),
        env=dict(environment(home), **variables),
        stdin=subprocess.DEVNULL,
        **PIPES,
    )


@functools.lru_cache(maxsize=None)
def module(program):
    """Returns the module of a program's file, such as train.py.

    test.py is loaded from its path, because Python has a package `test`.
    """
    spec = importlib.util.spec_from_file_location(
        'program_' + program[: -len('.py')], os.path.join(ROOT, program)
    )
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def call(words, home, **variables):
    """Runs a command as a function in this process, and returns its Done.

    Unlike a separate process, it reads the images of MNIST once for all commands, and its standard
    error lacks the messages of TensorFlow's C++ code and of the logs. `words` are the command
    without `python`; `variables` are added to its environment.
    """
    out, err = io.StringIO(), io.StringIO()
    with mock.patch.dict(os.environ, dict(environment(home), **variables), clear=True):
        with mock.patch.object(mnist, 'read_subset', digits):
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = function(words)
    return Done(code, out.getvalue(), err.getvalue())


def function(words):
    """Returns the exit code of a command that runs as a function."""
    if words[0] != '-m':
        return module(words[0]).main(list(words), flags.FlagValues())
    try:
        return importlib.import_module(words[1]).main(list(words[2:]))
    except SystemExit as ended:  # raised by argparse
        return ended.code


def end(running):
    """Waits for a process, and returns its Done."""
    out, err = running.communicate()
    return Done(running.returncode, out, err)


def reach(process, beginning):
    """Reads what a process prints up to the first line with this beginning; returns the lines."""
    lines = []
    for line in iter(process.stdout.readline, ''):
        lines.append(line.rstrip('\n'))
        if line.startswith(beginning):
            return lines
    raise AssertionError(f'it ended before {beginning!r}: {process.communicate()[1]}')


class Fork:
    """A command as a fork of forks.py, with those parts of subprocess.Popen that the tests use."""

    def __init__(self, channel, words, variables):
        self._err = tempfile.TemporaryFile('w+')
        (self._status, status), (out, written) = os.pipe(), os.pipe()
        files = array.array('i', [status, written, self._err.fileno()])
        channel.sendmsg(
            [json.dumps([list(words), variables]).encode('utf-8')],
            [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)],
        )
        os.close(status)
        os.close(written)
        self.stdout = os.fdopen(out, encoding='utf-8')
        self._status = os.fdopen(self._status)
        self.pid, self.returncode = int(self._status.readline()), None

    def poll(self):
        """Returns the exit code, or None while the command runs."""
        if self.returncode is None and select.select([self._status], [], [], 0)[0]:
            self.returncode = int(self._status.readline())
        return self.returncode

    def wait(self):
        """Waits for the end, and returns the exit code."""
        if self.returncode is None:
            self.returncode = int(self._status.readline())
        return self.returncode

    def send_signal(self, number):
        """Sends a signal to the command."""
        os.kill(self.pid, number)

    def kill(self):
        """Kills the command."""
        self.send_signal(signal.SIGKILL)

    def communicate(self):
        """Waits for the end; returns the rest of standard output, and standard error."""
        with self.stdout, self._status, self._err:
            out = self.stdout.read()
            self.wait()
            self._err.seek(0)
            return out, self._err.read()


class Forks:
    """Runs commands as forks of one process that has imported TensorFlow (see forks.py).

    `root` is the folder of the program.
    """

    def __init__(self, home, root=ROOT):
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._server = subprocess.Popen(
                [sys.executable, FORKS], stdin=theirs, cwd=root, env=environment(home)
            )

    def start(self, *words, **variables):
        """Starts a command without its `python`, and returns its Fork.

        `variables` are added to its environment.
        """
        return Fork(self._channel, words, variables)

    def run(self, *words, **variables):
        """Runs such a command, and returns its Done."""
        return end(self.start(*words, **variables))

    def close(self):
        """Ends the process."""
        self._channel.close()
        self._server.wait()


def succeeded(done):
    """Returns the lines that a command printed, and checks that it succeeded.

    Its standard error may hold nothing but MNIST's warning.
    """
    assert done.code == 0, done.err
    assert unexpected(done.err) == []
    return done.out.splitlines()


def refusal(done, code):
    """Returns the only sentence of a command that failed, and checks its exit code."""
    errors = [line for line in done.err.splitlines() if line.startswith('error: ')]
    assert 'Traceback' not in done.out + done.err and len(errors) == 1, done.err
    assert unexpected(done.err) == errors and done.code == code
    return errors[0]


def unexpected(err):
    """Returns the lines of standard error, without the one that names the MNIST that is used."""
    return [line for line in err.splitlines() if '] MNIST: there are no IDX files in ' not in line]


def variables(prefix):
    """Returns {name: array} of a checkpoint."""
    reader = tf.train.load_checkpoint(prefix)
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def differing(one, other):
    """Returns the names of the variables that differ between two checkpoints, to the bit."""
    one, other = variables(one), variables(other)
    return {
        name
        for name in set(one) | set(other)
        if name not in one or name not in other or one[name].tobytes() != other[name].tobytes()
    }
