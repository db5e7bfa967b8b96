"""How to run: devices, the step, the loop, checkpoints; and tfutils' two calls, `train_from_params`
and `test_from_params`.
"""

from training import runtime  # noqa: F401 (first: it prepares TensorFlow)
from training.tfutils.calls import test_from_params, train_from_params

__all__ = ['test_from_params', 'train_from_params']
