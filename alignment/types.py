"""Names for what TensorFlow gives no types of."""

from typing import Any

Tensor = Any  # a tensor of either TensorFlow
