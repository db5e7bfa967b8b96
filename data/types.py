"""The types of images, of what they are read from and of what describes them."""

from typing import TYPE_CHECKING, Any, Callable, Dict, List, Tuple

import numpy as np
import tensorflow.compat.v1 as tf

# Images and labels, and what else there is, of a batch or of one image.
Batch = Dict[str, tf.Tensor]
Record = tf.Tensor  # or a dictionary of tensors: what is stored of an image
Decoder = Callable[..., Batch]  # takes a Record, and its number where it has one
Shape = Tuple[int, int, int]  # height, width and channels, in pixels
Item = Any  # an image as its source knows it: a plain value, because processes exchange it
Labelled = List[Tuple[Item, int]]
Json = Dict[str, Any]  # what a file of JSON holds, by name

# An array of any shape and kind of numbers; NumPy for Python 3.7 has no other name for it.
if TYPE_CHECKING:
    Array = np.ndarray[Any, np.dtype[Any]]
else:
    Array = np.ndarray

Arrays = Tuple[Array, Array]  # images and their labels
