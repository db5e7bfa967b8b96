"""The block of ResNet v2: what its convolutions read and what it adds up.

The original code has left no reference numbers for it. The source is arXiv:1603.05027, figure 4e.
"""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from models.layers import Layers
from models.resnet import V2, Conv
from reference import error

# (the projection of the shortcut or None, the convolutions of the residual branch)
BLOCKS = {
    'projection': (Conv(6, 1, 1), [Conv(6, 3, 1), Conv(6, 3, 1)]),
    'identity': (None, [Conv(5, 3, 1), Conv(5, 3, 1)]),
    'bottleneck': (Conv(12, 1, 1), [Conv(3, 1, 1), Conv(3, 3, 1), Conv(12, 1, 1)]),
}


@pytest.mark.parametrize('name', sorted(BLOCKS))
def test_the_branches_of_a_block(name):
    shortcut, convs = BLOCKS[name]
    x = np.random.RandomState(7).randn(4, 6, 7, 5).astype(np.float32)
    with tf.Graph().as_default(), tf.Session() as session:
        layers = Layers(seed=1)
        added = V2(layers).block(tf.constant(x), shortcut, convs)
        session.run(tf.global_variables_initializer())
        records = {record.name: (record.x, record.y) for record in layers.records}
        added, records = session.run((added, records))
    first, last = records['conv1'], records[f'conv{len(convs)}']
    assert first[0].min() == 0.0 < first[0].max()  # the output of batch norm and ReLU
    assert abs((first[0] > 0).mean() - 0.5) < 0.1
    if shortcut:
        np.testing.assert_array_equal(records['conv0'][0], first[0])
    assert error(added, last[1] + (records['conv0'][1] if shortcut else x)) < 1e-6
