"""Describes the processor of this machine."""

import functools
import os
import platform
from typing import Dict, NamedTuple, Optional


class Cpu(NamedTuple):
    """The processor, from /proc/cpuinfo.

    Attributes:
        model: Its name, or None if it is unknown.
        flags: Its instruction sets, or '' if they are unknown.
        threads: How many threads it runs at a time, or None if this is unknown.
    """

    model: Optional[str]
    flags: str
    threads: Optional[int]


@functools.lru_cache(maxsize=None)
def cpu() -> Cpu:
    """Returns the processor of this machine."""
    facts: Dict[str, str] = {}
    try:
        with open('/proc/cpuinfo', encoding='utf-8', errors='replace') as file:
            for line in file.read().partition('\n\n')[0].splitlines():
                name, _, value = line.partition(':')
                facts[name.strip()] = value.strip()
    except OSError:
        pass
    model = facts.get('model name') or platform.processor() or None
    return Cpu(model, facts.get('flags') or facts.get('Features', ''), os.cpu_count())


def cores() -> int:
    """Returns how many CPU cores this process may use."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
