"""Puts the small data sets and the small network of tiny.py into the registries while the tests of
a file of this folder run.
"""

import pytest

import data
import tiny
from models import NETWORKS


@pytest.fixture(autouse=True, scope='module')
def registered():
    """--dataset=tiny and its like, --model=small; no GPU is looked for."""
    with pytest.MonkeyPatch.context() as patch:
        for name, dataset in tiny.DATASETS.items():
            patch.setitem(data.DATASETS, name, dataset)
        patch.setitem(NETWORKS, 'small', tiny.SMALL)  # XLA takes minutes for a whole ResNet
        patch.setenv('CUDA_VISIBLE_DEVICES', '')
        yield
        tiny.EXPERIMENTS.clear()
