"""Types of what matplotlib declares more strictly than a dictionary can be."""

from typing import Any, Dict

Style = Dict[Any, Any]  # {rcParam: value}
