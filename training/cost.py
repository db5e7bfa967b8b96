"""Counts what a training step computes, from its graph, before anything runs."""

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


# {type of operation: (its name, the function that counts its multiply-adds)}. A kernel has the
# shape [height, width, in, out]. Each output value of a convolution costs height * width * in
# multiply-adds, and so does each value of the error that one of the two gradients reads.
COUNTED = {
    'Conv2D': ('convolutions', _of_convolution),
    'Conv2DBackpropInput': ('their input gradients', _of_input_gradient),
    'Conv2DBackpropFilter': ('their kernel gradients', _of_filter_gradient),
    'MatMul': ('matrix products', _of_product),
}


def multiply_adds(fetches: Iterable[Union[tf.Tensor, tf.Operation]]) -> Dict[str, int]:
    """Counts the multiply-adds of everything that is computed for some tensors or operations.

    Convolutions, their two gradients and matrix products count, for all replicas of the graph. The
    projections and reconstructions of a rule are convolutions, input gradients of convolutions, or
    matrix products. Batch norms, activations and optimisers are left out: they read each value
    only once. The body of a loop is counted once.

    Args:
        fetches: The tensors or operations.

    Returns:
        {kind of operation: multiply-adds, int} in the order of COUNTED, for the kinds that occur.
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
    """Counts the multiply-adds of a training step, as `multiply_adds` does.

    The count covers all replicas on this host, or one core of a TPU.
    """
    # The graph holds the first minibatch and one loop body, so the counts are scaled.
    repeats = exp.device.minibatches / min(exp.device.minibatches, 2)
    step = exp.training_step
    counts = multiply_adds([step.train_op] + list(step.scalars.values()))
    return collections.OrderedDict((kind, int(repeats * count)) for kind, count in counts.items())


def _needed(fetches: Iterable[Union[tf.Tensor, tf.Operation]]) -> Set[tf.Operation]:
    """Returns all operations that must run for some tensors or operations."""
    seen: Set[tf.Operation] = set()
    waiting = [getattr(fetch, 'op', fetch) for fetch in fetches]
    while waiting:
        op = waiting.pop()
        if op not in seen:
            seen.add(op)
            waiting.extend([tensor.op for tensor in op.inputs] + list(op.control_inputs))
    return seen


def _size(tensor: tf.Tensor, dimensions: Optional[int] = None) -> int:
    """Returns the product of a tensor's first dimensions, or of all of them."""
    return int(np.prod(tensor.shape.as_list()[:dimensions], dtype=np.int64))
