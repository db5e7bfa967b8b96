"""Small layers of all kinds, and values for every option of a view.

Each layer is available as a LayerRecord and as a Layer of the oracle.
"""

import collections

import numpy as np
import tensorflow.compat.v1 as tf

import oracle
from alignment.gradients import Convolution, Dense, aligned
from alignment.view import ACTIVATIONS, LayerRecord
from reference import stream
from training import runtime

# Shapes of the input and the kernel. All sizes of a layer are different.
Sample = collections.namedtuple('Sample', ['x', 'kernel', 'linear', 'oracle', 'bias', 'activation'])


def convolution(x, kernel, strides, padding, bias, activation, data_format='NHWC'):
    form = strides, padding, data_format
    return Sample(x, kernel, Convolution(*form), oracle.Convolution(*form), bias, activation)


SAMPLES = {
    'dense': Sample((4, 7), (7, 5), Dense(), oracle.Dense(), True, 'sigmoid'),
    'linear': Sample((5, 3), (3, 6), Dense(), oracle.Dense(), False, None),
    'conv': convolution((4, 5, 6, 2), (3, 1, 2, 7), (1, 1), 'SAME', True, 'tanh'),
    'strided': convolution((3, 8, 7, 2), (3, 4, 2, 5), (2, 2), 'SAME', False, 'relu'),
    'valid': convolution((2, 7, 6, 3), (2, 3, 3, 4), (1, 2), 'VALID', True, None),
}
if runtime.IS_TF2:  # TensorFlow 1.13.2 has no NCHW convolution on CPUs
    SAMPLES['channels first'] = convolution(
        (3, 2, 6, 7), (3, 1, 2, 5), (1, 2), 'SAME', True, 'tanh', 'NCHW'
    )

# Layers that models.layers builds: (shape of the images, a function that builds the layer, shape of
# its kernel, initial standard deviation of its kernel). All sizes of a layer are different.
KINDS = {
    'dense': ((4, 7), lambda layers, x: layers.dense(x, 5), (7, 5), np.sqrt(2 / (7 + 5))),
    'conv': (
        (3, 5, 6, 2),
        lambda layers, x: layers.conv2d(x, 7, 3),
        (3, 3, 2, 7),
        np.sqrt(1 / (3 * 3 * 2)),
    ),
    'stride 2': (
        (3, 9, 7, 2),
        lambda layers, x: layers.conv2d(x, 5, 3, stride=2),
        (3, 3, 2, 5),
        np.sqrt(1 / (3 * 3 * 2)),
    ),
    'valid': (
        (2, 7, 5, 3),
        lambda layers, x: layers.conv2d(x, 4, 2, padding='VALID'),
        (2, 2, 3, 4),
        np.sqrt(1 / (2 * 2 * 3)),
    ),
}

# Values of each option, together with the options without which it has no effect.
SETTINGS = {
    'update_forward': [dict(update_forward=True)],
    'input_distribution': [dict(input_distribution='normal'), dict(input_distribution='uniform')],
    'input_stddev': [
        dict(input_distribution='normal', input_stddev=0.25),
        dict(input_distribution='uniform', input_stddev=3.0),
    ],
    'use_bias_forward': [dict(use_bias_forward=False)],
    'use_bias_backward': [dict(use_bias_backward=False)],
    'activation_fn_override': [
        dict(activation_fn_override=name, activation_forward=True, activation_backward=True)
        for name in ('tanh', 'relu')
    ],
    'activation_forward': [dict(activation_forward=True)],
    'activation_backward': [dict(activation_backward=True)],
    'batch_center_backward_input': [dict(batch_center_backward_input=True)],
    'center_input': [dict(center_input=True)],
    'normalize_input': [dict(normalize_input=True)],
    'batch_center_forward_output': [dict(batch_center_forward_output=True)],
    'center_forward_output': [dict(center_forward_output=True)],
    'normalize_forward_output': [dict(normalize_forward_output=True)],
    'center_backward_output': [dict(center_backward_output=True)],
    'normalize_backward_output': [dict(normalize_backward_output=True)],
}


def array(tag, shape, scale=1.0):
    """Returns numbers that TensorFlow represents exactly, as float64."""
    return (scale * stream(tag).standard_normal(shape)).astype(np.float32).astype(np.float64)


def layer(name):
    """Returns the oracle's Layer of a sample."""
    sample = SAMPLES[name]
    bias = array(name + '/bias', sample.kernel[-1:], 0.5) if sample.bias else None
    return oracle.Layer(
        sample.oracle,
        array(name + '/W', sample.kernel, 0.5),
        array(name + '/B', sample.kernel, 0.5),
        bias,
        array(name + '/x', sample.x),
        sample.activation,
    )


def record(name, backward=True, **replaced):
    """Returns the LayerRecord of a sample.

    Its tensors are placeholders with defaults: gradients can be taken with respect to them, and
    they can be fed.
    """
    sample, arrays = SAMPLES[name], layer(name)._replace(**replaced)
    W, B, x = [leaf(value) for value in (arrays.W, arrays.B, arrays.x)]
    bias = leaf(arrays.bias) if sample.bias else None
    activation = ACTIVATIONS[sample.activation] if sample.activation else None
    y = aligned(sample.linear, x, W, B)
    output = y if bias is None else sample.linear.add_bias(y, bias)
    return LayerRecord(
        name,
        sample.linear,
        W,
        B if backward else None,
        bias,
        x,
        y,
        activation(output) if activation else output,
        activation,
    )


def oracle_of(linear):
    """Returns the oracle's linear map for one of ours.

    The oracle has no `few_positions`: it computes every convolution in the same way.
    """
    if isinstance(linear, Convolution):
        return oracle.Convolution(linear.strides, linear.padding, linear.data_format)
    return oracle.Dense()


def unpadded(kind, dx):
    """Returns the gradient of the images, computed from the gradient of the layer's input.

    They differ if the layer pads, as layers with a stride do.
    """
    return dx[:, 1:-1, 1:-1] if kind == 'stride 2' else dx


def leaf(value):
    return tf.placeholder_with_default(tf.constant(value, tf.float32), value.shape)


def session():
    """Returns a session that does not optimise its graph, which takes longer than to run it once.

    The tests in tests/golden and tests/training use the sessions of the program.
    """
    config = tf.ConfigProto()
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    return tf.Session(config=config)


def numbers(build):
    """Returns the values of the tensors that `build` creates in a separate graph."""
    with tf.Graph().as_default(), session() as opened:
        return opened.run(build())
