"""Types that the benchmarks share."""

from typing import Any, Callable, Dict

Timer = Callable[[], float]  # does a step and returns its seconds
Ratios = Dict[str, float]  # the figures of a benchmark by name
Maker = Callable[..., Any]  # makes a layer of PyTorch, or the result of a replica
