"""Kills builds and searches, and stops trainings, at random times: what is left of them?

    python tests/faults/leftovers.py [--builds 25] [--searches 25] [--stops 100] [--seed 0]

- A build of TFRecords with three processes is ended by SIGKILL, SIGTERM, SIGINT or SIGHUP. The same
  command works at once, its files are those of a build that was not disturbed, and no process of
  the first one is left.
- A search is ended by one of these signals while it trains. Its training stops by itself.
- Trainings, four at a time, are stopped by SIGTERM. They end with exit code 143, or 0 if they were
  faster, and print neither FATAL nor a traceback.

A try survives if all of this holds. The exit code is 0 if all survived and no process was left.
"""

import argparse
import collections
import contextlib
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import trainings  # (first: forks of it start fast)
import ignored
import numpy as np
from PIL import Image

SIGNALS = signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP
AT_A_TIME = 4  # trainings
PATIENCE = 120  # seconds in which what was started by a process must end after it

Row = collections.namedtuple('Row', 'what tries survived left')


def processes(word):
    """Returns {process: its command line} of those whose command line or environment has a word."""
    found = {}
    for name in filter(str.isdigit, os.listdir('/proc')):
        with contextlib.suppress(OSError):
            with open(f'/proc/{name}/stat') as file:
                state = file.read().rpartition(')')[2].split()[0]
            with open(f'/proc/{name}/environ', 'rb') as file:
                named = word.encode() in file.read()
            if named and state != 'Z' and int(name) != os.getpid():
                with open(f'/proc/{name}/cmdline', 'rb') as file:
                    found[int(name)] = file.read().replace(b'\0', b' ').decode('utf-8', 'replace')
    return found


def wait_for_none(word, seconds=PATIENCE):
    """Waits until no process has a word in its environment; returns those that are left."""
    deadline = time.monotonic() + seconds
    while True:
        left = {
            number: words for number, words in processes(word).items() if 'mongod ' not in words
        }
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.1)


def end(started, number):
    """Ends a process by a signal: SIGINT reaches its whole group, as Ctrl-C does."""
    if number == signal.SIGINT:
        os.killpg(started.pid, number)
    else:
        started.send_signal(number)
    started.wait()


def start(words, word, folder):
    """Starts a command whose environment, and that of what it starts, has a word."""
    environment = dict(os.environ, LEFTOVER=word, HOME=folder, https_proxy='http://127.0.0.1:9')
    ignored.end_here()
    return subprocess.Popen(
        [sys.executable] + words,
        cwd=trainings.ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def sums(folder):
    """Returns {name: SHA-256} of the files of a folder."""
    found = {}
    for name in os.listdir(folder):
        with open(os.path.join(folder, name), 'rb') as file:
            found[name] = hashlib.sha256(file.read()).hexdigest()
    return found


def builds(count, chance, folder):
    """Returns the Row of builds that are killed."""
    source = os.path.join(folder, 'source')
    for label in 'ab':
        os.makedirs(os.path.join(source, label))
        for number in range(500):
            pixels = np.random.RandomState(number).randint(0, 256, (40, 50, 3), np.uint8)
            Image.fromarray(pixels).save(os.path.join(source, label, f'{number}.png'))

    def words(out):
        return ['-m', 'data.build_tfrecords', 'folder', source, out, '--processes=3', '--shards=4']

    whole = os.path.join(folder, 'whole')
    began = time.monotonic()
    if count and start(words(whole), 'reference', folder).wait():
        sys.exit('the build fails without any fault')
    seconds = time.monotonic() - began
    survived = left = 0
    for number in range(count):
        out, word = os.path.join(folder, f'out{number}'), f'build{number}_{os.getpid()}'
        started = start(words(out), word, folder)
        with contextlib.suppress(subprocess.TimeoutExpired):
            started.wait(chance.uniform(0.3, 1.0) * seconds)
        end(started, SIGNALS[number % len(SIGNALS)])
        code = start(words(out), 'again', folder).wait()
        code = 0 if code and os.path.exists(os.path.join(out, 'dataset.json')) else code
        remaining = wait_for_none(word)
        fine = code == 0 and sums(out) == sums(whole)
        survived, left = survived + fine, left + len(remaining)
        if remaining or not fine:
            print(f'build {number}: exit code {code}, left: {remaining}', flush=True)
    return Row('builds of TFRecords', count, survived, left)


def searches(count, chance, trains):
    """Returns the Row of searches that are killed."""
    survived = left = 0
    for number in range(count):
        word = f'search{number}_{os.getpid()}'
        words = ['search.py'] + [flag for flag in trainings.FLAGS[1:] if 'restore' not in flag]
        words += trainings.SETTINGS['two optimisers'] + [
            f'--port={trains.port}',
            '--study=' + word,
            '--trials=2',
        ]
        words += ['--train_epochs=500', '--space=learning_rate=0.01:0.1', '--validation_split=100']
        started = start(words, word, trains.folder)
        deadline = time.monotonic() + PATIENCE
        while not any('train.py' in each for each in processes(word).values()):
            if started.poll() is not None or time.monotonic() > deadline:
                break
            time.sleep(0.1)
        trained = any('train.py' in each for each in processes(word).values())
        time.sleep(chance.uniform(0, 20))
        end(started, SIGNALS[number % len(SIGNALS)])
        remaining = wait_for_none(word)
        survived, left = survived + (trained and not remaining), left + len(remaining)
        if remaining or not trained:
            print(f'search {number}: trained: {trained}, left: {remaining}', flush=True)
        for process in remaining:
            os.kill(process, signal.SIGKILL)
    return Row('searches', count, survived, left)


def stops(count, chance, trains):
    """Returns the Row of trainings that are stopped."""
    survived = done = 0
    while done < count:
        names = [f'stop{done + each}' for each in range(min(AT_A_TIME, count - done))]
        running = {name: trains.start('two optimisers', name, pace=0.01) for name in names}
        time.sleep(chance.uniform(0, 10))
        for training in running.values():
            training.has_ended()
            training.signal(signal.SIGTERM)
            time.sleep(chance.uniform(0, 0.2))
        for name, training in running.items():
            training.wait(trainings.PATIENCE)
            said = training.said.decode('utf-8', 'replace')
            # Before the first line of the program, a signal ends it at once.
            fine = training.code in (143, 0, -signal.SIGTERM) and not any(
                word in said for word in ('FATAL', 'Traceback', 'terminate called')
            )
            survived += fine
            if not fine:
                print(f'{name}: exit code {training.code}: {said[-500:]}', flush=True)
            training.kill()
        done += len(names)
    return Row('stops of trainings by SIGTERM', count, survived, 0)


def run(arguments):
    """Runs the campaign and returns its Rows."""
    chance = random.Random(arguments.seed)
    folder = tempfile.mkdtemp(prefix='leftovers-')
    trains = trainings.Trainings(folder)
    try:
        return [
            builds(arguments.builds, chance, folder),
            searches(arguments.searches, chance, trains),
            stops(arguments.stops, chance, trains),
        ]
    finally:
        trains.stop()
        shutil.rmtree(folder)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--builds', type=int, default=25, help='number of builds to kill')
    parser.add_argument('--searches', type=int, default=25, help='number of searches to kill')
    parser.add_argument('--stops', type=int, default=100, help='number of trainings to stop')
    parser.add_argument('--seed', type=int, default=0, help='seed of the random times')
    rows = run(parser.parse_args())
    print('| what | tries | survived | processes left |\n|---|---|---|---|')
    for row in rows:
        print('| {} | {} | {} | {} |'.format(*row))
    return 0 if all(row.tries == row.survived and not row.left for row in rows) else 1


if __name__ == '__main__':
    sys.exit(main())
