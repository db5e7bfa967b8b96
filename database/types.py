"""Types of the data that MongoDB stores."""

from typing import TYPE_CHECKING, Any, Dict

import numpy as np

# A MongoDB document or a part of one. The types of its values depend on who wrote it.
Document = Dict[str, Any]

# An array of any shape and dtype. NumPy for Python 3.7 cannot express this more precisely.
if TYPE_CHECKING:
    Array = np.ndarray[Any, np.dtype[Any]]
else:
    Array = np.ndarray
