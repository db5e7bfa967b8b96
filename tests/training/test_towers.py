"""Several replicas in one process compute the same step as one device with the whole batch."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import data
import kinds
import tiers
import tiny
from config.schema import ConfigError
from models.layers import Layers
from training import devices, overview, validation

SPLIT = {2: dict(cpu_devices=2, gpu='0,1'), 4: dict(cpu_devices=5, gpu='3,0,1,4')}
RESNET = dict(
    model='resnet18',
    layers_list=(),
    dataset='pixels',
    train_batch_size=12,
    eval_batch_size=5,
    learning_rate=0.1,
)
SMALL = dict(RESNET, model='small')
LENET = dict(RESNET, model='lenet', dataset='large')


@pytest.fixture(autouse=True, scope='module')
def pixels():
    """Registers a data set whose images a ResNet can process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(data.DATASETS, 'pixels', tiny.dataset('pixels', image_shape=(9, 11, 3)))
        patch.setitem(data.DATASETS, 'large', tiny.dataset('large', image_shape=(33, 32, 1)))
        yield


def differences(steps=1, against=(), **settings):
    """Returns tiny.differences between a run and the same run with the settings `against`."""
    one = tiny.reference(steps, **dict(settings, **dict(against)))
    return tiny.differences(one, tiny.train(tiny.trainer(**settings), steps))


ONE = dict(gpu='0', cpu_devices=None)
BY_VALUE = dict(grad_clipping_method='value')


@pytest.mark.slow
@pytest.mark.parametrize('rule', kinds.rules())
@pytest.mark.parametrize('replicas', [2] + tiers.at_night(4))
def test_replicas_give_the_step_of_one_device(rule, replicas):
    found = differences(against=ONE, **tiny.moving_settings(rule), **SPLIT[replicas])
    assert tiny.beyond(found, 1e-5) == {}


@pytest.mark.slow
@pytest.mark.parametrize(
    'rule',
    ['dfa'] + tiers.at_night(None, 'feedback', 'usf', 'frsf', 'pfa', 'information'),
)
def test_replicas_give_the_step_of_one_device_of_lenet(rule):
    own = dict(undivided_error=True) if rule == 'dfa' else {}
    settings = dict(LENET, alignment=rule, weight_decay=0.1, **own)
    assert tiny.beyond(differences(against=ONE, **settings, **SPLIT[2]), 1e-5) == {}


@pytest.mark.slow
@pytest.mark.parametrize(
    'rule',
    ['symmetric', 'kolen_pollack'] + tiers.at_night(None, 'information', 'dfa', 'pfa'),
)
def test_replicas_give_the_clipped_step_of_two_optimisers(rule):
    found = differences(against=ONE, **tiny.clipped_settings(rule), **SPLIT[2])
    assert tiny.beyond(found, 1e-5) == {}


@pytest.mark.slow
@pytest.mark.parametrize(
    'settings, replicas',
    [
        (dict(minibatch_size=4, grad_clip=True, optimizer='swats', learning_rate=0.05), 2),
        (dict(delay_epochs=1.0), 4),
        (dict(optimizer='adagrad', learning_rate=0.1, grad_clip=True, **BY_VALUE), 2),
    ]
    + tiers.at_night((dict(minibatch_size=4), 4)),
)
def test_replicas_give_the_steps_of_one_device(settings, replicas):
    base = dict(tiny.moving_settings('information'), learning_rate=0.2)
    assert (
        tiny.beyond(
            differences(
                steps=5,
                against=dict(ONE, minibatch_size=None),
                **dict(base, **settings),
                **SPLIT[replicas],
            ),
            1e-4,
        )
        == {}
    )


@pytest.mark.slow
@pytest.mark.parametrize('settings', [dict(minibatch_size=6)] + tiers.at_night({}))
def test_a_call_of_several_steps_on_replicas_does_what_as_many_calls_do(settings):
    outcomes = []
    for calls, more in (([1] * 5, {}), ([3, 2], dict(iterations_per_loop=3))):
        exp = tiny.trainer(alignment='brsf', learning_rate=0.1, **SPLIT[2], **settings, **more)
        variables, scalars = tiny.calls(exp, calls)
        outcomes.append((variables, [float(step['loss']) for step in scalars]))
    (variables, losses), (others, other_losses) = outcomes
    assert (
        tiny.moved(variables, others) == set() and losses == other_losses and len(set(losses)) == 5
    )


@pytest.mark.slow
def test_replicas_compute_in_float16_under_one_scale():
    found = differences(
        against=ONE, alignment='symmetric', learning_rate=1.0, precision='float16', **SPLIT[2]
    )
    assert tiny.beyond(found, 2e-2) == {}


def means(device, replica, **batch):
    """Returns the means of a replica function of these arrays, and all variables by name."""
    with tf.Graph().as_default(), tf.Session(config=device.session_config()) as session:
        tf.set_random_seed(3)
        with tf.variable_scope('', reuse=tf.AUTO_REUSE):
            tensors, updates = device.mean(
                replica, {name: tf.constant(array) for name, array in batch.items()}
            )
        session.run(tf.global_variables_initializer())
        return session.run([tensors, updates])[0], session.run(
            {v.op.name: v for v in tf.global_variables()}
        )


@pytest.mark.parametrize('minibatches', [1, 3])
def test_each_replica_works_on_its_part_and_the_first_one_updates(minibatches):
    seen = []

    def replica(batch, part):
        del part
        trace = tf.get_variable('trace', [], tf.float64, tf.zeros_initializer(), trainable=False)
        seen.append((batch['images'].device, batch['images'].shape.as_list()))
        first = tf.cast(batch['images'][0, 0], tf.float64)
        return [tf.reduce_mean(batch['images'])], [
            trace.assign(trace.read_value() * 100 + first, read_value=False)
        ]

    images = np.arange(60, dtype=np.float32).reshape(12, 5)
    (mean,), variables = means(
        devices.Towers(['2', '0'], minibatches, cpu_devices=3), replica, images=images
    )
    assert mean == images.mean()
    assert {tuple(shape) for _, shape in seen} == {(12 // 2 // minibatches, 5)}
    assert variables['trace'] == (
        0 if minibatches == 1 else 2040
    )  # the first halves of the parts begin at 0, 20 and 40


@pytest.mark.parametrize('replicas, minibatches', [(1, 1), (1, 6), (2, 1), (2, 3), (3, 2)])
def test_parts_are_numbered_in_the_order_of_their_images(replicas, minibatches):
    split = dict(cpu_devices=3, gpu=','.join(map(str, range(replicas)))) if replicas > 1 else {}
    device = devices.choose(tiny.config(minibatch_size=12 // minibatches, **split))
    count = replicas * minibatches

    def replica(batch, part):
        return [tf.one_hot(part, count) * batch['index'][0]], []

    (first,), _ = means(device, replica, index=np.arange(12, dtype=np.float32))
    assert list(count * first) == [part * 12 // count for part in range(count)]


def test_parts_are_numbered_over_all_hosts():
    device, seen = devices.Hosts(['a:1', 'b:1', 'c:1'], 2, ['1', '0'], cpu_devices=2), []
    with tf.Graph().as_default():
        device.mean(
            lambda batch, part: (seen.append(part) or [tf.constant(1.0)], []),
            dict(index=tf.zeros([4, 3])),
        )
    assert seen == [4, 5]


NOISE = dict(alignment='information', input_distribution='normal', learning_rate=0.2)


@pytest.mark.slow
@pytest.mark.parametrize('parts', [dict(minibatch_size=6)] + tiers.at_night({}))
def test_replicas_draw_the_noise_of_as_many_parts(parts):
    """Two replicas draw the noise of two parts, and two parts on two replicas the noise of four.

    A batch in one piece draws different numbers.
    """
    alike = 3 if parts else 6
    found = differences(
        steps=2, against=dict(ONE, minibatch_size=alike), **NOISE, **SPLIT[2], **parts
    )
    assert tiny.beyond(found, 1e-5) == {}
    other = differences(
        steps=2, against=dict(ONE, minibatch_size=None), **NOISE, **SPLIT[2], **parts
    )
    assert set(tiny.beyond(other, 1e-2)) >= {
        name for name in other if name.endswith('backward_kernel')
    }


def test_every_operation_of_a_replica_is_on_its_device_and_every_variable_on_the_first():
    exp = tiny.trainer(alignment='information', **SPLIT[4])
    kinds = {}
    for op in exp.graph.get_operations():
        kinds.setdefault(op.type, []).append(op.device)
    training = [device for device in kinds['MatMul'] if device]
    assert len(set(training)) == 4 and len({training.count(device) for device in training}) == 1
    assert {device for device in kinds['VarHandleOp'] if device} == {'/device:CPU:3'}


@pytest.mark.slow
def test_a_validation_is_split_over_the_replicas():
    outcomes = []
    for split in (dict(ONE, train_batch_size=12), SPLIT[4]):
        exp = tiny.experiment(alignment='symmetric', **split)
        with tiny.session(exp) as session:
            outcomes.append(validation.validate(session, exp))
    one, four = outcomes
    assert four['images'] == one['images'] == exp.dataset.validation_images
    assert {
        name: value for name, value in four.items() if name in ('top1', 'top5', 'loss')
    } == pytest.approx({name: one[name] for name in ('top1', 'top5', 'loss')}, rel=1e-6)
    places = {
        op.device for op in exp.graph.get_operations() if op.type == 'IsFinite' and op.device
    }  # an operation of in-top-k; also one of the measures, which have no device
    assert places == {'/device:CPU:' + index for index in '3014'}


@pytest.mark.slow
@pytest.mark.parametrize(
    'settings',
    [
        dict(alignment='symmetric', optimizer='adam'),
        SMALL,
    ]
    + tiers.at_night(RESNET),
    ids=['fc', 'small', 'resnet18'],
)
def test_the_variables_are_those_of_one_device(settings):
    exp, other = tiny.trainer(**settings), tiny.trainer(**settings, **SPLIT[2])
    assert exp.roles == other.roles
    assert [(v.op.name, v.shape) for v in exp.variables] == [
        (v.op.name, v.shape) for v in other.variables
    ]


@pytest.mark.slow
def test_the_overview_tells_the_parts_of_a_batch():
    exp = tiny.experiment(minibatch_size=4, **SPLIT[4])
    lines = '\n'.join(overview.experiment(exp, exp.device))
    assert 'devices 3,0,1,4 of a CPU split into 5' in lines and 'in 3 minibatches' in lines
    assert 'a batch: 12 images, 3 on each of 4 replicas, 1 host\n' in lines
    exp = tiny.experiment()
    assert 'a batch: 12 images, 12 on each of 1 replica, 1 host\n' in '\n'.join(
        overview.experiment(exp, exp.device)
    )


def batch_norm(device):
    """Applies a batch norm to images of odd sizes on a device.

    It returns the mean square of the output for each channel, and the moving mean.
    """
    images = (
        np.random.RandomState(5).randn(12, 3, 7, 5) + np.arange(12).reshape(12, 1, 1, 1)
    ).astype(np.float32)

    def replica(batch, part):
        del part
        layers = Layers()
        y = layers.batch_norm(batch['images'], momentum=0.75, epsilon=1e-3)
        return [tf.reduce_mean(tf.square(y), axis=[0, 1, 2])], layers.updates

    (square,), variables = means(device, replica, images=images)
    return images.astype(np.float64), square, variables['batch_normalization/moving_mean']


# --- statistics of batch norm over all replicas ---------------------------------------------------


@pytest.mark.slow
def test_with_statistics_of_all_replicas_a_network_takes_the_step_of_one_device():
    """This test uses two replicas; test_hosts.py uses four."""
    found = differences(
        against=dict(ONE, sync_batch_norm=False),
        **dict(
            SMALL,
            alignment='information',
            learning_rate=1.0,
            sync_batch_norm=True,
            optimizer='momentum',
            grad_clip=True,
            alignment_optimizer='gd',
            alignment_learning_rate=1.0,
            **SPLIT[2],
        ),
    )
    assert {name for name in found if name.endswith('moving_variance')}
    assert tiny.beyond(found, 1e-5) == {}


def batch_norms(device, across):
    """Applies two batch norms to images of odd sizes on a device.

    It returns a loss of their output, its gradients with respect to a factor before them and to the
    gammas and betas, and all variables.
    """
    images = (
        np.random.RandomState(5).randn(12, 3, 7, 5) + 9 * np.arange(12).reshape(12, 1, 1, 1)
    ).astype(np.float32)
    weights = np.random.RandomState(6).randn(*images.shape).astype(np.float32)

    def replica(batch, part):
        del part
        layers = Layers(across=across)
        scale = tf.get_variable('scale', initializer=np.arange(1, 6, dtype=np.float32))
        y = layers.batch_norm(tf.tanh(scale * batch['images'] / 50.0), momentum=0.75, epsilon=1e-3)
        with tf.variable_scope('second'):
            y = layers.batch_norm(tf.tanh(y), momentum=0.75, epsilon=1e-3)
        loss = tf.reduce_mean(batch['weights'] * y * y)
        variables = tf.trainable_variables()
        return [loss] + tf.gradients(loss, variables), layers.updates

    return means(device, replica, images=images, weights=weights)


@pytest.mark.slow
@pytest.mark.parametrize('replicas', [2, 3] + tiers.at_night(6))
def test_statistics_of_all_replicas_and_their_gradients_are_those_of_the_whole_batch(replicas):
    device = devices.Towers([str(index) for index in range(replicas)], cpu_devices=replicas)
    (tensors, variables), (others, other_variables) = (
        batch_norms(devices.OneDevice(), None),
        batch_norms(device, device),
    )
    assert len(tensors) == 6 and all(np.abs(tensor).min() > 1e-6 for tensor in tensors)
    for tensor, other in zip(tensors, others):
        np.testing.assert_allclose(other, tensor, rtol=1e-4, atol=2e-6)
    for name in variables:
        np.testing.assert_allclose(
            other_variables[name], variables[name], rtol=1e-5, atol=1e-6, err_msg=name
        )


def test_a_mean_over_replicas_goes_into_loops_of_steps_and_of_parts():
    device = devices.Towers(['0', '1'], minibatches=3, steps_per_call=4, cpu_devices=2)

    def step(batch):
        def replica(batch, part):
            del part
            return [tf.reduce_sum(tf.square(device.all_mean(tf.reduce_mean(batch['x'])) - 1.0))], []

        tensors, _ = device.mean(replica, batch)
        with tf.control_dependencies(tensors):
            return counter.assign_add(1.0, read_value=False), dict(sum=tensors[0])

    with tf.Graph().as_default(), tf.Session(config=device.session_config()) as session:
        counter = tf.get_variable('counter', [], initializer=tf.zeros_initializer())
        x = np.random.RandomState(4).randn(12).astype(np.float32)
        call = device.call(step, lambda: dict(x=x * (1.0 + counter.read_value())))
        session.run(tf.global_variables_initializer())
        found = session.run([call.train_op, call.scalars['sum']], {call.steps: 4})[1]
    parts = x.reshape(3, 4).mean(axis=1)  # each over both replicas
    assert found == pytest.approx(
        [((parts * factor - 1.0) ** 2).mean() for factor in (1, 2, 3, 4)], rel=1e-5
    )


def test_statistics_of_all_replicas_are_float32_in_any_type():
    def replica(batch, part):
        del part
        layers = Layers(across=device, dtype=tf.float16)
        y = layers.batch_norm(layers.arrange(batch['images']), momentum=0.0, epsilon=1e-3)
        return [tf.cast(y, tf.float32), tf.constant(float(y.dtype == tf.float16))], layers.updates

    images = (np.random.RandomState(5).randn(12, 3, 7, 5) + 40).astype(np.float32)
    device = devices.Towers(['0', '1'], cpu_devices=2)
    (_, is_half), variables = means(device, replica, images=images)
    half = images.astype(np.float16).astype(np.float64)
    np.testing.assert_allclose(
        variables['batch_normalization/moving_mean'], half.mean(axis=(0, 1, 2)), rtol=1e-6
    )
    np.testing.assert_allclose(
        variables['batch_normalization/moving_variance'],
        half.var(axis=(0, 1, 2), ddof=1),
        rtol=1e-4,
    )
    assert is_half == 1.0


@pytest.mark.parametrize('minibatches', [1, 2, 3])
@pytest.mark.parametrize('split', [{}, SPLIT[2]])
def test_batch_norm_is_each_parts_own_and_tracks_the_first_replicas(split, minibatches):
    device = devices.choose(tiny.config(minibatch_size=12 // minibatches, **split))
    images, square, moving = batch_norm(device)
    parts = (
        images.reshape(minibatches, -1, 3 * 7, 5)
        if not split
        else images.reshape(minibatches, 2, -1, 3 * 7, 5)[:, 0]
    )
    np.testing.assert_allclose(square, [1.0] * 5, rtol=2e-3)  # each part with its own statistics
    tracked = np.zeros(5)
    for part in parts:
        tracked += 0.25 * (part.mean(axis=(0, 1)) - tracked)
    np.testing.assert_allclose(moving, tracked, rtol=1e-5)


@pytest.mark.parametrize(
    'settings, words',
    [
        (dict(gpu='0,0'), '--gpu=0,0: give the index of a GPU, or several different ones'),
        (dict(gpu='1,01'), '--gpu=1,01: give the index'),
        (dict(gpu='0,'), '--gpu=0,: give the index'),
        (dict(gpu='0,2', cpu_devices=2), '--gpu=0,2: --cpu_devices=2 creates the devices 0 to 1'),
        (
            dict(gpu='1,0,2', cpu_devices=3, train_batch_size=13),
            '--train_batch_size=13 cannot be split evenly over the 3 devices',
        ),
        (
            dict(gpu='0,1,2,3', cpu_devices=4, minibatch_size=6),
            '--minibatch_size=6 cannot be split evenly over the 4 devices',
        ),
        (dict(RESNET, sync_batch_norm=True), '--sync_batch_norm has no effect on one device'),
        (dict(gpu='0,1', cpu_devices=2, xla=True), '--xla can only compile the steps of a'),
        (dict(gpu='0,1'), '--gpu=0,1: TensorFlow finds 0 of these GPUs'),
    ],
)
def test_what_cannot_be_split_is_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        devices.choose(tiny.config(**settings))


def test_gpus_are_numbered_anew():
    device = devices.choose(tiny.config(gpu='4,7,5'), found=3)
    assert (device.replicas, device.hosts, device.data_format) == (3, 1, 'NCHW')
    with tf.Graph().as_default():
        found = []
        device.mean(
            lambda batch, part: ([found.append(tf.constant(1.0)) or found[-1]], []),
            dict(images=tf.zeros([6, 5])),
        )
    assert [tensor.device for tensor in found] == [
        '/device:GPU:0',
        '/device:GPU:1',
        '/device:GPU:2',
    ]


def test_the_cpu_is_not_split_unless_asked():
    assert dict(devices.OneDevice().session_config().device_count) == {}
    assert dict(devices.Towers(['1'], cpu_devices=3).session_config().device_count) == {'CPU': 3}
