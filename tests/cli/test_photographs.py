"""From a folder of photographs to the record of a ResNet in MongoDB.

The default image sizes are tested at night.
"""

import commands
import pytest

import tiers

from config.schema import Config
from data.preprocessing import PREPROCESSINGS
from training import loop, runtime
from training.devices import OneDevice
from training.choices import choices
from training.experiment import Experiment

pytestmark = pytest.mark.slow

RESNET18 = 17 + 4 + 1  # convolutions, shortcut projections, final layer


@pytest.mark.parametrize(
    'model, flags, size, layers',
    [
        pytest.param('resnet8', ['--image_size=32'], 32, 7 + 1, id='resnet8'),
        *tiers.at_night(
            ('resnet18', ['--image_size=64'], 64, RESNET18),
            ('resnet18v2', ['--use_resnet_v2', '--image_size=64'], 64, RESNET18),
            ('resnet18', [], 224, RESNET18),
            ('resnet18v2', ['--use_resnet_v2'], 299, RESNET18),
            ('resnet18', ['--preprocessing=plain', '--image_size=35'], 35, RESNET18),
        ),
    ],
)
def test_a_step_and_a_validation_of_a_resnet(
    run, where, photograph_tfrecords, records, model, flags, size, layers
):
    done = run(
        'train.py',
        *(
            where
            + ['--data_dir=' + photograph_tfrecords, '--model=' + model.replace('v2', '')]
            + flags
            + [
                '--dataset=imagenet',
                '--alignment=symmetric',
                '--train_epochs=1',
                '--train_batch_size=5',
                '--eval_batch_size=3',
                '--novalidate_first',
                f'--exp_id_suffix=_{size}',
            ]
        ),
    )
    lines = commands.succeeded(done)
    assert (
        f'{model} with symmetric on imagenet: 6 training and 4 test images of '
        f'{size}x{size}x3, 3 classes' in lines
    )
    (record,) = records(f'symmetric_{size}', collection=model)
    results = record['validation_results']['topn_val']
    assert record['step'] == 1 and len(record['train_results']) == 1 and record['saved_filters']
    assert (
        results['images'] == 4 and 4 * results['top1'] in (0, 1, 2, 3, 4) and results['top5'] == 1
    )
    assert record['params']['model_params']['image_shape'] == [size, size, 3]
    assert (
        record['params']['validation_params']['topn_val']['num_steps'] == 2
    )  # a batch of 3 images, and one of 1 image and padding
    assert len(results['weight_angles']) == layers


def test_a_preprocessing_decides_what_the_network_sees(photograph_tfrecords):
    settings = dict(
        model='fc',
        dataset='imagenet',
        data_dir=photograph_tfrecords,
        image_size=35,
        train_batch_size=5,
        eval_batch_size=3,
    )
    losses = []
    for preprocessing in PREPROCESSINGS:
        config = Config.of(dict(settings, preprocessing=preprocessing), choices())
        experiment = Experiment(config, OneDevice(data_format='NHWC'), training=False)
        with loop.session(experiment, runtime.session_config()) as session:
            (results,) = experiment.validate(session).values()
        losses.append(results['loss'])
    assert len(set(losses)) == len(PREPROCESSINGS) >= 3
