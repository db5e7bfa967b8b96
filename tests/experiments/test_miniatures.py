"""Small forms of the experiments on Fashion-MNIST: 500 images, three rules, two seeds."""

import csv

import idx_files
import numpy as np
import pytest
from PIL import Image

from experiments import baselines, depth, lines, program, rules, sensitivity, sweep, transfer
from experiments.base import Results
from test_noise import Forked
from tiers import at_night
from training import runtime

IMAGES, TESTED, HELD_OUT = 500, 130, 100
BEST = {
    'mirror': {'learning_rate': 0.02, 'beta': 0.002},
    'information': {'learning_rate': 0.02, 'gamma': 1e-4},
}


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    """{whether it has test images: a folder of images}.

    In each image, a bright square at one of ten places is the label.
    """
    made = idx_files.arrays(train=IMAGES, test=TESTED)
    for names in idx_files.idx.FILES.values():
        pixels, labels = (made[name] for name in names)
        pixels //= 4
        for image, label in zip(pixels, labels):
            row, column = divmod(int(label), 4)
            image[9 * row : 9 * row + 6, 7 * column : 7 * column + 6] = 255
    found = {True: tmp_path_factory.mktemp('squares'), False: tmp_path_factory.mktemp('training')}
    idx_files.write(found[True], made)
    idx_files.write(found[False], made, splits=['train'])
    return {has_test: str(folder) for has_test, folder in found.items()}


def small(run, images):
    """Returns a run with few images and 24 steps."""
    split = HELD_OUT if run.config.validation_split else 0
    epochs = 24 / ((IMAGES - split) // run.config.train_batch_size)
    return run._replace(
        config=run.config.replaced(
            dict(
                dataset='mnist',
                data_dir=images,
                image_size=32 if run.config.model == 'lenet' else None,
                validation_split=split,
                train_epochs=epochs,
                epochs_per_checkpoint=epochs,
                eval_batch_size=65,
                measure_images=9,
            )
        )
    )


class Small:
    """An experiment of which some runs are trained, in small.

    Args:
        experiment: The experiment.
        keep: A function that tells of the factors and the seed of a run whether it is kept.
        images: The folder of the images.
    """

    def __init__(self, experiment, keep, images):
        self.experiment = experiment
        self.runs = [
            small(run, images) for run in experiment.runs([]) if keep(run.factors, run.config.seed)
        ]
        self.others = [run for run in experiment.runs([]) if not keep(run.factors, run.config.seed)]


def of_depth(factors, seed):
    return (
        factors['depth'] == '8'
        and seed < 3
        and factors['rule'] in ('backprop', 'mirror', 'kolen_pollack')
    )


def of_transfer(factors, seed):
    return factors['depth'] == '4' and seed < 3 and factors['rule'] != 'activation'


def of_baselines(factors, seed):
    networks = {1: ('fc, 2 layers', 'lenet', 'resnet8, 150 steps'), 2: ('fc, 2 layers',)}
    return factors['network'] in networks.get(seed, ())


def of_search(factors, seed):
    return factors['trial'] == '1' and factors['rule'] in ('backprop', 'symmetric', 'dfa')


TRIALS = ('sensitivity', 'trials', 'rules_search')
EXPERIMENTS = {
    'sensitivity': (sensitivity.Sensitivity(), lambda factors, seed: factors['trial'] == '1'),
    'trials': (sensitivity.Sensitivity(), lambda factors, seed: factors['trial'] in ('2', '3')),
    'rules_search': (rules.search(), of_search),
    'depth': (depth.Depth(), of_depth),
    'transfer': (transfer.Transfer(BEST), of_transfer),
    'baselines': (baselines.Baselines(), of_baselines),
}


@pytest.mark.slow
@pytest.mark.parametrize('name', ['sensitivity', *at_night(*list(EXPERIMENTS)[1:])])
def test_an_experiment_in_small(name, folders, mongo_server, forks, tmp_path):
    """Every run ends with its line, and the table and the figure are made of these lines.

    No process of a trial opens a file of test images: there are none.
    """

    def launch(command, stdout, **others):
        done = forks.run(*command[1:])
        stdout.write((done.out + done.err).encode())
        return Forked(done)

    experiment, keep = EXPERIMENTS[name]
    some = Small(experiment, keep, folders[name not in TRIALS])
    version = runtime.describe().partition(' on ')[0]
    where = sweep.Where(
        *('localhost', mongo_server.port, 'small_' + name, str(tmp_path)),
        *(1, 1, version, str(tmp_path / 'x.csv')),
    )
    work = sweep.Sweep(name, some.runs, where, launch=launch)
    work.run()
    assert work.failures == {}
    known = lines.File(where.csv).read()
    assert {line.key for line in known} == {run.key(version) for run in some.runs}
    with open(where.csv, newline='') as file:
        rows = list(csv.DictReader(file))
    assert ('trial' in rows[0]) == (name in TRIALS)
    held_out = HELD_OUT if name in TRIALS else TESTED
    assert {row['images'] for row in rows} == {str(held_out)}
    assert {row['step'] for row in rows if row['state'] == 'finished'} == {'24'}
    tops = [float(row['top1']) for row in rows]
    assert max(tops) > 0.5 > 0.0 <= min(tops)
    results = Results.of(some.runs + some.others, known, version)
    program.show(experiment, results)
    experiment.draw(results, str(tmp_path / 'x.png'))
    with Image.open(str(tmp_path / 'x.png')) as image:
        assert np.ptp(np.asarray(image.convert('L'))) > 200
