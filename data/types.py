"""Types for images, for the records that they are read from, and for their descriptions."""

from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Tuple

import numpy as np
import tensorflow.compat.v1 as tf

# Images, labels and other tensors, of a batch or of a single image.
Batch = Dict[str, tf.Tensor]
Record = tf.Tensor  # the stored form of an image; it can also be a dictionary of tensors
Decoder = Callable[..., Batch]  # its arguments are a Record, and its number if it has one
Shape = Tuple[int, int, int]  # height, width and channels, in pixels
Item = Any  # an image in the form of its source; a plain value, because processes exchange it
Labelled = List[Tuple[Item, int]]
Json = Dict[str, Any]  # the content of a JSON file

# An array of any shape and number type. NumPy for Python 3.7 has no other name for it.
if TYPE_CHECKING:
    Array = np.ndarray[Any, np.dtype[Any]]
    Lifeline = Connection[Any, Any]  # a pipe that only shows whether its other end is open
else:
    Array = np.ndarray
    Lifeline = Connection

Arrays = Tuple[Array, Array]  # images and their labels
