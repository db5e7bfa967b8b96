"""Trainings that are not: each writes the records that train.py would have written, in no time.

    python tests/experiments/pretend.py train.py --load_params_file=FILE.pkl ...

Without TensorFlow. The numbers are those of `top1`, so tests know what has to come out.
"""

import os
import pickle
import sys
import time

if __name__ == '__main__':
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

import bson
import pymongo

from config.schema import Config
from database.claim import Claim

STEPS, IMAGES = 80, 1000
TRAINED = (
    'PRETEND_TRAINED'  # environment variable: file that gets a line for each training that ends
)
SECONDS = 'PRETEND_SECONDS'  # environment variable: how long each training takes
LOST, FAILED = 3, 1


def top1(alignment, seed, rate, step=STEPS):
    """Returns the top-1 of a step; the best one is that of the middle."""
    bonus = {0: -0.4, STEPS // 2: 0.015625, STEPS: 0.0}[step]
    return 0.5 + 0.0625 * len(alignment or '') / 8 + seed / 64 + rate / 8 + bonus


def read(path):
    """Returns (Config, {group: {name: value}}) of a settings file."""
    with open(path, 'rb') as file:
        groups = pickle.load(file)['params']
    return Config.of(
        {name: value for group in groups.values() for name, value in group.items()}, {}
    ), (groups)


def record(config, step):
    """Returns the record of a validation, with the fields that experiments read."""
    results = {
        'top1': top1(config.alignment, config.seed, config.learning_rate, step),
        'top5': 1.0,
        'loss': 0.25,
        'ties': 0,
        'images': IMAGES,
        'weight_angles': {'one': 30.0, 'two': 50.0, 'three': None},
        'projection_angles': {'one': 10.0},
        'gradient_angles': {},
    }
    made = {
        '_id': bson.ObjectId(),
        'exp_id': config.exp_id,
        'step': step,
        'duration': 0.5,
        'params': {
            'digests': config.digests()._asdict(),
            'train_params': {'seed': config.seed, 'num_steps': STEPS},
            'provenance': {
                'runtime': 'TensorFlow 0 on Python 0',
                'commit': 'c' * 40,
                'uncommitted': True,
            },
            'environment': {'cpu': {'model': 'another  processor'}},
        },
        'validation_results': {'topn_val': results},
    }
    if step:
        made['train_results'] = [{'loss': 1.0}] * (STEPS // 2)
    return made


def train(words, output):
    """Trains, as the words of a command ask for; returns the exit code. `output` gets the words."""
    (path,) = [word.partition('=')[2] for word in words if word.startswith('--load_params_file=')]
    config, _ = read(path)
    with pymongo.MongoClient(config.host, config.port) as client:
        database = client[config.dbname]
        name = 'fc_' + '-'.join(map(str, config.layers_list))
        claim = Claim(database[name + '.claims'], config.exp_id)
        time.sleep(float(os.environ.get(SECONDS, 0)))
        for step in (0, STEPS // 2, STEPS):
            if step == STEPS and config.learning_rate >= 1.0:
                output('error: step 80: the loss is NaN\n')
                break
            database[name + '.files'].insert_one(record(config, step))
        if os.environ.get(TRAINED):
            with open(os.environ[TRAINED], 'a') as file:
                file.write(config.exp_id + '\n')
        claim.release()
    return LOST if config.learning_rate >= 1.0 else 0


class Pretended:
    """A training in this process that has ended when it is started, as subprocess.Popen."""

    pid = 0

    def __init__(self, command, stdout, **others):
        assert others['start_new_session'] and '--do_restore' in command
        self.threads = others['env']['TF_NUM_INTRAOP_THREADS']
        self.returncode = self.run(command, lambda text: stdout.write(text.encode()))

    def run(self, command, output):
        return train(command, output)

    def poll(self):
        return self.returncode

    wait = poll


if __name__ == '__main__':
    sys.exit(train(sys.argv[2:], sys.stdout.write))
