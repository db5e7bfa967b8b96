"""The interface of a network to the rest of the program."""

from typing import Callable, NamedTuple, Tuple

import tensorflow.compat.v1 as tf

from models.layers import Layers


class NetworkOptions(NamedTuple):
    """The settings of a network.

    Attributes:
        layers_list: The numbers of hidden units of fc.
        activation: The name of the non-linearity of fc.
        use_resnet_v2: Whether a ResNet is version 2 rather than version 1.
    """

    layers_list: Tuple[int, ...] = ()
    activation: str = 'sigmoid'
    use_resnet_v2: bool = False


class Network(NamedTuple):
    """A network that --model can select.

    Attributes:
        build: build(images, layers, classes, options) returns the logits, [batch, classes].
        label: label(options) returns the name of the collection for its results, such as 'fc_32-16'
            or 'resnet50v2'.
    """

    build: Callable[[tf.Tensor, Layers, int, NetworkOptions], tf.Tensor]
    label: Callable[[NetworkOptions], str]
