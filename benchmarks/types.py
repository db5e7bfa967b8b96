"""The types of what is timed."""

from typing import Any, Callable, Dict

Timer = Callable[[], float]  # does a step, and returns its seconds
Ratios = Dict[str, float]  # what a benchmark finds, by name
Maker = Callable[..., Any]  # makes a layer of PyTorch, or what a replica computes
