"""The types of what MongoDB holds."""

from typing import TYPE_CHECKING, Any, Dict

import numpy as np

# A document of MongoDB, or a part of one. Who wrote it decides on what lies under a name.
Document = Dict[str, Any]

# An array of any shape and kind of numbers; NumPy for Python 3.7 has no other name for it.
if TYPE_CHECKING:
    Array = np.ndarray[Any, np.dtype[Any]]
else:
    Array = np.ndarray
