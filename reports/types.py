"""Types of the data that a report draws and lists."""

from typing import Any, Dict, Sequence, Tuple, Union

Colour = Union[str, Tuple[float, float, float, float]]  # red, green, blue and opacity; or a name
Points = Sequence[Tuple[int, float]]  # (step, number)
Json = Dict[str, Any]  # an object of JSON
Style = Dict[Any, Any]  # matplotlib settings by name
