"""What a network is to the rest of the program."""

import collections

# build(images, layers, classes, options) -> logits [batch, classes]; layers: models.layers.Layers
# label(options) -> the name of its results' collection in the database, 'fc_32-16' or 'resnet50v2'
Network = collections.namedtuple('Network', ['build', 'label'])


class NetworkOptions(
    collections.namedtuple('NetworkOptions', ['layers_list', 'activation', 'use_resnet_v2'])
):
    """layers_list: hidden units of fc, a tuple of ints; activation: its non-linearity by name;
    use_resnet_v2: bool.
    """


NetworkOptions.__new__.__defaults__ = ((), 'sigmoid', False)
