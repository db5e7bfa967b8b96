"""Makes GPUs visible to this process.

The indices of --gpu count within the CUDA_VISIBLE_DEVICES that a scheduler has set.
"""

import itertools
import os
import re
from typing import List, NamedTuple, Optional

from config.schema import ConfigError
from training import runtime

VARIABLE = 'CUDA_VISIBLE_DEVICES'
NAME = re.compile(r'\d+$|GPU-|MIG-')  # CUDA ignores an unknown name and all names after it


def visible(gpu: List[str], given: Optional[str]) -> str:
    """Returns the value of CUDA_VISIBLE_DEVICES that shows TensorFlow only the GPUs of --gpu.

    Args:
        gpu: The indices of --gpu. They count within `given`.
        given: The value that a scheduler or the user has set: indices or names, such as
            'GPU-8932f937' and 'MIG-4f1b9a20'. None if the variable is not set; then the indices
            count within all GPUs of the machine.

    Returns:
        The chosen part of `given`, or '' if `given` hides all GPUs.

    Raises:
        ConfigError: `given` shows GPUs, but an index is too large.
    """
    if given is None:
        return ','.join(gpu)
    shown = list(itertools.takewhile(NAME.match, [name.strip() for name in given.split(',')]))
    if not shown:
        return ''
    if max(int(index) for index in gpu) >= len(shown):
        raise ConfigError(
            f'--gpu={",".join(gpu)}: {VARIABLE}={given} shows {len(shown)} GPU'
            f'{"s" if len(shown) > 1 else ""}, which --gpu counts from 0; give a '
            'smaller index'
        )
    return ','.join(shown[int(index)] for index in gpu)


class _Claim(NamedTuple):
    given: Optional[str] = None  # the variable before the first claim
    made: Optional[str] = None  # the value that the newest claim has set


_newest = _Claim()


def claim(gpu: List[str], hide: bool = False) -> int:
    """Sets CUDA_VISIBLE_DEVICES so that TensorFlow only sees the GPUs of --gpu.

    Claims do not build on each other: the indices always count within the value that the variable
    had before the first claim, or that other code has set since.

    Args:
        gpu: The indices of --gpu.
        hide: Whether to hide all GPUs, because the CPU is split instead.

    Returns:
        The number of these GPUs that TensorFlow finds.

    Raises:
        ConfigError: See `visible`.
    """
    global _newest
    now = os.environ.get(VARIABLE)
    given = _newest.given if now == _newest.made else now
    made = '' if hide else visible(gpu, given)
    os.environ[VARIABLE] = made
    _newest = _Claim(given, made)
    return 0 if hide else runtime.gpu_count()
