"""Every flag, of the original and of this program, has an effect or is refused with a reason."""

import functools
import os
import re

import pytest
import tensorflow.compat.v1 as tf

import tiny
from config.schema import Config, ConfigError, rows_of
from training import devices, jobs, places, runtime
from training.choices import choices
from training.experiment import Experiment

pytestmark = pytest.mark.claim('flags')
ROWS = rows_of(choices())
NUMBERED = re.compile(
    r'(?<=CustomGradient-)\d+|(?<=_)\d+(?="\n)'
)  # ends of names, whose numbers continue from graph to graph
NAMED = re.compile(r'("(?:\^|loc:@)?)([^":\n]+)(?=(?::\d+)?")')  # the name of a node, anywhere
TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# The flags of the original by group; load_params_file and save_params_file are not settings.
ORIGINAL = """
    gcp_project tpu_zone tpu_name num_shards iterations_per_loop checkpoint_max
    data_dir cache_dir gpu port dbname exp_id_suffix skip_check
    do_restore load_step load_port load_dbname load_collname load_exp_id load_checkpoint load_db
    val_exp_id
    train_epochs train_batch_size minibatch_size eval_batch_size epochs_per_checkpoint
    validate_first load_params_file
    save_params_file save_to_gfs
    optimizer alignment_optimizer grad_clip grad_clipping_value grad_clipping_method
    use_noisy_global_opt use_noisy_alignment_opt noisy_global_opt_distribution
    noisy_alignment_opt_distribution
    noisy_opt_distribution noisy_global_opt_variance noisy_alignment_opt_variance noisy_opt_variance
    learning_rate alignment_learning_rate base_batch_size rescale_lr alignment_rescale_lr
    constant_lr alignment_constant_lr
    warmup_epochs alignment_warmup_epochs manual_lr alignment_manual_lr drop alignment_drop
    boundary_step
    alignment_boundary_step
    dataset image_size model use_resnet_v2 tf_layers layers_list activation
    regularize_weights_via_model bn_trainable
    alignment save_alignment_coefficients
    alpha alpha_start alpha_stop alpha_cycle alpha_schedule_rate alpha_schedule_type
    beta beta_start beta_stop beta_cycle beta_schedule_rate beta_schedule_type
    gamma gamma_start gamma_stop gamma_cycle gamma_schedule_rate gamma_schedule_type
    reconstruction_reversal reconstruction_amp use_sparse
    update_forward input_distribution input_stddev use_bias_forward use_bias_backward
    activation_fn_override
    activation_forward activation_backward batch_center_backward_input center_input normalize_input
    batch_center_forward_output center_forward_output normalize_forward_output
    center_backward_output
    normalize_backward_output
    loss_rate alignment_rate delay_epochs alternate_step_freq constant_rate""".split()

# Flags that name a place: the given test runs a command with them and checks what they did.
WHERE = {
    'host': 'cli/test_command_errors.py',
    'port': 'cli/conftest.py',
    'dbname': 'cli/test_train.py',
    'skip_check': None,
    'dry_run': 'cli/test_train.py',
    'quiet': 'cli/test_outputs.py',
    'verbose': 'cli/test_outputs.py',
    'max_pixels': 'data/test_imagenet.py',
    'exp_id_suffix': 'cli/test_train.py',
    'cache_dir': 'cli/conftest.py',
    'data_dir': 'cli/test_photographs.py',
    'preprocessing': 'cli/test_photographs.py',
    'do_restore': 'cli/test_train.py',
    'load_step': 'cli/test_validate.py',
    'load_query': 'cli/test_validate.py',
    'load_db': 'cli/test_train.py',
    'load_port': 'cli/test_train.py',
    'load_dbname': 'cli/test_train.py',
    'load_collname': 'cli/test_train.py',
    'load_exp_id': 'cli/test_train.py',
    'load_checkpoint': 'cli/test_validate.py',
    'reset_step': 'cli/test_restored_settings.py',
    'override': 'cli/test_restored_settings.py',
    'val_exp_id': 'cli/test_validate.py',
    'load_params_file': 'cli/test_settings_file.py',
    'save_params_file': 'cli/conftest.py',
}

# Flags that choose the device: the given test checks the device.
CHOOSES = {
    'gpu': 'sets CUDA_VISIBLE_DEVICES, tests/training/test_devices.py; several split the batch, '
    'test_towers.py',
    'worker_hosts': 'several processes, cli/test_several_hosts.py',
    'task_index': 'the same',
    'tpu_zone': 'where the TPU is looked up, tests/training/test_tpu.py',
    'gcp_project': 'the same',
}

# All others change the graph or the plan of a run: {flag: (settings that it needs, a value)}.
SCHEDULE = dict(alignment='information')
NOISY = dict(
    alignment='symmetric',
    alignment_optimizer='gd',
    use_noisy_global_opt=True,
    use_noisy_alignment_opt=True,
    noisy_opt_distribution='normal',
)
TWO = dict(alignment='symmetric', alignment_optimizer='gd')
SEES = dict(alignment='information')
HIDDEN = dict(layers_list=(5,))
RESNET = dict(model='resnet18', layers_list=(), dataset='pixels', alignment='symmetric')
SMALL = dict(RESNET, model='small')
IN_MEMORY = dict(dataset='synthetic', image_size=5)
TPU = dict(tpu_name='mine', train_batch_size=24)
EFFECTS = {
    'tensorboard': (dict(alignment='symmetric'), True),
    'skip_bad_records': ({}, 1),
    'cpu_devices': ({}, 2),
    'sync_batch_norm': (dict(SMALL, cpu_devices=2, gpu='0,1'), True),
    'tpu_name': (dict(train_batch_size=24), 'mine'),
    'num_shards': (TPU, 4),
    'iterations_per_loop': ({}, 3),
    'xla': ({}, True),
    'precision': ({}, 'float16'),
    'checkpoint_max': ({}, 2),
    'epochs_per_checkpoint': ({}, 1.0),
    'epochs_per_validation': ({}, 1.0),
    'epochs_per_recent_checkpoint': ({}, 1.0),
    'save_to_gfs': ({}, ('loss',)),
    'model': (dict(layers_list=(), dataset='pixels'), 'resnet18'),
    'use_resnet_v2': (dict(RESNET, alignment=None), True),
    'image_size': (dict(dataset='synthetic', layers_list=(3,)), 5),
    'validation_split': (IN_MEMORY, 100),
    'split': (dict(IN_MEMORY, validation_split=100), 'test'),
    'tf_layers': ({}, True),
    'layers_list': ({}, (7,)),
    'activation': (HIDDEN, 'relu'),
    'regularize_weights_via_model': ({}, False),
    'bn_trainable': (SMALL, False),
    'weight_decay': ({}, 1e-3),
    'freeze': (dict(layers_list=(5,)), ('dense0',)),
    'nesterov': (dict(optimizer='momentum'), False),
    'undivided_error': (dict(RESNET, model='lenet', alignment='dfa', dataset='pixels32'), True),
    'alignment': ({}, 'feedback'),
    'dataset': ({}, 'few'),
    'train_epochs': ({}, 3.0),
    'train_batch_size': ({}, 9),
    'minibatch_size': ({}, 4),
    'validate_first': ({}, False),
    'seed': ({}, 1),
    'loss_rate': ({}, 0.5),
    'alignment_rate': (dict(alignment='symmetric'), 0.5),
    'delay_epochs': ({}, 2.0),
    'alternate_step_freq': (dict(alignment='symmetric'), 2),
    'constant_rate': ({}, False),
    'base_batch_size': (dict(rescale_lr=True), 100),
    'drop': (dict(manual_lr=True, boundary_step=3), 1),
    'boundary_step': (dict(manual_lr=True, drop=1, boundary_step=3), 4),
    'alignment_drop': (dict(TWO, alignment_manual_lr=True, manual_lr=True, boundary_step=3), 1),
    'alignment_boundary_step': (
        dict(TWO, alignment_manual_lr=True, manual_lr=True, drop=1, boundary_step=3),
        4,
    ),
    'optimizer': ({}, 'adam'),
    'alignment_optimizer': (dict(alignment='symmetric'), 'adam'),
    'grad_clip': ({}, True),
    'grad_clipping_value': (dict(grad_clip=True), 0.5),
    'grad_clipping_method': (dict(grad_clip=True), 'value'),
    'use_noisy_global_opt': (dict(NOISY, use_noisy_global_opt=False), True),
    'use_noisy_alignment_opt': (dict(NOISY, use_noisy_alignment_opt=False), True),
    'noisy_opt_distribution': (NOISY, 'uniform'),
    'noisy_opt_variance': (NOISY, 2.0),
    'eval_batch_size': ({}, 6),
    'measure_images': ({}, 7),
    'save_alignment_coefficients': (dict(alignment='symmetric'), True),
    'update_forward': (SEES, True),
    'input_distribution': (SEES, 'normal'),
    'input_stddev': (dict(SEES, input_distribution='normal'), 2.0),
    'activation_fn_override': (dict(SEES, activation_forward=True), 'relu'),
    'expansion': (dict(alignment='pfa'), 3),
}
EFFECTS.update(
    {
        name: (SEES, not ROWS[name].default)
        for name in (
            'reconstruction_reversal',
            'reconstruction_amp',
            'use_sparse',
            'use_bias_forward',
            'use_bias_backward',
            'activation_forward',
            'activation_backward',
            'batch_center_backward_input',
            'center_input',
            'normalize_input',
            'batch_center_forward_output',
            'center_forward_output',
            'normalize_forward_output',
            'center_backward_output',
            'normalize_backward_output',
        )
    }
)
EFFECTS['activation_forward'] = (dict(SEES, **HIDDEN), True)
for _which in ('global_opt', 'alignment_opt'):
    EFFECTS[f'noisy_{_which}_distribution'] = (NOISY, 'uniform')
    EFFECTS[f'noisy_{_which}_variance'] = (
        dict(NOISY, **{f'noisy_{_which}_distribution': 'normal'}),
        2.0,
    )
for _prefix, _needs in (('', {}), ('alignment_', TWO)):
    EFFECTS.update(
        {
            _prefix + name: (_needs, value)
            for name, value in dict(
                learning_rate=0.5,
                rescale_lr=True,
                constant_lr=False,
                manual_lr=True,
                drop_epochs=(1,),
            ).items()
        }
    )
    EFFECTS[_prefix + 'warmup_epochs'] = (dict(_needs, **{_prefix + 'manual_lr': True}), 3.0)
for _name in ('alpha', 'beta', 'gamma'):
    EFFECTS.update(
        {
            _name + ending: (needs, value)
            for ending, needs, value in (
                ('', SCHEDULE, 0.5),
                ('_start', SCHEDULE, 0.25),
                ('_stop', SCHEDULE, 0.75),
                ('_schedule_type', dict(SCHEDULE, **{_name + '_schedule_rate': 0.0}), 'linear'),
                ('_schedule_rate', dict(SCHEDULE, **{_name + '_schedule_type': 'linear'}), 0.5),
                (
                    '_cycle',
                    dict(
                        SCHEDULE,
                        **{_name + '_schedule_type': 'linear', _name + '_schedule_rate': 0.5},
                    ),
                    2.0,
                ),
            )
        }
    )


@pytest.fixture(autouse=True, scope='module')
def pixels():
    """Registers a data set whose images a ResNet can process."""
    import data

    with pytest.MonkeyPatch.context() as patch:
        for name, size in (('pixels', 9), ('pixels32', 32)):
            patch.setitem(data.DATASETS, name, tiny.dataset(name, image_shape=(size, size, 3)))
        yield


VALIDATIONS = {
    'eval_batch_size',
    'measure_images',
    'split',
    'save_alignment_coefficients',
    'tensorboard',
}  # flags that only change a validation


def used(exp):
    """Returns the nodes that a run needs, as text without their names.

    Nodes that are built but lead nowhere do not count as an effect.
    """
    fetched = [exp.initializer, exp.level] + [part for part in (exp.step, exp.validation) if part]
    names = [
        each.name.partition(':')[0]
        for each in runtime.nest.flatten(fetched)
        if isinstance(each, (tf.Tensor, tf.Operation))
    ]
    nodes = tf.graph_util.extract_sub_graph(exp.graph.as_graph_def(), names).node
    numbers = {node.name: str(number) for number, node in enumerate(nodes)}
    text = NUMBERED.sub('', ''.join(str(node) for node in nodes))
    return NAMED.sub(
        lambda match: match.group(1) + numbers.get(match.group(2), match.group(2)), text
    )


def observed(validating=False, **settings):
    """Returns what a run with these settings does.

    It is the graph, with or without the validation, the plan, and the variables that are trained.
    """
    config = Config.of(dict(dict(tiny.FC, layers_list=()), **settings), choices())
    exp = Experiment(config, devices.choose(config), validating=validating)
    trainable = [v.op.name for v in exp.graph.get_collection('trainable_variables')]
    return (
        used(exp),
        exp.plan._replace(source=None),
        trainable,
        places.collection(config),
        validating and sorted(exp.validation.coefficients),
    )


@pytest.mark.slow
def test_the_same_settings_do_the_same():
    assert observed(alignment='symmetric') == observed(alignment='symmetric')


@functools.lru_cache(maxsize=None)
def without_it(needs, validating):
    """Returns `observed` of settings that are given as a tuple of pairs."""
    return observed(validating, **dict(needs))


@pytest.mark.slow
@pytest.mark.parametrize('flag', sorted(EFFECTS))
def test_a_flag_has_an_effect(flag):
    (needs, value), validating = EFFECTS[flag], flag in VALIDATIONS
    assert without_it(tuple(sorted(needs.items())), validating) != observed(
        validating, **dict(needs, **{flag: value})
    )


@pytest.mark.parametrize('flag', sorted(name for name in WHERE if WHERE[name]))
def test_a_flag_that_says_where_is_given_in_a_command(flag):
    with open(os.path.join(TESTS, WHERE[flag]), encoding='utf-8') as file:
        assert re.search(rf"'--(no)?{flag}\b", file.read())


def test_no_flag_is_left_out():
    tables = [set(EFFECTS), set(WHERE), set(CHOOSES)]
    assert set.union(*tables) == set(ROWS) | {'load_params_file', 'save_params_file'}
    assert sum(map(len, tables)) == len(set.union(*tables))
    assert (
        set(ORIGINAL) - set.union(*tables) == set() and len(set(ORIGINAL)) == len(ORIGINAL) == 112
    )


def test_uncommitted_changes_are_refused_where_the_check_is_on(monkeypatch):
    from training import provenance

    answers = {'rev-parse': 'abc', 'status': ' M train.py'}
    monkeypatch.setattr(provenance, 'git_text', lambda *words: answers[words[0]])
    with pytest.raises(ConfigError, match='--noskip_check: .* uncommitted changes in train.py;'):
        jobs.train(tiny.config(skip_check=False))
