"""Settings that an Experiment passes on, where the numbers of a step would not show a mistake."""

import numpy as np
import pytest

import tiny
from training import checkpoints
from training.experiment import TARGET

NOT_CONSTANT = dict(constant_lr=False, warmup_epochs=0.0, learning_rate=1.0)
ALIGNMENT = {f'alignment_{name}': value for name, value in NOT_CONSTANT.items()}


def test_a_validation_takes_the_moving_statistics():
    """With statistics of the batch, the results would depend on which images share a batch."""
    losses = []
    for size in (13, 4):
        exp = tiny.experiment(
            training=False, model='small', layers_list=(), dataset='tiny', eval_batch_size=size
        )
        with tiny.session(exp) as opened:
            start = tiny.values(opened, exp)
            moved = {
                name: value + 0.5 for name, value in start.items() if '/moving_' in name
            }  # values that differ from the statistics of any batch
            checkpoints.load(opened, exp, moved)
            losses.append(exp.validate(opened)[TARGET]['loss'])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)


@pytest.mark.parametrize('delay', [None, 2.0])
def test_both_learning_rates_drop_together(delay):
    exp = tiny.trainer(
        alignment='symmetric',
        alignment_optimizer='gd',
        delay_epochs=delay,
        train_epochs=100.0,
        **NOT_CONSTANT,
        **ALIGNMENT,
    )
    drop = int((30 + (delay or 0)) * tiny.STEPS_PER_EPOCH)
    names = ('learning_rate', 'alignment_learning_rate')
    found = {}
    with tiny.session(exp) as opened:
        for step in (drop - 1, drop):
            checkpoints.load(opened, exp, {'global_step': np.int64(step)})
            found[step] = opened.run([exp.step.scalars[name] for name in names])
    np.testing.assert_allclose(found[drop - 1], [1.0, 1.0], rtol=1e-6)
    np.testing.assert_allclose(found[drop], [0.1, 0.1], rtol=1e-6)
