"""Seeds of all random numbers in a training: initial kernels, draws of a rule, noise on updates.

Draws at a step use stateless operations, whose numbers depend only on their seed. A training that
was stopped and resumed therefore draws the same numbers as one that was never stopped.
"""

import zlib
from typing import Union

import tensorflow.compat.v1 as tf

Number = Union[int, tf.Tensor]


def seed_of(seed: Union[int, str, None], name: str) -> int:
    """Returns a seed from 0 to 2^31 - 1, computed from a training's seed and the name of a draw."""
    return zlib.crc32(f'{seed}:{name}'.encode()) & 0x7FFFFFFF


def step_seed(seed: int, step: Number) -> tf.Tensor:
    """Returns the seed of a stateless draw at a step, int32 [2].

    Args:
        seed: A number, int32, that distinguishes this draw from the other draws of the step.
        step: The number of updates done before this one, an integer scalar.
    """
    return tf.stack([seed, tf.cast(step, tf.int32)])


def part_seed(seed: int, step: Number, part: Number) -> tf.Tensor:
    """Returns the seed of a stateless draw for one part of a step's batch, int32 [2].

    The seeds of two different pairs (step, part) differ if both parts are below 2^30.

    Args:
        seed: A result of `seed_of`.
        step: The number of updates done before this one, an integer scalar.
        part: The index of the part, an int32 scalar.
    """
    return step_seed(seed // 2 + part, step)  # the sum stays below 2^31
