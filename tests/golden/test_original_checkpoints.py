"""A checkpoint of the original code's variables gives the original's numbers in this program.

The checkpoint is written by the same Saver as the original's and stored as tfutils stored it. The
variables are those in the original's table (names, shapes, types, slots), with the values of
reference.py. The numbers are what the original code computed for these values on these images.
"""

import datetime
import os
import tarfile

import gridfs
import numpy as np
import pymongo
import pytest

import data
import reference
from config.schema import Config
from data.base import Dataset
from database.layout import DETAILS, SIGNALS
from training import checkpoints, devices, jobs, runtime
from training.choices import choices
import tensorflow.compat.v1 as tf

pytestmark = [pytest.mark.slow, pytest.mark.claim('original checkpoints')]
TABLE = 'vars_resnet18_momentum_alignadam.json'
GOLDEN = 'resnet18_symmetric.npz'
TOLERANCE = 1e-4 if runtime.IS_TF2 else 1e-5
STEP = 20
DBNAME, COLLNAME, EXP_ID = 'original', 'resnet18', 'symmetric_old'
GOES_ON = dict(do_restore=True, train_epochs=float(STEP + 1))


class Images(Dataset):
    """The two images of the numbers, for both training and validation."""

    name = 'golden'
    image_dtype = tf.float32
    classes, train_images, validation_images, image_shape = 1000, 2, 2, (128, 128, 3)

    def __init__(self, **settings):
        self.images = (
            reference.stream('images:resnet18')
            .standard_normal((2,) + self.image_shape)
            .astype(np.float32)
        )
        self.labels = (
            reference.stream('labels:resnet18').randint(0, self.classes, 2).astype(np.int64)
        )

    def records(self, split, seed):
        return tf.data.Dataset.range(2)

    def example(self, record, seed):
        return tf.gather(self.images, record), tf.gather(self.labels, record)


@pytest.fixture(autouse=True, scope='module')
def images(mongo_server, tmp_path_factory):
    """Adds --dataset=golden, and caches one training graph for both tests.

    Building the graph takes most of the time of these tests.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(data.DATASETS, 'golden', Images)
        patch.setenv('CUDA_VISIBLE_DEVICES', '')
        settings = config(mongo_server, tmp_path_factory.mktemp('cache'), **GOES_ON)
        experiment = jobs.Experiment(settings, devices.choose(settings), first_step=STEP)
        patch.setattr(jobs, 'Experiment', lambda config, device, *_, **__: experiment)
        yield


@pytest.fixture(scope='module')
def golden():
    """Returns {key: array} as computed by the original code."""
    with np.load(reference.path(GOLDEN)) as file:
        return dict(file)


@pytest.fixture(scope='module')
def prefix(tmp_path_factory):
    """Returns the path of the checkpoint: three files, including the .meta that a Saver writes."""
    values = {}
    with tf.Graph().as_default(), tf.Session() as session:
        for row in reference.read_json(TABLE):
            value = (
                np.int64(STEP)
                if row['name'] == 'global_step'
                else np.zeros(row['shape'], row['dtype'])
                if not row['trainable'] and '/moving_' not in row['name']
                else reference.variable(row['name'], row['shape'])
            )
            values[
                tf.get_variable(
                    row['name'],
                    row['shape'],
                    row['dtype'],
                    tf.zeros_initializer(),
                    trainable=row['trainable'],
                )
            ] = value
        checkpoints.assign(session, values)
        path = str(tmp_path_factory.mktemp('original') / 'model.ckpt')
        return tf.train.Saver().save(session, path, global_step=STEP)


@pytest.fixture(scope='module')
def stored(mongo_server, prefix):
    """Returns the `_id` of the checkpoint's record, stored in GridFS as by tfutils.

    The .tar is named by its whole path.
    """
    with pymongo.MongoClient(mongo_server.host, mongo_server.port) as client:
        path = os.path.join(os.path.dirname(prefix), f'checkpoint-{STEP}.tar')
        with tarfile.open(path, 'w') as tar:
            for ending in ('.index', '.data-00000-of-00001'):
                tar.add(prefix + ending, arcname=f'checkpoint-{STEP}{ending}')
        with open(path, 'rb') as file:
            yield gridfs.GridFS(client[DBNAME], COLLNAME).put(
                file,
                filename=path,
                exp_id=EXP_ID,
                step=STEP,
                saved_filters=True,
                _saver_write_version=2,
                _saver_num_data_files=1,
                duration=0.75,
                params={
                    'model_params': {
                        'func': {
                            'modname': 'Models.resnet_model_google',
                            'objname': 'google_resnet_func',
                        }
                    },
                    'skip_check': 1,
                },
                train_results=[{'loss': 7.0, 'learning_rate': 0.1}],
                saved=datetime.datetime(2019, 7, 1),
            )
        client.drop_database(DBNAME)


def config(mongo_server, folder, **settings):
    """Returns settings with which nothing is learned.

    They are ResNet-18, symmetric alignment, momentum for the task and Adam for the alignment.
    """
    return Config.of(
        dict(
            dict(
                port=mongo_server.port,
                dbname=DBNAME,
                cache_dir=str(folder),
                model='resnet18',
                alignment='symmetric',
                dataset='golden',
                image_size=128,
                train_batch_size=2,
                eval_batch_size=2,
                optimizer='momentum',
                alignment_optimizer='adam',
                learning_rate=0.0,
                alignment_learning_rate=0.0,
                exp_id_suffix='_old',
            ),
            **settings,
        ),
        choices(),
    )


def measured(results):
    """Returns {key of the golden file: value} of a validation, of what the original measures."""
    return {
        f'metric/{name}/{layer}': value
        for name, layers in results['topn_val'].items()
        if isinstance(layers, dict) and name not in (*SIGNALS, *DETAILS)
        for layer, value in layers.items()
    }


def worst(got, golden):
    """Returns the worst relative error of the common keys. It is NaN if any error is NaN."""
    assert got and set(got) <= set(golden)
    return np.max([reference.error(value, golden[name]) for name, value in got.items()])


def test_a_validation_gives_the_numbers_of_the_original(
    mongo_server, prefix, golden, tmp_path, record_property
):
    results = jobs.validate(
        config(mongo_server, tmp_path, val_exp_id='validation', load_checkpoint=prefix)
    )
    got = measured(results)
    assert len(got) == len([key for key in golden if key.startswith('metric/')]) > 150
    error = worst(got, golden)
    record_property('references', len(got))
    record_property('error', error)
    assert error <= TOLERANCE and results['topn_val']['global_step'] == STEP
    with pymongo.MongoClient(mongo_server.host, mongo_server.port) as client:
        (record,) = client[DBNAME][COLLNAME + '.files'].find({'exp_id': 'validation'})
    assert record['validates'] == os.path.abspath(prefix)


@pytest.mark.nightly
def test_a_training_goes_on_with_the_losses_of_the_original(
    mongo_server, stored, golden, tmp_path, record_property
):
    """The training resumes with every slot of both optimisers (--do_restore).

    The losses of the first step are those of the restored variables.
    """
    jobs.train(config(mongo_server, tmp_path, **GOES_ON))
    with pymongo.MongoClient(mongo_server.host, mongo_server.port) as client:
        (record,) = client[DBNAME][COLLNAME + '.files'].find({'exp_id': EXP_ID, 'step': STEP + 1})
    (first,) = record['train_results']
    names = dict(
        model_loss='task_loss',
        reg_loss='reg_loss',
        alignment_loss='alignment_loss',
        total_loss='total_loss',
    )
    error = worst({there: first[here] for here, there in names.items()}, golden)
    record_property('references', len(names))
    record_property('error', error)
    assert error <= TOLERANCE
