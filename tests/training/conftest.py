"""Registers the small data sets and the small network of tiny.py for the tests of this folder.

The registries are restored after each file.
"""

from training import runtime  # noqa: F401 (first: it prepares TensorFlow)

import pytest

import data
import tiny
from models import NETWORKS


@pytest.fixture(autouse=True, scope='module')
def registered():
    """Makes --dataset=tiny and similar names and --model=small known, and hides all GPUs."""
    with pytest.MonkeyPatch.context() as patch:
        for name, dataset in tiny.DATASETS.items():
            patch.setitem(data.DATASETS, name, dataset)
        patch.setitem(NETWORKS, 'small', tiny.SMALL)  # XLA needs minutes to compile a whole ResNet
        patch.setenv('CUDA_VISIBLE_DEVICES', '')
        yield
        tiny.EXPERIMENTS.clear()
