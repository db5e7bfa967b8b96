"""Checkpoints to the bit, and everything that must be refused and listed."""
import os

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tiny
from training import checkpoints
from training.checkpoints import CheckpointError
from training.optimizers import OPTIMIZERS

SYMMETRIC = dict(alignment='symmetric', optimizer='momentum', learning_rate=0.1, alignment_optimizer='adam')


def saved(folder, steps=2, **settings):
    """The path of a checkpoint after some steps, and its variables."""
    exp = tiny.trainer(**settings)
    with tiny.session(exp) as session:
        session.run(exp.step.initializer)
        for _ in range(steps):
            session.run(exp.step.train_op)
        return checkpoints.save(session, exp, str(folder), steps), tiny.values(session, exp)


def restored(prefix, exp, with_optimizers=True):
    """The names of new variables, and all variables before and after restoring."""
    with tiny.session(exp) as session:
        before = tiny.values(session, exp)
        new = checkpoints.restore(session, exp, prefix, with_optimizers)
        return new, before, tiny.values(session, exp)


def refusal(prefix, exp, with_optimizers=True):
    """The one sentence or list with which a checkpoint is refused; no variable has moved."""
    with tiny.session(exp) as session:
        before = tiny.values(session, exp)
        with pytest.raises(CheckpointError) as caught:
            checkpoints.restore(session, exp, prefix, with_optimizers)
        assert tiny.moved(before, tiny.values(session, exp)) == set()
    assert str(caught.value).startswith(prefix) and '\n' not in str(caught.value)
    return str(caught.value)


# --- to the bit -----------------------------------------------------------------------------------------------------

def test_a_checkpoint_restores_to_the_bit(tmp_path):
    prefix, variables = saved(tmp_path / 'new' / 'folder', **SYMMETRIC)
    assert prefix == str(tmp_path / 'new' / 'folder' / 'checkpoint-2')
    assert sorted(os.listdir(os.path.dirname(prefix))) == ['checkpoint-2.data-00000-of-00001', 'checkpoint-2.index']
    new, before, after = restored(prefix, tiny.trainer(**SYMMETRIC))
    assert new == [] and tiny.moved(variables, after) == set() and after['global_step'] == 2
    assert tiny.moved(before, after) > tiny.named(after, 'kernel')


def test_contents_and_step(tmp_path):
    prefix, variables = saved(tmp_path, steps=3, **SYMMETRIC)
    assert checkpoints.contents(prefix) == {name: list(value.shape) for name, value in variables.items()}
    assert checkpoints.step_of(prefix) == 3 and variables['global_step'] == 3


def test_the_step_of_a_checkpoint_without_counter_is_0(tmp_path):
    with tf.Graph().as_default(), tf.Session() as session:
        variable = tf.get_variable('dense0/bias', [7])
        session.run(variable.initializer)
        prefix = tf.train.Saver().save(session, str(tmp_path / 'model'), write_meta_graph=False)
    assert checkpoints.step_of(prefix) == 0


def test_prune_keeps_the_newest_steps(tmp_path):
    for step in (2, 9, 10, 100):
        for ending in ('index', 'data-00000-of-00001'):
            (tmp_path / 'checkpoint-{}.{}'.format(step, ending)).write_text('x')
    (tmp_path / 'checkpoint-7.txt').write_text('not ours')
    (tmp_path / 'other-1.index').write_text('not ours')
    checkpoints.prune(str(tmp_path), 5)
    assert len(os.listdir(str(tmp_path))) == 10
    checkpoints.prune(str(tmp_path), 2)
    assert sorted(os.listdir(str(tmp_path))) == sorted(
        'checkpoint-{}.{}'.format(step, ending) for step in (10, 100) for ending in ('index', 'data-00000-of-00001')
    ) + ['checkpoint-7.txt', 'other-1.index']


# --- what may be left aside -------------------------------------------------------------------------------------------

@pytest.mark.parametrize('optimizer', sorted(OPTIMIZERS))
def test_a_validation_restores_whatever_optimizer_wrote(tmp_path, optimizer):
    settings = dict(alignment='symmetric', optimizer=optimizer, alignment_optimizer=optimizer)
    prefix, variables = saved(tmp_path, **settings)
    exp = tiny.experiment(training=False, **settings)
    new, _, after = restored(prefix, exp, with_optimizers=False)
    assert new == [] and tiny.moved({name: variables[name] for name in after}, after) == set()
    assert 'dense1/backward_kernel' in after and not [name for name in after if 'omentum' in name or 'dam' in name]


def test_slots_may_be_new_where_that_is_allowed(tmp_path):
    prefix, variables = saved(tmp_path, alignment='symmetric', learning_rate=0.1)
    exp = tiny.trainer(**SYMMETRIC)
    new, before, after = restored(prefix, exp, with_optimizers=False)
    assert new == sorted(name for name, role in exp.roles.items() if role.startswith('slot')) and len(new) > 12
    assert tiny.moved({name: before[name] for name in new}, {name: after[name] for name in new}) == set()
    assert tiny.moved({name: after[name] for name in variables}, variables) == set()


def test_slots_must_be_there_where_a_run_goes_on(tmp_path):
    prefix, _ = saved(tmp_path, alignment='symmetric', learning_rate=0.1)
    message = refusal(prefix, tiny.trainer(**SYMMETRIC))
    assert 'missing: ' in message and 'dense0/bias/Momentum' in message and 'extra' not in message


def test_backprop_takes_a_checkpoint_with_backward_kernels(tmp_path):
    prefix, variables = saved(tmp_path, **SYMMETRIC)
    new, _, after = restored(prefix, tiny.experiment(training=False), with_optimizers=False)
    assert new == [] and set(after) == tiny.named(variables, 'forward_kernel') | tiny.named(variables, 'bias') | {'global_step'}
    assert tiny.moved({name: variables[name] for name in after}, after) == set()


# --- what is refused ----------------------------------------------------------------------------------------------------

def test_an_aligned_model_needs_backward_kernels(tmp_path):
    prefix, _ = saved(tmp_path, learning_rate=0.1)
    message = refusal(prefix, tiny.experiment(training=False, alignment='symmetric'), with_optimizers=False)
    assert 'missing: dense0/backward_kernel, dense1/backward_kernel, dense_output/backward_kernel' in message


def test_every_misfit_is_listed(tmp_path):
    prefix, _ = saved(tmp_path, alignment='feedback', layers_list=(7,), learning_rate=0.1)
    message = refusal(prefix, tiny.experiment(training=False, alignment='feedback'), with_optimizers=False)
    assert 'missing: dense1/backward_kernel, dense1/bias, dense1/forward_kernel' in message and 'extra' not in message
    assert 'mis-shaped: dense_output/backward_kernel (there [10, 7], here [10, 5]), ' \
        'dense_output/forward_kernel (there [7, 10], here [5, 10])' in message
    assert '--model' in message and '--alignment' in message


def test_what_is_too_much_is_listed(tmp_path):
    prefix, _ = saved(tmp_path, alignment='feedback', layers_list=(7, 5, 3), learning_rate=0.1)
    exp = tiny.experiment(training=False, alignment='feedback', layers_list=(7, 5))
    assert 'extra: dense2/backward_kernel, dense2/bias, dense2/forward_kernel' in refusal(prefix, exp, with_optimizers=False)


def test_a_transposed_kernel_is_mis_shaped(tmp_path):
    prefix, _ = saved(tmp_path, learning_rate=0.1, layers_list=(5, 7))
    message = refusal(prefix, tiny.experiment(training=False, layers_list=(7, 5)), with_optimizers=False)
    assert 'dense1/forward_kernel (there [5, 7], here [7, 5])' in message


def test_a_long_list_is_cut():
    assert checkpoints._listed(['a', 'b', 'c'], most=2) == 'a, b and 1 more' and checkpoints._listed(['a']) == 'a'


@pytest.mark.parametrize('place', ['missing', 'folder', 'folder/missing'])
def test_a_wrong_path_is_told(tmp_path, place):
    (tmp_path / 'folder').mkdir()
    prefix = str(tmp_path / place)
    for action in (checkpoints.contents, checkpoints.step_of):
        with pytest.raises(CheckpointError, match='no checkpoint can be read there .*without .index') as caught:
            action(prefix)
        assert '\n' not in str(caught.value)
    assert 'no checkpoint' in refusal(prefix, tiny.experiment(training=False))


def damage(path, how):
    """Cut a file, empty it, remove it, or change a byte in its middle."""
    with open(path, 'rb') as file:
        content = file.read()
    if how == 'removed':
        os.remove(path)
        return
    middle = len(content) // 2
    with open(path, 'wb') as file:
        file.write({'cut': content[:middle], 'empty': b'', 'garbage': b'\x07' * len(content), 'one byte':
                    content[:middle] + bytes([content[middle] ^ 0x55]) + content[middle + 1:]}[how])


@pytest.mark.parametrize('ending, how', [
    ('.index', 'cut'), ('.index', 'empty'), ('.index', 'garbage'), ('.index', 'removed'),
    ('.data-00000-of-00001', 'cut'), ('.data-00000-of-00001', 'empty'),
    ('.data-00000-of-00001', 'garbage'), ('.data-00000-of-00001', 'one byte'),
    ('.data-00000-of-00001', 'removed')])
def test_damaged_files_are_told(tmp_path, ending, how):
    prefix, _ = saved(tmp_path, alignment='feedback', learning_rate=0.1)
    damage(prefix + ending, how)
    refusal(prefix, tiny.experiment(training=False, alignment='feedback'), with_optimizers=False)


def test_a_path_with_its_ending_is_no_prefix(tmp_path):
    prefix, _ = saved(tmp_path, learning_rate=0.1)
    assert 'without .index' in refusal(prefix + '.index', tiny.experiment(training=False), with_optimizers=False)


def test_restored_values_are_used(tmp_path):
    prefix, variables = saved(tmp_path, learning_rate=0.1)
    exp = tiny.experiment(training=False)
    with tiny.session(exp) as session:
        checkpoints.restore(session, exp, prefix, with_optimizers=False)
        session.run(exp.validation.initializer)
        loss = session.run(exp.validation.totals)['loss']
    outputs = tiny.logits(variables, exp.dataset.images[:5])
    np.testing.assert_allclose(loss, tiny.cross_entropy(outputs, exp.dataset.labels[:5]).sum(), 1e-5)


def test_variables_get_their_values_a_few_at_a_time(monkeypatch):
    """Also two that start with the same tensor."""
    monkeypatch.setattr(checkpoints, 'AT_A_TIME', 70)
    with tf.Graph().as_default(), tf.Session() as session:
        same = tf.ones([3, 2])
        variables = [tf.get_variable('same{}'.format(i), initializer=same) for i in range(2)]
        variables += [tf.get_variable(name, shape, dtype, tf.zeros_initializer()) for name, shape, dtype in (
            ('wide', [5, 7], tf.float32), ('count', [], tf.int64), ('narrow', [9], tf.float16), ('none', [0], tf.float32))]
        values = {v: np.arange(index, index + v.shape.num_elements()).reshape(v.shape.as_list()).astype(v.dtype.as_numpy_dtype)
                  for index, v in enumerate(variables, 1)}
        calls = []
        monkeypatch.setattr(session, 'run', lambda *given, run=session.run: (calls.append(given), run(*given))[1])
        checkpoints.assign(session, values)
        assert [len(initializers) for initializers, _ in calls] == [1, 1, 1, 3]
        for variable, value in zip(variables, session.run(variables)):
            assert value.dtype == values[variable].dtype and np.array_equal(value, values[variable])
