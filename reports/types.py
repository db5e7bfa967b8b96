"""Types of the data that a report draws and lists."""

from typing import Any, Dict, Sequence, Tuple

Colour = Tuple[float, float, float, float]  # red, green, blue and opacity
Points = Sequence[Tuple[int, float]]  # (step, number)
Style = Dict[Any, Any]  # matplotlib settings by name
