"""Counts the convolutions that a step of each rule really runs, in TensorFlow's optimised graph."""

import collections

import pytest

import data
import tiers
import tiny
from alignment.view import ViewOptions
from alignment.rules import RULES
from config.schema import Config
from models.layers import Layers
from training import devices, loop, runtime
from training.choices import choices
from training.experiment import Experiment
import tensorflow.compat.v1 as tf

pytestmark = pytest.mark.slow
LAYERS = {
    'small': 2,
    'resnet18': 21,
    'lenet': 3,
    'resnet8': 7,
}  # convolutions; ResNet-18 has 17, and 4 shortcut projections
# The convolutions that a rule adds to each of them: a projection or a reconstruction, and a kernel
# gradient (see alignment/rules.py).
EXTRA = {
    None: 0,
    'feedback': 0,
    'usf': 0,
    'frsf': 0,
    'brsf': 0,
    'pfa': 0,
    'dfa': 0,
    'symmetric': 0,
    'kolen_pollack': 0,
    'mirror': 1,
    'activation': 2,
    'information': 2,
    'mirror on noise': 2,
}


@pytest.fixture(autouse=True, scope='module')
def pixels():
    """Registers a data set whose images a ResNet can process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(data.DATASETS, 'pixels', tiny.dataset('pixels', image_shape=(33, 33, 3)))
        yield


def convolutions(model, **settings):
    """Returns {kind: number of convolutions} that one step ran."""
    config = Config.of(
        dict(
            model=model,
            dataset='pixels',
            train_batch_size=3,
            eval_batch_size=3,
            optimizer='momentum',
            **settings,
        ),
        choices(),
    )
    exp = Experiment(config, devices.choose(config), validating=False)
    with loop.session(exp, runtime.session_config()) as session:
        session.run(exp.step.initializer)
        metadata = tf.RunMetadata()
        session.run(
            [exp.step.train_op, exp.step.scalars],
            run_metadata=metadata,
            options=tf.RunOptions(
                trace_level=tf.RunOptions.HARDWARE_TRACE, output_partition_graphs=True
            ),
        )
    ran = [node.op for graph in metadata.partition_graphs for node in graph.node]
    return collections.Counter(
        'filter' if 'BackpropFilter' in op else 'input' if 'BackpropInput' in op else 'forward'
        for op in ran
        if 'Conv2D' in op
    )


@pytest.mark.parametrize(
    'rule, model',
    [(rule, 'small') for rule in sorted(EXTRA, key=str)]
    + [('dfa', 'lenet'), ('pfa', 'resnet8')]
    + tiers.at_night(('information', 'resnet18'), ('information', 'lenet'), ('mirror', 'resnet8')),
)
def test_a_step_runs_the_convolutions_of_the_count_and_no_more(rule, model):
    settings = (
        dict(alignment='mirror', input_distribution='normal')
        if rule == 'mirror on noise'
        else dict(alignment=rule)
    )
    ran, layers = convolutions(model, **settings), LAYERS[model]
    sent = (
        0 if rule == 'dfa' else layers - 1
    )  # the first layer sends no error to the images; direct feedback uses no convolution
    assert sum(ran.values()) == 2 * layers + sent + EXTRA[rule] * layers
    assert ran['filter'] == layers * (1 + (EXTRA[rule] > 0))


def source(tensor):
    """Returns the tensor that is kept in memory; operations that only pass it on hold no copy."""
    while tensor.op.type in ('Identity', 'IdentityN', 'StopGradient'):
        tensor = tensor.op.inputs[tensor.value_index]
    return tensor


@pytest.mark.parametrize('rule', sorted(EXTRA, key=str))
def test_activities_are_kept_once(rule):
    """Every kernel gradient reads an activation of a layer where the forward pass left it.

    This holds for the gradients of the task and of a rule.
    """
    name, _, noise = (rule or '').partition(' on ')
    with tf.Graph().as_default():
        view = ViewOptions(input_distribution='normal' if noise else None)
        layers = Layers(RULES[name](options=view) if name else None, classes=10)
        images = tf.placeholder(tf.float32, [3, 33, 33, 3])
        logits = layers.finish(tiny.SMALL.build(images, layers, 10, None))
        alignment = list(layers.rule.losses(layers.records).values()) if name else []
        tf.gradients(tf.add_n([tf.reduce_sum(logits)] + alignment), tf.trainable_variables())
        inputs, outputs = [
            {source(tensor) for tensor in tensors}
            for tensors in zip(*[(r.x, r.y) for r in layers.records])
        ]
        filters = [
            op
            for op in tf.get_default_graph().get_operations()
            if op.type == 'Conv2DBackpropFilter'
        ]
        strangers = [
            op.name
            for op in filters
            if source(op.inputs[0]) not in inputs and source(op.inputs[2]) not in outputs
        ]
    assert len(filters) == LAYERS['small'] * (1 + (EXTRA[rule] > 0))
    assert len(strangers) == (
        LAYERS['small'] if noise else 0
    )  # the noise of the rule is another input


def test_every_rule_is_counted():
    assert {name.split()[0] for name in EXTRA if name} == set(RULES)
