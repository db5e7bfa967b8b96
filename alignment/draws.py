"""Seeds of the random numbers that a training draws: initial kernels, what a rule draws at a step,
noise on updates.

Those of a step come from stateless operations, whose numbers depend on their seed alone. A training
that is stopped and resumed draws what one that was never stopped draws.
"""

import zlib
from typing import Union

import tensorflow.compat.v1 as tf

Number = Union[int, tf.Tensor]


def seed_of(seed: Union[int, str, None], name: str) -> int:
    """A number from 0 to 2^31 - 1 for each seed of a training and name of what is drawn."""
    return zlib.crc32(f'{seed}:{name}'.encode()) & 0x7FFFFFFF


def step_seed(seed: int, step: Number) -> tf.Tensor:
    """The seed of a stateless draw at a step, int32 [2].

    Args:
        seed: What distinguishes this draw from the other draws of the step, an int32.
        step: Updates done before this one, an integer scalar.
    """
    return tf.stack([seed, tf.cast(step, tf.int32)])


def part_seed(seed: int, step: Number, part: Number) -> tf.Tensor:
    """The seed of a stateless draw for a part of a step's batch, int32 [2].

    No two pairs of a step and a part below 2^30 have the same seed.

    Args:
        seed: A result of `seed_of`.
        step: Updates done before this one, an integer scalar.
        part: The index of the part, an int32 scalar.
    """
    return step_seed(seed // 2 + part, step)  # the sum stays below 2^31
