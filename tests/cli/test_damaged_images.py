"""Images that cannot be used, and wrong numbers of images: what is reported, and what is skipped.

One command of each kind goes through train.py; the other kinds of damage are tested with the
experiment that it trains.
"""

import os
import re
import shutil

import commands
import damage
import pytest
import tensorflow.compat.v1 as tf

from config.schema import Config
from training import loop, runtime
from training.devices import OneDevice
from training.choices import choices
from training.errors import TrainingError
from training.experiment import Experiment

pytestmark = pytest.mark.slow
FILE = '-00001-of-00002'  # the damaged file of a split
SETTINGS = dict(
    model='fc',
    layers_list=(3,),
    dataset='imagenet',
    image_size=9,
    train_batch_size=5,
    validate_first=False,
    epochs_per_checkpoint=9.0,
)
NETWORK = ['--model=fc', '--layers_list=3', '--dataset=imagenet', '--image_size=9']


@pytest.fixture(scope='module')
def train(run, where):
    """Returns a function: flags -> the commands.Done of a training."""
    return lambda *flags: run('train.py', *NETWORK, *where, *flags)


def experiment_of(data, split, steps_per_call=1, **settings):
    """Returns the Experiment that trains on the images of a folder, or validates on them."""
    config = Config.of(dict(SETTINGS, data_dir=data, **settings), choices())
    device = OneDevice(data_format='NHWC', steps_per_call=steps_per_call)
    of = dict(training=split == 'train', validating=split == 'validation')
    return Experiment(config, device, **of)


def error_of(experiment, folder):
    """Returns the message with which a training or a validation fails."""
    with loop.session(experiment, runtime.session_config()) as session:
        with pytest.raises(TrainingError) as error:
            if experiment.step:
                loop.Run(session, experiment, None, str(folder), {}).train()
            else:
                experiment.validate(session)
    return str(error.value)


def place(data, split):
    """Returns how a message names the last record of the damaged file of a split."""
    path = os.path.join(data, split + FILE)
    return f'record {LAST[split]} of {path} (from 0)'


LAST = dict(train=2, validation=1)  # index of the last record in the second file, from 0


def test_the_last_record_is_the_damaged_one(photograph_tfrecords):
    paths = {split: os.path.join(photograph_tfrecords, split + FILE) for split in LAST}
    assert {
        split: sum(1 for _ in tf.python_io.tf_record_iterator(path)) - 1
        for split, path in paths.items()
    } == LAST


@pytest.mark.parametrize(
    'how, split, words',
    [
        ('half_a_jpeg', 'train', 'Invalid JPEG data'),
        ('flipped_bit', 'validation', 'cannot be read (corrupted record'),
    ],
)
def test_a_command_names_the_damaged_image(train, damaged_tfrecords, how, split, words):
    data = damaged_tfrecords(how, split)
    flags = ['--train_batch_size=5', '--train_epochs=3', f'--exp_id_suffix=_{how}_{split}']
    sentence = commands.refusal(train(*flags, f'--data_dir={data}'), 1)
    assert place(data, split) in sentence and words in sentence


@pytest.mark.parametrize(
    'how, split, words',
    [
        ('no_jpeg', 'validation', 'cannot be used ('),
        ('png', 'train', 'the image is not a JPEG file'),
        ('png', 'validation', 'the image is not a JPEG file'),
        ('cut_off', 'train', 'cannot be read (truncated record'),
        ('label_out_of_range', 'validation', 'the label is'),
        ('label_out_of_range', 'train', 'the label is'),
        ('label_missing', 'train', 'labels'),
    ],
)
def test_damaged_images_are_named(damaged_tfrecords, tmp_path, how, split, words):
    data = damaged_tfrecords(how, split)
    sentence = error_of(experiment_of(data, split, train_epochs=3), tmp_path)
    assert place(data, split) in sentence and words in sentence


@pytest.fixture
def miscounted(photograph_tfrecords, tmp_path):
    """Returns a function: number -> (a folder that claims to have this many training images, path).

    The path is that of the file with the claim.
    """

    def copy(said):
        data = str(tmp_path / 'data')
        shutil.copytree(photograph_tfrecords, data)
        return data, damage.describe(data, train_images=said)

    return copy


def test_a_wrong_number_of_training_images_ends_the_training(train, miscounted, records):
    data, path = miscounted(5)
    flags = ['--train_batch_size=2', '--train_epochs=1', '--exp_id_suffix=_count']
    sentence = commands.refusal(train(*flags, f'--data_dir={data}'), 1)
    assert f'holds 6 training images, but {path} gives 5;' in sentence
    assert [record['step'] for record in records('None_count', collection='fc_3')] == [0]


@pytest.mark.parametrize(
    'said, more', [(7, dict(skip_bad_records=9)), (5, dict(steps_per_call=3))], ids=str
)
def test_a_wrong_number_is_noticed_however_the_images_are_read(miscounted, tmp_path, said, more):
    data, path = miscounted(said)
    experiment = experiment_of(data, 'train', train_batch_size=2, train_epochs=1, **more)
    sentence = error_of(experiment, tmp_path / 'checkpoints')
    assert f'holds 6 training images, but {path} gives {said};' in sentence


def test_a_command_tells_and_records_what_it_skips(train, damaged_tfrecords, records):
    """4 steps use 5 of the 6 images each, which is more than 3 epochs."""
    data = '--data_dir=' + damaged_tfrecords('half_a_jpeg', 'train')
    flags = ['--train_batch_size=5', '--eval_batch_size=3', '--train_epochs=4']
    flags += ['--epochs_per_checkpoint=9', '--novalidate_first', '--exp_id_suffix=_skip']
    done = train(*flags, '--skip_bad_records=4', data)
    lines = commands.succeeded(done)
    (record,) = records('None_skip', collection='fc_3')
    skipped = sum(step['skipped_records'] for step in record['train_results'])
    assert len(record['train_results']) == 4 and skipped in (3, 4)  # once an epoch
    told = re.compile('warning: step [1-4]: 1 images that cannot be used are skipped')
    assert sum(1 for line in lines if told.match(line)) == skipped


@pytest.mark.parametrize('how', ['no_jpeg', 'label_out_of_range', 'label_missing'])
def test_damaged_images_are_skipped_where_that_is_allowed(damaged_tfrecords, how):
    data = damaged_tfrecords(how, 'train')
    experiment = experiment_of(data, 'train', skip_bad_records=4)
    with loop.session(experiment, runtime.session_config()) as session:
        session.run(experiment.step.initializer)
        steps = [experiment.run_steps(session, 1)[0]['skipped_records'] for _ in range(4)]
    assert set(steps) <= {0, 1} and sum(steps) in (3, 4)  # once an epoch


def test_no_more_images_are_skipped_than_is_allowed(damaged_tfrecords, tmp_path):
    data = damaged_tfrecords('half_a_jpeg', 'train')
    experiment = experiment_of(data, 'train', train_epochs=4, skip_bad_records=2)
    assert (
        '1 images that cannot be used are skipped, 3 in total, more than --skip_bad_records=2 '
        f'allows; {place(data, "train")}' in error_of(experiment, tmp_path)
    )


def test_a_validation_counts_what_it_skips(damaged_tfrecords):
    data = damaged_tfrecords('no_jpeg', 'validation')
    experiment = experiment_of(data, 'validation', eval_batch_size=3, skip_bad_records=1)
    with loop.session(experiment, runtime.session_config()) as session:
        (results,) = experiment.validate(session).values()
    assert (results['images'], results['skipped_records']) == (3, 1)
    assert results['top1'] in (0, 1 / 3, 2 / 3, 1)
