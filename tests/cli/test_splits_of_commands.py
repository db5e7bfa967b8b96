"""--validation_split and --split: what a training and test.py validate on, and what records say."""

import commands
import pytest

pytestmark = pytest.mark.slow
EXP_ID = 'symmetric_held_out'


@pytest.fixture(scope='module')
def held_out(run, where, records):
    """The records of a training with 500 images held out."""
    words = ['--exp_id_suffix=_held_out', '--validation_split=500', '--train_epochs=0.4']
    lines = commands.succeeded(run('train.py', *commands.FC, *where, *words))
    assert (
        'fc_7-5 with symmetric on mnist: 3,500 training and 500 validation images of 28x28x1, '
        '10 classes' in lines
    )
    assert '10 steps of 131 images (0.4 epochs of 26 steps)' in lines
    return records(EXP_ID)


@pytest.fixture(scope='module')
def validate(held_out, run, where):
    """Returns a function: flags -> the commands.Done of a validation of that training."""
    found = ['--model=fc', '--layers_list=7,5', '--load_exp_id=' + EXP_ID]
    return lambda *flags: run('test.py', 'validate', *found, *where, *flags)


def seen(record):
    """Returns the split of a record, the number of its images, and --validation_split."""
    params = record['params']
    return (
        params['validation_params']['topn_val']['split'],
        record['validation_results']['topn_val']['images'],
        params['train_params']['validation_split'],
    )


def test_a_training_validates_on_the_images_that_are_held_out(held_out):
    assert [seen(record) for record in held_out] == [('validation', 500, 500)] * 3
    assert held_out[0]['params']['train_params']['train_images'] == 3500


def test_a_validation_is_that_of_the_training(validate, held_out, records):
    commands.succeeded(validate('--val_exp_id=held_out_again'))
    (record,) = records('held_out_again')
    assert seen(record) == ('validation', 500, 500)
    assert record['validation_results'] == held_out[-1]['validation_results']


def test_the_test_images_are_validated_where_they_are_asked_for(validate, held_out, records):
    commands.succeeded(validate('--val_exp_id=held_out_tested', '--split=test'))
    before = records('held_out_tested')
    assert [seen(record) for record in before] == [('test', 1000, 500)]
    assert before[0]['params']['digests'] == held_out[0]['params']['digests']
    message = commands.refusal(validate('--val_exp_id=held_out_tested'), 2)
    assert 'on the test images; choose another --val_exp_id' in message
    assert 'on the validation images' in message
    assert records('held_out_tested') == before


@pytest.mark.parametrize('split', ['0', '400'])
def test_other_images_than_those_of_the_training_are_refused(validate, split):
    """The validation would see images of the training."""
    message = commands.refusal(
        validate('--val_exp_id=held_out_other', '--validation_split=' + split), 2
    )
    assert f'--validation_split={split} contradicts the record of step 10' in message
    assert '--validation_split=500' in message


def test_a_training_that_is_resumed_keeps_its_split(held_out, run, where, records):
    words = [*commands.FC, *where, '--exp_id_suffix=_held_out', '--train_epochs=0.6']
    message = commands.refusal(run('train.py', *words, '--do_restore', '--validation_split=9'), 2)
    assert '--validation_split=9 contradicts' in message
    commands.succeeded(run('train.py', *words, '--do_restore'))
    assert seen(records(EXP_ID)[-1]) == ('validation', 500, 500)


@pytest.mark.parametrize(
    'flags, code, words',
    [
        (['--split=test'], 2, ['--split=test is for test.py']),
        (['--validation_split=4000'], 1, ['--validation_split=4000 leaves no training images']),
        (['--validation_split=-1'], 2, ['--validation_split must be at least 0']),
    ],
)
def test_a_training_that_cannot_be_split_is_refused(run, where, records, flags, code, words):
    done = run('train.py', *commands.FC, *where, '--exp_id_suffix=_unsplit', *flags)
    message = commands.refusal(done, code)
    assert [word for word in words if word not in message] == []
    assert records('symmetric_unsplit') == []


def test_tfrecords_are_split_by_the_program_that_builds_them(run, where, photograph_tfrecords):
    words = ['--dataset=imagenet', '--data_dir=' + photograph_tfrecords, '--validation_split=2']
    done = run('train.py', '--model=fc', *where, *words, '--exp_id_suffix=_unsplit')
    assert 'data/build_tfrecords.py --validation_fraction' in commands.refusal(done, 1)


def test_without_a_split_there_is_no_split_to_validate(trained, run, where, records):
    found = ['--model=fc', '--layers_list=7,5', '--load_exp_id=symmetric_split']
    done = run('test.py', 'validate', *found, *where, '--val_exp_id=unsplit', '--split=validation')
    assert '--split=validation has no images' in commands.refusal(done, 1)
    assert {seen(record) for record in records('symmetric_split')} == {('test', 1000, 0)}
