"""A training step of a whole experiment: the original's numbers, and what changes when."""

import glob
import os

import numpy as np
import pytest

import tiny
from alignment.rules import RULES
from config.schema import Config, ConfigError
from models.roles import Role, Slot
from training import devices, runtime
from training.choices import check, choices
from training.experiment import Experiment, preprocessing_of

GOLDEN = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'golden')
TOLERANCE = 1e-4 if runtime.IS_TF2 else 1e-5
WITH_LOSS = sorted(name for name, rule in RULES.items() if rule.sees)
LEARNING_RATES = dict(gd=0.1, momentum=0.1, adam=0.01)


# --- the original's trainings ---------------------------------------------------------------------


def golden_start(variable):
    """Returns the initial value of a variable as tests/golden draws it."""
    shape, last = variable.shape.as_list(), variable.op.name.rpartition('/')[2]
    normal = tiny.stream(variable.op.name).standard_normal(shape)
    scale = (
        np.sqrt(2 / np.prod(shape[:-1]))
        if last == 'forward_kernel'
        else np.sqrt(2 / shape[1])
        if last == 'backward_kernel'
        else 0.1
    )
    return (normal * scale).astype(np.float32)


def golden_experiment(path):
    """Returns the experiment that a file's name describes.

    The name is fctrain_<rule>_<optimiser>[+<alignment optimiser>].npz.
    """
    rule, _, names = os.path.basename(path)[len('fctrain_') : -len('.npz')].rpartition('_')
    optimizer, _, second = names.partition('+')
    settings = dict(alignment=rule, optimizer=optimizer, learning_rate=LEARNING_RATES[optimizer])
    if second:
        settings.update(alignment_optimizer=second, alignment_learning_rate=LEARNING_RATES[second])
    return tiny.trainer(dataset='fc', layers_list=(32, 16), train_batch_size=8, **settings)


def off(got, wanted):
    """Returns the largest difference, relative to the largest number."""
    return np.max(np.abs(np.asarray(got, np.float64) - wanted)) / np.max(np.abs(wanted))


@pytest.mark.parametrize(
    'path',
    sorted(glob.glob(os.path.join(GOLDEN, 'fctrain_*.npz'))),
    ids=lambda path: os.path.basename(path)[len('fctrain_') : -len('.npz')],
)
@pytest.mark.claim('updates')
def test_three_updates_are_those_of_the_original(path, record_property):
    golden, exp = np.load(path), golden_experiment(path)
    start = {
        v.op.name: golden_start(v)
        for v in exp.variables
        if exp.roles[v.op.name] in (Role.FORWARD, Role.BACKWARD, Role.BIAS)
    }
    history, scalars = tiny.train(exp, 3, start)
    wanted = {
        name[len('after/') :]: golden[name] for name in golden.files if name.startswith('after/')
    }
    assert set(history[-1]) == set(wanted) and history[-1]['global_step'] == 3
    losses = [
        [step[name + '_loss'] for name in ('model', 'reg', 'alignment', 'total')]
        for step in scalars
    ]
    errors = {name: off(history[-1][name], wanted[name]) for name in wanted if np.any(wanted[name])}
    errors['losses'] = np.max(
        np.abs(np.array(losses) / golden['losses_per_step[model,reg,align,total]'] - 1)
    )
    record_property('references', len(errors))
    record_property('error', float(np.max(list(errors.values()))))
    assert {name: error for name, error in errors.items() if not error <= TOLERANCE} == {}
    assert [name for name in wanted if not np.any(wanted[name]) and np.any(history[-1][name])] == []


def test_all_the_trainings_of_the_original_are_here():
    assert len(glob.glob(os.path.join(GOLDEN, 'fctrain_*.npz'))) == 5


# --- parts of a batch -----------------------------------------------------------------------------

CLIPPED = dict(optimizer='momentum', learning_rate=0.5, grad_clip=True, grad_clipping_value=0.05)
TWO = dict(CLIPPED, alignment_optimizer='adam', alignment_learning_rate=0.1)


def assert_parts_train_like_the_whole(parts, **settings):
    """Checks for the same variables after three steps, and the same losses in each step."""
    history, scalars = tiny.reference(3, **settings)
    in_parts = tiny.trainer(minibatch_size=12 // parts, **settings)
    other_history, other_scalars = tiny.train(in_parts, 3)
    assert tiny.moved(history[0], history[3])
    for name in history[3]:
        if np.any(history[3][name]):
            assert off(other_history[3][name], history[3][name]) <= 1e-5, name
    for step, other_step in zip(scalars, other_scalars):
        np.testing.assert_allclose(
            [other_step[name] for name in sorted(step)], [step[name] for name in sorted(step)], 1e-5
        )


@pytest.mark.slow
@pytest.mark.parametrize('rule', [None] + sorted(RULES))
def test_two_parts_of_a_batch_update_like_the_whole(rule):
    """`make test` runs this mechanism with every rule; other mechanisms use kinds.rules()."""
    settings = dict(TWO if rule in WITH_LOSS else CLIPPED, alignment=rule)
    assert_parts_train_like_the_whole(2, **settings)


@pytest.mark.nightly
@pytest.mark.parametrize('rule', [None] + sorted(RULES))
def test_four_parts_of_a_batch_update_like_the_whole(rule):
    settings = dict(TWO if rule in WITH_LOSS else CLIPPED, alignment=rule)
    assert_parts_train_like_the_whole(4, **settings)


@pytest.mark.slow
def test_parts_of_a_batch_with_one_optimizer():
    assert_parts_train_like_the_whole(4, alignment='information', learning_rate=0.5)


# --- gradients first, then the update -------------------------------------------------------------


def apart(both):
    """Returns a symmetric experiment with two optimisers, at the given task and alignment rates."""
    return tiny.trainer(
        alignment='symmetric',
        alpha=0.5,
        beta=1.0,
        learning_rate=both[0],
        alignment_optimizer='gd',
        alignment_learning_rate=both[1],
    )


def test_every_gradient_is_that_of_the_variables_before_the_step():
    (start, both), _ = tiny.train(apart((0.7, 0.3)))
    (_, task), _ = tiny.train(apart((0.7, 0.0)), start=start)
    (_, alignment), _ = tiny.train(apart((0.0, 0.3)), start=start)
    (_, task_then), _ = tiny.train(apart((0.7, 0.0)), start=alignment)
    (_, alignment_then), _ = tiny.train(apart((0.0, 0.3)), start=task)
    kernels = tiny.named(both, 'backward_kernel')
    for name in set(both) - {'global_step'}:
        alone, later = (alignment, alignment_then) if name in kernels else (task, task_then)
        np.testing.assert_array_equal(both[name], alone[name])
        if name not in (
            'dense_output/forward_kernel',
            'dense_output/bias',
        ):  # their gradients do not pass through a backward kernel
            assert (
                off(later[name], both[name]) > 1e-3
            )  # updates that were done one after the other would show


@pytest.mark.slow
def test_the_numbers_of_a_step_do_not_depend_on_chance():
    exp = tiny.trainer(
        alignment='symmetric',
        alpha=0.5,
        beta=1.0,
        optimizer='momentum',
        learning_rate=0.7,
        alignment_optimizer='adam',
        alignment_learning_rate=0.3,
    )
    first, scalars = tiny.train(exp, 3)
    for _ in range(4):
        history, others = tiny.train(exp, 3)
        assert [tiny.moved(a, b) for a, b in zip(first, history)] == [set()] * 4
        assert others == scalars
    assert np.isfinite(list(scalars[-1].values())).all()


# --- noise ----------------------------------------------------------------------------------------

NOISE = dict(noisy_opt_distribution='normal', noisy_opt_variance=4.0)


def noise_of(start, **settings):
    """Returns the noise that one step adds: {name: array} for the variables that get some."""
    _, noisy = tiny.train(tiny.trainer(**dict(settings, **NOISE)), start=start)[0]
    settings = {name: value for name, value in settings.items() if not name.startswith('use_noisy')}
    _, calm = tiny.train(tiny.trainer(**settings), start=start)[0]
    return {name: noisy[name].astype(np.float64) - calm[name] for name in tiny.moved(calm, noisy)}


@pytest.mark.slow
def test_noise_of_kolen_pollack_moves_backward_kernels_only():
    settings = dict(alignment='kolen_pollack', learning_rate=0.5, layers_list=(7, 5))
    start = tiny.train(tiny.trainer(**settings), 0)[0][0]
    noise = noise_of(start, use_noisy_global_opt=True, **settings)
    assert set(noise) == tiny.named(start, 'backward_kernel')
    drawn = np.concatenate([value.ravel() for value in noise.values()]) / (0.5 * 2.0)
    assert 0.85 < drawn.std() < 1.15 and abs(drawn.mean()) < 0.2  # for 225 standard normal numbers
    assert len(np.unique(drawn.round(4))) > 200


@pytest.mark.slow
def test_each_optimizer_has_noise_of_its_own():
    settings = dict(
        alignment='symmetric',
        learning_rate=0.5,
        alignment_optimizer='gd',
        alignment_learning_rate=0.5,
    )
    start = tiny.train(tiny.trainer(**settings), 0)[0][0]
    everywhere = noise_of(start, use_noisy_global_opt=True, **settings)
    backward = noise_of(start, use_noisy_alignment_opt=True, **settings)
    assert set(everywhere) == set(start) - {'global_step'}
    assert set(backward) == tiny.named(start, 'backward_kernel')
    for name in backward:
        assert abs(np.corrcoef(everywhere[name].ravel(), backward[name].ravel())[0, 1]) < 0.6


# --- when each loss counts ------------------------------------------------------------------------


def movers(exp, steps):
    """Returns the endings of the names of the variables that change, for each step."""
    history, _ = tiny.train(exp, steps)
    return [
        sorted({name.rpartition('/')[2] for name in tiny.moved(a, b)})
        for a, b in zip(history, history[1:])
    ]


TASK, ALIGNMENT = ['bias', 'forward_kernel'], ['backward_kernel']


@pytest.mark.parametrize(
    'second', [{}, dict(alignment_optimizer='gd', alignment_learning_rate=0.5)]
)
def test_while_the_task_is_off_forward_kernels_stand_still(second):
    exp = tiny.trainer(alignment='symmetric', delay_epochs=1.0, learning_rate=0.5, **second)
    assert exp.steps_per_epoch == 3
    assert movers(exp, 5) == [ALIGNMENT] * 3 + [ALIGNMENT + TASK] * 2


@pytest.mark.parametrize(
    'second', [{}, dict(alignment_optimizer='gd', alignment_learning_rate=0.5)]
)
def test_one_alignment_step_then_two_of_the_task(second):
    exp = tiny.trainer(alignment='symmetric', alternate_step_freq=2, learning_rate=0.5, **second)
    assert movers(exp, 7) == [ALIGNMENT, TASK, TASK, ALIGNMENT, TASK, TASK, ALIGNMENT]


def test_tied_kernels_move_with_the_task():
    exp = tiny.trainer(alignment='kolen_pollack', alternate_step_freq=1, learning_rate=0.5)
    assert movers(exp, 3) == [ALIGNMENT, ALIGNMENT + TASK, ALIGNMENT]


def test_feedback_never_moves_a_backward_kernel():
    assert movers(tiny.trainer(alignment='feedback', learning_rate=0.5), 3) == [TASK] * 3


def test_update_forward_lets_the_alignment_move_forward_kernels():
    exp = tiny.trainer(
        alignment='symmetric', update_forward=True, delay_epochs=1.0, learning_rate=0.5
    )
    assert movers(exp, 1) == [['backward_kernel', 'forward_kernel']]


# --- what a step reports --------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    'settings, rates',
    [
        (dict(alignment='mirror', loss_rate=0.25, alignment_rate=3.0), [(0.25, 3.0)] * 4),
        (
            dict(alignment='mirror', alternate_step_freq=2, loss_rate=0.25),
            [(0, 1), (0.25, 0), (0.25, 0), (0, 1)],
        ),
        (
            dict(alignment='mirror', delay_epochs=0.5, alignment_optimizer='gd'),
            [(0, 1), (0, 1), (1, 1), (1, 1)],
        ),
        (dict(), [(1, 0)] * 2),
    ],
    ids=['rates', 'alternating', 'delayed', 'backprop'],
)
def test_the_total_is_what_is_minimised(settings, rates):
    _, scalars = tiny.train(tiny.trainer(learning_rate=0.5, **settings), len(rates))
    names = {'loss', 'model_loss', 'reg_loss', 'alignment_loss', 'total_loss', 'learning_rate'}
    if 'alignment_optimizer' in settings:
        names |= {'alignment_learning_rate', 'learning_rate_0', 'learning_rate_1'}
    for step, (task, alignment) in zip(scalars, rates):
        assert set(step) == names and step['loss'] == step['total_loss']
        total = task * (step['model_loss'] + step['reg_loss']) + alignment * step['alignment_loss']
        np.testing.assert_allclose(step['total_loss'], total, 1e-6)
        assert step['learning_rate'] == 0.5 and step['reg_loss'] > 0
        assert (step['alignment_loss'] != 0) == ('alignment' in settings)


def test_losses_are_those_of_the_variables_before_the_update():
    exp = tiny.trainer(dataset='fc', train_batch_size=8, learning_rate=0.5)
    history, scalars = tiny.train(exp, 2)
    for before, step in zip(history, scalars):
        loss = tiny.cross_entropy(
            tiny.logits(before, exp.dataset.images[:8]), exp.dataset.labels[:8]
        ).mean()
        squares = sum(
            np.sum(before[name].astype(np.float64) ** 2)
            for name in tiny.named(before, 'forward_kernel')
        )
        np.testing.assert_allclose(
            [step['model_loss'], step['reg_loss']], [loss, 1e-6 * squares / 2], 1e-5
        )
    assert scalars[1]['model_loss'] < scalars[0]['model_loss']


def before(operation):
    """Returns every operation that TensorFlow runs before this one."""
    found, todo = set(), [operation]
    while todo:
        here = todo.pop()
        for other in [tensor.op for tensor in here.inputs] + list(here.control_inputs):
            if other not in found:
                found.add(other)
                todo.append(other)
    return found


def variable(tensor):
    """Returns the name of the variable that a handle belongs to. '' for any other tensor."""
    operation = tensor.op
    while operation.type in ('Enter', 'Switch'):
        operation = operation.inputs[0].op
    return operation.name if operation.type == 'VarHandleOp' else ''


NOISY = dict(NOISE, use_noisy_global_opt=True)
CONVOLUTIONS = dict(model='small', layers_list=())  # with batch norm


@pytest.mark.parametrize(
    'settings',
    [
        dict(CONVOLUTIONS, **NOISY),
        dict(alignment='symmetric', alignment_optimizer='adam', **NOISY),
        dict(CONVOLUTIONS, alignment='information', precision='float16', optimizer='momentum'),
        dict(alignment='kolen_pollack', minibatch_size=4, grad_clip=True),
    ],
    ids=lambda settings: settings.get('alignment', 'backprop'),
)
def test_a_step_reads_no_variable_while_it_is_written(settings):
    """Two operations without a dependency may run in another order at the next step."""
    exp = tiny.trainer(**settings)
    last = [exp.step.train_op, *(tensor.op for tensor in exp.step.scalars.values())]
    step = {operation for each in last for operation in before(each) | {each}}
    uses = {}
    for operation in step:
        for name in set(map(variable, operation.inputs)) - {''}:
            if operation.type not in ('Enter', 'Switch'):
                uses.setdefault(name, []).append(operation)
    earlier = {
        operation: before(operation) for operations in uses.values() for operation in operations
    }
    written = 0
    for name, operations in uses.items():
        writes = [each for each in operations if each.type.startswith(('Assign', 'ResourceApply'))]
        written += bool(writes)
        for write in writes:
            assert [
                (name, each.name, write.name)
                for each in operations
                if each is not write and each not in earlier[write] and write not in earlier[each]
            ] == []
    assert written > len(exp.variables) / 2


# --- seeds ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_seed_settles_every_number():
    def first_steps(seed):
        settings = tiny.config(
            alignment='mirror', input_distribution='normal', learning_rate=0.5, seed=seed
        )
        return tiny.train(Experiment(settings, devices.choose(settings), validating=False), 3)

    (one, scalars), (same, same_scalars), (other, other_scalars) = [
        first_steps(seed) for seed in (3, 3, 4)
    ]
    assert [tiny.moved(a, b) for a, b in zip(one, same)] == [set()] * 4 and scalars == same_scalars
    assert tiny.moved(one[0], other[0]) == tiny.named(one[0], 'kernel')
    assert all(a['model_loss'] != b['model_loss'] for a, b in zip(scalars, other_scalars))


def test_forward_and_backward_kernels_start_apart():
    start = tiny.train(
        tiny.trainer(alignment='feedback', layers_list=(20, 20), learning_rate=0.5), 0
    )[0][0]
    forward, backward = [
        start[f'dense1/{which}_kernel'].ravel() for which in ('forward', 'backward')
    ]
    assert (
        abs(np.corrcoef(forward, backward)[0, 1]) < 0.25
        and 0.8 < forward.std() / backward.std() < 1.25
    )


@pytest.mark.slow
def test_a_resumed_run_goes_on_as_if_it_had_never_stopped():
    settings = dict(alignment='symmetric', optimizer='adam', learning_rate=0.1)
    whole, scalars = tiny.train(tiny.trainer(**settings), 5)
    rest, rest_scalars = tiny.train(tiny.trainer(first_step=2, **settings), 3, start=whole[2])
    assert [tiny.moved(a, b) for a, b in zip(whole[2:], rest)] == [set()] * 4
    assert rest_scalars == scalars[2:] and rest[-1]['global_step'] == 5


# --- the graph, and its description in a record ---------------------------------------------------


def test_every_variable_has_a_role():
    exp = tiny.experiment(alignment='symmetric', **TWO)
    assert set(exp.roles) == {v.op.name for v in exp.variables}
    assert {exp.roles[name] for name in tiny.named(exp.roles, 'backward_kernel')} == {Role.BACKWARD}
    assert exp.roles['dense0/backward_kernel/Adam_1'] == exp.roles['beta1_power'] == Slot('adam')
    assert (
        exp.roles['dense0/bias/Momentum'] == Slot('momentum')
        and exp.roles['global_step'] is Role.STEP
    )


def test_backprop_has_no_backward_kernel_and_a_validation_no_slots():
    assert not tiny.named(
        tiny.trainer(learning_rate=0.5, dataset='fc', train_batch_size=8).roles, 'backward_kernel'
    )
    exp = tiny.experiment(training=False, alignment='symmetric', **TWO)
    assert exp.step is None and not [role for role in exp.roles.values() if isinstance(role, Slot)]


def test_stock_layers_train_like_backprop():
    history, scalars = tiny.train(
        tiny.trainer(dataset='fc', train_batch_size=8, learning_rate=0.5), 2
    )
    start = {
        name.replace('/forward_kernel', '/dense/kernel').replace('/bias', '/dense/bias'): value
        for name, value in history[0].items()
    }
    other, other_scalars = tiny.train(
        tiny.trainer(tf_layers=True, dataset='fc', train_batch_size=8, learning_rate=0.5), 2, start
    )
    assert set(other[0]) == set(start)
    for name in tiny.named(history[2], 'forward_kernel'):
        assert (
            off(other[2][name.replace('/forward_kernel', '/dense/kernel')], history[2][name]) < 1e-6
        )
    np.testing.assert_allclose(other_scalars[1]['loss'], scalars[1]['loss'], 1e-6)


def test_a_record_tells_what_was_resolved():
    exp = tiny.experiment(
        alignment='information',
        beta=0.25,
        epochs_per_checkpoint=1.5,
        epochs_per_validation=0.75,
        epochs_per_recent_checkpoint=0.1,
        train_epochs=2.5,
        exp_id_suffix='_x',
    )
    settings = exp.settings()
    assert settings['save_params'] == dict(
        collname='fc_5',
        exp_id='information_x',
        do_save=True,
        save_valid_freq=2,
        save_filters_freq=4,
        cache_filters_freq=1,
    )
    model = settings['model_params']
    assert (model['alpha'], model['beta'], model['gamma']) == (2e-3, 0.25, 1e-3)
    assert model['func'].__name__ == 'build' and (model['num_classes'], model['image_shape']) == (
        10,
        (4, 5, 1),
    )
    assert settings['train_params'] == dict(
        num_steps=7, steps_per_epoch=3, train_images=36, data_params={'batch_size': 12}
    )
    assert settings['validation_params']['topn_val'] == dict(
        num_steps=3, validation_images=13, split='test', data_params={'batch_size': 5}
    )


def test_a_record_of_backprop_has_no_coefficients():
    settings = tiny.experiment(learning_rate=0.5, dataset='fc', train_batch_size=8).settings()
    assert {'alpha', 'beta', 'gamma'}.isdisjoint(settings['model_params'])
    assert (
        settings['save_params']['exp_id'] == 'None'
        and settings['save_params']['cache_filters_freq'] is None
    )


# --- settings that cannot have an effect ----------------------------------------------------------

NO_RULE_LOSS = (None, *[name for name, rule in RULES.items() if not rule.sees])
NO_LOSS = [
    dict(alignment_optimizer='adam'),
    dict(alignment_rate=2.0),
    dict(alternate_step_freq=3),
    dict(save_alignment_coefficients=True),
]
SEEN_BY_ALL = (
    'input_distribution',
    'center_input',
    'normalize_input',
    'use_bias_forward',
    'use_bias_backward',
    'activation_forward',
    'activation_backward',
    'batch_center_backward_input',
    'batch_center_forward_output',
    'center_forward_output',
    'normalize_forward_output',
    'center_backward_output',
    'normalize_backward_output',
)


def other(name):
    return 'normal' if name == 'input_distribution' else not name.startswith('use_')


REFUSED = (
    [
        (dict(values, alignment=rule), [next(iter(values)), 'has no alignment loss'])
        for rule in NO_RULE_LOSS
        for values in NO_LOSS
    ]
    + [
        (dict(alignment=rule, **{name: value}), ['--' + name, 'has no ' + name.split('_')[0]])
        for rule, name, value in (
            (None, 'alpha', 1.0),
            ('feedback', 'beta', 1.0),
            ('usf', 'alpha', 1.0),
            ('frsf', 'beta', 1.0),
            ('brsf', 'gamma', 1.0),
            ('symmetric', 'gamma', 1.0),
            ('kolen_pollack', 'beta', 1.0),
            ('pfa', 'beta', 1.0),
            ('dfa', 'alpha', 1.0),
            ('symmetric', 'gamma_start', 0.5),
            ('mirror', 'gamma_stop', 0.5),
            (None, 'alpha_schedule_type', 'linear'),
            ('kolen_pollack', 'gamma_schedule_type', 'exponential'),
        )
    ]
    + [
        (dict(alignment=rule, **{name: True}), ['--' + name, 'has no effect with alignment='])
        for rule in NO_RULE_LOSS + ('symmetric', 'mirror')
        for name in ('reconstruction_reversal', 'reconstruction_amp', 'use_sparse')
    ]
    + [
        (dict(alignment=rule, expansion=3), ['--expansion', 'has no effect with alignment='])
        for rule in (None, 'dfa', 'kolen_pollack')
    ]
    + [
        (dict(alignment=rule, **{name: other(name)}), ['--' + name, 'does not depend on it'])
        for rule in NO_RULE_LOSS + ('symmetric', 'kolen_pollack', 'pfa')
        for name in SEEN_BY_ALL
    ]
    + [(dict(alignment=rule, update_forward=True), ['--update_forward']) for rule in NO_RULE_LOSS]
    + [
        (dict(use_resnet_v2=True), ['--use_resnet_v2 is for ResNets']),
        (dict(bn_trainable=False), ['--bn_trainable']),
        (dict(model='resnet18', layers_list=(7,)), ['--layers_list is for --model=fc', 'resnet18']),
        (dict(model='resnet50', activation='relu'), ['--activation is for --model=fc', 'resnet50']),
        (dict(alignment='feedback', tf_layers=True), ['--tf_layers', '--alignment=none']),
        (dict(alignment='usf', tf_layers=True), ['--tf_layers', '--alignment=none']),
        (dict(preprocessing='plain'), ['--preprocessing is for --dataset=imagenet', 'mnist']),
        (
            dict(alpha=1.0, use_sparse=True, bn_trainable=False),
            ['--alpha', '--use_sparse', '--bn_trainable'],
        ),
    ]
)


@pytest.mark.parametrize(
    'values, words', REFUSED, ids=lambda item: str(item)[:60] if isinstance(item, dict) else ''
)
def test_a_setting_without_effect_is_refused(values, words):
    with pytest.raises(ConfigError) as caught:
        check(Config.of(values, choices()))
    assert [word for word in words if word not in str(caught.value)] == []


@pytest.mark.parametrize(
    'values',
    (
        [dict(values, alignment=rule) for rule in WITH_LOSS for values in NO_LOSS]
        + [
            dict(alignment=rule, **{name: other(name)})
            for rule in ('activation', 'mirror', 'information')
            for name in SEEN_BY_ALL
        ]
        + [dict(alignment=rule, update_forward=True) for rule in WITH_LOSS]
        + [
            dict(
                alignment='information',
                reconstruction_reversal=True,
                reconstruction_amp=True,
                use_sparse=True,
                gamma=1.0,
            ),
            dict(model='resnet18', use_resnet_v2=True, bn_trainable=False),
            dict(tf_layers=True),
            dict(dataset='imagenet', model='resnet18', preprocessing='plain'),
            dict(alignment='feedback', loss_rate=0.5),
        ]
    ),
)
def test_a_setting_with_an_effect_passes(values):
    assert check(Config.of(values, choices())) is None


def test_an_experiment_checks_itself():
    settings = tiny.config(alpha=1.0)
    with pytest.raises(ConfigError, match='--alpha'):
        Experiment(settings, devices.choose(settings))


@pytest.mark.parametrize(
    'settings, preprocessing',
    [
        (dict(dataset='imagenet', model='resnet18'), None),
        (dict(dataset='imagenet', model='resnet18', use_resnet_v2=True), 'inception'),
        (
            dict(dataset='imagenet', model='resnet18', use_resnet_v2=True, preprocessing='plain'),
            'plain',
        ),
        (dict(dataset='cifar10', model='resnet18', use_resnet_v2=True), None),
    ],
)
def test_resnets_of_the_second_version_have_their_preprocessing(settings, preprocessing):
    assert preprocessing_of(Config.of(settings, choices())) == preprocessing
