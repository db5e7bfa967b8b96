"""Which GPUs this process sees: --gpu counts within the CUDA_VISIBLE_DEVICES of a scheduler."""

import itertools
import os
import re
from typing import List, NamedTuple, Optional

from config.schema import ConfigError
from training import runtime

VARIABLE = 'CUDA_VISIBLE_DEVICES'
NAME = re.compile(r'\d+$|GPU-|MIG-')  # CUDA ignores whatever follows a name that it does not know


def visible(gpu: List[str], given: Optional[str]) -> str:
    """Returns the value of CUDA_VISIBLE_DEVICES with which TensorFlow sees the GPUs of --gpu alone.

    Args:
        gpu: The indices of --gpu. They count within `given`.
        given: What a scheduler or the user has set the variable to: indices or names, such as
            'GPU-8932f937' and 'MIG-4f1b9a20'. None where it is not set; then the indices are
            those of the machine.

    Returns:
        The chosen part of `given`, or '' where `given` hides all GPUs.

    Raises:
        ConfigError: `given` shows GPUs, but an index is beyond them.
    """
    if given is None:
        return ','.join(gpu)
    shown = list(itertools.takewhile(NAME.match, [name.strip() for name in given.split(',')]))
    if not shown:
        return ''
    if max(int(index) for index in gpu) >= len(shown):
        raise ConfigError(
            f'--gpu={",".join(gpu)}: {VARIABLE}={given} shows {len(shown)} GPU'
            f'{"s" if len(shown) > 1 else ""}, which --gpu counts from 0; name a '
            'smaller index'
        )
    return ','.join(shown[int(index)] for index in gpu)


class _Claim(NamedTuple):
    given: Optional[str] = None  # the variable before the first claim
    made: Optional[str] = None  # what the newest claim has set it to


_newest = _Claim()


def claim(gpu: List[str], hide: bool = False) -> int:
    """Sets CUDA_VISIBLE_DEVICES so that TensorFlow sees the GPUs of --gpu alone.

    Claims do not add up: each one counts within what the variable was before the first one, or
    within what somebody else has set it to since.

    Args:
        gpu: The indices of --gpu.
        hide: Whether no GPU shall be seen, because the CPU is split instead.

    Returns:
        How many of them TensorFlow finds.

    Raises:
        ConfigError: As `visible`.
    """
    global _newest
    now = os.environ.get(VARIABLE)
    given = _newest.given if now == _newest.made else now
    made = '' if hide else visible(gpu, given)
    os.environ[VARIABLE] = made
    _newest = _Claim(given, made)
    return 0 if hide else runtime.gpu_count()
