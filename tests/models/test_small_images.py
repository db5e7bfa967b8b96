"""LeNet and the ResNets for small images: their numbers, compared with NumPy, and their sizes."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import data
import oracle
import skeleton
import tiers
from alignment.gradients import Convolution
from alignment.rules import RULES
from config.schema import Config, ConfigError
from drawn import start
from models import NETWORKS, NetworkOptions, lenet, small_resnet
from models.layers import Layers
from models.roles import Role
from reference import error, stream
from training import devices
from training.choices import choices
from training.experiment import Experiment

CLASSES = 5
VALID, SAME = oracle.Convolution((1, 1), 'VALID'), oracle.Convolution((1, 1), 'SAME')
STRIDED = oracle.Convolution((2, 2), 'VALID')  # of images that are padded beforehand
LENETS = sorted(lenet.FORMS)


def relu(x):
    return np.maximum(x, 0)


def windows(x):
    """Returns the four corners of each 2 x 2 window as [4, batch, height, width, channels]."""
    height, width = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
    return np.stack([x[:, i:height:2, j:width:2] for i in (0, 1) for j in (0, 1)])


# --- LeNet ----------------------------------------------------------------------------------------


def forward(name, values, images):
    """Returns [(linear map, x, W, y with the bias)] of the five layers of a LeNet."""
    averages, x, layers = name == 'lenet_cifar', images, []
    for scope in ('conv0', 'conv1', 'conv2', 'dense0', 'dense_output'):
        if scope in ('conv1', 'conv2'):
            x = windows(x).max(axis=0)
        if scope == 'dense0':
            x = x.mean(axis=(1, 2)) if averages else x.reshape(len(x), -1)
        linear = VALID if scope.startswith('conv') else oracle.Dense()
        W, bias = values[scope + '/forward_kernel'], values[scope + '/bias']
        layers.append((scope, linear, x, W, linear.project(x, W) + bias))
        x = relu(layers[-1][-1])
    return layers


def gradients(name, rule, values, layers, e, whole):
    """Returns {variable: gradient} of sum(e * logits), by the formulas of the rules.

    Args:
        name: The network.
        rule: None, 'feedback' or 'dfa'.
        values: {variable: array}.
        layers: From `forward`.
        e: [batch, classes].
        whole: Whether direct feedback sends the undivided error.
    """
    found, dy = {}, e
    for index in range(len(layers) - 1, -1, -1):
        scope, linear, x, W, y = layers[index]
        if index < len(layers) - 1:
            dy = dy * (y > 0)
        found[scope + '/forward_kernel'] = linear.kernel_gradient(x, dy, W)
        found[scope + '/bias'] = dy.reshape(-1, dy.shape[-1]).sum(axis=0)
        if index:
            B = values.get(scope + '/backward_kernel', W)
            if rule and scope.startswith('dense'):
                B = B.T  # as it is stored
            sent = dy
            if rule == 'dfa' and y.ndim == 4:
                positions = 1 if whole else y.shape[1] * y.shape[2]
                sent = np.broadcast_to(e[:, None, None] / positions, y.shape[:3] + (CLASSES,))
            elif rule == 'dfa':
                sent = e
            below = layers[index - 1][-1]
            dy = unpooled(name, scope, linear.reconstruct(sent, B, x), relu(below))
    return found


def unpooled(name, scope, dx, below):
    """Returns the gradient of the output of the layer below, from that of a layer's input."""
    if scope == 'dense0' and name == 'lenet_cifar':
        positions = below.shape[1] * below.shape[2]
        return np.broadcast_to(dx[:, None, None] / positions, below.shape)
    if scope in ('conv1', 'conv2'):
        largest, dy = windows(below).argmax(axis=0), np.zeros(below.shape)
        height, width = 2 * dx.shape[1], 2 * dx.shape[2]
        for corner in range(4):
            dy[:, corner // 2 : height : 2, corner % 2 : width : 2] = dx * (largest == corner)
        return dy
    return dx.reshape(below.shape)


def run_lenet(name, images, e, rule, **switches):
    """Returns the logits, {variable: value} and {variable: gradient of sum(e * logits)}."""
    with tf.Graph().as_default(), tf.Session() as session:
        layers = Layers(RULES[rule](**switches) if rule else None, classes=CLASSES)
        logits = layers.finish(
            NETWORKS[name].build(tf.constant(images), layers, CLASSES, NetworkOptions())
        )
        variables = {v.op.name: v for v in tf.trainable_variables()}
        found = tf.gradients(tf.reduce_sum(e * logits), list(variables.values()))
        known = {name: g for name, g in zip(variables, found) if g is not None}
        start(session)
        logits, values, known = session.run([logits, variables, known])
    return logits, {name: value.astype(np.float64) for name, value in values.items()}, known


@pytest.mark.slow
@pytest.mark.parametrize(
    'rule, switches',
    [
        (None, {}),
        ('feedback', {}),
        ('dfa', {}),
        ('dfa', dict(undivided_error=True)),
    ],
    ids=['backprop', 'feedback', 'dfa', 'dfa, undivided'],
)
@pytest.mark.parametrize(
    'name, size', [('lenet', 32), ('lenet_cifar', 19)] + tiers.at_night(('lenet', 37))
)
def test_the_logits_and_the_gradients_of_lenet(name, size, rule, switches):
    images = stream('images').standard_normal((2, size, size, 1)).astype(np.float32)
    e = stream('e').standard_normal((2, CLASSES)).astype(np.float32)
    logits, values, found = run_lenet(name, images, e, rule, **switches)
    layers = forward(name, values, images.astype(np.float64))
    wanted = gradients(name, rule, values, layers, e.astype(np.float64), bool(switches))
    assert error(logits, layers[-1][-1]) < 1e-5
    assert set(found) == set(wanted)
    assert {
        name: error(found[name], wanted[name])
        for name in found
        if error(found[name], wanted[name]) > 2e-5
    } == {}


@pytest.mark.parametrize(
    'name, channels, parameters', [('lenet', 1, 61706), ('lenet_cifar', 3, 128842)]
)
def test_the_parameters_of_lenet_are_those_of_biotorch(name, channels, parameters):
    """The counts follow from the sizes of the layers of BioTorch 0.0.16, for ten classes."""
    with tf.Graph().as_default():
        images = tf.zeros([1, 32, 32, channels])
        NETWORKS[name].build(images, Layers(), 10, NetworkOptions())
        assert sum(v.shape.num_elements() for v in tf.global_variables()) == parameters


@pytest.mark.parametrize('name', LENETS)
def test_what_follows_the_layers_of_lenet(name):
    records = skeleton.of(name).records
    assert [record.activation for record in records] == [tf.nn.relu] * 4 + [None]
    assert all(record.bias is not None for record in records)
    assert {r.linear for r in records[:3]} == {Convolution((1, 1), 'VALID')}


# --- ResNets --------------------------------------------------------------------------------------


def resnet(values, images, depth):
    """Returns the logits of a ResNet for small images, with the tracked statistics."""

    def conv_norm(scope, x, stride=1):
        norm = {
            name: values[f'{scope}/batch_normalization/{name}']
            for name in ('gamma', 'beta', 'moving_mean', 'moving_variance')
        }
        W = values[scope + '/forward_kernel']
        if stride == 2:
            y = STRIDED.project(np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)], 'constant'), W)
        else:
            y = SAME.project(x, W)
        y = (y - norm['moving_mean']) / np.sqrt(norm['moving_variance'] + 1e-5)
        return norm['gamma'] * y + norm['beta']

    x = relu(conv_norm('conv0', images))
    for group in (1, 2, 3):
        for index in range((depth - 2) // 6):
            scope, stride = f'block_group{group}_{index}', 2 if group > 1 and index == 0 else 1
            y = relu(conv_norm(scope + '/conv1', x, stride))
            if stride == 2:
                half = np.zeros(y.shape[:3] + (x.shape[3] // 2,))
                x = np.concatenate([half, x[:, ::2, ::2], half], axis=3)
            x = relu(conv_norm(scope + '/conv2', y) + x)
    return x.mean(axis=(1, 2)) @ values['dense/forward_kernel'] + values['dense/bias']


@pytest.mark.parametrize('depth', [8] + tiers.at_night(14, 20, 32, 56))
def test_the_logits_of_a_resnet_for_small_images(depth):
    images = stream('images').standard_normal((2, 7, 10, 3)).astype(np.float32)
    with tf.Graph().as_default(), tf.Session() as session:
        layers = Layers(RULES['symmetric'](), is_training=False)
        logits = NETWORKS[f'resnet{depth}'].build(
            tf.constant(images), layers, CLASSES, NetworkOptions()
        )
        start(session)
        got, values = session.run([logits, {v.op.name: v for v in tf.global_variables()}])
    assert error(got, resnet(values, images.astype(np.float64), depth)) < 1e-5


@pytest.mark.parametrize(
    'depth, millions',
    [(20, 0.27)]
    + [pytest.param(*case, marks=pytest.mark.slow) for case in ((32, 0.46), (56, 0.85))],
)
def test_a_resnet_has_the_layers_and_the_parameters_of_the_paper(depth, millions):
    """The table of the paper gives the parameters for ten classes, in millions."""
    built = skeleton.of(f'resnet{depth}', rule=None)
    assert len(built.records) == depth and not any(r.bias for r in built.records[:-1])
    count = sum(
        np.prod(shape)
        for name, (shape, trainable) in built.variables.items()
        if trainable and not name.startswith('dense/')
    )
    assert round((count + 64 * 10 + 10) / 1e6, 2) == millions


def test_where_a_resnet_for_small_images_strides_and_which_layers_a_relu_follows():
    for record in skeleton.of('resnet20', image=(13, 32, 3)).records[:-1]:
        strided = record.name in ('block_group2_0/conv1', 'block_group3_0/conv1')
        assert record.linear.strides == ((2, 2) if strided else (1, 1))
        assert record.activation is (None if record.name.endswith('/conv2') else tf.nn.relu)
    assert record.y == (None, 4, 8, 64)


# --- both -----------------------------------------------------------------------------------------


@pytest.mark.parametrize('name', LENETS + tiers.at_night('resnet8'))
def test_kernels_start_glorot_uniform_and_so_does_the_size_that_usf_is_told(name):
    images = tf.zeros([1] + list(skeleton.image_of(name)))
    with tf.Graph().as_default(), tf.Session() as session:
        layers, others = Layers(RULES['feedback'](), seed=3), Layers(RULES['usf'](), seed=3)
        for scope, each in (('one', layers), ('other', others)):
            with tf.variable_scope(scope):
                NETWORKS[name].build(tf.zeros(images.shape), each, 10, NetworkOptions())
        session.run(tf.global_variables_initializer())
        pairs = session.run([(record.W, record.B) for record in layers.records])
        signs = session.run([(record.W, record.B) for record in others.records])
        biases = session.run(
            [v for v in tf.global_variables() if v.op.name.endswith(('/bias', '/beta'))]
        )
    for kernels, (other, B) in zip(pairs, signs):
        shape = kernels[0].shape
        s = np.sqrt(2 / (np.prod(shape[:-2]) * (shape[-2] + shape[-1])))
        np.testing.assert_allclose(B, s * np.sign(other), 1e-6)
        for kernel in kernels:
            assert np.abs(kernel).max() <= np.sqrt(3) * s * (1 + 1e-6)
            assert kernel.size < 800 or abs(kernel.std() / s - 1) < 0.05
    assert not any(np.any(bias) for bias in biases)


def test_batch_norms_of_a_resnet_for_small_images_start_as_the_identity():
    with tf.Graph().as_default(), tf.Session() as session:
        NETWORKS['resnet8'].build(tf.zeros([1, 8, 8, 3]), Layers(), 10, NetworkOptions())
        session.run(tf.global_variables_initializer())
        gammas = [v for v in tf.global_variables() if v.op.name.endswith('/gamma')]
        assert len(gammas) == 7 and all(np.all(gamma == 1) for gamma in session.run(gammas))


@pytest.fixture
def experiment():
    """Returns a function: settings -> an Experiment that only validates."""

    def build(**settings):
        values = dict(dict(dataset='synthetic', eval_batch_size=3), **settings)
        config = Config.of(values, choices())
        return Experiment(config, devices.choose(config), training=False)

    return build


@pytest.mark.parametrize('name', ['lenet'] + tiers.at_night('lenet_cifar'))
def test_images_have_32_pixels_unless_a_size_is_given(name, experiment):
    smallest = NETWORKS[name].smallest_image
    assert experiment(model=name).dataset.image_shape == (32, 32, 3)
    assert experiment(model=name, image_size=smallest).dataset.image_shape[0] == smallest
    with pytest.raises(
        ConfigError,
        match=f'--model={name} needs images of at least {smallest} x {smallest} pixels, and those '
        f'of --dataset=synthetic have {smallest - 1} x {smallest - 1}; give --image_size=',
    ):
        experiment(model=name, image_size=smallest - 1)


@pytest.mark.parametrize('name', LENETS)
def test_the_smallest_image_is_the_smallest_that_leaves_a_pixel(name):
    smallest = NETWORKS[name].smallest_image
    assert skeleton.of(name, image=(smallest, smallest, 1)).records[2].y[1:3] == (1, 1)
    with pytest.raises(ValueError):
        skeleton.of(name, image=(smallest - 1, smallest - 1, 1))


def test_mnist_is_resized_for_lenet_and_the_size_of_other_networks_stays(experiment):
    assert experiment(model='lenet', dataset='mnist').dataset.image_shape == (32, 32, 1)
    assert data.load('mnist').image_shape == (28, 28, 1)


def test_roles_of_lenet():
    assert set(skeleton.of('lenet').roles.values()) == {Role.FORWARD, Role.BACKWARD, Role.BIAS}


def test_the_depths_of_resnets_for_small_images():
    assert all((depth - 2) % 6 == 0 for depth in small_resnet.DEPTHS)
