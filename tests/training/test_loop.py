"""Compares validations with NumPy, and checks whole runs that a real MongoDB records."""

import collections
import contextlib
import math
import os
import pickle
import resource
import signal

import gridfs
import numpy as np
import pymongo
import pytest

import data
import tiers
import tiny
from config.schema import Config
from database import layout, records
from database.store import Store
from training import (
    checkpoints,
    devices,
    environment,
    jobs,
    loop,
    provenance,
    runtime,
    stopping,
    validation,
)
from training.choices import choices
from training.experiment import Experiment
from training.errors import TrainingError

import tensorflow.compat.v1 as tf

ANGLES = ['gradient_angles', 'projection_angles', 'weight_angles']
COMPARED = [
    'gradient_cosines',
    'gradient_norm_ratios',
    'gradient_sign_agreements',
    'norm_ratios',
]  # with backpropagation
SIZES = [
    *('activity_norms', 'actsq_mean', 'actsq_norm', 'backprop_gradient_sizes', 'error_ranks'),
    *('hebb_angle', 'weightsq_mean', 'weightsq_norm'),
]
LAYERS = {'dense0', 'dense_output'}


# --- when -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'every, steps', [(None, []), (1, [1, 2, 3, 4, 5, 6, 7]), (3, [3, 6]), (7, [7]), (8, [])]
)
def test_due(every, steps):
    assert [step for step in range(1, 8) if loop.due(step, every)] == steps


# --- validation -----------------------------------------------------------------------------------


def validated(exp, **variables):
    """Returns the results of a validation, and the variables that were validated."""
    with tiny.session(exp, variables) as session:
        return validation.validate(session, exp), tiny.values(session, exp)


@pytest.mark.parametrize(
    'dataset, batch',
    [('tiny', 5), ('few', 7)]
    + [
        pytest.param('tiny', batch, marks=pytest.mark.slow)  # one image, all, more than there are
        for batch in (1, 13, 1024)
    ],
)
def test_a_validation_counts_every_image_once(dataset, batch):
    exp = tiny.experiment(
        training=False, dataset=dataset, eval_batch_size=batch, alignment='feedback'
    )
    bias = np.linspace(-0.7, 0.7, exp.dataset.classes).astype(
        np.float32
    )  # so that the labels rank differently
    results, variables = validated(exp, **{'dense_output/bias': bias, 'global_step': np.int64(7)})
    outputs, labels = tiny.logits(variables, exp.dataset.images[:13]), exp.dataset.labels[:13]
    ranks = np.sum(outputs > outputs[np.arange(13), labels][:, None], axis=1)
    assert results['images'] == 13 and results['global_step'] == 7
    assert results['top1'] == np.sum(ranks < 1) / 13 and results['top5'] == np.sum(ranks < 5) / 13
    np.testing.assert_allclose(results['loss'], tiny.cross_entropy(outputs, labels).mean(), 1e-5)
    assert 0 < results['top1'] < 1 and (results['top5'] == 1) == (dataset == 'few')


def angle(a, b):
    a, b = a.ravel().astype(np.float64), b.ravel()
    # The last digit depends on the CPU: a cosine of two equal arrays can be larger than 1.
    return np.degrees(np.arccos(min(1.0, a @ b / np.linalg.norm(a) / np.linalg.norm(b))))


def test_a_validation_measures_every_layer():
    results, variables = validated(tiny.experiment(training=False, alignment='feedback'))
    assert sorted(name for name in results if isinstance(results[name], dict)) == sorted(
        ANGLES + COMPARED + SIZES
    )
    assert all(set(results[name]) == LAYERS for name in ANGLES + COMPARED + SIZES)
    for layer in LAYERS:
        forward, backward = [
            variables[f'{layer}/{which}_kernel'] for which in ('forward', 'backward')
        ]
        np.testing.assert_allclose(
            results['weight_angles'][layer], angle(forward, backward.T), 1e-4
        )
        np.testing.assert_allclose(
            results['weightsq_norm'][layer], np.sum(forward.astype(np.float64) ** 2), 1e-5
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    'settings',
    [
        dict(train_batch_size=2, eval_batch_size=4),
        dict(train_batch_size=12, minibatch_size=4, eval_batch_size=13),
        dict(eval_batch_size=3, cpu_devices=3, gpu='0,2'),
    ],
    ids=['small', 'large', 'two devices'],
)
def test_angles_and_sizes_are_those_of_the_first_images_whatever_the_batches(settings):
    results, variables = validated(
        tiny.experiment(
            training=False, alignment='feedback', layers_list=(7, 5), measure_images=9, **settings
        )
    )
    x = tiny.DATASETS['tiny']().images[:9].reshape(9, -1).astype(np.float64)
    for layer in ('dense0', 'dense1'):
        forward, backward = [
            variables[f'{layer}/{which}_kernel'].astype(np.float64)
            for which in ('forward', 'backward')
        ]
        assert abs(results['projection_angles'][layer] - angle(x @ forward, x @ backward.T)) < 1e-3
        x = 1 / (1 + np.exp(-(x @ forward + variables[layer + '/bias'])))
        np.testing.assert_allclose(results['actsq_norm'][layer], np.sum(x**2), 1e-5)
    assert results['measured_images'] == 9 and results['images'] == 13
    used, backprop = [errors_of_the_first(9, variables, which) for which in ('backward', 'forward')]
    for layer in ('dense0', 'dense1', 'dense_output'):
        one, other = used[layer], backprop[layer]
        cosine = np.cos(np.radians(angle(one, other)))
        assert abs(results['gradient_cosines'][layer] - cosine) < 1e-5
        size = np.linalg.norm(9 * other) / 3
        np.testing.assert_allclose(results['backprop_gradient_sizes'][layer], size, 1e-4)
        squares = np.linalg.svd(one, compute_uv=False) ** 2
        rank = squares.sum() ** 2 / np.sum(squares**2)
        np.testing.assert_allclose(results['error_ranks'][layer], rank, 1e-3)


def errors_of_the_first(count, variables, which):
    """Returns {layer: error} of the first images, sent back through the kernels of this name."""
    dataset = tiny.DATASETS['tiny']()
    names = ['dense0', 'dense1', 'dense_output']
    x = dataset.images[:count].reshape(count, -1).astype(np.float64)
    outputs = {}
    for layer in names:
        y = x @ variables[layer + '/forward_kernel'] + variables[layer + '/bias']
        outputs[layer] = x = y if layer == names[-1] else 1 / (1 + np.exp(-y))
    shares = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    dy = (shares - np.eye(dataset.classes)[dataset.labels[:count]]) / count
    found = {names[-1]: dy}
    for layer, above in [('dense1', names[-1]), ('dense0', 'dense1')]:
        kernel = variables[f'{above}/{which}_kernel']
        dx = found[above] @ (kernel if which == 'backward' else kernel.T)
        found[layer] = dx * outputs[layer] * (1 - outputs[layer])
    return found


def test_where_there_are_fewer_images_all_of_them_are_measured():
    exp = tiny.experiment(training=False, alignment='feedback')
    assert exp.config.measure_images == 64 and validated(exp)[0]['measured_images'] == 13


@pytest.mark.slow
def test_an_image_that_cannot_be_used_is_not_measured():
    """Images 2 and 11 of 13 are damaged, so one of the first seven; the first image replaces it."""
    found, wanted = [
        validated(
            of_images(
                damaged(bad),
                dict(tiny.FC, alignment='feedback', measure_images=7, skip_bad_records=2),
            )
        )[0]
        for bad in ((2, 11), ())
    ]
    assert (found['images'], found['skipped_records'], found['measured_images']) == (11, 2, 6)
    assert (wanted['images'], wanted['skipped_records'], wanted['measured_images']) == (13, 0, 7)
    assert (
        found['actsq_norm'] == wanted['actsq_norm']
        and found['gradient_angles'] == wanted['gradient_angles']
    )


def of_images(dataset, settings):
    """Returns the Experiment that validates on a data set."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(data.DATASETS, dataset.name, dataset)
        config = Config.of(dict(settings, dataset=dataset.name), choices())
        return Experiment(config, devices.choose(config), training=False)


def damaged(bad):
    """Returns the images of `tiny`, some of which cannot be used; the third equals the first."""

    class Images(tiny.DATASETS['tiny']):
        def example(self, record, seed):
            image, label = super().example(
                tf.where(tf.equal(record, 2), tf.zeros_like(record), record), seed
            )
            with tf.control_dependencies(
                [tf.Assert(tf.not_equal(record, number), [record]) for number in bad]
            ):
                return tf.identity(image), label

    return Images


@pytest.mark.nightly
def test_zero_vectors_have_no_angle_and_are_left_out_of_the_mean():
    """In a new ResNet-18, the last batch norm of each of the eight blocks has gamma 0.

    No error passes through such a block.
    """
    results, _ = validated(
        of_images(
            tiny.dataset('pixels', image_shape=(9, 9, 3)),
            dict(model='resnet18', alignment='symmetric', eval_batch_size=5, train_batch_size=12),
        )
    )
    angles = results['gradient_angles']
    assert (
        sum(angle is None for angle in angles.values()) == 16 == results['undefined_angles']
        and len(angles) == 22
    )
    there = [angle for angle in angles.values() if angle is not None]
    assert (
        validation.mean_angle(results, 'gradient_angles') == pytest.approx(np.mean(there))
        and np.isfinite(there).all()
    )
    assert (
        None not in results['weight_angles'].values()
        and None not in results['projection_angles'].values()
    )


def test_backprop_has_sizes_but_no_angles():
    results, _ = validated(tiny.experiment(training=False))
    assert all(set(results[name]) == LAYERS for name in SIZES) and all(
        results[name] == {} for name in ANGLES + COMPARED
    )
    assert 'alignment_coefficients' not in results and results['undefined_angles'] == 0


def test_coefficients_are_reported_where_they_are_asked_for():
    results, _ = validated(
        tiny.experiment(
            training=False, alignment='mirror', alpha=0.5, save_alignment_coefficients=True
        )
    )
    assert {
        name: float(value) for name, value in results['alignment_coefficients'].items()
    } == pytest.approx(dict(alpha=0.5, beta=1e-3))


def test_a_validation_moves_nothing_and_repeats_to_the_bit():
    exp = tiny.experiment(alignment='symmetric')
    with tiny.session(exp) as session:
        before = tiny.values(session, exp)
        first, second = validation.validate(session, exp), validation.validate(session, exp)
        assert tiny.moved(before, tiny.values(session, exp)) == set() and first == second


@pytest.mark.slow
@pytest.mark.parametrize(
    'dataset, words',
    [
        ('one_short', 'read 13 images, but the data set has 14'),
        ('one_more', 'read 13 images, but the data set has 12'),
        ('batches_short', 'but the data set has 26'),
        ('batches_more', 'but the data set has 10'),
    ],
)
def test_a_dataset_whose_counts_lie_is_refused(dataset, words):
    with pytest.raises(TrainingError, match=words):
        validated(tiny.experiment(training=False, dataset=dataset))


# --- results --------------------------------------------------------------------------------------


def test_take_moves_results_out():
    results, steps = (
        dict(topn_val=dict(top1=0.5, a={'dense': 1}, b=2)),
        [dict(loss=1.0, b=3), dict(loss=2.0, b=4)],
    )
    assert validation.take((), results, steps) == ({}, {})
    assert validation.take(('b', 'a'), results, steps) == (
        {'b': [3, 4]},
        dict(topn_val=dict(a={'dense': 1}, b=2)),
    )
    assert results == dict(topn_val=dict(top1=0.5)) and steps == [dict(loss=1.0), dict(loss=2.0)]
    with pytest.raises(
        TrainingError, match='--save_to_gfs: there is no result a, x; choose from loss, top1'
    ):
        validation.take(('x', 'top1', 'a'), results, known=['loss'])
    assert results == dict(topn_val=dict(top1=0.5))
    assert validation.take(('x', 'top1'), {}, steps) == ({}, {})  # a record without a validation


def test_summary():
    results = dict(
        top1=0.97104,
        top5=0.9995,
        weight_angles={'a': 10.0, 'b': 14.5},
        gradient_angles={'a': np.float32(7)},
    )
    assert (
        validation.summary(results)
        == 'top-1 0.9710, top-5 0.9995, mean weight angle 12.2 degrees, mean gradient angle 7.0 '
        'degrees'
    )
    assert (
        validation.summary(dict(top1=1, top5=1, weight_angles={}, gradient_angles={}))
        == 'top-1 1.0000, top-5 1.0000'
    )
    assert (
        validation.mean_angle(results, 'weight_angles') == 12.25
        and validation.mean_angle(results, 'projection_angles') is None
    )
    results = dict(
        top1=0, top5=0, weight_angles={'a': None, 'b': 14.5}, gradient_angles={'a': None}
    )
    assert (
        validation.summary(results) == 'top-1 0.0000, top-5 0.0000, mean weight angle 14.5 degrees'
    )


def test_many_ties_are_warned_of():
    assert (
        validation.warnings(dict(ties=10, images=1000)) == validation.warnings(dict(top1=0.5)) == []
    )
    (warning,) = validation.warnings(dict(ties=1011, images=100000))
    assert (
        warning.startswith('warning: the top-1 of 1,011 of 100,000 images was decided by a tie: ')
        and 'the network is dead' in warning
    )
    assert (
        'precision' not in warning
        and '--precision=bfloat16' in validation.warnings(dict(ties=2, images=100), 'bfloat16')[0]
    )


# --- runs -----------------------------------------------------------------------------------------

Outcome = collections.namedtuple(
    'Outcome', 'records results said exp folder client database error variables'
)


def settings_of(exp):
    """Returns the settings that its records hold."""
    return jobs.merged_params(
        exp.config,
        exp.settings(),
        provenance.describe(),
        environment.describe(exp.device, exp.dataset),
    )


@pytest.fixture(scope='module')
def run(mongo_server, tmp_path_factory):
    """Returns a function: (database, **settings) -> Outcome of a training that MongoDB records."""
    client = pymongo.MongoClient(mongo_server.host, mongo_server.port)

    def train(database, start=None, **settings):
        exp, said, error, results = tiny.experiment(**settings), [], None, None
        folder = str(tmp_path_factory.mktemp(database))
        store = Store(
            mongo_server.host, mongo_server.port, database, exp.collection, exp.config.exp_id
        )
        with tiny.session(exp, start) as session:
            try:
                results = loop.Run(
                    session, exp, store, folder, settings_of(exp), said.append
                ).train()
            except TrainingError as caught:
                error = str(caught)
            finally:
                store.close()
            variables = tiny.values(session, exp)
        documents = list(
            client[database][exp.collection + '.files']
            .find({'exp_id': exp.config.exp_id})
            .sort('step', 1)
        )
        assert [
            faults for document in documents for faults in [layout.faults(document)] if faults
        ] == []
        return Outcome(documents, results, said, exp, folder, client, database, error, variables)

    yield train
    client.close()


LONG = dict(
    alignment='symmetric',
    optimizer='momentum',
    learning_rate=0.1,
    train_epochs=70.0,
    epochs_per_checkpoint=50.0,
    epochs_per_recent_checkpoint=6.0,
    checkpoint_max=2,
)
RECENT = [step for step in range(18, 210, 18)]
LASTING = [150, 210]


@pytest.fixture(scope='module')
def long_run(run):
    """A training of 210 steps with all options on."""
    return run('long_run', **LONG)


def test_a_run_is_recorded_at_every_point_that_counts(long_run):
    assert long_run.exp.train_steps == 210
    steps = sorted({0, 100, 200} | set(RECENT) | set(LASTING))
    assert [record['step'] for record in long_run.records] == steps
    for record, since in zip(long_run.records, [0] + steps):
        assert len(record.get('train_results', [])) == record['step'] - since
        assert ('train_results' in record) == (
            record['step'] > 0
        )  # the fields that tfutils' readers query with $exists
        assert ('validation_results' in record) == (record['step'] in [0] + LASTING)
        assert (
            record['saved_filters'] == (record['step'] in [0] + LASTING) == ('filename' in record)
        )
        assert record['exp_id'] == 'symmetric'
        assert record['duration'] > 0


def test_a_run_can_validate_between_two_checkpoints(run):
    every = dict(epochs_per_validation=1.0, epochs_per_checkpoint=3.0)
    found = run('between', train_epochs=4.0, **every)
    assert [
        (record['step'], 'validation_results' in record, record['saved_filters'])
        for record in found.records
    ] == [(0, True, True), (3, True, False), (6, True, False), (9, True, True), (12, True, True)]


def test_every_step_is_recorded_with_its_own_numbers(long_run):
    recorded = [step for record in long_run.records[1:] for step in record['train_results']]
    _, scalars = tiny.train(long_run.exp, 210)
    assert recorded == [{name: float(value) for name, value in step.items()} for step in scalars]
    assert recorded[-1]['model_loss'] < recorded[0]['model_loss']


def test_a_record_holds_the_resolved_settings(long_run):
    for record in long_run.records:
        params = record['params']
        assert (params['model_params']['alpha'], params['model_params']['beta']) == (1e-3, 2e-3)
        assert params['optimizer_params']['optimizer'] == 'momentum'
        assert params['learning_rate_params']['learning_rate'] == 0.1
        assert params['model_params']['func'] == dict(modname='models.mlp', objname='build')
        assert (
            params['model_params']['layers_list'] == [5]
            and params['train_params']['num_steps'] == 210
        )
        assert (
            params['save_params']['save_valid_freq'] == 150
            and params['save_params']['collname'] == 'fc_5'
        )
        assert params['provenance']['runtime'] == runtime.describe()


def test_the_results_of_a_run_are_those_of_its_last_record(long_run):
    last = long_run.records[-1]['validation_results']['topn_val']
    assert (last['top1'], last['top5'], last['loss']) == tuple(
        long_run.results['topn_val'][name] for name in ('top1', 'top5', 'loss')
    )
    assert (
        last['images'] == 13 and last['global_step'] == 210 and set(last['weight_angles']) == LAYERS
    )
    assert long_run.said[0].startswith('step 0 of 210: top-1') and long_run.said[-1].startswith(
        'step 210 of 210: top-1'
    )
    assert len(long_run.said) == 3


def test_recent_checkpoints_have_a_database_of_their_own(long_run):
    database = long_run.client[records.recent_database('long_run', 'fc_5', 'symmetric')]
    files = list(database['fs.files'].find().sort('step', 1))
    assert [file['step'] for file in files] == RECENT[-6:] and all(
        file['saved_filters'] for file in files
    )
    assert set(database['fs.chunks'].distinct('files_id')) == {file['_id'] for file in files}


def test_the_stored_checkpoints_are_the_variables(long_run, mongo_server, tmp_path):
    store = Store(mongo_server.host, mongo_server.port, 'long_run', 'fc_5', 'symmetric')
    found = store.find_checkpoint()
    assert (
        found['step'] == 210
        and store.find_checkpoint(198)['step'] == 198
        and store.find_checkpoint(18) is None
    )
    prefixes = [store.download(store.find_checkpoint(step), str(tmp_path)) for step in (210, 198)]
    store.close()
    with tiny.session(long_run.exp) as session:
        assert checkpoints.restore(session, long_run.exp, prefixes[0]) == []
        restored = tiny.values(session, long_run.exp)
    assert tiny.moved(restored, long_run.variables) == set() and restored['global_step'] == 210
    assert checkpoints.step_of(prefixes[1]) == 198


def test_few_local_checkpoints_are_kept_and_no_archive(long_run):
    files = sorted(os.listdir(long_run.folder))
    assert [file for file in files if file.endswith('.index')] == [
        'checkpoint-198.index',
        'checkpoint-210.index',
    ]
    assert {file.split('.')[0] for file in files} == {'checkpoint-198', 'checkpoint-210'}
    assert not [file for file in files if '.tar' in file]


@pytest.mark.slow
def test_named_results_go_to_gridfs(run):
    outcome = run(
        'named',
        alignment='feedback',
        train_epochs=1.0,
        epochs_per_checkpoint=0.7,
        save_to_gfs=('weight_angles', 'actsq_mean'),
    )
    own = [record for record in outcome.records if 'item_for' not in record]
    assert [record['step'] for record in own] == [0, 2, 3]
    files = gridfs.GridFS(outcome.client['named'], 'fc_5')
    stored = [
        document.get('item_for', document['_id'])
        for document in outcome.client['named']['fc_5.files'].find().sort('$natural', 1)
    ]  # a kill must leave no record without its results, so that they are stored first
    assert stored == [record['_id'] for record in own for _ in range(2)]
    first = outcome.client['named']['fc_5.files'].find_one(sort=[('$natural', 1)])
    assert 'item_for' in first
    for record in own:
        topn = record['validation_results']['topn_val']
        assert (
            'weight_angles' not in topn
            and 'actsq_mean' not in topn
            and set(topn['gradient_angles']) == LAYERS
        )
        stored = pickle.loads(files.find_one({'item_for': record['_id']}).read())
        assert set(stored) == {'validation_results'} and set(stored['validation_results']) == {
            'topn_val'
        }
        stored = stored['validation_results']['topn_val']
        assert (
            set(stored) == {'weight_angles', 'actsq_mean'}
            and set(stored['weight_angles']) == LAYERS
        )


@pytest.mark.slow
def test_a_dead_network_is_told_and_recorded(run):
    """The weights of the last layer are 0, so no angle is defined, and every top-1 is a tie."""
    outcome = run(
        'dead',
        start={'dense_output/forward_kernel': np.zeros((5, 10), np.float32)},
        alignment='feedback',
        learning_rate=0.0,
        train_epochs=1.0,
    )
    for record in outcome.records:
        topn = record['validation_results']['topn_val']
        assert (topn['top1'], topn['ties'], topn['images']) == (1.0, 13, 13)
        assert (
            topn['weight_angles']['dense_output']
            is topn['projection_angles']['dense_output']
            is None
        )
        assert topn['gradient_angles']['dense_output'] is None and topn['undefined_angles'] == 3
        assert None not in [topn[name]['dense0'] for name in ANGLES]
    assert len(outcome.said) == 4
    assert all(
        line.startswith('warning: the top-1 of 13 of 13 images was decided by a tie')
        for line in outcome.said[1::2]
    )


@pytest.mark.slow
def test_angles_that_there_are_not_go_to_gridfs(run):
    outcome = run(
        'dead_named',
        start={'dense_output/forward_kernel': np.zeros((5, 10), np.float32)},
        alignment='feedback',
        learning_rate=0.0,
        train_epochs=0.0,
        save_to_gfs=('weight_angles', 'ties', 'top1'),
    )
    (record,) = [record for record in outcome.records if 'item_for' not in record]
    files = gridfs.GridFS(outcome.client['dead_named'], 'fc_5')
    stored = pickle.loads(files.find_one({'item_for': record['_id']}).read())['validation_results'][
        'topn_val'
    ]
    assert stored['weight_angles']['dense_output'] is None and stored['weight_angles']['dense0'] > 0
    assert (stored['ties'], stored['top1']) == (13, 1.0)
    assert validation.summary(record['validation_results']['topn_val']).startswith(
        'top-5 1.0000, mean gradient angle '
    )


@pytest.mark.slow
def test_a_result_that_does_not_exist_stops_the_run_before_its_first_step(run):
    outcome = run('nameless', alignment='feedback', train_epochs=1.0, save_to_gfs=('angels',))
    assert '--save_to_gfs' in outcome.error and 'angels' in outcome.error and outcome.records == []
    assert outcome.variables['global_step'] == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    'settings, steps',
    [
        (dict(train_epochs=0.0), [0]),
        (dict(train_epochs=1.0, validate_first=False), [3]),
        (dict(train_epochs=1.0, epochs_per_checkpoint=0.4), [0, 1, 2, 3]),
    ],
    ids=['no step', 'not first', 'every step'],
)
def test_short_runs(run, settings, steps):
    outcome = run(
        f'short_{len(settings)}' + '_'.join(map(str, steps)), alignment='feedback', **settings
    )
    assert [record['step'] for record in outcome.records] == steps
    assert (
        outcome.results['topn_val']['global_step'] == steps[-1] == outcome.variables['global_step']
    )


LOST = {  # settings, step that diverges, names in the message, records before it
    'not a number': (dict(dataset='broken'), 1, ['model_loss=nan', 'loss=nan'], [0]),
    'infinite': (dict(alpha=1e38), 1, ['alignment_loss=inf'], [0]),
    'exploding': (dict(learning_rate=1e11), 2, ['alignment_loss='], [0, 1]),
}


@pytest.mark.slow
@pytest.mark.parametrize('case', sorted(LOST))
def test_a_loss_that_is_lost_stops_the_run_and_leaves_its_records(run, case):
    settings, step, names, steps = LOST[case]
    outcome = run(
        'lost_' + case.replace(' ', '_'),
        **dict(
            dict(alignment='symmetric', train_epochs=2.0, epochs_per_recent_checkpoint=0.4),
            **settings,
        ),
    )
    assert outcome.error.startswith(f'step {step}: ') and 'not finite, or beyond ' in outcome.error
    assert [name for name in names if name not in outcome.error] == []
    assert [record['step'] for record in outcome.records] == steps and outcome.variables[
        'global_step'
    ] == step


@pytest.mark.slow
def test_a_resumed_run_only_adds_what_was_missing(run, long_run, mongo_server, tmp_path):
    settings = dict(LONG, exp_id_suffix='_resumed')
    exp = tiny.experiment(first_step=198, **settings)
    source = Store(mongo_server.host, mongo_server.port, 'long_run', 'fc_5', 'symmetric')
    prefix = source.download(source.find_checkpoint(198), str(tmp_path))
    source.close()
    store = Store(mongo_server.host, mongo_server.port, 'long_run', 'fc_5', 'symmetric_resumed')
    with tiny.session(exp) as session:
        checkpoints.restore(session, exp, prefix)
        loop.Run(session, exp, store, str(tmp_path), settings_of(exp), lambda line: None).train()
        variables = tiny.values(session, exp)
    store.flush()
    assert [record['step'] for record in store.records()] == [200, 210]
    store.close()
    assert tiny.moved(variables, long_run.variables) == set()


def recorded(outcome):
    """Returns {step: the numbers in its record}."""
    return {
        record['step']: (
            record.get('train_results'),
            record.get('validation_results'),
            record['saved_filters'],
        )
        for record in outcome.records
    }


@pytest.mark.slow
def test_several_steps_a_call_leave_the_same_records(run, long_run):
    outcome = run('called', **dict(LONG, iterations_per_loop=7))
    assert (
        outcome.exp.step.steps is not None
        and tiny.moved(outcome.variables, long_run.variables) == set()
    )
    assert recorded(outcome) == recorded(long_run)


@pytest.mark.slow
def test_a_step_that_is_lost_within_a_call_is_named(run):
    settings, step, names, steps = LOST['exploding']
    outcome = run(
        'lost_within', alignment='symmetric', train_epochs=2.0, iterations_per_loop=4, **settings
    )
    assert outcome.error.startswith(f'step {step}: ') and all(
        name in outcome.error for name in names
    )
    assert [record['step'] for record in outcome.records] == [0, 1] and outcome.variables[
        'global_step'
    ] == 4


@pytest.mark.slow
def test_steps_before_one_that_is_lost_are_recorded(run, monkeypatch):
    settings = dict(
        alignment='symmetric', train_epochs=3.0, epochs_per_checkpoint=9.0, learning_rate=0.125
    )
    whole = run('whole', **settings)
    exp = tiny.experiment(**settings)
    run_steps = exp.run_steps

    def lose(session, most):
        taken = run_steps(session, most)
        if session.run(exp.global_step) == 6:
            taken[0]['loss'] = np.float32(np.nan)
        return taken

    monkeypatch.setattr(exp, 'run_steps', lose)
    outcome = run('lost_late', **settings)
    assert outcome.error.startswith('step 6: loss is not finite, or beyond ')
    first, last = outcome.records
    assert (first['step'], last['step'], last['saved_filters'], 'validation_results' in last) == (
        0,
        5,
        False,
        False,
    )
    assert last['train_results'] == whole.records[-1]['train_results'][:5] and last['duration'] > 0


@pytest.mark.slow
def test_lost_variables_are_named_and_never_saved(run, monkeypatch):
    settings = dict(alignment='symmetric', train_epochs=2.0, epochs_per_recent_checkpoint=0.4)
    exp = tiny.experiment(**settings)
    run_steps = exp.run_steps

    def lose(session, most):
        taken = run_steps(session, most)
        checkpoints.load(
            session,
            exp,
            {'dense_output/bias': np.full([10], np.inf), 'dense0/bias': np.full([5], np.nan)},
        )
        return taken

    monkeypatch.setattr(exp, 'run_steps', lose)
    outcome = run('lost_variables', **settings)
    assert outcome.error.startswith(
        'step 1: dense0/bias, dense_output/bias have NaN or infinite values, so no checkpoint is '
        'saved; '
    )
    assert [(record['step'], record['saved_filters']) for record in outcome.records] == [(0, True)]


@contextlib.contextmanager
def a_full_disk():
    """Context manager: no file can grow beyond 100 bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.slow
@pytest.mark.parametrize(
    'full, error', [([2, 4], None), ([6], 'step 6: no checkpoint can be saved in ')]
)
def test_a_full_disk_is_told_and_the_training_goes_on(run, monkeypatch, full, error):
    save, steps = checkpoints.save, []

    def sometimes(session, experiment, folder, step):
        steps.append(step)
        with a_full_disk() if step in full else contextlib.suppress():
            return save(session, experiment, folder, step)

    monkeypatch.setattr(checkpoints, 'save', sometimes)
    outcome = run(
        f'full_{full[0]}', alignment='symmetric', train_epochs=2.0, epochs_per_checkpoint=0.7
    )
    assert steps == [0, 2, 4, 6]
    assert (outcome.error is None) if error is None else outcome.error.startswith(error)
    saved = {record['step']: record['saved_filters'] for record in outcome.records}
    expected = {step: step not in full for step in steps if not error or step < 6}
    assert saved == expected
    warnings = [line for line in outcome.said if line.startswith('warning: step ')]
    assert [line.split()[2] for line in warnings] == [f'{step}:' for step in full if step < 6]
    files = set(os.listdir(outcome.folder))
    assert not any(name.startswith(f'checkpoint-{step}.') for step in full for name in files)


# the step after which the signal comes, the validation in which it comes, and more settings
STOPS = {
    'within': (17, None, {}),
    'with a checkpoint': (18, None, {}),
    'validating': (150, 150, {}),
    'after records': (101, None, {}),
    'in a call': (22, None, dict(iterations_per_loop=4)),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    'case, number',
    [(case, signal.SIGTERM) for case in ('with a checkpoint', 'validating', 'in a call')]
    + tiers.at_night(
        ('within', signal.SIGTERM),
        ('after records', signal.SIGTERM),
        ('validating', signal.SIGINT),
    ),
)
def test_a_run_that_is_stopped_and_resumed_is_one_that_never_was(
    run, long_run, mongo_server, tmp_path, monkeypatch, case, number
):
    after, validating, settings = STOPS[case]
    database = 'stopped_{}_{}'.format(case.replace(' ', '_'), int(number))
    exp = tiny.experiment(**dict(LONG, **settings))
    before = {each: signal.getsignal(each) for each in stopping.SIGNALS}
    told, trained, run_steps, validate = [], [], exp.run_steps, exp.validate

    def signalled(session, most):
        taken = run_steps(session, most)
        trained.extend(taken)
        if len(trained) >= after and not validating and not told:
            told.append(os.kill(os.getpid(), number))
        return taken

    def interrupted(session, between, in_detail):
        def after_a_batch():
            between()
            if int(session.run(exp.global_step)) == validating:
                assert not told, 'no batch may follow'
                told.append(os.kill(os.getpid(), number))
                session.run(exp.global_step)  # the signal does not interrupt what is being done

        return validate(session, after_a_batch, in_detail)

    monkeypatch.setattr(exp, 'run_steps', signalled)
    monkeypatch.setattr(exp, 'validate', interrupted)
    with pytest.raises(stopping.Stopped) as stopped:
        run(database, **dict(LONG, **settings))
    assert (
        stopped.value.signal == number
        and len(told) == 1
        and {each: signal.getsignal(each) for each in stopping.SIGNALS} == before
    )
    monkeypatch.undo()
    store = Store(mongo_server.host, mongo_server.port, database, exp.collection, exp.config.exp_id)
    saved = store.find_checkpoint()
    assert saved['step'] == len(trained)
    resumed = tiny.experiment(first_step=saved['step'], **dict(LONG, **settings))
    with tiny.session(resumed) as session:
        checkpoints.restore(session, resumed, store.download(saved, str(tmp_path)))
        loop.Run(
            session, resumed, store, str(tmp_path), settings_of(resumed), lambda line: None
        ).train()
        assert tiny.moved(tiny.values(session, resumed), long_run.variables) == set()
    store.flush()
    found = list(store.records())
    store.close()
    assert [step for record in found for step in record.get('train_results', [])] == [
        step for record in long_run.records for step in record.get('train_results', [])
    ]
    assert [
        (record['step'], record['validation_results'])
        for record in found
        if 'validation_results' in record
    ] == [
        (record['step'], record['validation_results'])
        for record in long_run.records
        if 'validation_results' in record
    ]
    assert {record['step'] for record in found if record['saved_filters']} >= set(LASTING)


@pytest.mark.parametrize(
    'step, events', [(0, 6), (5, 6), (6, 8), (7, 8), (8, 12), (15, 16), (22, 23)]
)
def test_the_next_event(step, events):
    plan = loop.Plan(
        **dict(
            dict.fromkeys(loop.Plan._fields),
            steps=23,
            validate_every=8,
            recent_every=6,
            record_every=100,
        )
    )
    assert plan.next_event(step) == events
    assert (
        plan._replace(steps=math.inf, recent_every=None, validate_every=None).next_event(3) == 100
    )


class Outage:
    """A store that accepts everything and has not written anything yet."""

    exp_id, taken = 'feedback', None

    def __init__(self):
        self.waiting = []

    def begin_after(self, step):
        """Returns no records: nothing is written yet."""
        return []

    def news(self):
        """Returns nothing to tell."""
        return []

    def save(
        self, record, checkpoint=None, recent=None, on_written=None, replacing=(), sha256=None
    ):
        """Adds to a queue that is never written."""
        self.waiting += [path for path in (checkpoint, recent) if path]


@pytest.mark.slow
def test_an_archive_waits_for_mongodb_however_long_it_takes(tmp_path):
    exp, store = (
        tiny.experiment(
            alignment='feedback', train_epochs=1.0, epochs_per_checkpoint=0.4, checkpoint_max=1
        ),
        Outage(),
    )
    with tiny.session(exp) as session:
        loop.Run(session, exp, store, str(tmp_path), {}, lambda line: None).train()
    assert len(store.waiting) == 4  # with the record of step 0
    assert [path for path in store.waiting if not os.path.exists(path)] == []
