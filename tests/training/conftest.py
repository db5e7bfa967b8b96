"""Puts the small data sets of tiny.py into the registry while the tests of a file of this folder run."""
import pytest

import data
import tiny


@pytest.fixture(autouse=True, scope='module')
def tiny_datasets():
    """--dataset=tiny and its like; no GPU is looked for."""
    with pytest.MonkeyPatch.context() as patch:
        for name, dataset in tiny.DATASETS.items():
            patch.setitem(data.DATASETS, name, dataset)
        patch.setenv('CUDA_VISIBLE_DEVICES', '')
        yield
        tiny.EXPERIMENTS.clear()
