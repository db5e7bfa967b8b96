"""The recipe for the inputs of the reference numbers (README.md), their files, and their errors."""

import json
import os
import zlib

import numpy as np

FOLDER = os.path.dirname(os.path.abspath(__file__))


def path(name):
    """Returns the path of a file in this folder."""
    return os.path.join(FOLDER, name)


def files(start, end):
    """Returns the parts between `start` and `end` of the names of this folder's files.

    For example, {'resnet18'} for variables_resnet18.json.
    """
    return {
        name[len(start) : -len(end)]
        for name in os.listdir(FOLDER)
        if name.startswith(start) and name.endswith(end)
    }


def read_json(name):
    with open(path(name), encoding='utf-8') as file:
        return json.load(file)


def stream(tag):
    """Returns the random numbers of a tag, from NumPy's legacy generator, which never changes."""
    return np.random.RandomState(zlib.crc32(tag.encode('ascii')) & 0xFFFFFFFF)


def variable(name, shape):
    """Returns the value of a variable, float32, by its name, such as 'conv0/forward_kernel'."""
    last = name.rpartition('/')[2]
    if last == 'moving_variance':
        return (1 + 0.5 * stream(name).random_sample(shape)).astype(np.float32)
    normal = stream(name).standard_normal(shape)
    if last.endswith('_kernel'):
        dense_backward = last == 'backward_kernel' and len(shape) == 2
        fan_in = shape[1] if dense_backward else np.prod(shape[:-1])
        return (np.sqrt(2 / fan_in) * normal).astype(np.float32)
    return ((last == 'gamma') + 0.1 * normal).astype(np.float32)


def error(got, wanted):
    """Returns the largest difference over the largest wanted number.

    It is infinite if the shapes differ, or if only zeros are wanted and others are given.
    """
    got, wanted = np.asarray(got, np.float64), np.asarray(wanted, np.float64)
    if got.shape != wanted.shape:
        return np.inf
    difference, scale = np.max(np.abs(got - wanted)), np.max(np.abs(wanted))
    return difference / scale if scale else (np.inf if difference else 0.0)
