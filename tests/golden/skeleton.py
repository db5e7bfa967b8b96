"""What a network requests from Layers, without creating any TensorFlow variable.

This takes seconds even for ResNet-200.
"""

import collections
import functools

import tensorflow.compat.v1 as tf

from alignment.rules import RULES
from models import NETWORKS, NetworkOptions
from models.layers import Layers

# variables: {checkpoint name: (shape, trainable)}, all float32. records: LayerRecords with shapes
# in place of tensors. roles: Layers.roles. l2: the number of L2 losses. updates: the number of
# updates of moving statistics. logits: the shape of the logits.
Skeleton = collections.namedtuple(
    'Skeleton', ['variables', 'records', 'roles', 'l2', 'updates', 'logits']
)

SIZE, CHANNELS = 28, 3  # of images, where a network has no size of its own
CLASSES = 1000


def networks():
    """Returns {collection: (network, its NetworkOptions)}, including both versions of ResNets."""
    options = [NetworkOptions(layers_list=(32, 16), use_resnet_v2=v2) for v2 in (False, True)]
    return {network.label(o): (network, o) for network in NETWORKS.values() for o in options}


def image_of(label):
    """Returns the shape of the images of a network, (height, width, channels)."""
    size = networks()[label][0].image_size or SIZE
    return size, size, CHANNELS


class _Variable:
    """A substitute for a variable: it can be read and assigned to, but it is never created."""

    def __init__(self, name, shape):
        self.op = self
        self.name, self.shape = name, shape

    def read_value(self):
        return tf.placeholder(tf.float32, self.shape)

    def assign_sub(self, delta, read_value):
        return delta


@functools.lru_cache(maxsize=None)
def of(label, image=None, rule='symmetric', **settings):
    """Returns the Skeleton of a network.

    Args:
        label: A name from `networks()`.
        image: The shape of an image. None for `image_of(label)`.
        rule: A name in RULES, or None.
        **settings: Further settings of Layers.
    """
    network, options = networks()[label]
    variables, image = {}, image or image_of(label)

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
    """Returns the static shape as a tuple, with None where it is unknown. None without a tensor."""
    return None if tensor is None else tuple(tensor.shape.as_list())
