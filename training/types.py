"""The types that the rooms of training share."""

from typing import Callable, Dict

import numpy as np

from database.types import Document

Say = Callable[[str], None]  # prints a line
Results = Dict[str, Document]  # of a validation: {target: {name: number, or {layer: number}}}
Computation = Callable[..., list]  # of tensors, each an argument: a list of tensors and operations
Values = Dict[str, np.ndarray]  # of variables, by their names in a checkpoint
