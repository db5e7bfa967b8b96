"""Whose settings count when a checkpoint is restored, and what `settings.json` holds."""

import json
import os

import pytest

import tiny
from alignment.rules import RULES
from config import params
from config.schema import ConfigError
from training import finding, restoring
from training.checkpoints import CheckpointError

WAS = dict(
    activation='tanh',
    alignment='mirror',
    input_distribution='normal',
    alpha=0.25,
    learning_rate=0.5,
    seed=4,
    train_batch_size=9,
    train_epochs=2.0,
)


def recorded(**changes):
    """Returns the params of a record of a training with these settings, as jobs.py builds them."""
    config = tiny.config(**dict(WAS, **changes))
    document = params.to_params(config)
    rule = RULES.get(config.alignment)
    for name, default in (
        rule.coefficients if rule else {}
    ).items():  # a record holds the coefficients that were used
        if document['model_params'][name] is None:
            document['model_params'][name] = default
    return document


def start(document=None, **changes):
    """Returns the Start of a checkpoint of such a training."""
    return restoring.Start(
        '/there/checkpoint-7',
        'the id',
        recorded(**changes) if document is None else document,
        'its record',
    )


def asked(**flags):
    """Returns a Config with these flags beside those of every tiny training, and their names."""
    return tiny.config(**flags), frozenset(flags)


def test_the_meaning_comes_with_the_checkpoint_and_the_training_settings_do_not():
    config, explicit = asked(alignment='mirror', learning_rate=0.125)
    merged = restoring.continued(config, explicit, start())
    assert merged.config == tiny.config(
        alignment='mirror', activation='tanh', input_distribution='normal', learning_rate=0.125
    )
    assert merged.notes == {
        'changed_settings': {
            'alpha': {'recorded': 0.25, 'used': None},
            'train_epochs': {'recorded': 2.0, 'used': 90.0},
            'train_batch_size': {'recorded': 9, 'used': 12},
            'seed': {'recorded': 4, 'used': 0},
            'learning_rate': {'recorded': 0.5, 'used': 0.125},
        }
    }
    (line,) = merged.lines
    assert line.startswith('changed since its record: ') and 'learning_rate 0.5 -> 0.125' in line


def test_a_validation_has_all_settings_of_the_checkpoint_but_those_that_are_given():
    config, explicit = asked(eval_batch_size=3, port=5)
    merged = restoring.validated(config, explicit, start(measure_images=9), explicit)
    assert merged.config == tiny.config(**dict(WAS, eval_batch_size=3, port=5, measure_images=9))
    assert merged.lines == [] and merged.notes == {}


def test_a_validation_takes_from_a_settings_file_what_no_record_can_tell():
    """The settings file is of another run: only its settings of scope PLACE count."""
    config, in_file = asked(learning_rate=3.0, measure_images=5, port=5, train_epochs=7.0)
    merged = restoring.validated(config, in_file, start(measure_images=9), frozenset())
    assert merged.config == tiny.config(**dict(WAS, port=5, measure_images=9))


def validated(config, explicit, found):
    """Calls restoring.validated as if all given settings were flags."""
    return restoring.validated(config, explicit, found, explicit)


def test_a_coefficient_that_is_the_rules_own_has_not_changed():
    for given in ({}, dict(beta=0.001)):
        config, explicit = asked(
            **dict(WAS, beta=None, **given) if not given else dict(WAS, **given)
        )
        for held in (start(), start(beta=0.001)):
            merged = restoring.continued(config, explicit, held)
            assert merged.notes == {} and merged.lines == []


@pytest.mark.parametrize('job', [restoring.continued, validated])
def test_what_contradicts_is_refused_with_both_values(job):
    config, explicit = asked(activation='relu', alignment='feedback')
    with pytest.raises(ConfigError) as caught:
        job(config, explicit, start())
    message = str(caught.value)
    assert '--activation=relu contradicts its record, which has --activation=tanh' in message
    assert '--alignment=feedback contradicts its record, which has --alignment=mirror' in message
    assert message.endswith('--override=activation,alignment')


def test_a_default_is_told_as_one():
    config, explicit = asked(image_size=28, alignment=None)
    with pytest.raises(ConfigError) as caught:
        validated(config, explicit, start())
    message = str(caught.value)
    assert (
        '--image_size=28 contradicts its record, which has the default of --image_size' in message
    )
    assert '--alignment=none contradicts its record, which has --alignment=mirror' in message


def test_a_value_of_a_default_contradicts_where_it_is_given():
    config, explicit = asked(activation='sigmoid')
    with pytest.raises(ConfigError, match='--activation=sigmoid contradicts'):
        validated(config, explicit, start())
    assert validated(config, frozenset(), start()).config.activation == 'tanh'


def test_what_override_names_may_differ_and_is_recorded():
    config, explicit = asked(activation='relu', override=('activation', 'image_size'))
    merged = validated(config, explicit, start())
    assert merged.config.activation == 'relu' and merged.config.alignment == 'mirror'
    assert merged.notes == {'overridden': {'activation': {'recorded': 'tanh', 'used': 'relu'}}}
    assert merged.lines == ['overridden: activation is relu here and tanh in its record']


def test_another_rule_does_not_get_the_options_of_the_recorded_one():
    config, explicit = asked(alignment=None, override=('alignment',))
    merged = validated(config, explicit, start(alignment_optimizer='adam'))
    assert (
        merged.config.differing()
        == tiny.config(
            activation='tanh',
            train_batch_size=9,
            train_epochs=2.0,
            learning_rate=0.5,
            seed=4,
            override=('alignment',),
        ).differing()
    )


def test_a_training_that_only_starts_there_keeps_its_settings():
    config, _ = asked(activation='relu', alignment='feedback')
    began = restoring.started(config, start()._replace(is_foreign=True))
    assert began.config == config
    assert began.notes['changed_settings']['activation'] == {'recorded': 'tanh', 'used': 'relu'}
    assert len(began.lines) == 1 and 'activation tanh -> relu' in began.lines[0]
    assert restoring.started(config, start({})).lines == [
        'its record does not record its settings, so they may differ'
    ]


def test_what_is_not_recorded_comes_from_the_command_and_is_told():
    old = recorded()
    del old['model_params']['activation'], old['train_params']['preprocessing']
    config, explicit = asked(activation='relu')
    merged = restoring.continued(config, explicit, start(old))
    assert merged.config.activation == 'relu' and merged.config.alignment == 'mirror'
    assert merged.notes['not_recorded'] == ['activation', 'preprocessing']
    assert merged.lines[0].startswith(
        'its record does not record activation=relu, preprocessing=None: '
    )


@pytest.mark.parametrize(
    'document',
    [
        {},
        {
            'model_params': {
                'func': {'modname': 'Models.basic', 'objname': 'fc'},
                'activation': 'tanh',
                'alignment': {'objname': 'x'},
            }
        },
        {'model_params': 3},
        {'model_params': {'model': 'fc'}},
    ],
)
def test_a_record_of_the_original_holds_no_settings_of_ours(document):
    config, explicit = asked(activation='relu')
    merged = restoring.continued(config, explicit, start(document))
    assert merged.config == config and merged.lines[0].startswith(
        'its record does not record model=fc, use_resnet_v2=False, '
    )


# --- settings.json --------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    path = str(tmp_path / 'of[ten]')
    os.makedirs(path)
    return path


def described(folder, step):
    """Returns the learning rate in the description of a step's checkpoint, or None."""
    found = restoring.description(f'{folder}/checkpoint-{step}', step)
    return found and found['learning_rate_params']['learning_rate']


def note(folder, step, **settings):
    """Describes the checkpoint of a step of a training with these settings."""
    restoring.Description(folder, tiny.config(do_restore=True, **settings)).note(step)


def test_a_folder_has_an_entry_for_each_change_and_each_checkpoint_its_own(folder):
    """A second training also begins at step 0 and overwrites files of a longer one."""
    assert described(folder, 3) == {}
    for step, rate in ((0, 0.5), (20, 0.5), (30, 0.25), (40, 0.25), (0, 0.125), (20, 0.125)):
        note(folder, step, learning_rate=rate)
    with open(os.path.join(folder, restoring.DESCRIPTION)) as file:
        content = json.load(file)
    rates = [
        entry['params']['learning_rate_params']['learning_rate'] for entry in content['settings']
    ]
    assert rates == [0.5, 0.25, 0.125]
    assert [described(folder, step) for step in (0, 20, 30, 40)] == [0.125, 0.125, 0.25, 0.25]
    entry = content['settings'][0]
    assert (
        entry['digests'] == tiny.config(learning_rate=0.5).digests()._asdict()
        and entry['seed'] == 0
    )
    assert 'do_restore' not in entry['params']['load_params']
    assert os.listdir(folder) == [restoring.DESCRIPTION]


def test_another_seed_is_a_change(folder):
    for step, seed in ((1, 0), (2, 3)):
        note(folder, step, seed=seed)
    seeds = [
        restoring.description(f'{folder}/checkpoint-{step}', step)['train_params']['seed']
        for step in (1, 2)
    ]
    assert seeds == [0, 3]


def test_what_comes_from_mongodb_is_described_by_its_record(folder):
    note(folder, 9)
    restoring.describe_fetched(f'{folder}/checkpoint-7', 7, recorded())
    found = restoring.description(f'{folder}/checkpoint-7', 7)
    merged = restoring.validated(*asked(), start(found), frozenset())
    assert merged.config == tiny.config(**WAS) and merged.lines == []
    assert described(folder, 9) == {}  # it may belong to another experiment
    restoring.describe_fetched(f'{folder}/checkpoint-7', 7, {'model_params': {}})
    assert described(folder, 7) == {}


@pytest.mark.parametrize(
    'content',
    [
        b'',
        b'[',
        b'[1]',
        b'{"a": 1}',
        b'{"settings": [{}], "checkpoints": {}}',
        b'\xff',
        b'[' * 100000,
        b'{"settings": [], "checkpoints": {"3": 0}}',
        b'{"settings": 3, "checkpoints": {}}',
    ],
)
def test_a_damaged_description_is_told_and_replaced(folder, content):
    with open(os.path.join(folder, restoring.DESCRIPTION), 'wb') as file:
        file.write(content)
    with pytest.raises(CheckpointError, match=r'settings.json cannot be read \(.+\); remove it'):
        described(folder, 3)
    note(folder, 3, learning_rate=0.5)
    assert described(folder, 3) == 0.5


@pytest.mark.parametrize(
    'other', [dict(load_db=True), dict(load_step=0), dict(load_exp_id=''), dict(load_query='{}')]
)
def test_a_path_and_another_checkpoint_are_refused(other):
    (problem,) = finding.refusals(tiny.config(load_checkpoint='checkpoint-6', **other))
    assert f'by its path, but --{next(iter(other))} would look for another one' in problem


def test_a_path_alone_is_no_second_checkpoint():
    assert finding.refusals(tiny.config(load_checkpoint='checkpoint-6')) == []
