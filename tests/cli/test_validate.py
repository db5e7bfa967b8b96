"""test.py validate gives the recorded results of a training, however the checkpoint is named."""

import os
import shutil

import commands
import pytest

from database import layout

pytestmark = pytest.mark.slow

# {case: (flags that name the checkpoint, its step)}; the settings come from flags or their file
HOW = {
    'newest': (['--exp_id_suffix=_split'], 30),
    'step': (['--exp_id_suffix=_split', '--load_step=12'], 12),
    'other': (
        [
            '--dbname=validations',
            '--load_dbname=cli',
            '--load_exp_id=symmetric_split',
            '--load_step=6',
        ],
        6,
    ),
    'query': (['--exp_id_suffix=_split', '--load_query={{"step": {{"$gt": 12, "$lt": 20}}}}'], 18),
    'path': (['--load_checkpoint={folder}/checkpoint-24'], 24),
}


@pytest.fixture(scope='module')
def validate(trained, run, where, folder):
    """Returns a function: how -> (what the command printed, its exp_id)."""

    def command(how, settings=commands.FC):
        exp_id = 'validation_' + how
        flags = [flag.format(folder=folder('symmetric_split')) for flag in HOW[how][0]]
        return commands.succeeded(
            run('test.py', 'validate', '--val_exp_id=' + exp_id, *(settings + where + flags))
        ), exp_id

    return command


@pytest.mark.parametrize('how', sorted(HOW))
@pytest.mark.claim('restoring')
def test_a_validation_is_that_of_the_training(validate, records, folder, how):
    step, before = HOW[how][1], records('symmetric_split')
    lines, exp_id = validate(how)
    (trained,) = [record for record in before if record['step'] == step]
    (record,) = records(exp_id, dbname='validations' if how == 'other' else 'cli')
    assert commands.numbers(record) == commands.numbers(trained)
    assert set(layout.DETAILS) < set(record['validation_results']['topn_val'])
    assert (
        record['step'] == step
        and 'train_results' not in record
        and record['duration'] > 0
        and not record['saved_filters']
    )
    path = os.path.join(folder('symmetric_split'), 'checkpoint-24')
    assert record['validates'] == (path if how == 'path' else trained['_id'])
    assert record['params']['save_params']['exp_id'] == exp_id
    assert lines[-2].startswith(
        'step {}: top-1 {:.4f}, '.format(step, trained['validation_results']['topn_val']['top1'])
    )
    assert lines[1].startswith('restored ') and lines[1].endswith(f'checkpoint-{step}')
    assert records('symmetric_split') == before


def test_the_settings_may_come_from_their_file(trained, run, where, records):
    exp_id = 'validation_file'
    commands.succeeded(
        run(
            'test.py',
            'validate',
            '--val_exp_id=' + exp_id,
            '--load_params_file=' + trained.settings,
            *(where + ['--load_step=15']),
        )
    )
    (record,) = records(exp_id)
    assert record['validation_results'] == records('symmetric_split')[3]['validation_results']


def test_a_validation_needs_no_training_images(run, where, photograph_tfrecords, records, tmp_path):
    words = where + [
        '--dataset=imagenet',
        '--image_size=9',
        '--model=fc',
        '--layers_list=3',
        '--train_batch_size=5',
    ]
    commands.succeeded(
        run(
            'train.py',
            *(
                words
                + [
                    '--exp_id_suffix=_photographs',
                    '--data_dir=' + photograph_tfrecords,
                    '--train_epochs=1',
                ]
            ),
        )
    )
    data = tmp_path / 'data'
    shutil.copytree(photograph_tfrecords, str(data))
    for path in data.glob('train-*'):
        path.unlink()
    words += [f'--data_dir={data}']
    commands.succeeded(
        run(
            'test.py',
            'validate',
            *(words + ['--exp_id_suffix=_photographs', '--val_exp_id=photographs']),
        )
    )
    (record,) = records('photographs', collection='fc_3')
    trained = records('None_photographs', collection='fc_3')[-1]
    assert record['validation_results'] == trained['validation_results']
    sentence = commands.refusal(
        run('train.py', *(words + ['--exp_id_suffix=_none', '--train_epochs=1'])), 1
    )
    assert 'train-' in sentence and str(data) in sentence
