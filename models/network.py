"""What a network is to the rest of the program."""

from typing import Callable, NamedTuple, Tuple

import tensorflow.compat.v1 as tf

from models.layers import Layers


class NetworkOptions(NamedTuple):
    """layers_list: hidden units of fc; activation: its non-linearity by name; use_resnet_v2: which
    of the two versions of a ResNet.
    """

    layers_list: Tuple[int, ...] = ()
    activation: str = 'sigmoid'
    use_resnet_v2: bool = False


class Network(NamedTuple):
    """build(images, layers, classes, options) -> logits [batch, classes].

    label(options) -> the name of its results' collection in the database, 'fc_32-16' or
    'resnet50v2'.
    """

    build: Callable[[tf.Tensor, Layers, int, NetworkOptions], tf.Tensor]
    label: Callable[[NetworkOptions], str]
