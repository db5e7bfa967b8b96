"""Nests: tuples, lists and dictionaries of tensors or of other nests.

None marks a place without a tensor.
"""

from typing import Generic, List, Sequence, TypeVar

import tensorflow.compat.v1 as tf

from training import runtime

Nest = TypeVar('Nest')


def tensors_of(nest: Nest) -> List[tf.Tensor]:
    """Returns the tensors of a nest in order; a dictionary is read in the order of its keys."""
    return [tensor for tensor in runtime.nest.flatten(nest) if tensor is not None]


def with_tensors(nest: Nest, tensors: Sequence[tf.Tensor]) -> Nest:
    """Returns a nest of the same form, with other tensors."""
    others = iter(tensors)
    return runtime.nest.map_structure(lambda tensor: None if tensor is None else next(others), nest)


class Form(Generic[Nest]):
    """The form of a nest, to pass its tensors through an interface that only has flat lists.

    Such interfaces are a loop, a function that XLA compiles, and the cores of a TPU.

    Attributes:
        tensors: The tensors of the nest that was flattened last.
    """

    tensors: List[tf.Tensor]
    _nest: Nest

    def flatten(self, nest: Nest) -> List[tf.Tensor]:
        """Returns the tensors of a nest and remembers its form."""
        self._nest, self.tensors = nest, tensors_of(nest)
        return self.tensors

    def pack(self, tensors: Sequence[tf.Tensor]) -> Nest:
        """Returns a nest of the remembered form with these tensors."""
        return with_tensors(self._nest, tensors)
