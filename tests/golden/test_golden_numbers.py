"""The numbers of a training step of the original code.

They are outputs, losses, gradients, angles, sizes and moving statistics.
"""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import drawn
import reference
from alignment import measures
from alignment.view import ViewOptions
from alignment.rules import RULES
from database.layout import SIGNALS
from models import NETWORKS, NetworkOptions
from models.layers import Layers
from training import losses, runtime

TOLERANCE = 1e-4 if runtime.IS_TF2 else 1e-5

# The existing files, <net>_<rule>[_<option>].npz.
FILES = {
    'fc': [
        'None',
        'feedback',
        'symmetric',
        'activation',
        'mirror',
        'information',
        'kolen_pollack',
        'activation_nobias',
        'activation_actfb_relu',
        'activation_centernorm_in',
        'information_rev',
        'information_amp',
        'mirror_updfwd',
    ],
    'conv': ['None', 'feedback', 'symmetric', 'activation', 'information', 'kolen_pollack'],
    'resnet18': ['None', 'symmetric'],
}
NAMES = [f'{net}_{rule}' for net in FILES for rule in FILES[net]]
MARKS = {
    'fc': [pytest.mark.claim('fc')],
    'conv': [pytest.mark.claim('conv'), pytest.mark.slow],
    'resnet18': [pytest.mark.claim('resnet18'), pytest.mark.slow],
}
OPTIONS = {
    '': {},
    'nobias': dict(use_bias_forward=False, use_bias_backward=False),
    'actfb_relu': dict(
        activation_forward=True, activation_backward=True, activation_fn_override='relu'
    ),
    'centernorm_in': dict(center_input=True, normalize_input=True),
    'updfwd': dict(update_forward=True),
    'rev': dict(reconstruction_reversal=True),
    'amp': dict(reconstruction_amp=True),
}
IMAGES = {'fc': (8, 20), 'conv': (4, 784), 'resnet18': (2, 128, 128, 3)}
CLASSES = {'fc': 10, 'conv': 10, 'resnet18': 1000}
INPUTS = ('images', 'labels', 'var/')
OURS = set(SIGNALS)  # measures that the original does not have


def build(net, images, layers):
    """Returns the logits of one of the three networks."""
    if net != 'conv':
        return NETWORKS[net].build(
            images, layers, CLASSES[net], NetworkOptions(layers_list=(32, 16))
        )
    x = tf.reshape(images, [-1, 28, 28, 1])
    for scope, filters, size in (('conv0', 4, 5), ('conv1', 6, 3)):
        with tf.variable_scope(scope):
            x = layers.conv2d(
                x, filters, size, padding='VALID', use_bias=True, activation='sigmoid'
            )
    with tf.variable_scope('dense_output'):
        return layers.dense(tf.reshape(x, [-1, x.shape[1:].num_elements()]), CLASSES[net])


def rule_of(name):
    """Returns the rule that a file's name describes, with its default coefficients.

    None stands for backpropagation.
    """
    rule = next((rule for rule in RULES if name.startswith(rule)), 'None')
    option = OPTIONS[name[len(rule) :].lstrip('_')]
    switches = {key: value for key, value in option.items() if key not in ViewOptions._fields}
    options = {key: value for key, value in option.items() if key in ViewOptions._fields}
    return None if rule == 'None' else RULES[rule](options=ViewOptions(**options), **switches)


def inputs(net):
    """Returns the images and labels of the recipe."""
    images = reference.stream('images:' + net).standard_normal(IMAGES[net]).astype(np.float32)
    return images, reference.stream('labels:' + net).randint(0, CLASSES[net], len(images))


def step(net, rule):
    """Returns the results of our code, {key of the file: value}.

    Whole gradients are under 'grad_task/...' and 'grad_align/...'.
    """
    config = runtime.session_config()
    config.intra_op_parallelism_threads = (
        2  # float32 sums on one thread round differently: by 1.6e-5 in ResNet-18
    )
    with tf.Graph().as_default(), tf.Session(config=config) as session:
        images, labels = [tf.constant(array) for array in inputs(net)]
        layers = Layers(rule)
        logits = build(net, images, layers)
        terms = losses.of(logits, labels, layers)
        (total,) = losses.objectives(terms, 1.0, 1.0, separate=False)
        fetches = dict(
            logits=logits,
            task_loss=terms.model,
            reg_loss=terms.reg,
            alignment_loss=terms.alignment,
            total_loss=total,
            opt_loss=total,
        )
        targets = dict({v.op.name: v for v in tf.trainable_variables()}, _input_images=images)
        for key, loss in (
            ('grad_task/', terms.model + terms.reg),
            ('grad_align/', terms.alignment),
        ):
            gradients = zip(targets, tf.gradients(loss, list(targets.values())))
            fetches.update(
                {key + name: gradient for name, gradient in gradients if gradient is not None}
            )
        for (
            name,
            variable,
        ) in targets.items():  # we compute nothing where the original computes zeros
            if name.endswith('backward_kernel'):
                fetches.setdefault('grad_task/' + name, tf.zeros(variable.shape))
        measured = measures.measure(measures.back(layers.records, terms.model))
        for metric in set(measured) - OURS:
            values = measured[metric]
            fetches.update({f'metric/{metric}/{name}': value for name, value in values.items()})
        drawn.start(session)
        results = session.run(fetches)
        session.run(layers.updates)
        moved = {
            'bn_after_1_update/' + v.op.name: v
            for v in tf.global_variables()
            if '/moving_' in v.op.name
        }
        results.update(session.run(moved))
    return results


def summaries(results):
    """Returns the gradients in the form in which a ResNet's file stores them.

    /sum is left out: it is meaningless because of cancellation.
    """
    for key, value in results.items():
        if not key.startswith('grad_'):
            yield key, value
        else:
            flat = value.astype(np.float64).ravel()
            yield key + '/norm', np.linalg.norm(flat)
            if not key.endswith('/_input_images'):
                yield key + '/abssum', np.abs(flat).sum()
            yield key + '/slice64', flat[np.linspace(0, flat.size - 1, 64).astype(int)]


@pytest.mark.parametrize(
    'name', [pytest.param(name, marks=MARKS[name.partition('_')[0]]) for name in NAMES]
)
def test_a_step_gives_the_numbers_of_the_original(name, record_property):
    net, _, rule = name.partition('_')
    with np.load(reference.path(name + '.npz')) as file:
        golden = dict(file)
    results = step(net, rule_of(rule))
    for which in ('grad_task/', 'grad_align/'):
        present = {tag.decode() for tag in golden.pop(which + '_present')}
        assert {key[len(which) :] for key in results if key.startswith(which)} - {
            '_input_images'
        } == present
    if net == 'resnet18':
        results = dict(summaries(results))
    wanted = {
        key: golden[key]
        for key in golden
        if not key.startswith(INPUTS) and not key.endswith('/sum')
    }
    assert set(results) == set(wanted)
    errors = {key: reference.error(results[key], wanted[key]) for key in wanted}
    record_property('references', len(errors))
    record_property('error', float(np.max(list(errors.values()))))
    assert {key: error for key, error in errors.items() if not error <= TOLERANCE} == {}


@pytest.mark.parametrize('name', NAMES)
def test_the_recipe_gives_the_inputs_of_the_original(name):
    net = name.partition('_')[0]
    with np.load(reference.path(name + '.npz')) as file:
        given = {key: file[key] for key in file.files if key.startswith(INPUTS)}
    assert 'labels' in given and (net == 'resnet18' or len(given) > 10)
    images, labels = inputs(net)
    for key, value in given.items():
        drawn = dict(images=images, labels=labels).get(key)
        drawn = reference.variable(key[len('var/') :], value.shape) if drawn is None else drawn
        np.testing.assert_array_equal(drawn, value, err_msg=key)


def test_every_file_of_numbers_is_read():
    trainings = {
        name for name in reference.files('', '.npz') if name.startswith('fctrain_')
    }  # tests/training reads these files
    assert reference.files('', '.npz') - trainings == set(NAMES)
