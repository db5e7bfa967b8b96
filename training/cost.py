"""What a training step computes: counted in its graph, before anything runs."""

import collections
from typing import Dict, Iterable, Optional, Set, Union

import numpy as np
import tensorflow.compat.v1 as tf

from training.experiment import Experiment


def _of_convolution(op: tf.Operation) -> int:
    return _size(op.outputs[0]) * _size(op.inputs[1], 3)


def _of_input_gradient(op: tf.Operation) -> int:
    return _size(op.inputs[2]) * _size(op.inputs[1], 3)


def _of_filter_gradient(op: tf.Operation) -> int:
    return _size(op.inputs[2]) * _size(op.outputs[0], 3)


def _of_product(op: tf.Operation) -> int:
    return (
        _size(op.outputs[0]) * op.inputs[0].shape.as_list()[0 if op.get_attr('transpose_a') else 1]
    )


# {type of operation: (what it is called, its multiply-adds)}. A kernel is [height, width, in, out]:
# an output value of a convolution takes height * width * in of them, and so does each value of an
# error that either gradient reads.
COUNTED = {
    'Conv2D': ('convolutions', _of_convolution),
    'Conv2DBackpropInput': ('their input gradients', _of_input_gradient),
    'Conv2DBackpropFilter': ('their filter gradients', _of_filter_gradient),
    'MatMul': ('matrix products', _of_product),
}


def multiply_adds(fetches: Iterable[Union[tf.Tensor, tf.Operation]]) -> Dict[str, int]:
    """{kind of operation: multiply-adds, int} of all that is computed for some tensors or
    operations, in the order of COUNTED.

    Counts what every replica of one graph computes for a batch: convolutions (a rule's projections
    and reconstructions are among them and their input gradients) and matrix products. What passes
    over the values once, batch norms, activations and optimisers, is left out. A loop counts once.
    """
    counts: Dict[str, int] = collections.Counter()
    for op in _needed(fetches):
        if op.type in COUNTED:
            kind, count = COUNTED[op.type]
            counts[kind] += int(count(op))
    return collections.OrderedDict(
        (kind, counts[kind]) for kind, _ in COUNTED.values() if kind in counts
    )


def of_step(exp: Experiment) -> Dict[str, int]:
    """The same of a training step of an Experiment: of its replicas on this host, or of one core of
    a TPU.
    """
    # The graph has the first part of a batch, and a loop.
    repeats = exp.device.minibatches / min(exp.device.minibatches, 2)
    step = exp.training_step
    counts = multiply_adds([step.train_op] + list(step.scalars.values()))
    return collections.OrderedDict((kind, int(repeats * count)) for kind, count in counts.items())


def _needed(fetches: Iterable[Union[tf.Tensor, tf.Operation]]) -> Set[tf.Operation]:
    """Every operation that must run for some tensors or operations, each once."""
    seen: Set[tf.Operation] = set()
    waiting = [getattr(fetch, 'op', fetch) for fetch in fetches]
    while waiting:
        op = waiting.pop()
        if op not in seen:
            seen.add(op)
            waiting.extend([tensor.op for tensor in op.inputs] + list(op.control_inputs))
    return seen


def _size(tensor: tf.Tensor, dimensions: Optional[int] = None) -> int:
    """The number of values in a tensor's first dimensions, or in all."""
    return int(np.prod(tensor.shape.as_list()[:dimensions], dtype=np.int64))
