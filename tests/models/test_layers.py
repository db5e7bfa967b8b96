"""Single layers: outputs, variables and their initial values, and records."""

import functools

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import oracle
from alignment.gradients import Convolution, Dense
from alignment.view import ACTIVATIONS
from alignment.rules import RULES
from models.layers import Layers, StockLayers, initial_size
from models.roles import Role
from training import runtime
from drawn import start
from reference import error, stream
from samples import oracle_of

TOLERANCE = 1e-5


def array(tag, shape):
    return stream(tag).standard_normal(shape).astype(np.float32)


class Run:
    """The result of a function that builds layers for a batch of images.

    It has the layers, the output, and the values of all variables before and after one run.

    Args:
        build: A function of (Layers, images).
        images: The batch.
        layers: The Layers to use. None for a rule with backward kernels.
        values: Whether to draw the variables by their names. If not, they keep their initial
            values.
        updates: Whether to update the moving statistics.
    """

    def __init__(self, build, images, layers=None, values=True, updates=False):
        self.layers = Layers(RULES['symmetric']()) if layers is None else layers
        with tf.Graph().as_default(), tf.Session() as session:
            with tf.variable_scope('layer'):
                output = build(self.layers, tf.constant(images))
            if values:
                start(session)
            else:
                session.run(tf.global_variables_initializer())
            self.trainable = {v.op.name for v in tf.trainable_variables()}
            self.before = session.run({v.op.name: v for v in tf.global_variables()})
            self.output, self.l2, self.x = session.run(
                [
                    output,
                    self.layers.regularization_losses,
                    [record.x for record in self.layers.records],
                ]
            )
            session.run(self.layers.updates if updates else [])
            self.after = session.run({v.op.name: v for v in tf.global_variables()})
        self.shape = tuple(output.shape.as_list())


# --- dense ----------------------------------------------------------------------------------------


@pytest.mark.parametrize('activation', [None] + sorted(ACTIVATIONS))
def test_dense(activation):
    images = array('images', (4, 7))
    run = Run(
        lambda layers, x: layers.dense(x, 5, activation=activation, l2=0.5, l2_bias=0.25), images
    )
    W, B, bias = [
        run.before['layer/' + name] for name in ('forward_kernel', 'backward_kernel', 'bias')
    ]
    assert (W.shape, B.shape, bias.shape) == ((7, 5), (5, 7), (5,)) and run.trainable == set(
        run.before
    )
    y = images.astype(np.float64) @ W + bias
    assert error(run.output, oracle.ACTIVATIONS[activation](y) if activation else y) < TOLERANCE
    np.testing.assert_allclose(
        run.l2, [0.25 * np.sum(W.astype(np.float64) ** 2), 0.125 * np.sum(bias**2)], 1e-5
    )
    (record,) = run.layers.records
    assert (record.name, record.linear, record.activation) == (
        'layer',
        Dense(),
        ACTIVATIONS.get(activation),
    )
    assert record.B.shape.as_list() == record.W.shape.as_list() == [7, 5]
    assert run.layers.roles == {
        'layer/forward_kernel': Role.FORWARD,
        'layer/backward_kernel': Role.BACKWARD,
        'layer/bias': Role.BIAS,
    }


# --- convolution ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'size, stride', [(7, 2), (3, 2), (1, 2), (2, 2), (4, 3), (3, 1), (5, 1), (2, 1)]
)
@pytest.mark.parametrize('image', [(9, 6), (8, 13), (2, 1)])
def test_a_convolution_of_any_size_on_any_image(image, size, stride):
    images = array('images', (3,) + image + (2,))
    run = Run(lambda layers, x: layers.conv2d(x, 5, size, stride), images)
    W = run.before['layer/forward_kernel'].astype(np.float64)
    assert run.before['layer/backward_kernel'].shape == W.shape == (size, size, 2, 5)
    if stride == 1:
        padded, linear = images, Convolution((1, 1), 'SAME')
    else:  # padded equally on both sides, or by one pixel more at the end, for any image size
        pad = ((size - 1) // 2, size // 2)
        padded, linear = (
            np.pad(images, [(0, 0), pad, pad, (0, 0)], 'constant'),
            Convolution((stride, stride), 'VALID'),
        )
    wanted = oracle_of(linear).project(padded.astype(np.float64), W)
    assert error(run.output, wanted) < TOLERANCE
    assert (
        run.shape[1:3] == run.output.shape[1:3] == tuple(-(-length // stride) for length in image)
    )
    (record,) = run.layers.records
    np.testing.assert_array_equal(run.x[0], padded)
    assert (
        record.linear == linear
        and record.bias is None
        and record.activation is None
        and run.l2 == []
    )


@pytest.mark.parametrize('padding', ['SAME', 'VALID'])
@pytest.mark.parametrize('stride', [1, 2])
def test_a_given_padding_is_kept(padding, stride):
    images = array('images', (2, 7, 6, 3))
    run = Run(
        lambda layers, x: layers.conv2d(
            x, 5, 3, stride, padding=padding, use_bias=True, activation='tanh', l2=2.0
        ),
        images,
    )
    W, bias = run.before['layer/forward_kernel'].astype(np.float64), run.before['layer/bias']
    y = oracle.Convolution((stride, stride), padding).project(images.astype(np.float64), W) + bias
    assert error(run.output, np.tanh(y)) < TOLERANCE
    np.testing.assert_allclose(run.l2, [np.sum(W**2)], 1e-5)
    assert run.layers.records[0].activation is tf.tanh


def test_a_rule_may_be_shown_the_non_linearity_after_batch_norm():
    images = array('images', (2, 5, 4, 3))
    plain = Run(lambda layers, x: layers.conv2d(x, 5, 3), images)
    followed = Run(lambda layers, x: layers.conv2d(x, 5, 3, followed_by='relu'), images)
    np.testing.assert_array_equal(plain.output, followed.output)
    assert followed.layers.records[0].activation is tf.nn.relu


# --- layers without variables ---------------------------------------------------------------------

FORMATS = ['NHWC', 'NCHW']


def first(data_format, images):
    """Returns images [batch, height, width, channels] in a data format."""
    return images if data_format == 'NHWC' else images.transpose(0, 3, 1, 2)


@pytest.mark.parametrize('padding', ['SAME', 'VALID'])
@pytest.mark.parametrize('data_format', FORMATS if runtime.IS_TF2 else FORMATS[:1])
def test_a_max_pool(data_format, padding):
    images = array('images', (2, 7, 10, 3))
    run = Run(
        lambda layers, x: layers.max_pool(layers.arrange(x), 3, 2, **PADDING[padding]),
        images,
        Layers(data_format=data_format),
    )
    ends = (0, 0) if padding == 'VALID' else (1, 1), (0, 0) if padding == 'VALID' else (0, 1)
    padded = np.pad(images, [(0, 0), *ends, (0, 0)], 'constant', constant_values=-np.inf)
    wanted = [
        [padded[:, i : i + 3, j : j + 3].max(axis=(1, 2)) for j in range(0, padded.shape[2] - 2, 2)]
        for i in range(0, padded.shape[1] - 2, 2)
    ]
    wanted = np.array(wanted).transpose(2, 0, 1, 3)
    np.testing.assert_array_equal(run.output, first(data_format, wanted))


PADDING = {'SAME': {}, 'VALID': dict(padding='VALID')}


@pytest.mark.parametrize('data_format', FORMATS)
def test_features_have_one_order_in_any_data_format(data_format):
    images = array('images', (2, 3, 4, 5))
    run = Run(
        lambda layers, x: layers.flatten(layers.arrange(x)), images, Layers(data_format=data_format)
    )
    np.testing.assert_array_equal(run.output, images.reshape(2, 60))


@pytest.mark.parametrize('data_format', FORMATS)
@pytest.mark.parametrize('size', [(6, 7), (1, 4)])
def test_a_shortcut_without_parameters(size, data_format):
    images = array('images', (2,) + size + (3,))
    run = Run(
        lambda layers, x: layers.widen(layers.arrange(x), 8, 2),
        images,
        Layers(data_format=data_format),
    )
    wanted = np.zeros((2, -(-size[0] // 2), -(-size[1] // 2), 8), np.float32)
    wanted[..., 2:5] = images[:, ::2, ::2]  # 2 channels of zeros before, and 3 behind
    np.testing.assert_array_equal(run.output, first(data_format, wanted))
    assert run.before == {}


# --- batch norm -----------------------------------------------------------------------------------

BN = 'layer/batch_normalization/'
MOMENTUM, EPSILON = 0.9, 1e-2  # a large epsilon has a visible effect


def batch_norm(layers, x, zero_gamma=False):
    return layers.batch_norm(x, MOMENTUM, EPSILON, zero_gamma)


def normalized(x, mean, variance, values):
    return values[BN + 'gamma'] * (x - mean) / np.sqrt(variance + EPSILON) + values[BN + 'beta']


def test_batch_norm_in_training_uses_and_tracks_the_batch():
    images = 3 + 2 * array('images', (4, 3, 5, 2))
    run = Run(batch_norm, images, updates=True)
    x = images.astype(np.float64).reshape(-1, 2)
    mean, variance = x.mean(axis=0), x.var(axis=0)
    assert error(run.output, normalized(images, mean, variance, run.before)) < TOLERANCE
    unbiased = variance * len(x) / (len(x) - 1)
    for name, batch in (('moving_mean', mean), ('moving_variance', unbiased)):
        wanted = MOMENTUM * run.before[BN + name] + (1 - MOMENTUM) * batch
        np.testing.assert_allclose(run.after[BN + name], wanted, 1e-5)
    for name in ('gamma', 'beta'):
        np.testing.assert_array_equal(run.after[BN + name], run.before[BN + name])
    assert run.trainable == {BN + 'gamma', BN + 'beta'} and set(run.layers.roles.values()) == {
        Role.BATCH_NORM
    }
    assert set(run.layers.roles) == set(run.before) and run.layers.records == []


def test_the_statistics_move_only_where_the_updates_run():
    run = Run(batch_norm, array('images', (4, 3, 5, 2)))
    assert len(run.layers.updates) == 2
    for name in run.before:
        np.testing.assert_array_equal(run.after[name], run.before[name])


def test_batch_norm_in_a_validation_uses_what_was_tracked():
    images = array('images', (1, 3, 5, 2))
    run = Run(batch_norm, images, Layers(is_training=False))
    wanted = normalized(
        images, run.before[BN + 'moving_mean'], run.before[BN + 'moving_variance'], run.before
    )
    assert error(run.output, wanted) < TOLERANCE and run.layers.updates == []


@pytest.mark.parametrize('zero_gamma', [False, True])
def test_how_batch_norm_starts(zero_gamma):
    run = Run(
        functools.partial(batch_norm, zero_gamma=zero_gamma),
        array('images', (2, 3, 5, 2)),
        values=False,
    )
    starts = {name[len(BN) :]: value.tolist() for name, value in run.before.items()}
    assert starts == dict(
        gamma=[float(not zero_gamma)] * 2, beta=[0, 0], moving_mean=[0, 0], moving_variance=[1, 1]
    )


def test_batch_norm_that_is_not_trained():
    run = Run(batch_norm, array('images', (2, 3, 5, 2)), Layers(bn_trainable=False))
    assert run.trainable == set() and len(run.layers.updates) == 2


# --- variables ------------------------------------------------------------------------------------


def two_layers(layers, x):
    with tf.variable_scope('one'):
        x = layers.conv2d(x, 40, 5, l2=0.1)
    with tf.variable_scope('two'):
        return layers.dense(tf.reshape(x, [2, -1]), 50, l2=0.1, l2_bias=0.1)


IMAGES = array('images', (2, 3, 4, 30))


def started(seed):
    return Run(two_layers, IMAGES, Layers(RULES['symmetric'](), seed=seed), values=False).before


def test_kernels_are_settled_by_the_seed_and_their_name():
    first, again, other = started(3), started(3), started(4)
    kernels = {name for name in first if name.endswith('_kernel')}
    assert len(kernels) == 4
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
    for name in kernels:
        assert abs(np.corrcoef(first[name].ravel(), other[name].ravel())[0, 1]) < 0.05
    for scope in ('layer/one/', 'layer/two/'):
        pair = [first[scope + which + '_kernel'].ravel() for which in ('forward', 'backward')]
        assert (
            abs(np.corrcoef(pair)[0, 1]) < 0.05
        )  # independent kernels, even if their shapes are similar
    assert not np.any(first['layer/two/bias'])


def test_a_kernel_does_not_depend_on_what_else_is_there():
    alone = Run(two_layers, IMAGES, Layers(None, seed=3), values=False).before
    both = started(3)
    for name in alone:
        np.testing.assert_array_equal(alone[name], both[name])


@pytest.mark.parametrize('which', ['forward', 'backward'])
def test_how_kernels_start(which):
    first = started(5)
    conv, dense = [first[f'layer/{scope}/{which}_kernel'] for scope in ('one', 'two')]
    fan_in = (
        5 * 5 * 30
    )  # variance scaling: normal, truncated at two standard deviations, variance 1 / fan-in
    assert (
        abs(conv.std() * np.sqrt(fan_in) - 1) < 0.02 and abs(conv.mean() * np.sqrt(fan_in)) < 0.02
    )
    assert 2.2 < np.abs(conv).max() * np.sqrt(fan_in) < 2 / 0.8796 + 1e-3
    limit = np.sqrt(6 / (480 + 50))  # Glorot: uniform, variance 2 / (fan-in + fan-out)
    assert (
        0.99 * limit < np.abs(dense).max() <= limit
        and abs(dense.std() / limit - 1 / np.sqrt(3)) < 0.01
    )
    assert abs(dense.mean()) < 0.02 * limit


def test_an_initializer_of_the_networks_choice():
    initializer = functools.partial(tf.random_normal_initializer, stddev=0.01)
    kernels = Run(
        lambda layers, x: layers.dense(x, 60, initializer=initializer),
        array('images', (2, 70)),
        Layers(RULES['feedback'](), seed=1),
        values=False,
    ).before
    for which in ('forward', 'backward'):
        kernel = kernels[f'layer/{which}_kernel']
        assert abs(kernel.std() - 0.01) < 4e-4 and np.abs(kernel).max() > 0.028


INITIALIZERS = {
    'Glorot': tf.glorot_uniform_initializer,
    'Glorot, normal': tf.glorot_normal_initializer,
    'variance scaling': tf.variance_scaling_initializer,
    'normal': functools.partial(tf.random_normal_initializer, stddev=0.01),
    'twice as much, fan-out': functools.partial(
        tf.variance_scaling_initializer, scale=2.0, mode='fan_out'
    ),
    'uniform, fan-average': functools.partial(
        tf.variance_scaling_initializer, mode='fan_avg', distribution='uniform'
    ),
}


@pytest.mark.parametrize('shape', [(130, 190), (3, 5, 40, 70)], ids=['dense', 'conv'])
@pytest.mark.parametrize('kind', sorted(INITIALIZERS))
def test_the_initial_size_is_the_standard_deviation_of_what_is_drawn(kind, shape):
    initializer = INITIALIZERS[kind](seed=7)
    with tf.Graph().as_default(), tf.Session() as session:
        drawn = session.run(initializer(shape, dtype=tf.float32))
    assert (
        abs(initial_size(initializer, list(shape)) / drawn.std() - 1) < 0.02
        and abs(drawn.mean()) < 0.03 * drawn.std()
    )


def test_a_rule_without_a_variable_is_told_the_initial_size():
    initializer, images = (
        functools.partial(tf.random_normal_initializer, stddev=0.25),
        array('images', (2, 7)),
    )
    run = Run(
        lambda layers, x: layers.dense(x, 5, initializer=initializer),
        images,
        Layers(RULES['usf']()),
    )
    assert set(run.before) == {'layer/forward_kernel', 'layer/bias'}
    assert run.layers.roles == {'layer/forward_kernel': Role.FORWARD, 'layer/bias': Role.BIAS}
    with tf.Graph().as_default(), tf.Session() as session:
        layers = Layers(RULES['usf'](), seed=1)
        layers.dense(tf.constant(images), 5, initializer=initializer)
        session.run(tf.global_variables_initializer())
        W, B = session.run([layers.records[0].W, layers.records[0].B])
    np.testing.assert_array_equal(B, 0.25 * np.sign(W))


def test_without_regularization_there_is_no_l2_loss():
    assert len(Run(two_layers, IMAGES).l2) == 3
    assert Run(two_layers, IMAGES, Layers(RULES['symmetric'](), regularize=False)).l2 == []


def with_batch_norm(layers, x):
    with tf.variable_scope('one'):
        x = layers.conv2d(x, 6, 3, use_bias=True, l2=0.1)
        x = layers.batch_norm(x, MOMENTUM, EPSILON)
    with tf.variable_scope('two'):
        return layers.dense(tf.reshape(x, [2, -1]), 5, l2_bias=0.1)


@pytest.mark.parametrize('kind', [Layers, StockLayers])
@pytest.mark.parametrize('bn_trainable', [True, False])
def test_weight_decay_is_of_every_trained_variable_but_backward_kernels(kind, bn_trainable):
    layers = kind(
        None if kind is StockLayers else RULES['symmetric'](),
        weight_decay=0.25,
        bn_trainable=bn_trainable,
    )
    run = Run(with_batch_norm, IMAGES, layers)
    decayed = {
        name for name in run.before if name in run.trainable and 'backward_kernel' not in name
    }
    assert len(decayed) == (6 if bn_trainable else 4) == len(run.l2)
    wanted = [0.125 * np.sum(run.before[name].astype(np.float64) ** 2) for name in decayed]
    np.testing.assert_allclose(sorted(run.l2), sorted(wanted), 1e-5)
    assert Run(with_batch_norm, IMAGES, Layers(weight_decay=0.0)).l2 == []


def test_without_a_rule_there_is_no_backward_kernel():
    run = Run(two_layers, IMAGES, Layers())
    assert set(run.before) == {
        'layer/one/forward_kernel',
        'layer/two/forward_kernel',
        'layer/two/bias',
    }
    assert [record.B for record in run.layers.records] == [None, None]
    assert error(run.output, Run(two_layers, IMAGES).output) == 0  # the forward pass is the same


def test_the_output_on_record_is_what_the_layer_returns():
    with tf.Graph().as_default():
        layers = Layers(RULES['symmetric']())
        with tf.variable_scope('one'):
            x = layers.conv2d(tf.zeros((2, 3, 4, 5)), 6, 2, use_bias=True, activation='relu')
        assert layers.records[0].output is x and layers.records[0].y is not x
        assert layers.records[0].name == 'one'


# --- stock layers ---------------------------------------------------------------------------------


def test_stock_layers_have_tensorflows_names_and_no_custom_gradient():
    run = Run(two_layers, IMAGES, StockLayers())
    assert set(run.before) == {
        'layer/one/conv2d/kernel',
        'layer/two/dense/kernel',
        'layer/two/dense/bias',
    }
    assert run.layers.roles == {
        'layer/one/conv2d/kernel': Role.FORWARD,
        'layer/two/dense/kernel': Role.FORWARD,
        'layer/two/dense/bias': Role.BIAS,
    }
    assert [record.name for record in run.layers.records] == ['layer/one', 'layer/two'] and len(
        run.l2
    ) == 3
    with tf.Graph().as_default() as graph:
        two_layers(StockLayers(), tf.constant(IMAGES))
        assert 'IdentityN' not in {operation.type for operation in graph.get_operations()}


def test_every_kernel_is_drawn_by_its_own_seed():
    """Kernels of one shape differ between layers and directions, and a seed determines them."""

    def kernels(seed):
        with tf.Graph().as_default(), tf.Session() as session:
            layers = Layers(RULES['feedback'](), seed=seed)
            x = tf.zeros([2, 5])
            for scope in ('one', 'other'):
                with tf.variable_scope(scope):
                    x = layers.dense(x, 5)
            session.run(tf.global_variables_initializer())
            named = {v.op.name: v for v in tf.global_variables() if v.op.name.endswith('kernel')}
            return {name: value.tobytes() for name, value in session.run(named).items()}

    first, again, other = kernels(3), kernels(3), kernels(4)
    assert len(first) == len(set(first.values())) == 4 and first == again
    assert set(first.values()).isdisjoint(other.values())
