"""Checkpoints are exact to the bit, and what must be refused is refused with a complete list."""

import os
import tempfile

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tiers
import tiny
from models.roles import Slot
from training import checkpoints
from training.checkpoints import CheckpointError
from training.optimizers import OPTIMIZERS

SYMMETRIC = dict(
    alignment='symmetric', optimizer='momentum', learning_rate=0.1, alignment_optimizer='adam'
)


def saved(folder, steps=2, **settings):
    """Returns the path of a checkpoint after some steps, and its variables."""
    exp = tiny.trainer(**settings)
    with tiny.session(exp) as session:
        session.run(exp.step.initializer)
        for _ in range(steps):
            session.run(exp.step.train_op)
        return checkpoints.save(session, exp, str(folder), steps), tiny.values(session, exp)


def restored(prefix, exp, with_optimizers=True):
    """Returns the names of the new variables, and all variables before and after restoring."""
    with tiny.session(exp) as session:
        before = tiny.values(session, exp)
        new = checkpoints.restore(session, exp, prefix, with_optimizers)
        return new, before, tiny.values(session, exp)


def refusal(prefix, exp, with_optimizers=True):
    """Returns the message that refuses a checkpoint, and checks that no variable changed."""
    with tiny.session(exp) as session:
        before = tiny.values(session, exp)
        with pytest.raises(CheckpointError) as caught:
            checkpoints.restore(session, exp, prefix, with_optimizers)
        assert tiny.moved(before, tiny.values(session, exp)) == set()
    assert str(caught.value).startswith(prefix) and '\n' not in str(caught.value)
    return str(caught.value)


# --- to the bit -----------------------------------------------------------------------------------


def test_a_checkpoint_restores_to_the_bit(tmp_path):
    prefix, variables = saved(tmp_path / 'new' / 'folder', **SYMMETRIC)
    assert prefix == str(tmp_path / 'new' / 'folder' / 'checkpoint-2')
    assert sorted(os.listdir(os.path.dirname(prefix))) == [
        'checkpoint-2.data-00000-of-00001',
        'checkpoint-2.index',
    ]
    new, before, after = restored(prefix, tiny.trainer(**SYMMETRIC))
    assert new == [] and tiny.moved(variables, after) == set() and after['global_step'] == 2
    assert tiny.moved(before, after) > tiny.named(after, 'kernel')


def test_contents_and_step(tmp_path):
    prefix, variables = saved(tmp_path, steps=3, **SYMMETRIC)
    assert checkpoints.contents(prefix) == {
        name: list(value.shape) for name, value in variables.items()
    }
    assert checkpoints.step_of(prefix) == 3 and variables['global_step'] == 3


def test_the_step_of_a_checkpoint_without_counter_is_0(tmp_path):
    with tf.Graph().as_default(), tf.Session() as session:
        variable = tf.get_variable('dense0/bias', [7])
        session.run(variable.initializer)
        prefix = tf.train.Saver().save(session, str(tmp_path / 'model'), write_meta_graph=False)
    assert checkpoints.step_of(prefix) == 0


PLACES = ['[c]/checkpoint-2', 'c\\d/checkpoint-2', 'a*b?/checkpoint-2', 'model[1]', '][']


@pytest.mark.slow
@pytest.mark.parametrize(
    'place, scheme',
    [(place, '') for place in PLACES]
    + [('a*b?/checkpoint-2', 'file://')]
    + tiers.at_night(*[(place, 'file://') for place in PLACES if not place.startswith('a')]),
)
def test_a_path_is_no_pattern(tmp_path, monkeypatch, place, scheme):
    """This also holds if the pattern matches another checkpoint, and for the symbolic links."""
    (tmp_path / '[t]').mkdir()
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path / '[t]'))
    other, _ = saved(tmp_path / 'c', steps=1, learning_rate=0.1)
    prefix, variables = saved(tmp_path / 'written', learning_rate=0.1)
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True)
    for ending in ('.index', '.data-00000-of-00001'):
        os.rename(prefix + ending, str(path) + ending)
    exp = tiny.trainer(learning_rate=0.1)
    new, _, after = restored(scheme + str(path), exp)
    assert (
        new == []
        and tiny.moved(variables, after) == set()
        and checkpoints.step_of(scheme + str(path)) == 2
    )
    message = refusal(scheme + str(path) + 'missing', exp)
    assert 'no checkpoint can be read there' in message and '/tmp/checkpoint-' not in message
    assert os.listdir(str(tmp_path / '[t]')) == []


# --- slots of SWATS as the original names them ----------------------------------------------------


def swats_of_the_original(folder, exp, drop=0, phase=None, rate=None):
    """Writes a checkpoint of an experiment with two optimisers in the original's layout.

    It returns the path, and {name: array} of the contents. `drop` is the number of slots of each
    variable to leave out; `phase` and `rate` replace the constant arrays of these slots.
    """
    values, variables = {}, {v.op.name: v for v in exp.variables}
    for name, variable in variables.items():
        if '/SW' in name:
            continue
        shape, draw = variable.shape.as_list(), tiny.stream(name)
        values[name] = (
            np.int64(7) if name == 'global_step' else draw.randn(*shape).astype(np.float32)
        )
        optimizers = sum(other.startswith(name + '/') and '/rate' in other for other in variables)
        slots = [
            slot
            for i in range(optimizers)
            for slot in (
                np.full(shape, i == 0) if phase is None else phase(shape),
                draw.randn(*shape),
                draw.rand(*shape),
                draw.randn(*shape),
                np.full(shape, draw.rand()) if rate is None else rate(shape),
                draw.randn(*shape),
            )
        ]
        values.update(
            {
                name + '/SWATS' + (f'_{i}' if i else ''): slot.astype(np.float32)
                for i, slot in enumerate(slots[: len(slots) - drop])
            }
        )
    with tf.Graph().as_default(), tf.Session() as session:
        for name, value in values.items():
            tf.get_variable(name, initializer=value)
        session.run(tf.global_variables_initializer())
        return tf.train.Saver().save(session, str(folder / 'checkpoint'), global_step=7), values


@pytest.mark.slow
@pytest.mark.parametrize('alignment_optimizer', ['swats', 'swrats'])
def test_each_slot_of_the_originals_swats_goes_where_it_belongs(tmp_path, alignment_optimizer):
    exp = tiny.trainer(
        alignment='symmetric', optimizer='swats', alignment_optimizer=alignment_optimizer
    )
    prefix, there = swats_of_the_original(tmp_path, exp)
    new, _, after = restored(prefix, exp)
    assert new == [] and after['global_step'] == 7
    for owner, second in [
        ('dense0/bias', False),
        ('dense0/forward_kernel', False),
        ('dense_output/backward_kernel', False),
        ('dense_output/backward_kernel', True),
    ]:
        kind = owner + '/' + (alignment_optimizer.upper() if second else 'SWATS')
        m, v, more = (
            ('_2', '_3', '_1') if second and alignment_optimizer == 'swats' else ('', '_1', '')
        )
        phase, m_there, v_there, momentum, rate = [
            there[owner + '/SWATS' + (f'_{i}' if i else '')]
            for i in range(6 * second, 6 * second + 5)
        ]
        for name, value in ((m, m_there), (v, v_there), ('/momentum' + more, momentum)):
            np.testing.assert_array_equal(after[kind + name], value)
        assert (
            after[kind + '/rate' + more] == rate.flat[0]
            and after[kind + '/sgd' + more] == phase.flat[0] == 1 - second
        )
    assert tiny.moved({name: there[name] for name in after if '/SW' not in name}, after) == set()


@pytest.mark.slow
@pytest.mark.parametrize(
    'change',
    [
        dict(drop=1),
        dict(drop=5),
        dict(phase=lambda shape: np.arange(np.prod(shape)).reshape(shape) % 2),
        dict(rate=lambda shape: np.random.RandomState(1).randn(*shape)),
        dict(rate=lambda shape: np.ones([2] + shape)),
    ],
    ids=['five', 'one', 'phases', 'rates', 'another shape'],
)
def test_slots_of_an_unknown_layout_are_never_mistaken(tmp_path, change):
    exp = tiny.trainer(optimizer='swats')
    prefix, there = swats_of_the_original(tmp_path, exp, **change)
    message = refusal(prefix, exp)
    assert (
        'slots of an unknown layout: dense0/bias/SWATS, dense0/bias/SWATS/momentum' in message
        and 'missing' not in message
    )
    new, before, after = restored(prefix, exp, with_optimizers=False)
    assert (
        new == sorted(name for name in after if '/SW' in name)
        and tiny.moved({name: before[name] for name in new}, {name: after[name] for name in new})
        == set()
    )
    assert tiny.moved({name: there[name] for name in after if '/SW' not in name}, after) == set()
    with tiny.session(exp) as session:  # restores as tfutils does
        assert checkpoints.restore_some(session, exp, prefix) == new


@pytest.mark.slow
def test_a_second_optimizers_slots_are_new_where_ours_has_one(tmp_path):
    prefix, variables = saved(tmp_path, alignment='symmetric', optimizer='swats', learning_rate=0.1)
    exp = tiny.trainer(alignment='symmetric', optimizer='swats', alignment_optimizer='swats')
    message = refusal(prefix, exp)
    assert (
        'missing: dense0/backward_kernel/SWATS/momentum_1' in message and 'unknown' not in message
    )
    new, _, after = restored(prefix, exp, with_optimizers=False)
    assert set(new) == set(after) - set(variables) and tiny.moved(variables, after) == set()


# --- numbers that are not finite ------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    'names, listed',
    [
        (
            ['dense_output/bias', 'dense0/forward_kernel'],
            'dense0/forward_kernel, dense_output/bias',
        ),
        (['dense0/bias/Momentum'], 'dense0/bias/Momentum'),
    ],
    ids=['network', 'slot'],
)
def test_a_checkpoint_with_numbers_that_are_not_finite_is_refused(tmp_path, names, listed):
    settings = dict(optimizer='momentum', learning_rate=0.1)
    exp, validating = tiny.trainer(**settings), tiny.experiment(training=False, **settings)
    with tiny.session(exp) as session:
        values = tiny.values(session, exp)
        for name, number in zip(names, (np.nan, -np.inf)):
            values[name].flat[-1] = number
        checkpoints.load(session, exp, values)
        prefix = checkpoints.save(session, exp, str(tmp_path), 2)
    assert (
        refusal(prefix, exp)
        == f'{prefix}: NaN or infinite numbers in {listed}; the training had diverged, so use '
        'a checkpoint of an earlier step'
    )
    with tiny.session(validating) as session:
        if 'Momentum' in listed:  # variables that are not restored are not checked
            assert checkpoints.restore(session, validating, prefix, with_optimizers=False) == []
            return
        for action in (
            lambda: checkpoints.restore(session, validating, prefix, with_optimizers=False),
            lambda: checkpoints.restore_some(session, validating, prefix),
            lambda: checkpoints.restore_some(
                session, validating, prefix, renamed={'dense_output/bias': 'dense_output/bias'}
            ),
        ):
            with pytest.raises(CheckpointError, match='NaN or infinite numbers in dense'):
                action()
        assert set(
            checkpoints.restore_some(session, validating, prefix, names=['dense0/bias'])
        ) == set(values) - {'dense0/bias'} - {name for name in values if 'Momentum' in name}


def test_six_variables_are_not_all_listed():
    with tf.Graph().as_default():
        variables = [tf.get_variable(f'v{i}', [2]) for i in range(7)] + [
            tf.get_variable('n', [2], tf.int32)
        ]
        values = {v.op.name: np.array([1, np.inf]) for v in variables}
        assert checkpoints.not_finite(variables, values) == 'v0, v1, v2, v3, v4 and 2 more'
        assert (
            checkpoints.not_finite(variables[:1], values) == 'v0'
            and checkpoints.not_finite(variables, {}) == ''
        )


# --- what may be ignored --------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    'optimizer', ['adam', 'swats'] + tiers.at_night(*sorted(set(OPTIMIZERS) - {'adam', 'swats'}))
)
def test_a_validation_restores_whatever_optimizer_wrote(tmp_path, optimizer):
    settings = dict(alignment='symmetric', optimizer=optimizer, alignment_optimizer=optimizer)
    prefix, variables = saved(tmp_path, **settings)
    exp = tiny.experiment(training=False, **settings)
    new, _, after = restored(prefix, exp, with_optimizers=False)
    assert new == [] and tiny.moved({name: variables[name] for name in after}, after) == set()
    layers = ('dense0', 'dense_output')
    parts = ('forward_kernel', 'backward_kernel', 'bias')
    assert set(after) == {f'{layer}/{part}' for layer in layers for part in parts} | {'global_step'}


def test_slots_may_be_new_where_that_is_allowed(tmp_path):
    prefix, variables = saved(tmp_path, alignment='symmetric', learning_rate=0.1)
    exp = tiny.trainer(**SYMMETRIC)
    new, before, after = restored(prefix, exp, with_optimizers=False)
    assert (
        new == sorted(name for name, role in exp.roles.items() if isinstance(role, Slot))
        and len(new) > 8
    )
    assert (
        tiny.moved({name: before[name] for name in new}, {name: after[name] for name in new})
        == set()
    )
    assert tiny.moved({name: after[name] for name in variables}, variables) == set()


def test_slots_must_be_there_where_a_run_goes_on(tmp_path):
    prefix, _ = saved(tmp_path, alignment='symmetric', learning_rate=0.1)
    message = refusal(prefix, tiny.trainer(**SYMMETRIC))
    assert 'missing: ' in message and 'dense0/bias/Momentum' in message and 'extra' not in message


def test_backprop_takes_a_checkpoint_with_backward_kernels(tmp_path):
    prefix, variables = saved(tmp_path, **SYMMETRIC)
    new, _, after = restored(prefix, tiny.experiment(training=False), with_optimizers=False)
    assert new == [] and set(after) == tiny.named(variables, 'forward_kernel') | tiny.named(
        variables, 'bias'
    ) | {'global_step'}
    assert tiny.moved({name: variables[name] for name in after}, after) == set()


# --- what is refused ------------------------------------------------------------------------------


def test_an_aligned_model_needs_backward_kernels(tmp_path):
    prefix, _ = saved(tmp_path, learning_rate=0.1)
    message = refusal(
        prefix, tiny.experiment(training=False, alignment='symmetric'), with_optimizers=False
    )
    assert 'missing: dense0/backward_kernel, dense_output/backward_kernel' in message


def test_every_misfit_is_listed(tmp_path):
    prefix, _ = saved(tmp_path, alignment='feedback', layers_list=(7,), learning_rate=0.1)
    exp = tiny.experiment(training=False, alignment='feedback', layers_list=(7, 5))
    message = refusal(prefix, exp, with_optimizers=False)
    assert (
        'missing: dense1/backward_kernel, dense1/bias, dense1/forward_kernel' in message
        and 'extra' not in message
    )
    assert (
        'mis-shaped: dense_output/backward_kernel ([10, 7] in the checkpoint, [10, 5] here), '
        'dense_output/forward_kernel ([7, 10] in the checkpoint, [5, 10] here)' in message
    )
    assert '--model' in message and '--alignment' in message


def test_what_is_too_much_is_listed(tmp_path):
    prefix, _ = saved(tmp_path, alignment='feedback', layers_list=(7, 5, 3), learning_rate=0.1)
    exp = tiny.experiment(training=False, alignment='feedback', layers_list=(7, 5))
    assert 'extra: dense2/backward_kernel, dense2/bias, dense2/forward_kernel' in refusal(
        prefix, exp, with_optimizers=False
    )


def test_a_transposed_kernel_is_mis_shaped(tmp_path):
    prefix, _ = saved(tmp_path, learning_rate=0.1, layers_list=(5, 7))
    message = refusal(
        prefix, tiny.experiment(training=False, layers_list=(7, 5)), with_optimizers=False
    )
    assert 'dense1/forward_kernel ([5, 7] in the checkpoint, [7, 5] here)' in message


@pytest.mark.slow
@pytest.mark.parametrize('dataset', ['few', 'tiny'])
def test_another_number_of_classes_is_told_as_the_cause(tmp_path, dataset):
    """One has 3 classes and the other 10; the slots of the last layer differ as well."""
    other, here, there = ('tiny', 10, 3) if dataset == 'few' else ('few', 3, 10)
    prefix, _ = saved(tmp_path, dataset=dataset, **SYMMETRIC)
    sentence = refusal(prefix, tiny.trainer(dataset=other, **SYMMETRIC))
    assert f'Its network has {there} classes, but the images have {here}. ' in sentence
    assert (
        'Check --model' not in sentence and 'mis-shaped: dense_output/backward_kernel' in sentence
    )


@pytest.mark.slow
def test_another_network_is_no_other_number_of_classes(tmp_path):
    prefix, _ = saved(tmp_path, dataset='few', **dict(SYMMETRIC, layers_list=(6,)))
    assert 'Check --model' in refusal(prefix, tiny.trainer(**SYMMETRIC))


def test_only_the_network_is_restored_where_a_training_counts_anew(tmp_path):
    prefix, variables = saved(tmp_path, **SYMMETRIC)
    exp = tiny.trainer(**SYMMETRIC)
    with tiny.session(exp) as session:
        before = tiny.values(session, exp)
        new = checkpoints.restore(session, exp, prefix, network_only=True)
        after = tiny.values(session, exp)
    slots = {name for name in after if isinstance(exp.roles[name], Slot)}
    assert set(new) == slots | {'global_step'} and after['global_step'] == 0
    assert tiny.moved({name: before[name] for name in slots}, after) == set()
    network = {name: variables[name] for name in set(variables) - set(new)}
    assert network and tiny.moved(network, after) == set()


def test_a_long_list_is_cut():
    assert (
        checkpoints._listed(['a', 'b', 'c'], most=2) == 'a, b and 1 more'
        and checkpoints._listed(['a']) == 'a'
    )


@pytest.mark.parametrize('place', ['missing', 'folder', 'folder/missing'])
def test_a_wrong_path_is_told(tmp_path, place):
    (tmp_path / 'folder').mkdir()
    prefix = str(tmp_path / place)
    for action in (checkpoints.contents, checkpoints.step_of):
        with pytest.raises(
            CheckpointError, match='no checkpoint can be read there .*without .index'
        ) as caught:
            action(prefix)
        assert '\n' not in str(caught.value)
    assert 'no checkpoint' in refusal(prefix, tiny.experiment(training=False))


def damage(path, how):
    """Cuts a file, empties it, removes it, or changes a byte in its middle."""
    with open(path, 'rb') as file:
        content = file.read()
    if how == 'removed':
        os.remove(path)
        return
    middle = len(content) // 2
    with open(path, 'wb') as file:
        file.write(
            {
                'cut': content[:middle],
                'empty': b'',
                'garbage': b'\x07' * len(content),
                'one byte': content[:middle]
                + bytes([content[middle] ^ 0x55])
                + content[middle + 1 :],
            }[how]
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    'ending, how',
    [
        ('.index', 'cut'),
        ('.index', 'empty'),
        ('.index', 'garbage'),
        ('.index', 'removed'),
        ('.data-00000-of-00001', 'cut'),
        ('.data-00000-of-00001', 'empty'),
        ('.data-00000-of-00001', 'garbage'),
        ('.data-00000-of-00001', 'one byte'),
        ('.data-00000-of-00001', 'removed'),
    ],
)
def test_damaged_files_are_told(tmp_path, ending, how):
    prefix, _ = saved(tmp_path, alignment='feedback', learning_rate=0.1)
    damage(prefix + ending, how)
    refusal(prefix, tiny.experiment(training=False, alignment='feedback'), with_optimizers=False)
    with pytest.raises(CheckpointError):
        checkpoints.verify(prefix)


def test_a_whole_checkpoint_is_verified(tmp_path):
    prefix, _ = saved(tmp_path, **SYMMETRIC)
    checkpoints.verify(prefix)


def test_a_path_with_its_ending_is_no_prefix(tmp_path):
    prefix, _ = saved(tmp_path, learning_rate=0.1)
    assert 'without .index' in refusal(
        prefix + '.index', tiny.experiment(training=False), with_optimizers=False
    )


def test_restored_values_are_used(tmp_path):
    prefix, variables = saved(tmp_path, learning_rate=0.1)
    exp = tiny.experiment(training=False)
    with tiny.session(exp) as session:
        checkpoints.restore(session, exp, prefix, with_optimizers=False)
        session.run(exp.validation.initializer)
        loss = session.run(exp.validation.totals)['loss']
    outputs = tiny.logits(variables, exp.dataset.images[:5])
    np.testing.assert_allclose(
        loss, tiny.cross_entropy(outputs, exp.dataset.labels[:5]).sum(), 1e-5
    )


def test_variables_get_their_values_a_few_at_a_time(monkeypatch):
    """Two of them are initialised from the same tensor."""
    monkeypatch.setattr(checkpoints, 'AT_A_TIME', 70)
    with tf.Graph().as_default(), tf.Session() as session:
        same = tf.ones([3, 2])
        variables = [tf.get_variable(f'same{i}', initializer=same) for i in range(2)]
        variables += [
            tf.get_variable(name, shape, dtype, tf.zeros_initializer())
            for name, shape, dtype in (
                ('wide', [5, 7], tf.float32),
                ('count', [], tf.int64),
                ('narrow', [9], tf.float16),
                ('none', [0], tf.float32),
            )
        ]
        values = {
            v: np.arange(index, index + v.shape.num_elements())
            .reshape(v.shape.as_list())
            .astype(v.dtype.as_numpy_dtype)
            for index, v in enumerate(variables, 1)
        }
        calls = []
        monkeypatch.setattr(
            session, 'run', lambda *given, run=session.run: (calls.append(given), run(*given))[1]
        )
        checkpoints.assign(session, values)
        assert [len(initializers) for initializers, _ in calls] == [1, 1, 1, 3]
        for variable, value in zip(variables, session.run(variables)):
            assert value.dtype == values[variable].dtype and np.array_equal(value, values[variable])
