"""Runs that differ in their seed, as plain documents, and the statistics of what is stored.

The expected numbers come from pymongo, NumPy and SciPy alone.
"""

import datetime

import bson
import numpy as np
from scipy import stats

DBNAME = 'seeds'
MOMENT = datetime.datetime(2026, 3, 1)
ANGLES = ('weight_angles', 'projection_angles', 'gradient_angles')
TOP1 = {
    'symmetric': [0.91, 0.93, 0.955, 0.9, 0.92],
    'mirror': [0.88, 0.915, 0.93, 0.875],
}


def identity(minute):
    """Returns a new `_id` that was made some minutes after MOMENT."""
    head = bson.ObjectId.from_datetime(MOMENT + datetime.timedelta(minutes=minute)).binary[:4]
    return bson.ObjectId(head + bson.ObjectId().binary[4:])


def params(rule, seed, digest='', steps=30, dataset='mnist', size=28, data_dir=None, **model):
    """Returns the params of a record. The digest is that of the rule unless it is given or None."""
    found = {
        'save_params': {'exp_id_suffix': f'_{seed}'},
        'model_params': dict(
            model='resnet18',
            alignment=rule,
            alpha=0.02,
            image_shape=[size, size, 1],
            num_classes=10,
            seed=seed,
            declared={'alpha': 0.01},
            **model,
        ),
        'train_params': dict(
            num_steps=steps,
            steps_per_epoch=15,
            train_batch_size=131,
            train_images=1965,
            dataset=dataset,
            data_dir=data_dir,
            seed=seed,
        ),
        'learning_rate_params': {'learning_rate': 0.05},
        'validation_params': {'topn_val': {'validation_images': 500}},
        'provenance': {'commit': str(seed), 'runtime': 'TensorFlow', 'uncommitted': True},
    }
    if digest is not None:
        found['digests'] = {'meaning': 'm', 'settings': digest or f'settings of {rule}'}
    return found


def results(top1, seed, step):
    angles = {'conv0': 60.0 + seed - step, 'dense': None if step == 0 else 40.0 + 0.5 * seed}
    return {
        'topn_val': dict(
            {name: angles for name in ANGLES},
            top1=top1,
            top5=0.99,
            loss=1.0 - top1,
            measured_images=64,
            weightsq_norm={'conv0': 1.0, 'dense': 2.0},
            **({} if step == 0 else {'error_ranks': {'conv0': 2.5 + seed, 'dense': None}}),
        )
    }


def run(exp_id, rule, seed, top1, last=30, minute=0, **settings):
    """Yields the records of a run: one without steps, one without a validation, and the last."""
    own = params(rule, seed, **settings)
    losses = [dict(loss=3.0 * v, model_loss=v, learning_rate=0.05) for v in (0.5, 0.25 + seed)]
    for step, reached, steps in ((0, 0.1, []), (7, None, losses), (last, top1, losses[1:])):
        document = dict(
            _id=identity(minute + step),
            exp_id=exp_id,
            step=step,
            params=own,
            duration=0.25 + seed,
            saved_filters=False,
        )
        document.update(dict(train_results=steps) if steps else {})
        if reached is not None:
            document['validation_results'] = results(reached, seed, step)
        yield document


def validation(exp_id, validates, top1=0.5):
    """Returns the record of a validation."""
    return dict(
        _id=identity(500),
        exp_id=exp_id,
        step=30,
        params=params('symmetric', 0),
        duration=2.0,
        saved_filters=False,
        validation_results=results(top1, 0, 30),
        validates=validates,
    )


def documents():
    """Yields the records of every run of the collection resnet18."""
    for rule, values in TOP1.items():
        for seed, top1 in enumerate(values):
            yield from run(f'{rule}_seed{seed}', rule, seed, top1)
    yield from run('symmetric_seed7', 'symmetric', 7, 0.2, last=20)  # stopped
    yield from run('symmetric_seed8', 'symmetric', 8, 0.3, last=20)  # failed
    yield from run('symmetric_seed9', 'symmetric', 9, 0.3, last=20)  # killed
    yield from run('symmetric_again', 'symmetric', 1, 0.5, minute=-100)  # an older one of seed 1
    for seed in range(2):
        yield from run(f'size_{seed}', 'symmetric', seed, 0.4 + 0.2 * seed, size=32)
        yield from run(f'cifar_{seed}', 'symmetric', seed, 0.5 + 0.1 * seed, dataset='cifar10')
        yield from run(f'folder_{seed}', 'symmetric', seed, 0.6, data_dir='/photographs')
        yield from run(f'rate_{seed}', 'symmetric', seed, 0.7, digest='another rate')
        yield from run(f'older_{seed}', 'symmetric', seed, 0.8 + 0.05 * seed, digest=None)
        yield from run(f'nan_{seed}', 'dfa', seed, [0.5, float('nan')][seed])
    yield from run('older_alpha', 'symmetric', 2, 0.8, digest=None, activation='relu')
    yield dict(next(run('script', 'symmetric', 0, 0.1)), params={'model_params': {'seed': 1}})


def newest(files, exp_id):
    """Returns the results of the newest validation of a run, by pymongo alone."""
    query = {'exp_id': exp_id, 'validates': {'$exists': False}, 'validation_results': {'$ne': None}}
    record = files.find_one(query, sort=[('step', -1)])
    return record['validation_results']['topn_val']


def mean_angle(results, name):
    angles = [angle for angle in results[name].values() if angle is not None]
    return float(np.mean(angles))


def interval(values):
    """Returns (mean, standard deviation, low, high) by NumPy and SciPy."""
    low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
    return float(np.mean(values)), float(np.std(values, ddof=1)), float(low), float(high)
