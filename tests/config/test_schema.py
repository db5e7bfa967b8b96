"""The table of settings: its rows, their defaults, and every way to refuse a value."""

import dataclasses
import re

import pytest

import every
from alignment.rules import declarations
from config import schema
from config.schema import GROUPS, Config, ConfigError, Scope, whole_steps

RULES = {'alignment': declarations()}
ROWS = schema.rows_of(RULES)

GROUP_NAMES = (
    'save_params',
    'load_params',
    'model_params',
    'train_params',
    'loss_params',
    'learning_rate_params',
    'optimizer_params',
    'validation_params',
)

# Every flag of the original with its default, in the groups of ORIGINAL.md, section 2.
ORIGINAL = dict(
    # TPU (iterations_per_loop was 100 and had an effect only on a TPU; here it applies to every
    # device, and is 100 on a TPU)
    # device, and 100 on a TPU)
    gcp_project=None,
    tpu_zone=None,
    tpu_name=None,
    num_shards=8,
    iterations_per_loop=None,
    checkpoint_max=5,
    # places
    data_dir=None,
    cache_dir=None,
    gpu='0',
    port=29029,
    dbname='neur-al',
    exp_id_suffix='',
    skip_check=True,
    # restore
    do_restore=False,
    load_step=None,
    load_port=None,
    load_dbname=None,
    load_collname=None,
    load_exp_id=None,
    load_checkpoint=None,
    load_db=False,
    val_exp_id=None,
    # run
    train_epochs=90,
    train_batch_size=256,
    minibatch_size=None,
    eval_batch_size=1024,
    epochs_per_checkpoint=2,
    validate_first=True,
    save_to_gfs=(),
    # optimiser
    optimizer='gd',
    alignment_optimizer=None,
    grad_clip=False,
    grad_clipping_value=1.0,
    grad_clipping_method='norm',
    # noise on updates
    use_noisy_global_opt=False,
    use_noisy_alignment_opt=False,
    noisy_global_opt_distribution=None,
    noisy_alignment_opt_distribution=None,
    noisy_opt_distribution=None,
    noisy_global_opt_variance=1.0,
    noisy_alignment_opt_variance=1.0,
    noisy_opt_variance=1.0,
    # learning rate
    learning_rate=0.001,
    alignment_learning_rate=0.001,
    base_batch_size=256,
    rescale_lr=False,
    alignment_rescale_lr=False,
    constant_lr=True,
    alignment_constant_lr=True,
    warmup_epochs=5,
    alignment_warmup_epochs=5,
    manual_lr=False,
    alignment_manual_lr=False,
    drop=0,
    alignment_drop=None,
    boundary_step=None,
    alignment_boundary_step=None,
    # data
    dataset='mnist',
    image_size=None,
    # model
    model='fc',
    use_resnet_v2=False,
    tf_layers=False,
    layers_list=(),
    activation='sigmoid',
    regularize_weights_via_model=True,
    bn_trainable=True,
    # alignment
    alignment=None,
    save_alignment_coefficients=False,
    alpha=None,
    beta=None,
    gamma=None,
    alpha_start=0.0,
    beta_start=0.0,
    gamma_start=0.0,
    alpha_stop=1.0,
    beta_stop=1.0,
    gamma_stop=1.0,
    alpha_cycle=None,
    beta_cycle=None,
    gamma_cycle=None,
    alpha_schedule_rate=0.0,
    beta_schedule_rate=0.0,
    gamma_schedule_rate=0.0,
    alpha_schedule_type=None,
    beta_schedule_type=None,
    gamma_schedule_type=None,
    # information
    reconstruction_reversal=False,
    reconstruction_amp=False,
    use_sparse=False,
    # input of the rule
    update_forward=False,
    input_distribution=None,
    input_stddev=1.0,
    use_bias_forward=True,
    use_bias_backward=True,
    activation_fn_override=None,
    activation_forward=False,
    activation_backward=False,
    batch_center_backward_input=False,
    center_input=False,
    normalize_input=False,
    batch_center_forward_output=False,
    center_forward_output=False,
    normalize_forward_output=False,
    center_backward_output=False,
    normalize_backward_output=False,
    # loss mixing
    loss_rate=1.0,
    alignment_rate=1.0,
    delay_epochs=None,
    alternate_step_freq=None,
    constant_rate=True,
)

# The flags that still have an effect with --load_params_file, from ORIGINAL.md, section 1.
ALWAYS = (
    'data_dir',
    'gpu',
    'dbname',
    'port',
    'exp_id_suffix',
    'cache_dir',
    'model',
    'use_resnet_v2',
    'image_size',
    'gcp_project',
    'tpu_zone',
    'tpu_name',
    'num_shards',
    'iterations_per_loop',
    'cpu_devices',
    'sync_batch_norm',
    'worker_hosts',
    'task_index',
    'skip_bad_records',
    'seed',
    'dataset',
    'train_batch_size',
    'eval_batch_size',
    'precision',
    'xla',
    'do_restore',
    'dry_run',
    'val_exp_id',
    'validation_split',
    'split',
)


def refusal(values, choices=None):
    """Returns the message with which values are refused."""
    with pytest.raises(ConfigError) as caught:
        Config.of(values, choices or RULES)
    return str(caught.value)


@every.case_of(sorted(ORIGINAL))
def test_every_flag_of_the_original_exists_with_its_default(name):
    assert name in ROWS
    assert ROWS[name].default == ORIGINAL[name]
    assert Config.of({}, RULES)[name] == ORIGINAL[name]
    assert isinstance(ROWS[name].default, bool) == isinstance(
        ORIGINAL[name], bool
    )  # because False == 0


def test_groups_are_those_of_tfutils():
    assert tuple(GROUPS) == GROUP_NAMES
    assert sum(len(rows) for rows in GROUPS.values()) == len(schema.ROWS)  # no name occurs twice


@every.case_of(ROWS)
def test_a_row_is_documented_and_grouped(name):
    row = ROWS[name]
    assert row.group in GROUP_NAMES
    assert row.help.strip() and 'TODO' not in row.help and '  ' not in row.help
    assert row.kind in (str, int, float, bool, list)
    assert row.default is None or isinstance(row.default, tuple if row.kind is list else row.kind)
    assert all(need.lstrip('!') in ROWS for need in row.needs)


def test_what_counts_beside_a_loaded_file():
    assert [name for name in ALWAYS if not ROWS[name].always] == []
    fixed = (
        'alignment',
        'optimizer',
        'learning_rate',
        'layers_list',
        'alpha',
        'preprocessing',
        'train_epochs',
    )
    assert [name for name in fixed if ROWS[name].always] == []
    assert [
        name
        for name, row in ROWS.items()
        if row.scope in (Scope.PLACE, Scope.CALL) and not row.always
    ] == []


# Some settings of each Scope. This lists what a setting decides for those settings for which a
# mistake would do most harm.
# would hurt most.
SCOPES = {
    Scope.MEANING: (
        'model',
        'use_resnet_v2',
        'layers_list',
        'activation',
        'alignment',
        'update_forward',
        'input_distribution',
        'use_sparse',
        'expansion',
        'dataset',
        'preprocessing',
        'validation_split',
        'image_size',
        'precision',
        'tf_layers',
    ),
    Scope.TRAINING: (
        'learning_rate',
        'alpha',
        'beta_schedule_type',
        'train_batch_size',
        'minibatch_size',
        'train_epochs',
        'optimizer',
        'delay_epochs',
        'seed',
        'epochs_per_checkpoint',
        'epochs_per_validation',
        'xla',
    ),
    Scope.PLACE: ('host', 'port', 'dbname', 'exp_id_suffix', 'cache_dir', 'data_dir'),
    Scope.CALL: (
        'gpu',
        'cpu_devices',
        'worker_hosts',
        'task_index',
        'tpu_name',
        'dry_run',
        'do_restore',
        'load_step',
        'load_query',
        'load_db',
        'load_exp_id',
        'load_checkpoint',
        'val_exp_id',
        'split',
        'reset_step',
        'override',
    ),
}


@every.case_of(ROWS)
def test_a_row_has_a_scope(name):
    assert isinstance(ROWS[name].scope, Scope)


def test_what_settings_decide():
    assert {name: ROWS[name].scope for names in SCOPES.values() for name in names} == {
        name: scope for scope, names in SCOPES.items() for name in names
    }


@pytest.mark.parametrize(
    'values, meaning, settings',
    [
        ({}, '44136fa355b3678a', '44136fa355b3678a'),
        (
            dict(
                alignment='symmetric',
                activation='tanh',
                layers_list=(7, 5),
                learning_rate=0.05,
                optimizer='momentum',
                seed=3,
                port=4,
                train_epochs=3,
            ),
            '22eeca58452b1b1d',
            '9629cbd729d98d3f',
        ),
        (
            dict(
                model='resnet18',
                dataset='imagenet',
                alignment='mirror',
                input_distribution='normal',
                alpha=1e-5,
                train_batch_size=128,
                rescale_lr=True,
            ),
            'c3339ff0bedf1bdb',
            '53fdecb94c5a8ef9',
        ),
    ],
)
def test_digests_stay_as_they_are_stored(values, meaning, settings):
    """Claims, records and descriptions of checkpoints contain the digests of settings.

    They must never change for the same settings.
    """
    assert Config.of(values, RULES).digests() == (meaning, settings)


def test_digests_tell_what_they_are_of():
    digests = Config.of(dict(alignment='mirror'), RULES).digests()
    for values, (meaning, settings) in [
        (dict(seed=1, port=3, dbname='x', gpu='1', do_restore=True), (True, True)),
        (dict(alpha=0.5), (True, False)),
        (dict(train_epochs=89), (True, False)),
        (dict(train_epochs=90), (True, True)),
        (dict(activation='relu'), (False, False)),
        (dict(image_size=28), (False, False)),
    ]:
        other = Config.of(dict(values, alignment='mirror'), RULES).digests()
        assert (other.meaning == digests.meaning, other.settings == digests.settings) == (
            meaning,
            settings,
        ), values


@pytest.mark.parametrize(
    'names, sentence',
    [
        (('alfa',), "--override: there is no setting 'alfa'"),
        ((3,), '--override: there is no setting 3'),
        (('alpha', 'port'), '--override=port has no effect: this flag always counts'),
    ],
)
def test_what_override_cannot_name(names, sentence):
    assert sentence in refusal(dict(override=names))


@pytest.mark.parametrize(
    'epochs, steps_per_epoch, steps',
    [
        (0.29, 100, 29),
        (8.2, 100, 820),
        (0.3, 10, 3),
        (1.1, 10, 11),
        (0.295, 100, 29),
        (0.999, 10, 9),
        (90, 5004, 450360),
        (0, 7, 0),
        (1 / 3, 3, 1),
        (2.5, 3, 7),
    ],
)
def test_epochs_become_whole_steps(epochs, steps_per_epoch, steps):
    assert whole_steps(epochs, steps_per_epoch) == steps


def test_absl_gets_exactly_these_flags(command_line, choices):
    answer = command_line()
    assert answer['flags'] == sorted(list(ROWS) + ['load_params_file', 'save_params_file'])
    assert answer['given'] == answer['differing'] == {} and answer['ignored'] == []
    assert [name for name, text in answer['help'].items() if not text.strip()] == []
    for rule in choices['alignment']:
        assert rule in answer['help']['alignment']


def test_every_registry_that_a_row_names_is_there(choices):
    named = {row.choices for row in ROWS.values() if isinstance(row.choices, str)}
    assert named <= set(choices)
    assert all(choices[name] for name in named)


WRONG_TYPES = [
    ('train_batch_size', 1.5),
    ('train_batch_size', '8'),
    ('train_batch_size', True),
    ('port', 29029.0),
    ('learning_rate', '0.1'),
    ('learning_rate', True),
    ('alpha', [1.0]),
    ('alpha', {}),
    ('dbname', 3),
    ('gpu', 0),
    ('dbname', b'x'),
    ('grad_clip', 1),
    ('grad_clip', 'yes'),
    ('layers_list', '32,16'),
    ('layers_list', 32),
    ('save_to_gfs', {'a': 1}),
    ('learning_rate', None),
    ('port', None),
    ('grad_clip', None),
    ('layers_list', None),
    ('learning_rate', 1j),
    ('image_size', 28.0),
    ('alignment', 0),
]


@pytest.mark.parametrize('name, value', WRONG_TYPES)
def test_a_wrong_type_is_refused_by_name(name, value):
    assert f'--{name} ' in refusal({name: value})


def test_a_whole_number_serves_as_a_float():
    assert Config.of(dict(train_epochs=3), {}).train_epochs == 3


@pytest.mark.parametrize('name', sorted(name for name, row in ROWS.items() if row.kind is float))
def test_no_number_is_refused_by_name(name):
    assert f'--{name} must be a finite number' in refusal({name: float('nan')})


BOUNDS = [  # (name, the last legal value, the first illegal one)
    ('port', 1, 0),
    ('load_port', 1, 0),
    ('checkpoint_max', 1, 0),
    ('epochs_per_checkpoint', 1e-6, 0.0),
    ('epochs_per_recent_checkpoint', 1e-6, 0.0),
    ('load_step', 0, -1),
    ('cpu_devices', 1, 0),
    ('image_size', 1, 0),
    ('iterations_per_loop', 1, 0),
    ('train_epochs', 0.0, -0.5),
    ('train_batch_size', 1, 0),
    ('minibatch_size', 1, 0),
    ('eval_batch_size', 1, 0),
    ('measure_images', 1, 0),
    ('validation_split', 0, -1),
    ('seed', 0, -1),
    ('delay_epochs', 1e-6, 0.0),
    ('alternate_step_freq', 1, 0),
    ('learning_rate', 0.0, -1e-9),
    ('alpha_start', 0.0, -0.1),
    ('beta_stop', 0.0, -0.1),
]


@pytest.mark.parametrize('name, legal, illegal', BOUNDS)
def test_bounds(name, legal, illegal):
    assert Config.of({name: legal}, RULES)[name] == legal
    assert f'--{name} must be ' in refusal({name: illegal})


@pytest.mark.parametrize('cores, legal', [(0, False), (1, True), (8, True), (9, False)])
def test_a_tpu_has_up_to_eight_cores(cores, legal):
    values = dict(tpu_name='mine', num_shards=cores)
    assert (
        Config.of(values, {}).num_shards == cores
        if legal
        else '--num_shards must be at ' in refusal(values)
    )


@pytest.mark.parametrize(
    'name, needs, illegal',
    [
        ('input_stddev', dict(input_distribution='normal'), 0.0),
        ('grad_clipping_value', dict(grad_clip=True), 0.0),
        ('alpha_cycle', dict(alpha_schedule_type='linear'), 0.0),
        ('drop', dict(manual_lr=True), -1),
        (
            'noisy_opt_variance',
            dict(use_noisy_global_opt=True, noisy_opt_distribution='normal'),
            -0.5,
        ),
        ('base_batch_size', dict(rescale_lr=True), 0),
        ('warmup_epochs', dict(constant_lr=False), -1.0),
    ],
)
def test_bounds_of_what_needs_another(name, needs, illegal):
    assert f'--{name} must be ' in refusal(dict(needs, **{name: illegal}))


CHOICES = [
    'model',
    'alignment',
    'dataset',
    'optimizer',
    'alignment_optimizer',
    'alpha_schedule_type',
    'beta_schedule_type',
    'gamma_schedule_type',
    'activation',
    'activation_fn_override',
    'preprocessing',
    'input_distribution',
    'grad_clipping_method',
    'noisy_opt_distribution',
    'noisy_global_opt_distribution',
    'noisy_alignment_opt_distribution',
]


@pytest.mark.parametrize('name', CHOICES)
def test_a_value_out_of_the_registry_is_refused_with_those_in_it(name, choices):
    message = refusal({name: 'nonsense'}, choices)
    assert f'--{name} must be one of ' in message and "'nonsense'" in message
    assert all(legal in message for legal in choices[ROWS[name].choices])


def test_the_registries_that_the_original_names(choices):
    assert set(choices['optimizer']) == {
        'gd',
        'momentum',
        'adagrad',
        'rmsprop',
        'adam',
        'radam',
        'swats',
        'swrats',
    }
    originals = {'feedback', 'symmetric', 'activation', 'mirror', 'information', 'kolen_pollack'}
    assert originals | {'usf', 'frsf', 'brsf', 'pfa', 'dfa'} <= set(choices['alignment'])
    assert set(choices['schedule']) == {'linear', 'exponential', 'cyclic'}
    assert set(choices['distribution']) == set(choices['noise']) == {'uniform', 'normal'}
    assert set(choices['clipping']) == {'norm', 'value'}
    assert {'fc'} | {f'resnet{depth}' for depth in (18, 34, 50, 101, 152, 200)} <= set(
        choices['model']
    )


CYCLIC = [
    (name + suffix, value, [{name + '_schedule_type': 'linear'}])
    for name in ('alpha', 'beta', 'gamma')
    for suffix, value in (('_cycle', 3.0), ('_schedule_rate', 0.5))
]
SECOND = dict(alignment_optimizer='adam')
BY_HAND = [dict(manual_lr=True), dict(SECOND, alignment_manual_lr=True)]
GLOBAL = dict(use_noisy_global_opt=True, noisy_opt_distribution='normal')
LOCAL = dict(SECOND, use_noisy_alignment_opt=True, noisy_opt_distribution='normal')
NEEDS = CYCLIC + [  # (name, a value, the settings with each of which it has an effect)
    ('tpu_zone', 'z', [dict(tpu_name='mine')]),
    ('gcp_project', 'p', [dict(tpu_name='mine')]),
    ('num_shards', 4, [dict(tpu_name='mine')]),
    ('task_index', 1, [dict(worker_hosts=('a:1', 'b:1'))]),
    ('alignment_learning_rate', 0.5, [SECOND]),
    ('alignment_rescale_lr', True, [SECOND]),
    ('alignment_constant_lr', False, [SECOND]),
    ('alignment_manual_lr', True, [SECOND]),
    ('alignment_drop_epochs', (50, 75), [SECOND]),
    ('warmup_epochs', 2.0, [dict(constant_lr=False), dict(manual_lr=True)]),
    (
        'alignment_warmup_epochs',
        2.0,
        [dict(SECOND, alignment_constant_lr=False), dict(SECOND, alignment_manual_lr=True)],
    ),
    ('base_batch_size', 32, [dict(rescale_lr=True), dict(SECOND, alignment_rescale_lr=True)]),
    ('drop', 1, [dict(values, boundary_step=7) for values in BY_HAND]),
    ('boundary_step', 7, BY_HAND),
    ('alignment_drop', 1, [dict(SECOND, alignment_manual_lr=True, boundary_step=7)]),
    ('alignment_boundary_step', 7, [dict(SECOND, alignment_manual_lr=True)]),
    ('grad_clipping_value', 2.0, [dict(grad_clip=True)]),
    ('grad_clipping_method', 'value', [dict(grad_clip=True)]),
    ('noisy_global_opt_distribution', 'uniform', [dict(use_noisy_global_opt=True)]),
    ('noisy_alignment_opt_distribution', 'uniform', [dict(SECOND, use_noisy_alignment_opt=True)]),
    (
        'noisy_opt_distribution',
        'uniform',
        [dict(use_noisy_global_opt=True), dict(SECOND, use_noisy_alignment_opt=True)],
    ),
    ('noisy_global_opt_variance', 2.0, [GLOBAL]),
    ('noisy_alignment_opt_variance', 2.0, [LOCAL]),
    ('noisy_opt_variance', 2.0, [GLOBAL, LOCAL]),
    ('input_stddev', 2.0, [dict(input_distribution='normal')]),
    (
        'activation_fn_override',
        'relu',
        [dict(activation_forward=True), dict(activation_backward=True)],
    ),
    ('reset_step', True, [dict(load_db=True), dict(load_checkpoint='x')]),
]


def test_the_table_of_needs_is_whole():
    assert sorted(name for name, _, _ in NEEDS) == sorted(
        name for name, row in ROWS.items() if row.needs
    )


@pytest.mark.parametrize('name, value, needs', NEEDS, ids=[name for name, _, _ in NEEDS])
def test_a_setting_without_effect_is_refused(name, value, needs):
    assert f'--{name} has no effect without --' in refusal({name: value})
    for values in needs:
        assert Config.of(dict(values, **{name: value}), RULES)[name] == value


@pytest.mark.parametrize(
    'values, sentence',
    [
        (
            dict(train_batch_size=13, minibatch_size=5),
            '--train_batch_size=13 is not a multiple of --minibatch_size=5',
        ),
        (
            dict(train_batch_size=5, minibatch_size=13),
            '--train_batch_size=5 is not a multiple of --minibatch_size=13',
        ),
        (dict(manual_lr=True, drop=2), '--manual_lr with --drop=2 needs --boundary_step'),
        (
            dict(SECOND, alignment_manual_lr=True, alignment_drop=1),
            '--alignment_manual_lr with --alignment_drop=1 needs --alignment_boundary_step',
        ),
        (
            dict(SECOND, alignment_manual_lr=True, drop=3),
            '--alignment_manual_lr with --alignment_drop=3 needs --alignment_boundary_step',
        ),
        (
            dict(use_noisy_global_opt=True),
            '--use_noisy_global_opt needs --noisy_global_opt_distribution (uniform or normal)',
        ),
        (
            dict(SECOND, use_noisy_alignment_opt=True),
            '--use_noisy_alignment_opt needs --noisy_alignment_opt_distribution',
        ),
        (
            dict(use_noisy_alignment_opt=True, noisy_opt_distribution='normal'),
            '--use_noisy_alignment_opt needs --alignment_optimizer',
        ),
        (
            dict(drop_epochs=(50, 75), constant_lr=False),
            '--drop_epochs=50,75 and --noconstant_lr, which drops at epochs 30, 60 and 80, cannot '
            'be combined',
        ),
        (
            dict(drop_epochs=(5,), manual_lr=True),
            '--drop_epochs=5 and --manual_lr, which drops by hand, cannot be combined',
        ),
        (
            dict(SECOND, alignment_drop_epochs=(5,), alignment_manual_lr=True),
            '--alignment_drop_epochs=5 and --alignment_manual_lr, which',
        ),
        (
            dict(drop_epochs=(75, 50)),
            '--drop_epochs=75,50 must be in ascending order, each epoch once',
        ),
        (
            dict(drop_epochs=(50, 50)),
            '--drop_epochs=50,50 must be in ascending order, each epoch once',
        ),
        (dict(drop_epochs=(0, 5)), '--drop_epochs must be a comma list of positive whole numbers'),
        (dict(drop_epochs=(2.5,)), '--drop_epochs must be a comma list of positive whole numbers'),
        (dict(drop_epochs=(10**400,)), '--drop_epochs must be a comma list of positive whole'),
        (
            dict(drop_epochs=(5,), warmup_epochs=2.0),
            '--warmup_epochs has no effect without --noconstant_lr or --manual_lr',
        ),
        (dict(nesterov=False), '--nonesterov has no effect without --optimizer=momentum'),
        (
            dict(weight_decay=1e-3, regularize_weights_via_model=False),
            '--noregularize_weights_via_model has no effect with --weight_decay',
        ),
        (dict(weight_decay=-1e-3), '--weight_decay must be at least 0.0'),
        (dict(freeze=(3,)), '--freeze must be a comma list of names'),
        (dict(freeze=('',)), '--freeze must be a comma list of names'),
        (dict(alpha_start=0.75, alpha_stop=0.5), '--alpha_start=0.75 is after --alpha_stop=0.5'),
        (dict(gamma_start=1.5), '--gamma_start=1.5 is after --gamma_stop=1.0'),
        (
            dict(beta_schedule_type='cyclic'),
            '--beta_schedule_type=cyclic needs --beta_cycle (epochs)',
        ),
        (dict(layers_list=[32, 0]), '--layers_list must be a comma list of positive whole numbers'),
        (
            dict(layers_list=[32, -7]),
            '--layers_list must be a comma list of positive whole numbers',
        ),
        (
            dict(layers_list=[32, 1.5]),
            '--layers_list must be a comma list of positive whole numbers',
        ),
        (dict(layers_list=['32']), '--layers_list must be a comma list of positive whole numbers'),
    ],
)
def test_values_that_contradict_each_other(values, sentence):
    assert sentence in refusal(values)


@pytest.mark.parametrize(
    'values',
    [
        dict(train_batch_size=15, minibatch_size=5),
        dict(manual_lr=True),
        dict(manual_lr=True, drop=1, boundary_step=9),
        dict(SECOND, alignment_manual_lr=True, alignment_drop=0, drop=1),
        dict(alpha_start=0.5, alpha_stop=0.5),
        GLOBAL,
        LOCAL,
        dict(beta_schedule_type='cyclic', beta_cycle=2.5),
        dict(layers_list=(7, 5)),
        dict(drop_epochs=(50, 75), rescale_lr=True, delay_epochs=3.0),
        dict(SECOND, alignment_drop_epochs=(4,), manual_lr=True, constant_lr=False),
        dict(SECOND, optimizer='momentum', nesterov=False),
        dict(alignment_optimizer='momentum', nesterov=False),
        dict(weight_decay=0.0),
        dict(freeze=('dense0', 'bias')),
    ],
)
def test_what_agrees_passes(values):
    config = Config.of(values, RULES)
    assert {name: config[name] for name in values} == values


def test_every_problem_is_told_at_once():
    message = refusal(dict(port=0, learning_rate='x', grad_clip=None))
    assert all('--' + name in message for name in ('port', 'learning_rate', 'grad_clip'))
    message = refusal(dict(input_stddev=2.0, drop=1))
    assert '--input_stddev' in message and '--drop' in message


def test_an_unknown_setting_is_refused():
    assert 'no such setting: alhpa, bet' in refusal(dict(bet=1, alhpa=1, alpha=1.0))


def test_a_config_is_frozen_and_holds_no_list():
    units = [7, 5]
    config = Config.of(dict(layers_list=units), {})
    units.append(3)
    assert config.layers_list == (7, 5)
    for change in (lambda: setattr(config, 'port', 1), lambda: delattr(config, 'port')):
        with pytest.raises(dataclasses.FrozenInstanceError):
            change()
    assert config == Config.of(dict(layers_list=(7, 5)), {}) and hash(config) == hash(
        Config.of(dict(layers_list=[7, 5]), {})
    )


@pytest.mark.parametrize(
    'values, exp_id',
    [
        ({}, 'None'),
        (dict(exp_id_suffix='_test0'), 'None_test0'),
        (dict(alignment='symmetric'), 'symmetric'),
        (dict(alignment='kolen_pollack', exp_id_suffix='-7'), 'kolen_pollack-7'),
    ],
)
def test_exp_id(values, exp_id):
    assert Config.of(values, {}).exp_id == exp_id


@pytest.mark.parametrize(
    'argv, differing',
    [
        (
            ['--layers_list=32,16', '--alpha=0.002', '--alignment=symmetric'],
            dict(layers_list=[32, 16], alpha=0.002, alignment='symmetric'),
        ),
        (['--layers_list=', '--save_to_gfs='], {}),
        (
            ['--save_to_gfs=weight_angles,actsq_mean'],
            dict(save_to_gfs=['weight_angles', 'actsq_mean']),
        ),
        (['--alignment=none', '--alignment_optimizer=None', '--data_dir='], {}),
        (['--exp_id_suffix=none'], dict(exp_id_suffix='none')),
        (
            ['--grad_clip', '--noconstant_lr', '--validate_first=false'],
            dict(grad_clip=True, constant_lr=False, validate_first=False),
        ),
        (['--learning_rate=1', '--seed=7'], dict(learning_rate=1.0, seed=7)),
    ],
)
def test_flags_become_settings(command_line, argv, differing):
    assert command_line(*argv)['differing'] == differing


@pytest.mark.parametrize(
    'argument, error',
    [
        ('--layers_list=32,x', 'config_error'),
        ('--layers_list=32,', 'config_error'),
        ('--layers_list=1.5', 'config_error'),
        ('--layers_list=0', 'config_error'),
        ('--learning_rate=nan', 'config_error'),
        ('--learning_rate=-1', 'config_error'),
        ('--alignment=backprop', 'config_error'),
        ('--optimizer=none', 'config_error'),
        ('--port=x', 'flag_error'),
        ('--train_batch_size=8.5', 'flag_error'),
        ('--grad_clip=maybe', 'flag_error'),
        ('--no_such_flag=1', 'flag_error'),
    ],
)
def test_flags_are_refused_by_name(command_line, argument, error):
    name = re.match(r'--(\w+)', argument).group(1)
    answer = command_line(argument)
    assert error in answer and name in answer[error]


@pytest.mark.parametrize(
    'name, value',
    [
        ('train_epochs', float('inf')),
        ('epochs_per_checkpoint', float('inf')),
        ('learning_rate', float('inf')),
        ('alpha', float('-inf')),
        ('alpha', 10**400),
    ],
)
def test_what_no_float_can_work_with_is_refused(name, value):
    assert '--' + name in refusal({name: value})


@pytest.mark.parametrize(
    'name, value', [('layers_list', [True]), ('save_to_gfs', [1]), ('save_to_gfs', [None])]
)
def test_items_of_a_list_that_cannot_be_are_refused(name, value):
    assert '--' + name in refusal({name: value})
