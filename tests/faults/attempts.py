"""The kinds of faults of the campaign. Each is a function: it disturbs one training, or one reader.

A function gets a Case and returns an Outcome. A training is left complete: the campaign then
compares it with one that was not disturbed.
"""

import collections
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time

import trainings
from trainings import COLLECTION, DBNAME, HERE, PATIENCE, STEPS

STOPS = tuple(
    getattr(signal, 'SIG' + name) for name in ('TERM', 'INT', 'HUP', 'USR1', 'USR2', 'XCPU')
)
TWICE = signal.SIGTERM, signal.SIGINT  # a second one stops at once
INTERRUPTIONS, OUTAGES, KILLS = 6, 4, 2  # of one training
HANG_NOTICED_S = 60
FILES, BUILDS, SEARCHES = 20, 5, 5  # of one call of another campaign
UNSAVED = re.compile(r'step ([\d,]+): no checkpoint can be saved')

Case = collections.namedtuple('Case', 'trainings setting name number chance')
Case.__doc__ = """What an attempt gets.

trainings: Trainings; setting: a key of SETTINGS, or None; name: the name of its training; number:
its number among those of its kind; chance: its random.Random.
"""


class Outcome:
    """What an attempt did.

    Attributes:
        faults: {fault: how often it was done}.
        problems: What did not end as it should, one sentence each.
        unsaved: The steps for which the training said that no checkpoint could be saved.
        wrong: Wrong results or crashes that the attempt has seen itself.
    """

    def __init__(self):
        self.faults, self.problems = collections.Counter(), []
        self.unsaved, self.wrong = set(), 0

    def expect(self, training, codes, what):
        """Notes a training that has not ended by itself, or with another exit code; ends it."""
        if not training.wait(PATIENCE):
            self.problems.append(f'{what}: it does not end')
            training.kill()
            return
        training.close()
        others = [code for code in training.codes.values() if code not in codes]
        said = training.said.decode('utf-8', 'replace')
        if others or 'FATAL' in said or 'Traceback' in said and -signal.SIGINT not in codes:
            self.problems.append(f'{what}: exit codes {others}: {said[-700:]}')

    def complete(self, case, **where):
        """Runs the training of a Case to its end."""
        problem = case.trainings.complete(case.setting, case.name, **where)
        self.problems += [problem] if problem else []


def interruptions(case):
    """Kills and signals at random steps, in the start of a training, and at its end."""
    outcome, chance = Outcome(), case.chance
    for step in sorted(chance.sample(range(STEPS), INTERRUPTIONS)):
        number = signal.SIGKILL if chance.random() < 0.4 else chance.choice(STOPS)
        training = case.trainings.start(case.setting, case.name, pace=chance.choice([0, 0.003]))
        where = chance.random()
        if where < 0.15:
            ended = training.wait(chance.uniform(0, 4))
        elif where < 0.85:
            ended = training.until(step) or training.wait(chance.uniform(0, 0.02))
        else:
            ended = training.until(STEPS - 1) or training.wait(chance.uniform(0, 0.5))
        if ended:
            outcome.expect(training, {0}, f'{case.name}, not disturbed')
            break
        host = chance.randrange(len(training.processes))
        codes = {0, -number, 128 + number}
        # The other hosts of a training that was killed say so, and those of one that stops do so as
        # if they had received SIGTERM; before the program handles signals, Ctrl-C is a
        # KeyboardInterrupt.
        if len(training.processes) > 1:
            codes |= {1, 128 + signal.SIGTERM}
        elif number == signal.SIGINT and training.step < 0:
            codes.add(1)
        training.signal(number, host)
        twice = number in TWICE and chance.random() < 0.2
        if twice and not training.wait(chance.uniform(0, 0.1)):
            training.signal(number, host)
        name = signal.Signals(number).name + (' twice' if twice else '')
        outcome.expect(training, codes, f'{case.name}, {name} at step {training.step}')
        outcome.faults['SIGKILL' if number == signal.SIGKILL else name] += 1
    outcome.complete(case)
    return outcome


def outages(case):
    """MongoDB is killed, shut down or hangs, several times within one training."""
    outcome, chance = Outcome(), case.chance
    training = case.trainings.start(case.setting, case.name, pace=0.06)
    for step in sorted(chance.sample(range(STEPS), OUTAGES)):
        if training.until(step):
            break
        name = chance.choice(['killed', 'shut down', 'hangs'])
        seconds = 0.1 * 100 ** chance.random()
        if name == 'hangs' and chance.random() < 0.1:
            seconds = HANG_NOTICED_S + 5.0
        begin, end = OUTAGE[name]
        begin(case.trainings)
        time.sleep(seconds)
        end(case.trainings)
        outcome.faults['mongod ' + name] += 1
    # With exit code 1, the training ended before MongoDB came back.
    outcome.expect(training, {0, 1}, case.name)
    outcome.complete(case)
    return outcome


def kills_in_outages(case):
    """The training is killed while MongoDB is away; MongoDB comes back, and it goes on."""
    outcome, chance = Outcome(), case.chance
    for step in sorted(chance.sample(range(STEPS), KILLS)):
        training = case.trainings.start(case.setting, case.name, pace=chance.choice([0, 0.02]))
        ended = training.until(step)
        name = chance.choice(['killed', 'shut down', 'hangs', 'hangs'])
        begin, end = OUTAGE[name]
        begin(case.trainings)
        ended = ended or training.wait(0.1 * 80 ** chance.random())
        if not ended:
            outcome.faults[f'mongod {name}, training killed'] += 1
        training.kill()
        end(case.trainings)
    outcome.complete(case)
    return outcome


def _hang(trains):
    os.kill(trains.mongod(), signal.SIGSTOP)


def _go_on(trains):
    os.kill(trains.mongod(), signal.SIGCONT)


def _end_mongod(trains):
    os.kill(trains.mongod(), signal.SIGKILL)


OUTAGE = {  # {name: (how it begins, how it ends)}
    'killed': (_end_mongod, trainings.Trainings.ensure),
    'shut down': (trainings.Trainings.stop, trainings.Trainings.ensure),
    'hangs': (_hang, _go_on),
}


def takeovers(case):
    """Another process continues the experiment of one that is suspended, cut off or was killed."""
    return TAKEOVERS[case.number % len(TAKEOVERS)](case)


def suspended(case):
    """The training is suspended, taken over, and goes on while the other one runs, or later."""
    outcome, chance = Outcome(), case.chance
    first = case.trainings.start(case.setting, case.name, pace=0.01)
    if not first.until(chance.randrange(20, STEPS)):
        first.signal(signal.SIGSTOP)
        outcome.faults['suspended, and taken over'] += 1
    cache = chance.choice([None, 'elsewhere'])
    _overtake(case, outcome, cache, lambda: first.signal(signal.SIGCONT))
    outcome.expect(first, {0, 1}, f'{case.name}, the first')
    outcome.complete(case, cache=cache)
    outcome.complete(case)
    return outcome


def cut_off(case):
    """The training loses MongoDB, which others still reach, is taken over, and gets it back."""
    outcome, chance = Outcome(), case.chance
    proxy = Proxy(case.trainings.port)
    first = case.trainings.start(case.setting, case.name, pace=0.01, port=proxy.port)
    if not first.until(chance.randrange(20, STEPS)):
        proxy.signal(signal.SIGSTOP)
        outcome.faults['cut off, and taken over'] += 1
    _overtake(case, outcome, None, lambda: proxy.signal(signal.SIGCONT))
    outcome.expect(first, {0, 1}, f'{case.name}, the first')
    outcome.complete(case, port=proxy.port)
    proxy.close()
    outcome.complete(case)
    return outcome


def _overtake(case, outcome, cache, wake):
    """Starts a second process, and lets the first one go on at a random time."""
    case.trainings.expire(case.name)
    second = case.trainings.start(case.setting, case.name, cache, pace=0.01)
    second.until(case.chance.randrange(STEPS + 20))  # or to its end
    wake()
    outcome.expect(second, {0, 1}, f'{case.name}, the second')


def other_folder(case):
    """A training that waits for MongoDB is killed, and continued from another cache folder.

    That one is killed, too, and the first folder is used again.
    """
    outcome, chance = Outcome(), case.chance
    first = case.trainings.start(case.setting, case.name, pace=0.06)
    first.until(chance.randrange(20, STEPS - 40))
    _hang(case.trainings)
    first.wait(chance.uniform(5.5, 8.0))
    first.kill()
    _go_on(case.trainings)
    second = case.trainings.start(case.setting, case.name, 'elsewhere', pace=0.005)
    second.until(chance.randrange(20, STEPS + 20))
    second.kill()
    outcome.faults['spool in another cache folder'] += 1
    outcome.complete(case)
    return outcome


def other_machine(case):
    """A training of another machine was killed or is suspended; it is continued from this one.

    Nobody here can know whether its process lives, so it is refused until the claim expires.
    """
    outcome, chance = Outcome(), case.chance
    first = case.trainings.start(case.setting, case.name, pace=0.01, hostname='elsewhere')
    if not first.until(chance.randrange(20, STEPS)):
        first.signal(chance.choice([signal.SIGKILL, signal.SIGSTOP]))
        first.wait(0.5)
        here = dict(cache='here', more=['--host=127.0.0.1'])
        refused = case.trainings.start(case.setting, case.name, **here)
        outcome.expect(refused, {1}, f'{case.name}, while it is claimed')
        if b'on host elsewhere' not in refused.said:
            outcome.problems.append(f'{case.name}: the other host is not named: {refused.said}')
        case.trainings.expire(case.name)
        second = case.trainings.start(case.setting, case.name, pace=0.005, **here)
        second.until(chance.randrange(20, STEPS + 20))
        second.signal(signal.SIGKILL)
        outcome.expect(second, {0, -signal.SIGKILL}, f'{case.name}, here')
        outcome.faults['taken over from another machine'] += 1
        first.signal(signal.SIGCONT)
    outcome.expect(first, {0, 1, -signal.SIGKILL}, f'{case.name}, elsewhere')
    case.trainings.expire(case.name)  # that of the second, of which the other machine knows nothing
    outcome.complete(case, hostname='elsewhere')
    return outcome


TAKEOVERS = suspended, cut_off, other_folder, other_machine


def refusals(case):
    """MongoDB refuses records for a while; they are stored when the cause is gone."""
    return REFUSALS[case.number % len(REFUSALS)](case)


def validator(case):
    """No record satisfies the validator of the collection."""
    outcome, chance = Outcome(), case.chance
    training = case.trainings.start(case.setting, case.name, pace=0.02)
    training.until(chance.randrange(1, STEPS - 60))
    _validate(case, {'never': {'$exists': True}})
    training.until(chance.randrange(STEPS))
    if chance.random() < 0.5:
        training.signal(signal.SIGKILL)
    _validate(case, {})
    outcome.expect(training, {0, 1, -signal.SIGKILL}, case.name)
    outcome.faults['records refused for a while'] += 1
    outcome.complete(case)
    return outcome


def _validate(case, query):
    with case.trainings.client() as client:
        client[DBNAME].command('collMod', COLLECTION + '.files', validator=query)


def unique_index(case):
    """A user's index allows one record of a step, and the training repeats steps."""
    outcome, chance = Outcome(), case.chance
    made = 'one_a_step'
    for number in range(2):
        training = case.trainings.start(case.setting, case.name, pace=0.005)
        training.until(chance.randrange(1, STEPS))
        if not number:
            with case.trainings.client() as client:
                # The documents of bulky results have no step, and other trainings may have some.
                client[DBNAME][COLLECTION + '.files'].create_index(
                    [('exp_id', 1), ('step', 1)],
                    name=made,
                    unique=True,
                    partialFilterExpression={'exp_id': {'$exists': True}},
                )
        training.signal(signal.SIGKILL)
        outcome.expect(training, {0, -signal.SIGKILL}, case.name)
    outcome.faults["a user's unique index"] += 1
    outcome.complete(case)
    with case.trainings.client() as client:
        client[DBNAME][COLLECTION + '.files'].drop_index(made)
    return outcome


def foreign_index(case):
    """An index of another form has the name of one of our own; a training says so, and waits."""
    outcome, chance = Outcome(), case.chance
    training = case.trainings.start(case.setting, case.name, pace=0.005)
    training.until(chance.randrange(1, STEPS))
    training.signal(chance.choice(STOPS))
    outcome.expect(training, {0} | {128 + number for number in STOPS}, case.name)
    name = 'filename_1_uploadDate_1'
    with case.trainings.client() as client:
        files = client[DBNAME][COLLECTION + '.files']
        files.drop_index(name)
        files.create_index([('filename', -1)], name=name)
    refused = case.trainings.start(case.setting, case.name)
    outcome.expect(refused, {1}, f'{case.name}, with another index')
    if b'no index of another form' not in refused.said:
        outcome.problems.append(f'{case.name}: it does not say why: {refused.said}')
    with case.trainings.client() as client:
        client[DBNAME][COLLECTION + '.files'].drop_index(name)
    outcome.faults['an index of another form'] += 1
    outcome.complete(case)
    return outcome


REFUSALS = validator, unique_index, foreign_index


def full_disks(case):
    """No file can grow, as on a full disk, for a while or until the training has ended.

    This is a limit of the training's processes (RLIMIT_FSIZE), which needs no rights: a write
    beyond it fails with EFBIG instead of ENOSPC. Of half of the trainings, MongoDB hangs meanwhile.
    """
    outcome, chance = Outcome(), case.chance
    training = case.trainings.start(case.setting, case.name, pace=0.04)
    training.until(chance.randrange(STEPS))
    size = chance.choice([0, chance.randrange(20_000), chance.randrange(200_000)])
    for process in training.processes:
        if process not in training.codes:
            resource.prlimit(process, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    hangs = case.number % 2
    if hangs:
        _hang(case.trainings)
        training.wait(chance.uniform(0.1, 8.0))
        _go_on(case.trainings)
    if chance.random() < 0.7 and not training.until(chance.randrange(STEPS)):
        for process in training.processes:
            if process not in training.codes:
                unlimited = resource.RLIM_INFINITY, resource.RLIM_INFINITY
                resource.prlimit(process, resource.RLIMIT_FSIZE, unlimited)
    outcome.expect(training, {0, 1}, case.name)
    said = training.said.decode('utf-8', 'replace')
    outcome.unsaved = {int(step.replace(',', '')) for step in UNSAVED.findall(said)}
    outcome.faults['full disk' + (', and mongod hangs' if hangs else '')] += 1
    outcome.complete(case)
    return outcome


class Proxy:
    """Forwards a port to another one in a process, which can be suspended like a network.

    Args:
        target: The other port.
    """

    def __init__(self, target):
        listening = socket.socket()
        listening.bind(('127.0.0.1', 0))
        listening.listen(128)
        self.port = listening.getsockname()[1]
        self._process = os.fork()
        if not self._process:
            try:
                while True:
                    near = listening.accept()[0]
                    far = socket.create_connection(('127.0.0.1', target))
                    for pair in ((near, far), (far, near)):
                        threading.Thread(target=_forward, args=pair, daemon=True).start()
            finally:
                os._exit(1)
        listening.close()

    def signal(self, number):
        """Sends a signal to the process."""
        os.kill(self._process, number)

    def close(self):
        """Ends the process."""
        self.signal(signal.SIGKILL)
        os.waitpid(self._process, 0)


def _forward(near, far):
    try:
        for part in iter(lambda: near.recv(1 << 16), b''):
            far.sendall(part)
        far.shutdown(socket.SHUT_WR)
    except OSError:  # one of them has closed the connection
        near.close()
        far.close()


def hostile_files(case):
    """Small files that would cost much."""
    return _called(case, 'hostile.py', f'--files={FILES}')


def builds(case):
    """Builds of TFRecords that are killed."""
    return _called(case, 'leftovers.py', f'--builds={BUILDS}', '--searches=0', '--stops=0')


def searches(case):
    """Searches that are killed."""
    return _called(case, 'leftovers.py', '--builds=0', f'--searches={SEARCHES}', '--stops=0')


def _called(case, script, *words):
    """Runs another campaign with its own seed, and returns the Outcome from the table it prints.

    Its first two columns are what was tried and how often. Its exit code is 0 if all is well.
    """
    outcome = Outcome()
    done = subprocess.run(
        [sys.executable, os.path.join(HERE, script), f'--seed={case.chance.randrange(10**6)}']
        + list(words),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    rows = [
        [cell.strip() for cell in line.split('|')[1:-1]]
        for line in done.stdout.splitlines()
        if line.startswith('| ')
    ][1:]
    for row in rows:
        outcome.faults[row[0]] += int(row[1])
    outcome.faults = +outcome.faults
    if done.returncode:
        outcome.problems.append(f'{case.name}: {done.stdout[-2000:]}')
        outcome.wrong += 1
    return outcome
