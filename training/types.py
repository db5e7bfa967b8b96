"""Types shared by the modules of training."""

import subprocess
from typing import Callable, Dict

import tensorflow.compat.v1 as tf

from database.types import Array, Document

Say = Callable[[str], None]  # prints a line
Results = Dict[str, Document]  # of a validation: {target: {name: number, or {layer: number}}}
Values = Dict[str, Array]  # {name of a variable in a checkpoint: its value}
Function = Callable[..., tf.Tensor]  # of a tfutils script: returns a tensor, or an optimiser
MakeOptimizer = Callable[..., tf.train.Optimizer]
Aggregate = Callable[..., Document]  # results of all batches of a validation -> its results
Gather = Callable[..., object]  # (what was kept so far, results of one batch, ...) -> what to keep
# Starts a command as subprocess.Popen does: (words, stdout=file, stderr=subprocess.STDOUT)
Launch = Callable[..., 'subprocess.Popen[bytes]']
