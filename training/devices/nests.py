"""Nests of tensors: tuples, lists and dictionaries of tensors or of such. None is where there is no
tensor.
"""

from typing import Generic, List, Sequence, TypeVar

import tensorflow.compat.v1 as tf

from training import runtime

Nest = TypeVar('Nest')


def tensors_of(nest: Nest) -> List[tf.Tensor]:
    """The tensors of a nest, in its order; those of a dictionary are in the order of its keys."""
    return [tensor for tensor in runtime.nest.flatten(nest) if tensor is not None]


def with_tensors(nest: Nest, tensors: Sequence[tf.Tensor]) -> Nest:
    """A nest of the same form, with other tensors in the place of its own."""
    others = iter(tensors)
    return runtime.nest.map_structure(lambda tensor: None if tensor is None else next(others), nest)


class Form(Generic[Nest]):
    """The form of a nest whose tensors go through what takes and gives flat lists alone: a loop, a
    function that XLA compiles, the cores of a TPU.

    Attributes:
        tensors: those of the nest that was flattened last.
    """

    tensors: List[tf.Tensor]
    _nest: Nest

    def flatten(self, nest: Nest) -> List[tf.Tensor]:
        """The tensors of a nest, whose form is kept."""
        self._nest, self.tensors = nest, tensors_of(nest)
        return self.tensors

    def pack(self, tensors: Sequence[tf.Tensor]) -> Nest:
        """A nest of the form that was kept, with these tensors."""
        return with_tensors(self._nest, tensors)
