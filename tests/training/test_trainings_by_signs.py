"""Trainings by the rules that compute B from the signs of W: what they change, save and report."""

import numpy as np
import pytest

import tiers
import tiny
from training import checkpoints

pytestmark = pytest.mark.slow
SIGNS = ('usf', 'frsf', 'brsf')
SETTINGS = dict(optimizer='momentum', learning_rate=0.1)


@pytest.mark.parametrize('rule', ['frsf', 'brsf'] + tiers.at_night('usf'))
def test_a_run_restored_from_its_checkpoint_goes_on_as_if_it_had_never_stopped(tmp_path, rule):
    whole, scalars = tiny.train(tiny.trainer(alignment=rule, **SETTINGS), 5)
    exp = tiny.trainer(alignment=rule, **SETTINGS)
    with tiny.session(exp) as session:
        session.run(exp.step.initializer)
        for _ in range(2):
            session.run(exp.step.train_op)
        prefix = checkpoints.save(session, exp, str(tmp_path), 2)
    exp = tiny.trainer(first_step=2, alignment=rule, **SETTINGS)
    with tiny.session(exp) as session:
        session.run(exp.step.initializer)
        assert checkpoints.restore(session, exp, prefix) == []
        rest, rest_scalars = [tiny.values(session, exp)], []
        for _ in range(3):
            rest_scalars += exp.run_steps(session, most=1)
            rest.append(tiny.values(session, exp))
    assert [tiny.moved(a, b) for a, b in zip(whole[2:], rest)] == [set()] * 4
    assert rest_scalars == scalars[2:] and rest[-1]['global_step'] == 5
    assert set(checkpoints.contents(prefix)) == set(whole[0])
    assert bool(tiny.named(whole[0], 'backward_kernel')) == (rule == 'frsf')


def gradients_at(rule, step):
    """Returns {variable: what a step of gradient descent adds to it} at any step.

    The variables and the batch are always the same.
    """
    settings = dict(dataset='fc', train_batch_size=8, learning_rate=1.0, alignment=rule)
    (before, after), _ = tiny.train(tiny.trainer(**settings), start=dict(global_step=step))
    assert after['global_step'] == step + 1
    return {name: after[name] - before[name] for name in tiny.moved(before, after)}


@pytest.mark.parametrize('rule', SIGNS)
def test_only_brsf_sends_other_errors_at_another_step(rule):
    first, later = gradients_at(rule, 3), gradients_at(rule, 4)
    changed = {name for name in first if not np.array_equal(first[name], later[name])}
    below = {'dense0/forward_kernel', 'dense0/bias'}
    assert set(first) == set(later) == below | {'dense_output/forward_kernel', 'dense_output/bias'}
    assert changed == (below if rule == 'brsf' else set())


def test_the_magnitudes_of_frsf_stay_as_they_started():
    history, _ = tiny.train(tiny.trainer(alignment='frsf', **SETTINGS), 4)
    backward = tiny.named(history[0], 'backward_kernel')
    assert len(backward) == 2 and not backward & tiny.moved(history[0], history[-1])
    assert tiny.named(history[0], 'forward_kernel') | tiny.named(history[0], 'bias') <= tiny.moved(
        history[0], history[-1]
    )


@pytest.mark.parametrize('rule', SIGNS)
def test_signs_agree_better_than_chance(rule):
    """The angle between a uniform W and its signs is acos(sqrt(3) / 2), 30 degrees.

    With independent magnitudes |M| it is acos(3 / 4), 41.4 degrees. These kernels are small, so the
    angles are of a few dozen numbers.
    """
    exp = tiny.experiment(alignment=rule, layers_list=(20, 20), **SETTINGS)
    with tiny.session(exp) as session:
        results = exp.validate(session)['topn_val']
    expected = 30.0 if rule == 'usf' else np.degrees(np.arccos(0.75))
    assert sorted(results['weight_angles']) == ['dense0', 'dense1', 'dense_output']
    for angle in results['weight_angles'].values():
        assert abs(angle - expected) < 4
    assert all(angle < 70 for angle in results['gradient_angles'].values())
    assert all(0 < angle < 70 for angle in results['projection_angles'].values())


# --- checkpoints of other rules -------------------------------------------------------------------


def restored(tmp_path, wrote, reads):
    """Restores a checkpoint of one rule for a validation of another rule.

    It returns the variables of both.
    """
    (_, written), _ = tiny.train(tiny.trainer(alignment=wrote, **SETTINGS))
    exp = tiny.trainer(alignment=wrote, **SETTINGS)
    with tiny.session(exp, written) as session:
        prefix = checkpoints.save(session, exp, str(tmp_path), 1)
    exp = tiny.experiment(training=False, alignment=reads)
    with tiny.session(exp) as session:
        assert checkpoints.restore(session, exp, prefix, with_optimizers=False) == []
        return written, tiny.values(session, exp)


@pytest.mark.parametrize(
    'wrote, reads',
    [
        ('symmetric', 'usf'),
        ('feedback', 'brsf'),
        ('feedback', 'frsf'),
        (None, 'brsf'),
    ]
    + tiers.at_night(('usf', None), ('frsf', 'usf'), ('brsf', 'usf')),
)
def test_a_checkpoint_of_another_rule_is_restored(tmp_path, wrote, reads):
    written, found = restored(tmp_path, wrote, reads)
    assert tiny.moved({name: written[name] for name in found}, found) == set()
    assert bool(tiny.named(found, 'backward_kernel')) == (reads == 'frsf')


def test_frsf_needs_its_magnitudes(tmp_path):
    with pytest.raises(checkpoints.CheckpointError, match='missing: dense0/backward_kernel'):
        restored(tmp_path, 'usf', 'frsf')
