"""Names for what TensorFlow gives no types of."""

from typing import Any, Callable

Initializer = Any  # one of TensorFlow's, such as tf.zeros_initializer()
MakeInitializer = Callable[..., Initializer]  # makes one of a seed: initializer(seed=3)
