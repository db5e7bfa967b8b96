"""Trains LeNet on Fashion-MNIST with BioTorch's own layers, and compares the results with ours.

    make biotorch

BioTorch (arXiv:2108.13446) publishes errors of one seed, and not the learning rates. So its layers
are trained here, by the protocol of `make rules` and at the learning rates of its rows, and by that
of `make scatter`. Two means agree if Welch's 95 % interval of their difference contains 0, or if
they differ by less than 0.3 points.

The trainings run in a separate environment with PyTorch. Those that have a line in the CSV file are
not repeated.
"""

from training import runtime  # noqa: F401 (first: it prepares TensorFlow)

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import tensorflow.compat.v1 as tf

from config.root import ROOT
from config.rows import ConfigError
from data.base import DataError
from data.fashion_mnist import FashionMnist
from data.types import Array
from experiments import base, lines, program, rules, scatter, trained
from experiments.base import Experiment, Group, Results
from experiments.lines import Line, Measured, Source, State
from reports import statistics
from training import places
from training.errors import TrainingError

PEER = 'BioTorch 0.0.16 on PyTorch 2.13.0'
# Errors in % after the best of 100 epochs, one seed: BioTorch's page of benchmarks.
PUBLISHED = dict(backprop=9.20, feedback=13.06, dfa=12.81, usf=9.69, brsf=10.02, frsf=9.61)
LAYERS = ('backprop', 'feedback', 'usf')
SEEDS = (1, 2, 3)
CLOSE = 0.003  # two means that differ by less agree
LONG, SHORT = 'rules', 'scatter'  # the experiment whose protocol a training has


class Training(NamedTuple):
    """A training with BioTorch's layers.

    Attributes:
        protocol: LONG or SHORT.
        rule: One of LAYERS.
        learning_rate: Its learning rate at the start.
        epochs: Its length.
        drop_epochs: When the learning rate drops tenfold.
        seed: Its seed.
    """

    protocol: str
    rule: str
    learning_rate: float
    epochs: int
    drop_epochs: Tuple[int, ...]
    seed: int

    @property
    def settings(self) -> str:
        """Its settings without the seed, as JSON."""
        found = self._asdict()
        del found['seed']
        return json.dumps(found, sort_keys=True)

    @property
    def factors(self) -> Dict[str, str]:
        """What distinguishes it from others, without the seed."""
        return {'protocol': self.protocol, 'rule': self.rule}

    def flags(self) -> List[str]:
        """Returns its flags of experiments.biotorch_training."""
        return [
            f'--layers={self.rule}',
            f'--learning_rate={self.learning_rate}',
            f'--epochs={self.epochs}',
            '--drop_epochs',
            *map(str, self.drop_epochs),
            f'--seed={self.seed}',
        ]


def trainings(rates: Dict[str, float]) -> List[Training]:
    """Returns all trainings.

    Args:
        rates: {rule: learning rate} of the rows of `make rules`; rules that it lacks are left out.
    """
    long = [
        Training(LONG, rule, rates[rule], 100, (50, 75), seed)
        for seed in SEEDS
        for rule in LAYERS
        if rule in rates
    ]
    return long + [
        Training(SHORT, rule, rate, scatter.EPOCHS, (), seed)
        for seed in scatter.SEEDS
        for rule, rate in scatter.RATES.items()
    ]


def rates_of(folder: str) -> Dict[str, float]:
    """Returns {rule: learning rate} of the rows of `make rules`, from the results in a folder."""
    best = rules.found_in(folder)
    named = {row.factors['rule']: base.named(row.factors) for row in rules.rows()}
    return {rule: best[named[rule]]['learning_rate'] for rule in LAYERS if named[rule] in best}


def write_images(path: str) -> None:
    """Writes the images of Fashion-MNIST as this program's networks see them, with their labels.

    Images are float32 [n, 1, 32, 32], labels int64 [n].

    Raises:
        DataError: There are no images.
    """
    dataset = FashionMnist(image_size=32)
    arrays: Dict[str, Array] = {}
    for split, name in (('train', 'train'), ('validation', 'test')):
        images, labels = dataset.arrays(split)
        with tf.Graph().as_default(), tf.Session() as session:
            seen = session.run(dataset.normalise(tf.constant(images[..., np.newaxis])))
        arrays[name + '_images'] = np.ascontiguousarray(seen.transpose(0, 3, 1, 2))
        arrays[name + '_labels'] = labels.astype(np.int64)
    np.savez(path, **arrays)  # type: ignore[arg-type]


def train(training: Training, python: str, images: str, threads: int) -> Line:
    """Trains and returns the line of the training.

    Args:
        training: What to train.
        python: Path of the Python interpreter of the environment with BioTorch.
        images: Path of the file of `write_images`.
        threads: How many threads it may use.

    Raises:
        TrainingError: The program fails.
    """
    command = [python, '-m', 'experiments.biotorch_training']
    command += [f'--images={images}', f'--threads={threads}', *training.flags()]
    began = time.monotonic()
    try:
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    except OSError as error:
        raise TrainingError(f'{python} cannot be started ({error.strerror}); run `make biotorch`')
    if ended.returncode:
        said = (ended.stderr.strip().splitlines() or ['it printed nothing'])[-1]
        raise TrainingError(f'BioTorch with {training.settings}: {said}')
    epochs = [json.loads(line) for line in ended.stdout.splitlines()]
    last, best = epochs[-1], max(epochs, key=lambda epoch: float(epoch['top1']))
    has_diverged = not np.isfinite(last['loss'])
    measured = Measured(
        step=last['step'],
        top1=last['top1'],
        loss=last['loss'],
        best_step=best['step'],
        best_top1=best['top1'],
        best_loss=best['loss'],
        images=10_000,
        process_seconds=round(time.monotonic() - began, 1),
    )
    digest = hashlib.sha256(training.settings.encode()).hexdigest()[:16]
    source = Source(
        threads, trained.cpu(), PEER, trained.commit(), '', '', training.settings, digest
    )
    state = State.LOST if has_diverged else State.FINISHED
    return Line(training.factors, training.seed, state, measured, source)


class BioTorch(Experiment):
    """BioTorch's layers beside the rules of this program.

    Args:
        folder: Folder of the CSV files of this program's own results.
    """

    name = 'biotorch'

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def results(self, known: Sequence[Line], version: str) -> Results:
        """Returns the results of lines."""
        del version
        return Results.of_lines(known)

    def table(self, results: Results) -> str:
        """Returns, for each protocol and rule, both means, their difference and its interval."""
        rows = [
            ['protocol', 'rule', 'n', 'this program', 'n', 'BioTorch', 'difference']
            + ['95 % interval', 'agree', 'best epoch', "BioTorch's", 'published']
        ]
        for group in results.groups:
            ours = self._ours(group)
            rows.append(_row(group, ours))
        return base.markdown(rows)

    def _ours(self, group: Group) -> Group:
        """Returns the runs of this program that a group of BioTorch's is compared with."""
        protocol, rule = group.factors['protocol'], group.factors['rule']
        known = lines.File(os.path.join(self._folder, protocol + '.csv')).read()
        return Group(
            group.factors, {line.seed: line for line in known if line.factors['rule'] == rule}
        )


def _row(theirs: Group, ours: Group) -> List[str]:
    found = [group.summary('top1') for group in (ours, theirs)]
    cells = [theirs.factors['protocol'], theirs.factors['rule']]
    for each in found:
        cells += [str(each.n), base.number(each.mean, 4)]
    cells += _compared(*[list(group.values('top1').values()) for group in (ours, theirs)])
    cells += [base.number(group.mean('best_top1'), 4) for group in (ours, theirs)]
    published = PUBLISHED[theirs.factors['rule']]
    return cells + [
        base.number(1 - published / 100, 4) if theirs.factors['protocol'] == LONG else ''
    ]


def _compared(ours: Sequence[float], theirs: Sequence[float]) -> List[str]:
    """Returns the difference of two means, its 95 % interval, and whether they agree."""
    if min(len(ours), len(theirs)) < 2:
        return [base.NONE] * 3
    found = statistics.welch(ours, theirs)
    low, high, difference = found['low'], found['high'], found['difference']
    agree = low <= 0.0 <= high or abs(difference) < CLOSE
    return [f'{difference:+.4f}', f'{low:+.4f} to {high:+.4f}', 'yes' if agree else 'no']


def _run(arguments: argparse.Namespace) -> int:
    experiment = BioTorch(os.path.dirname(os.path.abspath(arguments.csv)))
    file = lines.File(arguments.csv)
    rates = rates_of(os.path.dirname(os.path.abspath(arguments.csv)))
    missing = [rule for rule in LAYERS if rule not in rates]
    if missing:
        places.say(f'no learning rate for {", ".join(missing)} yet: `make rules` searches them')
    known = {(line.source.settings, line.seed) for line in file.read()}
    todo = [each for each in trainings(rates) if (each.settings, each.seed) not in known]
    places.say(f'{experiment.name}: {len(todo)} trainings are missing')
    with tempfile.TemporaryDirectory() as folder:
        images = os.path.join(folder, 'images.npz')
        if todo:
            file.prepare()
            try:
                write_images(images)
            except DataError as error:
                raise ConfigError(str(error))
        for training in todo:
            line = train(training, arguments.peers, images, arguments.threads)
            file.append(line, {})
            places.say(
                f'{base.named(training.factors, training.seed)}: {line.state.value}, top-1 '
                f'{base.number(line.measured.top1, 4)}'
            )
    program.show(experiment, experiment.results(file.read(), PEER))
    return 0


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Trains what is missing and prints the table. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog='python -m experiments.biotorch', description=(__doc__ or '').splitlines()[0]
    )
    parser.add_argument(
        '--peers',
        default=os.path.join(ROOT, '.venv-peers', 'bin', 'python'),
        help='Python interpreter of an environment with torch and biotorch (.venv-peers)',
    )
    parser.add_argument(
        '--csv',
        default=os.path.join(ROOT, 'docs', 'results', 'biotorch.csv'),
        help='file of the results, beside those of make rules and make scatter',
    )
    parser.add_argument('--threads', type=int, default=1, help='threads of each training (1)')
    arguments = parser.parse_args(argv)
    return program.run(lambda: _run(arguments))


if __name__ == '__main__':
    sys.exit(main())
