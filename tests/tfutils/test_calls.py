"""train_from_params and test_from_params with functions, plain data and invalid arguments."""

import os
import re

import numpy as np
import pymongo
import pytest

import script
import training
from config.schema import ConfigError
from database.errors import StoreError
from database.store import Store
from training import tfutils
from training.checkpoints import CheckpointError
from training.tfutils import base, defaults, functions, optimizer, utils
from training.errors import TrainingError
import tensorflow.compat.v1 as tf

pytestmark = pytest.mark.claim('tfutils')


@pytest.fixture
def params(mongo_server, tmp_path, request):
    """Builds the dictionary of the script with some changes, {'group.name': value}.

    Its validations are only included if `validated` is True, since most tests do not need them.
    """

    def build(changes=(), validated=False):
        given = script.parameters(
            mongo_server.port, re.sub(r'\W', '_', request.node.name), str(tmp_path), 3
        )
        if not validated:
            given['validation_params'] = None
        for path, value in dict(changes).items():
            group, _, name = path.partition('.')
            if name:
                given.setdefault(group, {})[name] = value
            else:
                given[group] = value
        return given

    return build


@pytest.fixture
def records(mongo_server):
    """Returns the stored records of an exp_id by step."""
    with pymongo.MongoClient(mongo_server.host, mongo_server.port) as client:
        yield lambda exp_id, place='tfutils-test.points': list(
            client[place.split('.')[0]][place.split('.')[1] + '.files']
            .find({'exp_id': exp_id})
            .sort('step', 1)
        )


def variables(prefix):
    """Returns the variables of a checkpoint, {name: array}."""
    reader = tf.train.load_checkpoint(prefix)
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def steps(found):
    """Returns the results of each step in the records."""
    return [step for record in found for step in record.get('train_results', [])]


def test_the_calls_are_where_tfutils_had_them():
    assert (
        training.train_from_params is base.train_from_params
        and training.test_from_params is base.test_from_params
    )


def test_a_script_claims_its_experiment(params, records, mongo_server):
    """Two scripts of one experiment at once would store each step twice."""
    given = params({'train_params.num_steps': 1})
    save = given['save_params']
    place = mongo_server.host, mongo_server.port, save['dbname'], save['collname'], save['exp_id']
    other = Store(*place, exclusive=True)
    try:
        with pytest.raises(StoreError, match='has been training exp_id ' + save['exp_id']):
            base.train_from_params(**given)
    finally:
        other.close()
    assert records(save['exp_id']) == []
    base.train_from_params(**given)
    found = records(save['exp_id'])
    assert found and all(record['claim']['number'] == 2 for record in found)


def test_an_update_is_that_of_numpy(params, tmp_path):
    """One step of clipped gradient descent, with the L2 losses of the model."""
    given = params(
        {
            'train_params.num_steps': 1,
            'loss_params': {'loss_func_kwargs': {}},
            'train_params.targets': None,
            'optimizer_params': {
                'optimizer_class': tf.train.GradientDescentOptimizer,
                'clip': True,
                'clipping_method': 'norm',
                'clipping_value': 0.3,
            },
            'learning_rate_params': {
                'func': lambda global_step, base: base * tf.cast(global_step + 1, tf.float32),
                'base': 0.5,
            },
        }
    )
    base.train_from_params(**given)
    before, after = (
        variables(str(tmp_path / 'checkpoint-0')),
        variables(str(tmp_path / 'checkpoint-1')),
    )
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(given['model_params']['seed'])
        batch = session.run(script.data(30, 'train'))
    x, labels = batch['images'].astype(np.float64), batch['labels']
    hidden = np.tanh(x @ before['hidden1/weights'] + before['hidden1/bias'])
    logits = hidden @ before['softmax_linear/weights'] + before['softmax_linear/bias']
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    dy = (p - np.eye(script.CLASSES)[labels]) / 30
    dhidden = dy @ before['softmax_linear/weights'].T * (1 - hidden**2)
    gradients = {
        'softmax_linear/weights': hidden.T @ dy + 1e-4 * before['softmax_linear/weights'],
        'softmax_linear/bias': dy.sum(axis=0),
        'hidden1/bias': dhidden.sum(axis=0),
        'hidden1/weights': x.T @ dhidden + 1e-4 * before['hidden1/weights'],
    }
    norm = np.sqrt(sum(np.sum(g**2) for g in gradients.values()))
    assert norm > 0.3 and after['global_step'] == 1
    for name, gradient in gradients.items():
        np.testing.assert_allclose(
            before[name] - after[name], 0.5 * 0.3 / norm * gradient, 1e-3, 1e-6
        )


@pytest.mark.parametrize(
    'agg_func',
    [tf.reduce_mean, pytest.param(defaults.mean_and_reg_loss, marks=pytest.mark.slow)],
)
def test_the_parts_of_a_batch_give_the_step_of_the_whole(params, records, agg_func):
    found = []
    for part in (30, 10):
        given = params({'train_params.minibatch_size': part, 'loss_params.agg_func': agg_func})
        given['train_params']['targets'] = {
            'func': lambda inputs, outputs: {'largest': tf.reduce_max(outputs, axis=1)}
        }
        given['save_params'].update(exp_id=f'parts_{part}_{agg_func.__name__}', save_to_gfs=[])
        base.train_from_params(**given)
        found.append(steps(records(given['save_params']['exp_id'])))
    whole, parts = found
    assert len(whole) == len(parts) == 3
    for one, other in zip(whole, parts):
        assert one == pytest.approx(other, rel=1e-5)


def test_l2_losses_of_variables_count_once_for_each_network(params, records):
    def model(inputs, train, seed):
        weights = tf.get_variable(
            'weights',
            [script.WIDTH, script.CLASSES],
            tf.float32,
            tf.ones_initializer(),
            regularizer=tf.nn.l2_loss,
        )
        return tf.zeros_like(inputs['images']) @ weights, {}

    for part in (30, 15):
        given = params(
            {
                'model_params': {'func': model},
                'train_params.minibatch_size': part,
                'loss_params': None,
            }
        )
        given['train_params']['targets'] = None
        given['save_params'].update(exp_id=f'l2_{part}')
        base.train_from_params(**given)
        first = steps(records(given['save_params']['exp_id']))[0]
        assert first['loss'] == pytest.approx(
            np.log(3) + script.WIDTH * script.CLASSES / 2, rel=1e-6
        )


def test_a_training_loop_of_ones_own(params, records):
    losses = []

    def loop(sess, train_targets, num_minibatches=1, **loop_params):
        results = sess.run(train_targets)
        losses.append(float(results[0]['loss']))
        return results

    given = params({'train_params.train_loop': {'func': loop}})
    base.train_from_params(**given)
    assert (
        losses == [step['loss'] for step in steps(records(given['save_params']['exp_id']))]
        and len(losses) == 3
    )


def test_a_validation_loop_of_ones_own(params):
    given = params(validated=True)
    given['validation_params'] = {
        'three': dict(
            given['validation_params']['plain'],
            valid_loop={
                'func': lambda sess, targets: {'three': 3, 'loss': sess.run(targets)['loss']}
            },
            online_agg_func=utils.reduce_mean_dict,
            agg_func=utils.identity_func,
        )
    }
    assert base.train_from_params(**given)['three']['three'] == 3


def test_only_some_variables_train(params, tmp_path):
    base.train_from_params(**params({'model_params.trainable_scopes': 'softmax_linear'}))
    before, after = (
        variables(str(tmp_path / 'checkpoint-0')),
        variables(str(tmp_path / 'checkpoint-3')),
    )
    moved = {name for name in before if np.any(before[name] != after[name])}
    assert {name for name in moved if 'Momentum' not in name} == {
        'softmax_linear/weights',
        'softmax_linear/bias',
        'global_step',
    }


def test_a_variable_that_no_checkpoint_holds_trains_too(params):
    def model(inputs, train=True, seed=0):
        kept_from_checkpoints = [tf.GraphKeys.LOCAL_VARIABLES]
        shape = [script.WIDTH, script.CLASSES]
        weights = tf.get_variable('weights', shape, collections=kept_from_checkpoints)
        return tf.matmul(inputs['images'], weights), {}

    experiment = base.train_from_params(dont_run=True, **params({'model_params': {'func': model}}))
    (weights,) = experiment.graph.get_collection(tf.GraphKeys.LOCAL_VARIABLES)
    with tf.Session(graph=experiment.graph) as session:
        session.run(experiment.initializer)
        before = session.run(weights)
        experiment.run_steps(session, 1)
        assert np.any(before != session.run(weights))


def test_nothing_is_saved_where_nothing_is_to_be(params, records, tmp_path):
    given = params({'save_params.do_save': False}, validated=True)
    results = base.train_from_params(**given)
    assert set(results) == {'topn', 'plain'} and records(
        given['save_params']['exp_id']
    ) == [] == os.listdir(str(tmp_path))


def test_dont_run_gives_what_was_built(params, records):
    given = params()
    experiment = base.train_from_params(dont_run=True, **given)
    assert isinstance(experiment, functions.FunctionExperiment) and experiment.plan.steps == 3
    assert records(given['save_params']['exp_id']) == []


def test_an_experiment_is_not_mixed_with_another_of_its_name(params):
    base.train_from_params(**params())
    with pytest.raises(
        ConfigError, match='already has records up to step 3; resume it with do_restore=True'
    ):
        base.train_from_params(**params({'load_params.do_restore': False}))


@pytest.mark.slow
@pytest.mark.parametrize(
    'load, new, restored',
    [
        (
            {},
            [],
            {'hidden1/weights', 'hidden1/bias', 'softmax_linear/weights', 'softmax_linear/bias'},
        ),
        ({'to_restore': ['hidden1/weights']}, ['hidden1/bias'], {'hidden1/weights'}),
        (
            {'to_restore': re.compile('hidden1/(weights|bias)$')},
            ['softmax_linear/bias'],
            {'hidden1/weights', 'hidden1/bias'},
        ),
        (
            {'load_param_dict': {'hidden1/weights': 'hidden1/weights'}},
            ['hidden1/bias'],
            {'hidden1/weights'},
        ),
        (
            {'query': {'step': 0}, 'restore_global_step': False},
            [],
            {'hidden1/weights', 'softmax_linear/weights'},
        ),
    ],
    ids=['all', 'names', 'pattern', 'renamed', 'query'],
)
def test_another_experiments_checkpoint_is_a_start(params, tmp_path, capsys, load, new, restored):
    given = params()
    base.train_from_params(**given)
    first = variables(str(tmp_path / 'checkpoint-{}'.format(0 if 'query' in load else 3)))
    capsys.readouterr()
    again = params(
        {
            'learning_rate_params': {'func': lambda global_step: tf.constant(0.0)},
            'train_params.num_steps': 5,
        }
    )
    again['load_params'] = dict(
        {name: given['save_params'][name] for name in ('host', 'port', 'exp_id')}, **load
    )
    again['save_params'].update(
        exp_id=given['save_params']['exp_id'] + 'again', cache_dir=str(tmp_path / 'again')
    )
    base.train_from_params(**again)
    last = variables(str(tmp_path / 'again' / 'checkpoint-5'))
    assert {name for name in restored if np.any(first[name] != last[name])} == set()
    said = capsys.readouterr().out
    assert [name for name in new if name not in said.split('; new: ')[-1]] == []


@pytest.mark.slow
def test_a_checkpoint_of_another_model_is_refused(params, tmp_path):
    base.train_from_params(**params())
    path = str(tmp_path / 'checkpoint-3')
    for changes, words in (
        (
            {'model_params.hidden': 4},
            r'mis-shaped: hidden1/bias \(\[9\] in the checkpoint, \[4\] here\)',
        ),
        ({'load_params.load_param_dict': {'hidden1/bias': 'hidden7/bias'}}, 'has no hidden7/bias'),
        ({'load_params.to_restore': ['nothing']}, 'none of the variables'),
    ):
        given = params(
            dict({'load_params.from_ckpt': path, 'save_params.exp_id': 'refused'}, **changes)
        )
        with pytest.raises(CheckpointError, match=words):
            base.train_from_params(**given)
    with pytest.raises(CheckpointError, match='mis-shaped'):
        base.train_from_params(**params({'model_params.hidden': 4}))


REFUSED = {
    'save_params has no dbnaem': ({'save_params.dbnaem': 'x'}, ConfigError),
    'save_params lacks port': ({'save_params.port': None}, ConfigError),
    'train_params has no num_step;': ({'train_params.num_step': 7}, ConfigError),
    'load_params has no exp;': ({'load_params.exp': 7}, ConfigError),
    'loss_params has no loss;': ({'loss_params.loss': 7}, ConfigError),
    'queue_params, of tfutils before 2018, is not supported': (
        {'train_params.queue_params': {'queue_type': 'fifo'}},
        ConfigError,
    ),
    'data_params.func must be the function': (
        {'train_params.data_params': {'batch_size': 3}},
        ConfigError,
    ),
    'must return a dictionary of tensors': (
        {'train_params.data_params': {'func': lambda: 3}},
        ConfigError,
    ),
    r'must return \(outputs, dictionary': (
        {'model_params.func': lambda inputs, **more: inputs['images']},
        ConfigError,
    ),
    'the data contain no label;': ({'loss_params.targets': 'label'}, ConfigError),
    'must return one number': ({'loss_params.agg_func': lambda loss: loss}, ConfigError),
    'must not be named loss': (
        {'train_params.targets': {'func': lambda i, o: {'loss': o}}},
        ConfigError,
    ),
    'contain no variable': ({'model_params.trainable_scopes': ['hidden3']}, ConfigError),
    'minibatch_size=7 must divide': ({'train_params.minibatch_size': 7}, ConfigError),
    'trains on one device': ({'model_params.devices': ['/gpu:0', '/gpu:1']}, ConfigError),
    'several models at once': ({'model_params': [{}, {}]}, ConfigError),
    'model_params must be a dictionary': ({'model_params': 'resnet18'}, ConfigError),
    'num_steps, the number of batches, is missing': (
        {
            'validation_params': {
                'v': {'data_params': {'func': script.data, 'batch_size': 7, 'group': 't'}}
            }
        },
        ConfigError,
    ),
    'there is no checkpoint in database ': ({'load_params.exp_id': 'nobody'}, CheckpointError),
    'include_global_step is not supported': (
        {'train_params.include_global_step': True},
        ConfigError,
    ),
    'query must be a dictionary': ({'load_params.query': 'latest'}, ConfigError),
    'query must not contain': ({'load_params.query': {'$where': 'sleep(1)'}}, ConfigError),
    'dbname': ({'save_params.dbname': 'a.b'}, StoreError),
    'step 1: loss is not finite, or beyond 0.01': (
        {'train_params.thres_loss': 0.01},
        TrainingError,
    ),
    'cannot contain': ({'model_params.extra': object()}, StoreError),
}


@pytest.mark.parametrize('words', sorted(REFUSED))
def test_what_cannot_be_is_one_sentence(params, records, words):
    changes, error = REFUSED[words]
    given = params(changes)
    with pytest.raises(error, match=words):
        base.train_from_params(**given)


@pytest.mark.parametrize('name', ['num_step', 'save_param'])
def test_a_group_that_does_not_exist_is_a_type_error(params, name):
    with pytest.raises(TypeError, match=name):
        base.train_from_params(**dict(params(), **{name: {}}))


def test_a_test_needs_something_to_do_and_something_to_test(params):
    given = params(validated=True)
    for validation, words, error in (
        ({}, 'nothing to test', ConfigError),
        (given['validation_params'], 'there is no checkpoint in database ', CheckpointError),
    ):
        with pytest.raises(error, match=words):
            base.test_from_params(
                load_params={
                    name: given['save_params'][name]
                    for name in ('host', 'port', 'dbname', 'collname', 'exp_id', 'cache_dir')
                },
                model_params=given['model_params'],
                validation_params=validation,
            )


def test_a_test_without_save_params_only_gives_its_results(params, records):
    given = params(validated=True)
    trained = base.train_from_params(**given)
    load = {
        name: given['save_params'][name]
        for name in ('host', 'port', 'dbname', 'collname', 'exp_id', 'cache_dir')
    }
    results = base.test_from_params(
        load_params=load,
        model_params=given['model_params'],
        validation_params=given['validation_params'],
        loss_params=given['loss_params'],
    )
    assert results['plain']['loss'] == pytest.approx(trained['plain']['loss'], rel=1e-6)
    assert len(records(given['save_params']['exp_id'])) == 2


def plain(mongo_server, tmp_path, **more):
    """Returns a dictionary of plain data: a small network on synthetic images."""
    return dict(
        {
            'save_params': {
                'port': mongo_server.port,
                'dbname': 'plain',
                'cache_dir': str(tmp_path),
                'exp_id_suffix': '_calls',
            },
            'model_params': {'model': 'fc', 'layers_list': [5], 'alignment': 'symmetric'},
            'train_params': {'dataset': 'synthetic', 'train_batch_size': 100, 'train_epochs': 0.3},
            'validation_params': {'eval_batch_size': 100},
        },
        **more,
    )


@pytest.mark.slow
def test_plain_data_do_what_the_command_does(mongo_server, tmp_path, records):
    given = plain(mongo_server, tmp_path)
    given['model_params']['image_size'] = 7
    results = training.train_from_params(**given)
    found = records('symmetric_calls', 'plain.fc_5')
    assert [record['step'] for record in found] == [0, 3] and found[-1]['saved_filters']
    assert found[-1]['validation_results']['topn_val']['top1'] == results['topn_val']['top1']
    tested = training.test_from_params(
        load_params={'val_exp_id': 'tested'}, **{name: given[name] for name in given}
    )
    assert tested['topn_val']['loss'] == pytest.approx(results['topn_val']['loss'])
    assert records('tested', 'plain.fc_5')[0]['validates'] == found[-1]['_id']
    for change, words in (
        ({'model_params': {'modle': 'fc'}}, "'modle' in model_params"),
        ({'dont_run': True}, 'dont_run'),
        ({'model_params': {'model': 'fc', 'alignment': 'mirorr'}}, '--alignment must be one of'),
    ):
        with pytest.raises(ConfigError, match=words):
            training.train_from_params(**dict(given, **change))


@pytest.mark.parametrize(
    'given, words, gpu, seen',
    [
        (None, ['-g', '1,2'], '1,2', '1,2'),
        ('7,GPU-a1,MIG-b2', ['--gpu=1,2'], '1,2', 'GPU-a1,MIG-b2'),
        ('5,6', [], '0', '5'),
        ('', [], '0', ''),
        ('5,6', ['-g', '-1'], '-1', '-1'),
    ],
)
def test_get_params_chooses_among_the_gpus_that_are_shown(given, words, gpu, seen, monkeypatch):
    monkeypatch.setattr('sys.argv', ['script.py'] + words)
    monkeypatch.setattr(tfutils, 'GIVEN', given)
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    for _ in range(2):  # the indices of a second call do not count within the first choice
        assert base.get_params() == {'gpu': gpu} and os.environ['CUDA_VISIBLE_DEVICES'] == seen


def test_get_params_refuses_what_is_not_shown(monkeypatch, capsys):
    monkeypatch.setattr('sys.argv', ['script.py', '-g', '2'])
    monkeypatch.setattr(tfutils, 'GIVEN', '5,6')
    with pytest.raises(SystemExit) as exit:
        base.get_params()
    assert (
        exit.value.code == 2
        and '--gpu=2: CUDA_VISIBLE_DEVICES=5,6 shows 2 GPUs' in capsys.readouterr().err
    )


def test_means_over_batches():
    batches = [
        {'a': 1.0, 'b': np.array([1.0, 3.0])},
        {'a': 2.0, 'b': np.array([5.0, 3.0])},
        {'a': 6.0, 'b': np.array([0.0, 0.0])},
    ]
    assert utils.mean_dict(batches) == {'a': 3.0, 'b': 2.0}
    so_far = None
    for step, batch in enumerate(batches):
        so_far = utils.reduce_mean_dict(so_far, batch, step)
    assert so_far['a'] == pytest.approx(3.0)
    np.testing.assert_allclose(so_far['b'], [2.0, 2.0])
    assert utils.append_and_return(utils.append_and_return(None, 1, 0), 2, 1) == [1, 2]
    assert utils.identity_func([1]) == {'result': [1]} and utils.identity_func({'a': 1}) == {'a': 1}


def test_values_are_clipped_one_by_one():
    with tf.Graph().as_default(), tf.Session() as session:
        variable = tf.get_variable('v', [3], initializer=tf.zeros_initializer())
        clipping = optimizer.ClipOptimizer(
            tf.train.GradientDescentOptimizer, clipping_value=0.5, learning_rate=1.0
        )
        pairs = clipping.compute_gradients(tf.reduce_sum(variable * [0.25, -3.0, 7.0]), [variable])
        update = clipping.apply_gradients(pairs)
        session.run(tf.global_variables_initializer())
        session.run(update)
        assert session.run(variable).tolist() == [-0.25, 0.5, -0.5] and clipping.variables() == []


@pytest.mark.slow
def test_a_second_experiment_in_the_same_folder_trains(params, records, tmp_path):
    """Local checkpoints of the first experiment have later steps."""
    saving = {
        'save_params.save_filters_freq': 1,
        'save_params.cache_max_num': 2,
        'validation_params': None,
    }
    for exp_id, steps_done in (('first', 4), ('second', 2)):
        given = params(
            dict(saving, **{'train_params.num_steps': steps_done, 'save_params.exp_id': exp_id})
        )
        base.train_from_params(**given)
        assert [record['step'] for record in records(exp_id) if record['saved_filters']][-2:] == [
            steps_done - 1,
            steps_done,
        ]
        assert {f'checkpoint-{step}.index' for step in (steps_done - 1, steps_done)} <= set(
            os.listdir(str(tmp_path))
        )


def test_a_checkpoint_that_was_lost_is_not_tested(params, records, tmp_path):
    with tf.Graph().as_default(), tf.Session() as session:
        for name, shape in (('hidden1/weights', [11, 9]), ('hidden1/bias', [9])):
            tf.get_variable(
                name, shape, initializer=tf.constant_initializer(np.inf if 'bias' in name else 1.0)
            )
        session.run(tf.global_variables_initializer())
        prefix = tf.train.Saver().save(session, str(tmp_path / 'lost'))
    given = params(
        {'load_params': {'from_ckpt': prefix}, 'save_params.exp_id': 'tested'}, validated=True
    )
    for group in ('train_params', 'optimizer_params', 'learning_rate_params'):
        given.pop(group, None)
    with pytest.raises(CheckpointError, match='NaN or infinite numbers in hidden1/bias;'):
        base.test_from_params(**given)
    assert records('tested') == []


def test_a_bucket_is_no_folder_of_local_files(params):
    with pytest.raises(
        ConfigError, match='cache_dir=gs://bucket/x must be a folder on this machine'
    ):
        base.train_from_params(**params({'save_params.cache_dir': 'gs://bucket/x'}))
