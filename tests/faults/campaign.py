"""The fault campaign: kills real trainings and a real mongod at random times, and much more.

    python tests/faults/campaign.py [--state FILE] [--minutes 60] [--seed 0] [--outages 60] ...

`--help` names the kinds of faults. Each attempt disturbs one training of one setting in one of
these ways, once or several times, and lets it end. Its records, in MongoDB, and the variables of
each of its checkpoints must then be those of a training of this setting that was not disturbed, to
the bit, and `runs.py check` must find nothing. A missing record or checkpoint counts as lost. A
record that differs or is stored twice, a checkpoint with other bits, and a fault that the check
finds count as wrong. An attempt survives if each process ended as it should. Three kinds need no
training: hostile files, builds of TFRecords and searches.

What is done is appended to the file --state after each attempt. The same command goes on from
there, and its table is about all parts, so that a campaign can be run in parts, of --minutes each.
All random choices follow from the seed. The exit code is 0 if all attempts so far survived, nothing
was lost and nothing is wrong.
"""

import argparse
import collections
import contextlib
import gc
import json
import os
import shutil
import sys
import tempfile
import time

import trainings  # (first: forks of it start fast)

import attempts
from config.root import ROOT
from training import machine, runtime

Kind = collections.namedtuple('Kind', 'attempt count each meaning')
Kind.__doc__ = """A kind of attempts.

attempt: the function in attempts.py; count: how many faults there are by default; each: the number
of faults of an attempt (at most, except for files, builds and searches); meaning: for --help.
"""
KINDS = {
    kind.attempt.__name__: kind
    for kind in (
        Kind(attempts.interruptions, 480, attempts.INTERRUPTIONS, 'kills and signals, at most'),
        Kind(attempts.outages, 60, attempts.OUTAGES, 'outages of MongoDB'),
        Kind(attempts.kills_in_outages, 22, attempts.KILLS, 'kills in an outage'),
        Kind(attempts.takeovers, 20, 1, 'trainings that another process takes over'),
        Kind(attempts.refusals, 12, 1, 'trainings whose records are refused'),
        Kind(attempts.full_disks, 12, 1, 'trainings that cannot write files for a while'),
        Kind(attempts.hostile_files, 200, attempts.FILES, 'small files that would cost much'),
        Kind(attempts.builds, 30, attempts.BUILDS, 'builds of TFRecords that are killed'),
        Kind(attempts.searches, 20, attempts.SEARCHES, 'searches that are killed'),
    )
}
ALONE = 'hostile_files', 'builds', 'searches'  # kinds without a training of a setting

Row = collections.namedtuple('Row', 'fault tries survived lost wrong')


class State:
    """What a campaign has done: a file of JSON, one document a line, to which lines are added.

    The first line is what all parts must have in common. The others are references, the results of
    trainings that were not disturbed, and attempts.

    Args:
        path: The file.
        about: What all parts must have in common, as plain data by name.

    Attributes:
        references: {setting: Results}.
        attempts: {(kind, number): document of the attempt}.
    """

    def __init__(self, path, about):
        self._path, self.references, self.attempts = path, {}, {}
        if not os.path.exists(path):
            self._add(about)
            return
        with open(path, encoding='utf-8') as file:
            lines = file.read().split('\n')
        if lines.pop():  # a part was killed while it wrote its last line
            with open(path, 'w', encoding='utf-8') as file:
                file.write(''.join(line + '\n' for line in lines))
        for number, document in enumerate(map(json.loads, lines)):
            if number == 0:
                self._compare(document, about)
            elif 'reference' in document:
                self.references[document['reference']] = _results(document)
            else:
                self.attempts[document['kind'], document['number']] = document

    def _compare(self, before, now):
        other = [name for name in now if before.get(name) != now[name]]
        if other:
            sys.exit(
                f'{self._path} is of a campaign with another {" and ".join(other)}: '
                f'{[before.get(name) for name in other]}; choose another --state'
            )

    def _add(self, document):
        with open(self._path, 'a', encoding='utf-8') as file:
            file.write(json.dumps(document) + '\n')

    def refer(self, setting, results):
        """Adds the Results of a training that was not disturbed."""
        self.references[setting] = results
        self._add(dict(results._asdict(), reference=setting))

    def note(self, document):
        """Adds an attempt."""
        self.attempts[document['kind'], document['number']] = document
        self._add(document)


def _results(document):
    """Returns the Results of a line; JSON turns the steps into texts."""
    by_step = [
        {int(step): found for step, found in document[name].items()}
        for name in ('records', 'checkpoints')
    ]
    return trainings.Results(*by_step, document['faults'])


def plan(counts, seed):
    """Returns the attempts of a campaign in order: [(kind, number, setting)].

    Any part of it holds all kinds, in proportion. Each kind goes through the settings in an order
    of its own; trainings of several hosts only bear interruptions and outages.

    Args:
        counts: {kind: number of faults}.
        seed: The seed of the order of settings.
    """
    found = []
    for kind, count in counts.items():
        number = -(-count // KINDS[kind].each)
        spread = ('interruptions', 'outages')
        settings = list(trainings.SETTINGS if kind in spread else trainings.ONE_PROCESS)
        trainings.chance(seed, kind).shuffle(settings)
        for each in range(number):
            setting = None if kind in ALONE else settings[each % len(settings)]
            found.append(((each + 0.5) / number, kind, each, setting))
    return [attempt[1:] for attempt in sorted(found, key=lambda attempt: attempt[:3])]


def compare(found, wanted, unsaved=()):
    """Compares the Results of a training with those of one that was not disturbed.

    Args:
        found: Results of the training.
        wanted: Results of one that was not disturbed.
        unsaved: Steps for which the training said that it could not save a checkpoint.

    Returns:
        (number of lost records and checkpoints, number of wrong ones, sentences about them).
    """
    told = list(found.faults)
    lost = wrong = 0
    for name, by_step in wanted.records.items():
        if name not in found.records:
            lost += 1
            told.append(f'the record of step {name} is lost')
    for step, records in found.records.items():
        whole = wanted.records.get(step)
        if step in unsaved and step < trainings.STEPS:
            records, whole = [[_unsaved(text) for text in each or ()] for each in (records, whole)]
        if records != whole:
            wrong += 1
            told.append(f'step {step} has {str(records)[:300]}, not {str(whole)[:300]}')
    for step, checkpoint in wanted.checkpoints.items():
        if step in unsaved and step < trainings.STEPS:
            continue
        if step not in found.checkpoints:
            lost += 1
            told.append(f'the checkpoint of step {step} is lost')
        elif found.checkpoints[step] != checkpoint:
            wrong += 1
            told.append(f'the checkpoint of step {step} differs')
    for step in set(found.checkpoints) - set(wanted.checkpoints):
        wrong += 1
        told.append(f'there is a checkpoint of step {step}')
    return lost, wrong + len(found.faults), told


def _unsaved(text):
    """Returns the content of a record, as JSON, without whether it has weights."""
    return json.dumps(json.loads(text)[:2], sort_keys=True)


def refer(state, trains, setting):
    """Trains a setting without any fault, unless that was done before."""
    if setting in state.references:
        return
    name = f'whole{list(trainings.SETTINGS).index(setting)}'
    problem = trains.complete(setting, name)
    results = trains.results(name)
    if problem or results.faults:
        sys.exit(f'{setting} fails without any fault: {problem} {results.faults}')
    state.refer(setting, results)


def attempt(state, trains, kind, number, setting, seed):
    """Makes one attempt, and notes it in the state."""
    began = time.monotonic()
    if setting:
        refer(state, trains, setting)
    # No name ends with _ and another name, by which its experiment is found.
    name = f'{kind.replace("_", "-")}{number}'
    case = attempts.Case(trains, setting, name, number, trainings.chance(seed, kind, number))
    outcome = KINDS[kind].attempt(case)
    lost, wrong, told = 0, outcome.wrong, outcome.problems
    if setting and not outcome.problems:
        compared = compare(trains.results(case.name), state.references[setting], outcome.unsaved)
        lost, wrong, told = compared[0], compared[1], told + compared[2]
    for line in told:
        print(f'{case.name} ({setting}): {line}'[:3000], flush=True)
    state.note(
        dict(
            kind=kind,
            number=number,
            setting=setting,
            faults=dict(outcome.faults),
            survived=not outcome.problems,
            lost=lost,
            wrong=wrong,
            told=[line[:3000] for line in told],
            seconds=time.monotonic() - began,
        )
    )


def run(state, counts, seed, seconds):
    """Makes the attempts of a campaign that its state lacks, until its time is over.

    Args:
        state: The State.
        counts: {kind: number of faults}.
        seed: The seed.
        seconds: The time after which no further attempt begins.
    """
    until = time.monotonic() + seconds
    folder = tempfile.mkdtemp(prefix='faults-')
    with contextlib.ExitStack() as closing:
        closing.callback(shutil.rmtree, folder)
        trains = trainings.Trainings(folder)
        closing.callback(trains.stop)
        for kind, number, setting in plan(counts, seed):
            if (kind, number) not in state.attempts and time.monotonic() < until:
                attempt(state, trains, kind, number, setting, seed)


def rows(done):
    """Returns a Row for each fault of each kind, and one for each kind, of documents of attempts.

    What is lost or wrong belongs to an attempt, of one or several faults, and so to its kind.
    """
    found = []
    for kind in KINDS:
        own = [each for each in done if each['kind'] == kind]
        if not own:
            continue
        found.append(_row(kind.replace('_', ' '), own))
        faults = sorted({fault for each in own for fault in each['faults']})
        if len(faults) > 1:
            found += [_row(f'- {fault}', own, fault) for fault in faults]
    return found


def _row(name, done, fault=None):
    """Returns the Row of some attempts; of one of their faults, if it is given."""
    faults = {id(each): collections.Counter(each['faults']) for each in done}
    tries = {key: found[fault] if fault else sum(found.values()) for key, found in faults.items()}
    concerned = [each for each in done if tries[id(each)]] if fault else done
    return Row(
        name,
        sum(tries.values()),
        sum(tries[id(each)] for each in done if each['survived']),
        sum(each['lost'] for each in concerned),
        sum(each['wrong'] for each in concerned),
    )


def report(state):
    """Returns the lines of the two tables: by kind and by setting."""
    done = list(state.attempts.values())
    lines = ['| fault | tries | survived | lost | wrong |', '|---|---|---|---|---|']
    lines += ['| {} | {} | {} | {} | {} |'.format(*row) for row in rows(done)]
    lines += ['', '| setting | trainings | faults | lost | wrong |', '|---|---|---|---|---|']
    for setting in trainings.SETTINGS:
        own = [each for each in done if each['setting'] == setting]
        if own:
            row = _row(setting, own)
            lines.append(f'| {setting} | {len(own)} | {row.tries} | {row.lost} | {row.wrong} |')
    hours = sum(each['seconds'] for each in done) / 3600
    return lines + ['', f'{len(done)} attempts in {hours:.2f} hours on {runtime.describe()}']


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, kind in KINDS.items():
        parser.add_argument('--' + name, type=int, default=kind.count, help=kind.meaning)
    version = '{}.{}'.format(*sys.version_info)
    default = os.path.join(ROOT, 'local', f'faults-{version}.jsonl')
    parser.add_argument('--state', default=default, help='file of what is done')
    parser.add_argument('--seed', type=int, default=0, help='seed of all random choices')
    parser.add_argument('--minutes', type=float, default=float('inf'), help='length of this part')
    arguments = parser.parse_args()
    gc.freeze()
    os.makedirs(os.path.dirname(os.path.abspath(arguments.state)), exist_ok=True)
    about = dict(seed=arguments.seed, runtime=runtime.describe(), cpu=machine.cpu().model)
    state = State(arguments.state, about)
    counts = {kind: getattr(arguments, kind) for kind in KINDS}
    run(state, counts, arguments.seed, 60 * arguments.minutes)
    print('\n'.join(report(state)))
    done = state.attempts.values()
    return 0 if all(each['survived'] and not each['lost'] + each['wrong'] for each in done) else 1


if __name__ == '__main__':
    sys.exit(main())
