"""tfutils' modules under their names: its scripts run with `from training.tfutils import base,
optimizer, utils, defaults`.

On TensorFlow 2.x such a script imports TensorFlow as `import tensorflow.compat.v1 as tf`.
"""

import argparse
import os
import types
from typing import Dict, Optional, Sequence

import numpy as np

from config.schema import ConfigError
from database.types import Document
from training import gpus
from training.tfutils import functions
from training.tfutils.calls import test_from_params, train_from_params

GIVEN = os.environ.get(gpus.VARIABLE)  # before get_params changes it


def get_params() -> Dict[str, str]:
    """{'gpu': text} of the command line, `-g 0` or `--gpu 0,1`: the GPUs that TensorFlow is to see.

    Indices count within the CUDA_VISIBLE_DEVICES that the script was started with. What is no list
    of indices, as '' or '-1' for the CPU, becomes its value as it is.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument('-g', '--gpu', default='0', help='indices of the GPUs to use, a comma list')
    arguments = vars(parser.parse_args())
    chosen = arguments['gpu'].split(',')
    try:
        os.environ[gpus.VARIABLE] = (
            gpus.visible(chosen, GIVEN)
            if all(index.isdigit() for index in chosen)
            else arguments['gpu']
        )
    except ConfigError as error:
        parser.error(str(error))
    return arguments


def mean_dict(batches: Sequence[Document]) -> Document:
    """An agg_func: the mean of each result over the batches, {name: number}. batches: a list of
    {name: number or array}.
    """
    return {name: np.mean([batch[name] for batch in batches]) for name in batches[0]}


def reduce_mean_dict(so_far: Optional[Document], results: Document, step: int) -> Document:
    """An online_agg_func: the running mean of each result, element by element; step counts batches
    from 0.
    """
    if so_far is None:
        return dict(results)
    return {
        name: so_far[name] + (value - so_far[name]) / (step + 1) for name, value in results.items()
    }


base = types.SimpleNamespace(
    train_from_params=train_from_params, test_from_params=test_from_params, get_params=get_params
)
optimizer = types.SimpleNamespace(ClipOptimizer=functions.ClipOptimizer)
utils = types.SimpleNamespace(
    mean_dict=mean_dict,
    reduce_mean_dict=reduce_mean_dict,
    identity_func=functions.identity_func,
    append_and_return=functions.append_and_return,
)
defaults = types.SimpleNamespace(mean_and_reg_loss=functions.mean_and_reg_loss)
