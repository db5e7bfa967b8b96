"""All networks: records, scopes, roles, image sizes, and initial values.

ResNets are tested in both versions and at all depths.
"""

import collections

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import skeleton
import small
import tiers
from alignment.gradients import Convolution
from alignment.view import ACTIVATIONS
from models import NETWORKS, NetworkOptions, lenet, small_resnet
from models.layers import Layers, StockLayers
from models.resnet import DEPTHS
from models.roles import Role
from drawn import start
from reference import error, stream

ROLES = {
    'forward_kernel': Role.FORWARD,
    'backward_kernel': Role.BACKWARD,
    'bias': Role.BIAS,
    'gamma': Role.BATCH_NORM,
    'beta': Role.BATCH_NORM,
    'moving_mean': Role.BATCH_NORM,
    'moving_variance': Role.BATCH_NORM,
}
SMALL = ['resnet18', 'resnet18v2', 'resnet50', 'resnet50v2']
FOR_SMALL_IMAGES = sorted(lenet.FORMS) + [f'resnet{depth}' for depth in small_resnet.DEPTHS]
RESNETS = [pytest.param(label, marks=pytest.mark.slow) for label in SMALL] + tiers.at_night(
    *sorted(set(skeleton.networks()) - set(SMALL + FOR_SMALL_IMAGES) - {'fc_32-16'})
)
BY_DAY = ['fc_32-16', 'lenet', 'lenet_cifar', 'resnet8']
LABELS = BY_DAY + RESNETS + tiers.at_night(*sorted(set(FOR_SMALL_IMAGES) - set(BY_DAY)))


def endings(names):
    return collections.Counter(name.rpartition('/')[2] for name in names)


# --- all of them ----------------------------------------------------------------------------------


@pytest.mark.parametrize('label', LABELS)
def test_records_are_named_by_their_scopes(label):
    built = skeleton.of(label)
    names = [record.name for record in built.records]
    assert len(set(names)) == len(names)
    for which in ('forward_kernel', 'backward_kernel'):
        assert {name + '/' + which for name in names} == {
            name for name in built.variables if name.endswith(which)
        }
    for record in built.records:
        assert record.W == record.B == built.variables[record.name + '/forward_kernel'][0]
        assert built.variables[record.name + '/backward_kernel'][0] == (
            record.B if len(record.B) == 4 else record.B[::-1]
        )
        assert (
            record.x[-1] == record.W[-2]
            and record.y[-1] == record.W[-1]
            and record.y == record.output
        )
        assert (record.name + '/bias' in built.variables) == (record.bias is not None)


@pytest.mark.parametrize('label', LABELS)
def test_every_variable_has_the_role_of_its_name(label):
    built = skeleton.of(label)
    assert built.roles == {name: ROLES[name.rpartition('/')[2]] for name in built.variables}
    assert {name for name, (_, trainable) in built.variables.items() if not trainable} == {
        name for name in built.variables if '/moving_' in name
    }


@pytest.mark.parametrize('label', LABELS)
def test_every_network_gives_logits_and_tracks_its_statistics(label):
    built = skeleton.of(label)
    count = endings(built.variables)
    assert built.logits == (None, skeleton.CLASSES) and built.records[-1].y == built.logits
    assert built.updates == count['moving_mean'] + count['moving_variance'] == 2 * count['gamma']
    # ResNets also regularise the last bias, and lenet all biases.
    biases = 0 if label.startswith('fc') else count['bias']
    assert built.l2 == count['forward_kernel'] + biases


@pytest.mark.parametrize('label', BY_DAY + RESNETS[: len(SMALL)])
def test_a_network_under_other_settings(label):
    whole = skeleton.of(label)
    plain = skeleton.of(label, rule=None, regularize=False, is_training=False)
    assert {name for name in whole.variables if name not in plain.variables} == {
        name for name in whole.variables if name.endswith('/backward_kernel')
    }
    assert all(plain.variables[name] == whole.variables[name] for name in plain.variables)
    assert {record.B for record in plain.records} == {None} and (plain.l2, plain.updates) == (0, 0)
    frozen = skeleton.of(label, bn_trainable=False)
    assert {
        name for name in whole.variables if whole.variables[name] != frozen.variables[name]
    } == {name for name in whole.variables if name.endswith(('/gamma', '/beta'))}


@pytest.mark.parametrize(
    'name, options, label',
    [
        ('fc', dict(layers_list=(32, 16)), 'fc_32-16'),
        ('fc', dict(layers_list=(7,)), 'fc_7'),
        ('fc', {}, 'fc'),
        ('resnet18', {}, 'resnet18'),
        ('resnet101', dict(use_resnet_v2=True), 'resnet101v2'),
        ('resnet20', {}, 'resnet20'),
        ('lenet', {}, 'lenet'),
        ('lenet_cifar', {}, 'lenet_cifar'),
    ],
)
def test_the_name_of_a_networks_results(name, options, label):
    assert NETWORKS[name].label(NetworkOptions(**options)) == label


def test_every_network_and_depth_is_there():
    depths = (8, 14, 20, 32, 56) + (18, 34, 50, 101, 152, 200)
    assert set(NETWORKS) == {'fc', 'lenet', 'lenet_cifar'} | {f'resnet{depth}' for depth in depths}


# --- fc -------------------------------------------------------------------------------------------


def test_fc_without_hidden_layers_is_linear():
    with tf.Graph().as_default():
        layers = Layers()
        logits = NETWORKS['fc'].build(tf.zeros((3, 4, 5, 2)), layers, 7, NetworkOptions())
        assert [(r.name, r.W.shape.as_list(), r.activation) for r in layers.records] == [
            ('dense_output', [40, 7], None)
        ]
        assert logits.shape.as_list() == [3, 7]


@pytest.mark.parametrize('activation', sorted(ACTIVATIONS))
def test_fc(activation):
    images = stream('images').standard_normal((3, 4, 2)).astype(np.float32)
    with tf.Graph().as_default(), tf.Session() as session:
        layers = Layers()
        logits = NETWORKS['fc'].build(
            tf.constant(images), layers, 6, NetworkOptions((7, 5), activation)
        )
        session.run(tf.global_variables_initializer())
        got, values, l2 = session.run(
            [
                logits,
                {v.op.name: v for v in tf.global_variables()},
                tf.add_n(layers.regularization_losses),
            ]
        )
    x = images.reshape(3, 8)
    function = {
        'sigmoid': lambda y: 1 / (1 + np.exp(-y)),
        'tanh': np.tanh,
        'relu': lambda y: np.maximum(y, 0),
    }[activation]
    for scope in ('dense0', 'dense1', 'dense_output'):
        y = x.astype(np.float64) @ values[scope + '/forward_kernel'] + values[scope + '/bias']
        x = y if scope == 'dense_output' else function(y)
    assert error(got, x) < 1e-5
    squares = sum(
        np.sum(value.astype(np.float64) ** 2)
        for name, value in values.items()
        if name.endswith('kernel')
    )
    np.testing.assert_allclose(l2, 1e-6 / 2 * squares, 1e-5)


# --- ResNets: structure ---------------------------------------------------------------------------


@pytest.mark.parametrize('label', RESNETS)
def test_a_resnet_is_as_deep_as_its_name_says(label):
    depth = DEPTHS[int(label[len('resnet') :].replace('v2', ''))]
    convolutions = [
        record for record in skeleton.of(label).records if isinstance(record.linear, Convolution)
    ]
    projections = [record for record in convolutions if record.name.endswith('/conv0')]
    assert len(convolutions) - len(projections) + 1 == int(
        label[len('resnet') :].replace('v2', '')
    )  # one more for the dense layer
    assert len(projections) == 4 and len(depth.blocks) == 4
    assert all(record.bias is None for record in convolutions)
    # In v1, a batch norm follows each convolution. In v2, a batch norm precedes each convolution of
    # a residual branch, and one at the end of the network takes the place of the stem's.
    norms = endings(skeleton.of(label).variables)['gamma']
    assert norms == len(convolutions) - (len(projections) if label.endswith('v2') else 0)


@pytest.mark.parametrize('depth', sorted(DEPTHS))
def test_the_layers_of_a_depth(depth):
    """The layers are the first convolution, the layers of the blocks, and the dense layer."""
    blocks, bottleneck = DEPTHS[depth]
    assert len(blocks) == 4 and bottleneck == (depth >= 50)
    assert sum(blocks) * (3 if bottleneck else 2) + 2 == depth


@pytest.mark.slow
@pytest.mark.parametrize(
    'image',
    [(28, 28, 3), (33, 47, 3), (1, 2, 1)]
    + tiers.at_night(((128, 128, 3),), ((224, 224, 3),), ((299, 299, 3),)),
    ids=str,
)
@pytest.mark.parametrize('label', SMALL)
def test_images_of_any_size(label, image):
    built = skeleton.of(label, image=image)
    where = {record.name: record for record in built.records}
    group = 'block_layer' if label.endswith('v2') else 'block_group'
    size = halved(image[:2])
    assert where['conv0'].y == (None,) + size + (64,)
    size = halved(size)  # the pooling
    for number, width in enumerate((64, 128, 256, 512), start=1):
        size = size if number == 1 else halved(size)
        width = width * (4 if '50' in label else 1)
        blocks = [
            record for name, record in where.items() if name.startswith(f'{group}{number}_0/')
        ]
        assert blocks[-1].y == (None,) + size + (width,)
    assert where['dense'].x == (None, width) and built.logits == (None, skeleton.CLASSES)


def halved(size):
    return tuple((length + 1) // 2 for length in size)


@pytest.mark.slow
@pytest.mark.parametrize('label', SMALL)
def test_where_a_block_strides(label):
    strides = {
        record.name: record.linear.strides
        for record in skeleton.of(label).records
        if record.name != 'dense'
    }
    strided = 'conv2' if '50' in label else 'conv1'  # the 3 x 3 convolution
    group = 'block_layer' if label.endswith('v2') else 'block_group'
    assert {name for name, stride in strides.items() if stride != (1, 1)} == {'conv0'} | {
        f'{group}{number}_0/{conv}' for number in (2, 3, 4) for conv in ('conv0', strided)
    }
    assert set(strides.values()) == {(1, 1), (2, 2)}


@pytest.mark.slow
@pytest.mark.parametrize('label', SMALL)
def test_which_layers_a_relu_follows(label):
    last = 'conv3' if '50' in label else 'conv2'
    for record in skeleton.of(label).records:
        followed = not record.name.endswith(('/conv0', '/' + last)) and record.name != 'dense'
        if label.endswith('v2') and record.name == 'conv0':
            followed = False  # the batch norm of the block comes first
        assert record.activation is (tf.nn.relu if followed else None), record.name


# --- ResNets: numbers -----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize('v2', [False, True], ids=['v1', 'v2'])
def test_how_a_resnet_starts(v2):
    """Batch norms start as the identity, but the last one of a v1 block starts as 0.

    The kernel of the last layer is small in v1 and Glorot uniform in v2.
    """
    with tf.Graph().as_default(), tf.Session() as session:
        layers = Layers(seed=3)
        NETWORKS['resnet18'].build(
            tf.zeros((2, 32, 32, 3)), layers, 1000, NetworkOptions(use_resnet_v2=v2)
        )
        session.run(tf.global_variables_initializer())
        values = session.run({v.op.name: v for v in tf.global_variables()})
    gammas = {name: value for name, value in values.items() if name.endswith('/gamma')}
    zeros = {name for name, value in gammas.items() if not np.any(value)}
    assert zeros == (set() if v2 else {name for name in gammas if '/conv2/' in name}) and (
        v2 or len(zeros) == 8
    )
    assert all(np.all(value == 1) for name, value in gammas.items() if name not in zeros)
    dense = values['dense/forward_kernel']
    limit = np.sqrt(6 / 1512)
    assert abs(dense.std() / (limit / np.sqrt(3) if v2 else 0.01) - 1) < 0.01
    assert np.abs(dense).max() <= limit if v2 else np.abs(dense).max() > 0.04
    assert not np.any(values['dense/bias'])
    for name in ('conv0', 'block_{}3_1/conv2'.format('layer' if v2 else 'group')):
        kernel = values[name + '/forward_kernel']
        assert abs(kernel.std() * np.sqrt(np.prod(kernel.shape[:3])) - 1) < 0.03


def inference(layers, images, v2):
    """Returns the logits of a ResNet-18 with variables drawn by name, one array for each batch."""
    with tf.Graph().as_default(), tf.Session() as session:
        batch = tf.placeholder(tf.float32, (None,) + images.shape[1:])
        logits = NETWORKS['resnet18'].build(batch, layers, 7, NetworkOptions(use_resnet_v2=v2))
        start(session)
        return session.run(logits, {batch: images}), [
            session.run(logits, {batch: image[None]})[0] for image in images
        ]


@pytest.mark.slow
def test_an_odd_image_is_validated_like_any_other():
    images = stream('images').standard_normal((3, 33, 47, 3)).astype(np.float32)
    together, alone = inference(Layers(is_training=False), images, v2=True)
    assert np.all(np.isfinite(together)) and np.abs(np.diff(together, axis=0)).max() > 1e-3
    assert error(alone, together) < 1e-5  # an image's logits do not depend on its neighbours


STOCK = {
    '/conv2d/kernel': '/forward_kernel',
    '/dense/kernel': '/forward_kernel',
    '/dense/bias': '/bias',
}


def common(name):
    """Returns the name under Layers of a variable that any class of layers has created."""
    ending = next((ending for ending in STOCK if name.endswith(ending)), None)
    return name[: -len(ending)] + STOCK[ending] if ending else name


@pytest.mark.parametrize(
    'build, shape, options',
    [
        (NETWORKS['fc'].build, (5, 4, 3), dict(layers_list=(7, 6))),
        (small.build, (3, 33, 29, 3), {}),
    ]
    + tiers.at_night((NETWORKS['resnet18'].build, (2, 33, 29, 3), dict(use_resnet_v2=False))),
    ids=['fc', 'convolutional', 'resnet18'],
)
def test_stock_layers_are_backpropagation(build, shape, options):
    images, results = stream('images').standard_normal(shape).astype(np.float32), []
    for kind in (Layers, StockLayers):
        with tf.Graph().as_default(), tf.Session() as session:
            layers = kind()
            logits = build(tf.constant(images), layers, 7, NetworkOptions(**options))
            loss = tf.reduce_sum(tf.square(logits)) + tf.add_n(layers.regularization_losses)
            variables = {common(v.op.name): v for v in tf.trainable_variables()}
            start(session, common)
            results.append(
                session.run(
                    [logits, dict(zip(variables, tf.gradients(loss, list(variables.values()))))]
                )
            )
    (logits, gradients), (stock_logits, stock_gradients) = results
    assert error(logits, stock_logits) < 1e-6 and set(gradients) == set(stock_gradients)
    errors = {name: error(gradients[name], stock_gradients[name]) for name in gradients}
    assert {name: value for name, value in errors.items() if not value < 2e-5} == {}
