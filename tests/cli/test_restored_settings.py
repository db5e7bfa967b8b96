"""Restored checkpoints bring their settings of scope MEANING; a mere start from one does not."""

import json
import os

import commands
import pymongo
import pytest

from config import params
from database.store import Store

pytestmark = pytest.mark.slow
NETWORK = ['--model=fc', '--layers_list=7,5']  # the flags that determine the collection


@pytest.fixture(scope='module')
def validate(trained, run, where):
    """Returns a function that validates the training of `trained`, and returns a commands.Done.

    Its flags may name another checkpoint.
    """

    def command(*flags, source='symmetric_split'):
        return run(
            'test.py',
            'validate',
            *(NETWORK + where + ([f'--load_exp_id={source}'] if source else []) + list(flags)),
        )

    return command


def test_a_forgotten_flag_does_no_harm(validate, trained, records):
    """--activation=tanh, --alignment and all settings of the training were left out."""
    commands.succeeded(validate('--val_exp_id=restored_forgotten'))
    (record,) = records('restored_forgotten')
    source = records('symmetric_split')[-1]
    assert (
        record['validation_results'] == source['validation_results']
        and record['validates'] == source['_id']
    )
    assert record['params']['digests'] == source['params']['digests']
    assert record['params']['model_params']['activation'] == 'tanh'
    assert (
        record['params']['train_params']['num_steps']
        == source['params']['train_params']['num_steps']
        == 30
    )


@pytest.mark.parametrize(
    'flag, held',
    [
        ('--activation=sigmoid', '--activation=tanh'),
        ('--alignment=feedback', '--alignment=symmetric'),
        ('--alignment=none', '--alignment=symmetric'),
    ],
)
def test_a_flag_that_contradicts_is_refused(validate, records, flag, held):
    message = commands.refusal(validate('--val_exp_id=restored_wrong', flag), 2)
    name = flag[2:].partition('=')[0]
    assert (
        f'--{name}=' in message
        and held in message
        and f'--override={name}' in message
        and 'step 30 of symmetric_split' in message
    )
    assert records('restored_wrong') == []


def test_a_settings_file_that_contradicts_is_refused(trained, run, where, tmp_path):
    path = str(tmp_path / 'other.pkl')
    settings = NETWORK + ['--activation=relu', '--alignment=symmetric']
    commands.succeeded(
        run('train.py', '--dry_run', '--save_params_file=' + path, *(settings + where))
    )
    done = run(
        'test.py',
        'validate',
        '--val_exp_id=restored_file',
        '--load_params_file=' + path,
        '--load_exp_id=symmetric_split',
        *where,
    )
    assert '--activation=relu contradicts' in commands.refusal(done, 2)


def test_what_override_names_is_used_and_recorded(validate, records):
    lines = commands.succeeded(
        validate('--val_exp_id=restored_override', '--activation=relu', '--override=activation')
    )
    (record,) = records('restored_override')
    assert record['params']['load_params']['overridden'] == {
        'activation': {'recorded': 'tanh', 'used': 'relu'}
    }
    assert record['params']['model_params']['activation'] == 'relu'
    assert any(
        line.startswith('overridden: activation is relu here and tanh in ') for line in lines
    )
    results = record['validation_results']['topn_val']
    assert results != records('symmetric_split')[-1]['validation_results']['topn_val']


def test_a_path_brings_what_its_folder_says(validate, trained, folder, records):
    path = os.path.join(folder('symmetric_split'), 'checkpoint-24')
    commands.succeeded(
        validate('--val_exp_id=restored_path', '--load_checkpoint=' + path, source=None)
    )
    (record,) = records('restored_path')
    (source,) = [each for each in records('symmetric_split') if each['step'] == 24]
    assert commands.numbers(record) == commands.numbers(source) and record['validates'] == path
    message = commands.refusal(
        validate(
            '--val_exp_id=restored_no',
            '--load_checkpoint=' + path,
            '--activation=relu',
            source=None,
        ),
        2,
    )
    assert f'contradicts {path}, which has --activation=tanh' in message


def test_a_path_without_a_description_goes_by_the_flags(
    validate, trained, folder, records, tmp_path
):
    prefix = str(tmp_path / 'checkpoint-24')
    for name in os.listdir(folder('symmetric_split')):
        if name.startswith('checkpoint-24.'):
            os.symlink(os.path.join(folder('symmetric_split'), name), str(tmp_path / name))
    lines = commands.succeeded(
        validate(
            '--val_exp_id=restored_bare',
            '--load_checkpoint=' + prefix,
            '--activation=tanh',
            '--alignment=symmetric',
            source=None,
        )
    )
    assert any(line.startswith(f'{prefix} does not record model=fc, ') for line in lines)
    assert records('restored_bare')[0]['params']['load_params']['not_recorded']


def test_an_exp_id_holds_the_validation_of_one_checkpoint(validate, records):
    first = commands.succeeded(validate('--val_exp_id=restored_once', '--load_step=12'))
    before = records('restored_once')
    again = commands.succeeded(validate('--val_exp_id=restored_once', '--load_step=12'))
    after = records('restored_once')
    assert len(before) == len(after) == 1 and before[0]['_id'] != after[0]['_id']
    assert (
        'replacing the validation of this checkpoint that exp_id restored_once holds' in again
        and len(again) == len(first) + 1
    )
    message = commands.refusal(validate('--val_exp_id=restored_once', '--load_step=18'), 2)
    assert 'restored_once holds the validation of another checkpoint, step 12' in message
    assert records('restored_once') == after


def test_a_validation_does_not_go_into_a_training(validate, trained, records):
    before = records('symmetric_split')
    message = commands.refusal(validate('--val_exp_id=symmetric_split'), 2)
    assert message == (
        'error: exp_id symmetric_split holds the records of a training; choose another '
        '--val_exp_id for this validation'
    )
    assert records('symmetric_split') == before


def test_a_training_goes_on_with_its_meaning_and_tells_what_changed(
    trained, run, where, records, folder
):
    words = (
        NETWORK
        + where
        + [
            '--exp_id_suffix=_meaning',
            '--alignment=symmetric',
            '--train_batch_size=131',
            '--eval_batch_size=307',
            '--optimizer=momentum',
            '--learning_rate=0.1',
            '--epochs_per_checkpoint=0.2',
        ]
    )
    commands.succeeded(run('train.py', *(words + ['--activation=tanh', '--train_epochs=0.2'])))
    refused = run(
        'train.py', *(words + ['--activation=relu', '--train_epochs=0.4', '--do_restore'])
    )
    assert (
        '--activation=relu contradicts the record of step 6 of symmetric_meaning'
        in commands.refusal(refused, 2)
    )
    lines = commands.succeeded(
        run('train.py', *(words + ['--learning_rate=0.05', '--train_epochs=0.4', '--do_restore']))
    )
    (told,) = [
        line
        for line in lines
        if line.startswith('changed since the record of step 6 of symmetric_meaning: ')
    ]
    assert 'learning_rate 0.1 -> 0.05' in told and 'train_epochs 0.2 -> 0.4' in told
    record = records('symmetric_meaning')[-1]
    assert record['step'] == 12 and record['params']['model_params']['activation'] == 'tanh'
    assert record['params']['load_params']['changed_settings']['learning_rate'] == {
        'recorded': 0.1,
        'used': 0.05,
    }
    with open(os.path.join(folder('symmetric_meaning'), 'settings.json')) as file:
        content = json.load(file)
    entries = content['settings']
    rates = [entry['params']['learning_rate_params']['learning_rate'] for entry in entries]
    assert rates == [0.1, 0.05] and content['checkpoints'] == {'0': 0, '6': 0, '12': 1}
    assert [entry['digests'] for entry in entries] == [
        records('symmetric_meaning')[0]['params']['digests'],
        record['params']['digests'],
    ]


def test_what_came_from_mongodb_is_described_where_it_lies(validate, folder, records):
    """The path that test.py prints can be used as --load_checkpoint."""
    lines = commands.succeeded(validate('--val_exp_id=restored_again'))
    (path,) = [line[len('restored ') :] for line in lines if line.startswith('restored ')]
    commands.succeeded(
        validate('--val_exp_id=restored_given', f'--load_checkpoint={path}', source=None)
    )
    (one,), (other,) = records('restored_again'), records('restored_given')
    assert one['validation_results'] == other['validation_results']


def test_a_training_does_not_go_into_a_validation(validate, run, where, records):
    commands.succeeded(validate('--val_exp_id=symmetric_validated'))
    before = records('symmetric_validated')
    for more in ([], ['--do_restore']):
        done = run('train.py', *(commands.FC + where + ['--exp_id_suffix=_validated'] + more))
        message = commands.refusal(done, 2)
        assert 'exp_id symmetric_validated holds the record of a validation' in message
    assert records('symmetric_validated') == before


def test_a_validation_does_not_go_into_a_training_that_runs(validate, mongo_server, records):
    place = mongo_server.host, mongo_server.port, 'cli', 'fc_7-5', 'symmetric_runs'
    store = Store(*place, exclusive=True)
    try:
        message = commands.refusal(validate('--val_exp_id=symmetric_runs'), 2)
    finally:
        store.close()
    assert 'has been training exp_id symmetric_runs since' in message
    assert records('symmetric_runs') == []


def test_two_checkpoints_at_once_are_refused(validate, folder):
    path = os.path.join(folder('symmetric_split'), 'checkpoint-24')
    message = commands.refusal(
        validate('--val_exp_id=restored_two', f'--load_checkpoint={path}', '--load_step=6'), 2
    )
    assert '--load_checkpoint names a checkpoint by its path, but --load_step' in message


def test_a_settings_file_has_what_the_training_had(trained, run, where, tmp_path):
    """--activation=tanh comes from the record."""
    path = str(tmp_path / 'kept.pkl')
    words = [word for word in commands.FC if not word.startswith('--activation')]
    words += ['--exp_id_suffix=_split', '--train_epochs=1', '--do_restore']
    commands.succeeded(run('train.py', *(words + where + [f'--save_params_file={path}'])))
    assert params.load(path)[0]['activation'] == 'tanh'
    for program in (['test.py', 'validate'], ['search.py']):
        message = commands.refusal(run(*(program + [f'--save_params_file={path}'])), 2)
        assert '--save_params_file is a flag of train.py' in message


def test_override_needs_its_flag(run, where):
    done = run('train.py', *(commands.FC + where + ['--do_restore', '--override=preprocessing']))
    message = commands.refusal(done, 2)
    assert '--override=preprocessing has no effect without --preprocessing' in message


# --- a start from another experiment --------------------------------------------------------------


@pytest.fixture(scope='module')
def tune(trained, run, where, folder):
    """Returns a function that trains from step 30 of `trained`, and returns a commands.Done.

    It is called as tune(suffix, *flags).
    """

    def command(suffix, *flags, by='--load_checkpoint={}/checkpoint-30'):
        return run(
            'train.py',
            *(
                commands.FC
                + where
                + [f'--exp_id_suffix={suffix}', by.format(folder('symmetric_split'))]
                + list(flags)
            ),
        )

    return command


@pytest.mark.parametrize(
    'by', ['--load_checkpoint={}/checkpoint-30', '--load_exp_id=symmetric_split']
)
def test_a_start_at_or_beyond_the_end_is_refused(tune, records, by):
    more = ['--load_db'] if 'exp_id' in by else []
    message = commands.refusal(tune('_beyond', '--train_epochs=1', *more, by=by), 2)
    assert (
        by.partition('=')[0] in message
        and 'starts at step 30, but this training ends at step 30' in message
        and '--reset_step' in message
    )
    assert records('symmetric_beyond') == []


def test_a_tuning_counts_from_0_and_goes_on_from_its_own_checkpoint(tune, records, folder):
    """--reset_step starts at step 0 with new slots.

    The same command with --do_restore continues from the run's own checkpoint.
    """
    lines = commands.succeeded(
        tune('_tuned', '--reset_step', '--train_epochs=0.2', '--learning_rate=0.01', '--verbose')
    )
    assert any(
        line.startswith('starting from ') and 'learning_rate 0.1 -> 0.01' in line for line in lines
    )
    slots = [line for line in lines if '  slot of ' in line]
    assert slots and all(line.endswith('new') for line in slots)
    assert [line.endswith('new') for line in lines if line.startswith('  global_step ')] == [True]
    first = records('symmetric_tuned')
    assert [record['step'] for record in first] == [0, 6]
    source = [record for record in records('symmetric_split') if record['step'] == 30][-1]
    angles = [record['validation_results']['topn_val']['top1'] for record in (source, first[0])]
    assert angles[0] == angles[1]  # the network of the checkpoint is used
    again = commands.succeeded(
        tune('_tuned', '--reset_step', '--train_epochs=0.4', '--learning_rate=0.01', '--do_restore')
    )
    (restored,) = [line for line in again if line.startswith('restored from ')]
    assert restored.endswith('restored/checkpoint-6')
    after = records('symmetric_tuned')
    assert [record['step'] for record in after] == [0, 6, 12] and after[:2] == first
    done = commands.succeeded(
        tune('_tuned', '--reset_step', '--train_epochs=0.4', '--learning_rate=0.01', '--do_restore')
    )
    assert 'the training is complete: step 12 of 12' in done and records('symmetric_tuned') == after


@pytest.mark.parametrize('flags', [['--reset_step'], ['--reset_step', '--do_restore']])
def test_reset_step_needs_another_experiment(run, where, flags):
    done = run('train.py', *(commands.FC + where + ['--exp_id_suffix=_nothing'] + flags))
    assert '--reset_step has no effect without --load_db or --load_checkpoint' in commands.refusal(
        done, 2
    )


def test_override_without_anything_to_override_is_refused(run, where):
    done = run(
        'train.py', *(commands.FC + where + ['--exp_id_suffix=_nothing', '--override=activation'])
    )
    assert '--override=activation has no effect without ' in commands.refusal(done, 2)


def test_a_checkpoint_of_ones_own_by_its_path(run, where, records, folder, mongo_server):
    """MongoDB lost the newest checkpoint, so the local file is newer than what it holds."""
    words = commands.FC + where + ['--exp_id_suffix=_here', '--do_restore']
    commands.succeeded(run('train.py', *(words + ['--train_epochs=0.4'])))
    with pymongo.MongoClient(mongo_server.host, mongo_server.port) as client:
        client['cli']['fc_7-5.files'].delete_one({'exp_id': 'symmetric_here', 'step': 12})
    paths = [os.path.join(folder('symmetric_here'), f'checkpoint-{step}') for step in (0, 12)]
    words = [word for word in words if not word.startswith('--activation')] + ['--train_epochs=0.6']
    message = commands.refusal(run('train.py', *(words + [f'--load_checkpoint={paths[0]}'])), 2)
    assert 'is at step 0, and exp_id symmetric_here has a checkpoint of step 6 already' in message
    lines = commands.succeeded(run('train.py', *(words + [f'--load_checkpoint={paths[1]}'])))
    assert f'restored from {paths[1]}' in lines
    assert records('symmetric_here')[-1]['params']['model_params']['activation'] == 'tanh'
    assert [record['step'] for record in records('symmetric_here')] == [0, 6, 18]


def test_a_tuning_without_a_checkpoint_names_its_start_again(tune, run, where, records):
    """The training ended before its first checkpoint; it is resumed without naming its start."""
    words = ['--reset_step', '--novalidate_first', '--learning_rate=1e11', '--train_epochs=0.2']
    commands.refusal(tune('_begun', *words), 3)
    assert records('symmetric_begun') != []
    done = run('train.py', *(commands.FC + where + ['--exp_id_suffix=_begun', '--do_restore']))
    message = commands.refusal(done, 2)
    assert (
        'but no checkpoint, and it started from another experiment; give --load_checkpoint='
        in message
    )
