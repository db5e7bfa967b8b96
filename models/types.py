"""Names for types that TensorFlow does not define."""

from typing import Any, Callable

Initializer = Any  # an initialiser of TensorFlow, such as tf.zeros_initializer()
MakeInitializer = Callable[..., Initializer]  # creates one from a seed: initializer(seed=3)
