"""Restores checkpoints that TensorFlow 1.13.2 and 2.21 wrote.

The logits, losses, gradients and the next step must be the same.
"""

import os
import sys

import numpy as np
import pytest

pytestmark = pytest.mark.slow

GOLDEN = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'golden')
sys.path[:0] = [GOLDEN, os.path.join(GOLDEN, 'checkpoints')]

import make_checkpoints  # noqa: E402
from reference import error  # noqa: E402

TOLERANCE = 1e-4  # relative to the largest number of an array


@pytest.fixture(scope='module')
def experiment(tmp_path_factory):
    """The experiment that wrote both checkpoints."""
    return make_checkpoints.experiment(str(tmp_path_factory.mktemp('digits')))


@pytest.mark.parametrize('version', make_checkpoints.VERSIONS)
@pytest.mark.claim('own checkpoints')
def test_a_checkpoint_of_either_version_goes_on_as_it_did_there(
    experiment, version, record_property
):
    prefix, path = make_checkpoints.place(version)
    wanted, got = dict(np.load(path)), make_checkpoints.numbers(experiment, prefix)
    since = {
        'scalar/learning_rate_0',
        'scalar/learning_rate_1',
    }  # scalars of a step that were added after these numbers were stored
    assert (
        set(got) - since == set(wanted)
        and got['after/global_step'] == wanted['after/global_step'] == make_checkpoints.STEPS + 1
    )
    errors = {name: error(got[name], wanted[name]) for name in wanted}
    record_property('references', len(errors))
    record_property('error', float(np.max(list(errors.values()))))
    assert {name: value for name, value in errors.items() if not value <= TOLERANCE} == {}


def test_the_numbers_are_worth_comparing(experiment):
    wanted = dict(np.load(make_checkpoints.place('tensorflow1')[1]))
    assert wanted['logits'].shape == (13, 10)
    assert {name.partition('/')[0] for name in wanted} == {'logits', 'scalar', 'gradient', 'after'}
    assert {'after/' + variable.op.name for variable in experiment.variables} == {
        name for name in wanted if 'after' in name
    }
    assert {
        'gradient/task/dense0/forward_kernel',
        'gradient/alignment/dense0/backward_kernel',
    } <= set(wanted)
    assert wanted['scalar/model_loss'] < 2.2 and wanted['scalar/alignment_loss'] != 0
    zero = {
        'gradient/task/{}/backward_kernel',
        'after/{}/backward_kernel/Momentum',
    }  # the task loss does not change them
    assert {name for name, value in wanted.items() if not np.any(value)} == {
        name.format(layer) for name in zero for layer in ('dense0', 'dense1', 'dense_output')
    }
