"""The modules of tfutils under their original names.

A tfutils script runs after its import is changed to `from training.tfutils import base, optimizer,
utils, defaults`. On TensorFlow 2.x, it must also import TensorFlow with
`import tensorflow.compat.v1 as tf`.
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
    """Parses `-g 0` or `--gpu 0,1` from the command line and makes only these GPUs visible.

    It sets CUDA_VISIBLE_DEVICES. The indices count within the value that the variable had when the
    script was started. Any other text, such as '' or '-1' for the CPU, becomes the value as it is.
    An index beyond the visible GPUs ends the script with argparse's error.

    Returns:
        {'gpu': the text of the argument}.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument('-g', '--gpu', default='0', help='comma-separated indices of GPUs to use')
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
    """An agg_func: returns the mean of each result over all batches.

    Args:
        batches: The results of each batch, {name: number or array}.

    Returns:
        {name: number}.
    """
    return {name: np.mean([batch[name] for batch in batches]) for name in batches[0]}


def reduce_mean_dict(so_far: Optional[Document], results: Document, step: int) -> Document:
    """An online_agg_func: returns the running mean of each result, element by element.

    Args:
        so_far: The means over the earlier batches; None for the first batch.
        results: The results of this batch, {name: number or array}.
        step: The index of this batch, from 0.
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
