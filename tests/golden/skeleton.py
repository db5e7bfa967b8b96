"""What a network asks Layers for, found without making one TensorFlow variable: ResNet-200 in
seconds.
"""

import collections
import functools

import tensorflow.compat.v1 as tf

from alignment.rules import RULES
from models import NETWORKS, NetworkOptions
from models.layers import Layers

# variables: {checkpoint name: (shape, trainable)}, float32 all. records: LayerRecords with shapes
# in place of tensors.
# roles: Layers.roles. l2: how many L2 losses. updates: how many updates of moving statistics.
# logits: their shape.
Skeleton = collections.namedtuple(
    'Skeleton', ['variables', 'records', 'roles', 'l2', 'updates', 'logits']
)

IMAGE = (28, 28, 3)
CLASSES = 1000


def networks():
    """{name of the results' collection: (network, its NetworkOptions)}: every network, ResNets in
    both versions.
    """
    options = [NetworkOptions(layers_list=(32, 16), use_resnet_v2=v2) for v2 in (False, True)]
    return {network.label(o): (network, o) for network in NETWORKS.values() for o in options}


class _Variable:
    """Stands in for a variable that is read, and assigned to, but never made."""

    def __init__(self, name, shape):
        self.op = self
        self.name, self.shape = name, shape

    def read_value(self):
        return tf.placeholder(tf.float32, self.shape)

    def assign_sub(self, delta, read_value):
        return delta


@functools.lru_cache(maxsize=None)
def of(label, image=IMAGE, rule='symmetric', **settings):
    """The Skeleton of a network of networks(); rule: a name of RULES, or None. settings: of
    Layers.
    """
    network, options = networks()[label]
    variables = {}

    def stand_in(getter, name, shape, trainable, **others):
        assert name not in variables, f'{name} is made twice'
        variables[name] = tuple(shape), trainable
        return _Variable(name, shape)

    with tf.Graph().as_default(), tf.variable_scope('', custom_getter=stand_in):
        layers = Layers(RULES[rule]() if rule else None, **settings)
        logits = network.build(
            tf.placeholder(tf.float32, (None,) + image), layers, CLASSES, options
        )
    records = [
        record._replace(
            **{
                field: shape_of(getattr(record, field))
                for field in ('W', 'B', 'bias', 'x', 'y', 'output')
            }
        )
        for record in layers.records
    ]
    return Skeleton(
        variables,
        records,
        layers.roles,
        len(layers.regularization_losses),
        len(layers.updates),
        shape_of(logits),
    )


def shape_of(tensor):
    """The static shape as a tuple, None where it is open; None without a tensor."""
    return None if tensor is None else tuple(tensor.shape.as_list())
