"""The types that the rooms of training share."""

import subprocess
from typing import Callable, Dict

import tensorflow.compat.v1 as tf

from database.types import Array, Document

Say = Callable[[str], None]  # prints a line
Results = Dict[str, Document]  # of a validation: {target: {name: number, or {layer: number}}}
Values = Dict[str, Array]  # of variables, by their names in a checkpoint
Function = Callable[..., tf.Tensor]  # of a tfutils script: it makes a tensor, or an optimiser
MakeOptimizer = Callable[..., tf.train.Optimizer]
Aggregate = Callable[..., Document]  # the results of a validation from those of its batches
Gather = Callable[..., object]  # what is kept of the batches of a validation, one batch later
# Starts a command, as subprocess.Popen does: (words, stdout=file, stderr=subprocess.STDOUT)
Launch = Callable[..., 'subprocess.Popen[bytes]']
