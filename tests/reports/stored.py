"""The records that the tests of reports store: runs of every kind, some of them malformed."""

import bson

from database import records

DBNAME = 'reports'
LAYERS = ('conv0', 'conv1', 'dense')
HOSTILE = '<img src=x onerror=alert(1)>&"\'_{}_[bold]'  # a hostile but legal exp_id


def params(alignment='symmetric', steps=30, **model):
    """Returns the settings of a record that a report reads."""
    return {
        'model_params': dict(
            {'alignment': alignment, 'layers_list': [7, 5], 'alpha': 0.02, 'activation': 'sigmoid'},
            **model,
        ),
        'train_params': {'num_steps': steps, 'train_batch_size': 131, 'validate_first': False},
        'save_params': {'port': 1},
        'provenance': {'runtime': 'TensorFlow 0 on Python 0', 'commit': 'abc'},
    }


def results(
    top1,
    angle,
    layers=LAYERS,
    kinds=('weight_angles', 'projection_angles', 'gradient_angles'),
    **more,
):
    """Returns the results of a validation; the angle of layer i is `angle` + i degrees."""
    by_layer = {layer: angle + i for i, layer in enumerate(layers)}
    return {
        'topn_val': dict({kind: by_layer for kind in kinds}, top1=top1, top5=1.0, loss=0.5, **more)
    }


def losses(*values):
    return [
        dict(
            loss=v + 1,
            model_loss=v,
            reg_loss=0.25,
            alignment_loss=2 * v,
            total_loss=v + 1,
            learning_rate=0.1,
        )
        for v in values
    ]


def run_of(store, steps=30, last=30, **model):
    """Saves three records: before the first step, in the middle, and at the last step."""
    for step, top1, angle, values in (
        (0, 0.1, 90.0, ()),
        (7, None, None, (5.0, 3.0)),
        (last, 0.9, 11.0, (1.0, 2.0, 6.0)),
    ):
        store.save(
            records.build(
                store.exp_id,
                step,
                params(steps=steps, **model),
                0.5 if step else 3.0,
                losses(*values),
                None if top1 is None else results(top1, angle),
            )
        )


def odd_records():
    """Yields records of a tfutils script, of a diverged training and of an empty run.

    Some documents are not records at all.
    """
    nan = float('nan')
    script = {
        'save_params': {},
        'model_params': {'func': {'modname': 'm', 'objname': 'f'}},
        'train_params': {'num_steps': 'many'},
    }
    yield dict(
        exp_id='script',
        step=4,
        params=script,
        duration=0.1,
        train_results=[{'loss': 2.5, 'learning_rate': 0.1}],
        validation_results={'valid0': {'acc': 0.5}, 'valid1': {'top1': 0.25}, 'odd': 3},
    )
    yield dict(
        exp_id='lost',
        step=9,
        params=params(),
        duration=nan,
        train_results=[{'loss': nan, 'model_loss': float('inf')}],
        validation_results={
            'topn_val': {'top1': nan, 'weight_angles': {'conv0': nan, 'dense': 12.0}}
        },
    )
    yield dict(exp_id='bare', step=2)
    yield dict(
        exp_id='wrong types',
        step=3,
        params=7,
        duration='long',
        train_results='none',
        validation_results=[1],
    )
    yield dict(exp_id=17, step=3)
    yield dict(filename='a file of somebody else')
    yield dict(exp_id='symmetric', step=3, item_for=bson.ObjectId(), filename='fileitems')


def searches():
    """Yields the trials of two searches, and documents that are not trials."""
    yield from (
        dict(
            _id=f'trial{number}',
            study='alpha',
            trial=number,
            state=state,
            step=step,
            value=value,
            params=dict(alpha=0.123456 * number, optimizer='adam'),
            message=None,
        )
        for number, state, step, value in (
            (0, 'complete', 80, 0.5),
            (2, 'complete', 80, 0.75),
            (1, 'pruned', 20, 0.25),
            (3, 'lost', 0, 0.0),
        )
    )
    yield from (
        dict(
            _id=f'many{number}',
            study=HOSTILE,
            trial=number,
            state='complete',
            step=1,
            value=number / 40.0,
            params={},
        )
        for number in range(25)
    )
    yield dict(_id='odd', study=HOSTILE, trial=25, value=float('nan'), step='last', params=3)
    yield dict(_id='none', study=7, trial='one')
