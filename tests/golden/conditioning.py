"""Measures how much the gradients of a network change when its images change by rounding alone.

    python tests/golden/conditioning.py resnet18 resnet34 resnet50

For each network, this prints the largest change of a gradient over its largest element, when every
pixel is multiplied by 1 + 2e-7 u, with u uniform in -1..1 (a float32 rounds by up to 6e-8). Two
correct programs may differ by this much. Images, labels and variables follow the recipe in
README.md. The network has no backward kernels.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from training import runtime  # noqa: E402 (the path comes first)

import numpy as np  # noqa: E402
import tensorflow.compat.v1 as tf  # noqa: E402

import drawn  # noqa: E402
import reference  # noqa: E402
from models import NETWORKS, NetworkOptions  # noqa: E402
from models.layers import Layers  # noqa: E402
from training import losses  # noqa: E402

SHAPE, CLASSES, NOISE = (2, 128, 128, 3), 1000, 2e-7


def gradients(network):
    """Returns [{variable name: gradient}] of the task loss, for the original and changed images."""
    images = reference.stream('images:resnet18').standard_normal(SHAPE)
    labels = reference.stream('labels:resnet18').randint(0, CLASSES, len(images))
    moved = images * (1 + NOISE * reference.stream('conditioning').uniform(-1, 1, SHAPE))
    with tf.Graph().as_default(), tf.Session(config=runtime.session_config()) as session:
        fed, layers = tf.placeholder(tf.float32, SHAPE), Layers(None)
        logits = NETWORKS[network].build(fed, layers, CLASSES, NetworkOptions())
        loss = losses.of(logits, tf.constant(labels), layers).model
        variables = tf.trainable_variables()
        found = dict(zip([v.op.name for v in variables], tf.gradients(loss, variables)))
        drawn.start(session)
        return [session.run(found, {fed: value}) for value in (images, moved)]


def main(networks):
    """Prints a line for each network."""
    print(runtime.describe())
    for network in networks:
        before, after = gradients(network)
        changes = {
            name: np.max(np.abs(after[name] - before[name])) / np.max(np.abs(before[name]))
            for name in before
            if np.any(before[name])
        }
        worst = max(changes, key=changes.get)
        print(
            f'{network}: {changes[worst]:.1e} ({worst}), median over {len(changes)} variables '
            f'{np.median(list(changes.values())):.1e}'
        )


if __name__ == '__main__':
    main(sys.argv[1:] or ['resnet18', 'resnet34', 'resnet50'])
