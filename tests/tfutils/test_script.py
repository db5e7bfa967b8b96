"""A tfutils script with its own model, run as the main program, and the records it leaves."""

import contextlib
import io
import os
import pickle
import runpy
import subprocess
import sys
from unittest import mock

import gridfs
import numpy as np
import pymongo
import pytest

import script
from database import layout, records
from training import runtime  # noqa: F401 (first: it prepares TensorFlow)
import tensorflow.compat.v1 as tf

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
pytestmark = pytest.mark.claim('tfutils')
SCRIPT = os.path.join(HERE, 'script.py')


@pytest.fixture(scope='module')
def cache(tmp_path_factory):
    """The folder of its checkpoints."""
    return str(tmp_path_factory.mktemp('cache'))


@pytest.fixture(scope='module')
def words(mongo_server, cache):
    """The command without `python`, with its port and cache folder."""
    return [SCRIPT, f'--port={mongo_server.port}', '--cache_dir=' + cache]


@pytest.fixture(scope='module')
def command(words):
    """Runs the script as the main program of this process; returns the lines that it prints."""

    def run(*more):
        said = io.StringIO()
        with mock.patch.object(sys, 'argv', [*words, *more]), contextlib.redirect_stdout(said):
            runpy.run_path(SCRIPT, run_name='__main__')
        return said.getvalue().splitlines()

    return run


@pytest.fixture(scope='module')
def said(command):
    """The lines it prints when it trains 50 steps, tests step 40 and resumes up to step 60."""
    return [command('--steps=50'), command('--test'), command('--steps=60')]


@pytest.fixture(scope='module')
def database(mongo_server):
    """A pymongo client of the test server."""
    with pymongo.MongoClient(mongo_server.host, mongo_server.port) as client:
        yield client


@pytest.fixture(scope='module')
def stored(said, database):
    """Returns the records of an exp_id by step, then time."""
    return lambda exp_id='training0': list(
        database['tfutils-test']['points.files']
        .find({'exp_id': exp_id})
        .sort([('step', 1), ('_id', 1)])
    )


def test_it_says_what_it_does(said):
    first, tested, resumed = said
    assert first[1] == 'starting a new training' and first[2].startswith(
        'step 0 of 50: topn: loss 1.'
    )
    assert tested[1].startswith('restored ') and tested[1].endswith('checkpoint-40')
    assert resumed[1].endswith('checkpoint-50') and [
        line for line in resumed if line.startswith('step 60 of 60: topn: ')
    ]


@pytest.mark.slow
def test_a_user_starts_it_with_python_alone(words, database, tmp_path):
    done = subprocess.run(
        [sys.executable, *words, '--exp_id=process', f'--cache_dir={tmp_path}', '--steps=20'],
        env=dict(os.environ, PYTHONPATH=ROOT),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, '')
    assert done.stdout.splitlines()[1] == 'starting a new training'
    found = database['tfutils-test']['points.files'].find({'exp_id': 'process'}).sort('step', 1)
    assert [record['step'] for record in found] == [0, 10, 20]


def test_records_come_when_tfutils_wrote_them(stored, said):
    found = stored()
    assert [record['step'] for record in found] == [0, 10, 20, 30, 40, 50, 60]
    assert [record['step'] for record in found if record['saved_filters']] == [0, 40, 50, 60]
    assert [record['step'] for record in found if 'validation_results' in record] == [
        0,
        20,
        40,
        50,
        60,
    ]
    assert [len(record.get('train_results', [])) for record in found] == [0] + [10] * 6
    assert [layout.faults(record) for record in found + stored('training0-valid')] == [[]] * 8


def test_recent_checkpoints_have_their_database(stored, database):
    name = records.recent_database('tfutils-test', 'points', 'training0')
    assert [file['step'] for file in database[name]['fs.files'].find({'saved_filters': True})] == [
        20
    ]


def test_the_dictionary_is_recorded_with_its_functions_by_name(stored):
    params = stored()[-1]['params']
    model = params['model_params']
    assert model['func']['objname'] == 'two_layers' and (
        model['hidden'],
        model['seed'],
        model['train'],
    ) == (9, 3, True)
    assert model['cfg_final'] == {'hidden1': {'units': 9}, 'softmax_linear': {'units': 3}}
    assert params['learning_rate_params']['func']['objname'] == 'exponential_decay'
    assert (
        params['train_params']['num_steps'] == 60
        and params['train_params']['data_params']['group'] == 'train'
    )
    assert params['validation_params']['topn']['targets'] == {
        'func': {'modname': '__main__', 'objname': 'loss_and_top1'},
        'target': 'labels',
    }


def test_steps_hold_the_loss_the_rate_and_the_means_of_the_targets(stored):
    steps = [step for record in stored() for step in record.get('train_results', [])]
    assert len(steps) == 60 and all(
        set(step) == {'loss', 'learning_rate', 'largest'} for step in steps
    )
    np.testing.assert_allclose(
        [step['learning_rate'] for step in steps[:50]],
        [0.05 * 0.95 ** (step // 7) for step in range(50)],
        1e-5,
    )
    assert steps[-1]['loss'] < 0.2 < steps[0]['loss']


def test_bulky_results_are_in_gridfs(stored, database):
    files = gridfs.GridFS(database['tfutils-test'], 'points')
    record = stored()[1]
    file = files.find_one({'item_for': record['_id']})
    assert file.filename == '{}_fileitems'.format(record['_id'])
    content = pickle.loads(file.read())
    assert set(content) == {'train_results'} and np.shape(
        content['train_results']['first_image']
    ) == (10, script.WIDTH)
    tested = pickle.loads(files.find_one({'item_for': stored('training0-valid')[0]['_id']}).read())
    assert set(tested['validation_results']) == {'topn', 'plain'}


def expected(prefix):
    """Returns the loss and top-1 of a checkpoint on the test points, computed by NumPy."""
    read = tf.train.load_checkpoint(prefix).get_tensor
    images, labels = script.points(seed=1)
    hidden = np.tanh(images.astype(np.float64) @ read('hidden1/weights') + read('hidden1/bias'))
    logits = hidden @ read('softmax_linear/weights') + read('softmax_linear/bias')
    logits -= logits.max(axis=1, keepdims=True)
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(labels)), labels]
    return losses.mean(), np.mean(logits.argmax(axis=1) == labels)


def test_results_are_those_of_the_checkpoint(stored, cache):
    loss, top1 = expected(os.path.join(cache, 'checkpoint-40'))
    results = next(record for record in stored() if record['step'] == 40)['validation_results']
    np.testing.assert_allclose(
        [results['topn']['loss'], results['plain']['loss'], results['topn']['top1']],
        [loss, loss, top1],
        1e-5,
    )


def test_a_test_is_recorded_beside_what_it_validates(stored):
    (record,) = stored('training0-valid')
    trained = next(record for record in stored() if record['step'] == 40)
    assert (
        record['validates'] == trained['_id']
        and record['step'] == 40
        and 'train_results' not in record
    )
    assert record['validation_results'] == {
        'topn': {'top1': trained['validation_results']['topn']['top1']},
        'plain': {},
    }
    assert record['params']['model_params']['train'] is False


def test_variables_have_no_prefix_and_the_slots_of_the_optimizer(said, cache):
    names = set(
        tf.train.load_checkpoint(os.path.join(cache, 'checkpoint-60')).get_variable_to_shape_map()
    )
    layers = {
        f'{layer}/{name}' for layer in ('hidden1', 'softmax_linear') for name in ('weights', 'bias')
    }
    assert names == layers | {name + '/Momentum' for name in layers} | {'global_step'}
