"""The interface of a network to the rest of the program."""

from typing import Callable, FrozenSet, NamedTuple, Optional, Tuple

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
        uses: The names of the settings, among those that only some networks have, that this network
            uses.
        image_size: The height and width in pixels of the images if --image_size is not given. None
            uses the default of the data set.
        smallest_image: The smallest height and width in pixels that the network can process.
    """

    build: Callable[[tf.Tensor, Layers, int, NetworkOptions], tf.Tensor]
    label: Callable[[NetworkOptions], str]
    uses: FrozenSet[str] = frozenset()
    image_size: Optional[int] = None
    smallest_image: int = 1
