"""Running experiments: devices, the training step, the loop, checkpoints, and tfutils' two calls.

The two calls are `train_from_params` and `test_from_params`.
"""

from training import runtime  # noqa: F401 (first, because it prepares TensorFlow)
from training.tfutils.calls import test_from_params, train_from_params

__all__ = ['test_from_params', 'train_from_params']
