"""The names, shapes and types of all variables, compared with checkpoints of the original code."""

import pytest
import tensorflow.compat.v1 as tf

import make_variable_tables as tables
import reference
import skeleton
from config.schema import Config
from training import devices
from training.choices import choices
from training.experiment import Experiment

pytestmark = pytest.mark.claim('variables')
ORIGINALS = {'resnet18', 'resnet18_momentum_alignadam', 'resnet50v2_momentum'}


def stored(label):
    return reference.read_json(tables.file_of(label))


def rows(kinds, slots=()):
    """Returns a table as rows (name, dtype, shape, trainable).

    They include the slots that an optimiser adds to the trained variables.
    """
    found = set()
    for kind, variables in kinds.items():
        for name, shape in variables.items():
            found.add((name, kind.split(',')[0], tuple(shape), kind == tables.TRAINABLE))
    for name, shape in kinds[tables.TRAINABLE].items():
        found.update((f'{name}/{slot}', 'float32', tuple(shape), False) for slot in slots)
    return found


def original(name):
    """Returns a table of the original code as rows."""
    table = reference.read_json(f'vars_{name}.json')
    return {(row['name'], row['dtype'], tuple(row['shape']), row['trainable']) for row in table}


def tier(label):
    """Returns the mark `slow` if a network is deep."""
    return [] if label.startswith(('fc', 'resnet18', 'resnet34')) else [pytest.mark.slow]


@pytest.mark.parametrize(
    'label', [pytest.param(label, marks=tier(label)) for label in sorted(skeleton.networks())]
)
def test_a_network_has_the_variables_of_its_table(label, record_property):
    built, wanted = tables.table(label), stored(label)
    assert set(built) == set(wanted)
    record_property('references', sum(len(variables) for variables in wanted.values()))
    for kind in wanted:
        missing = {
            name: shape for name, shape in wanted[kind].items() if built[kind].get(name) != shape
        }
        added = {
            name: shape for name, shape in built[kind].items() if wanted[kind].get(name) != shape
        }
        assert (missing, added) == ({}, {}), 'a deliberate change? see make_variable_tables.py'


@pytest.mark.parametrize(
    'name, label, slots',
    [('resnet18', 'resnet18', []), ('resnet50v2_momentum', 'resnet50v2', ['Momentum'])],
)
def test_a_table_is_that_of_the_original(name, label, slots, record_property):
    record_property('references', len(original(name)))
    assert rows(stored(label), slots) == original(name)


@pytest.mark.slow
def test_an_experiment_has_the_variables_of_the_original(record_property):
    config = Config.of(
        dict(
            model='resnet18',
            alignment='symmetric',
            dataset='synthetic',
            image_size=32,
            train_batch_size=2,
            eval_batch_size=2,
            optimizer='momentum',
            alignment_optimizer='adam',
        ),
        choices(),
    )
    experiment = Experiment(config, devices.choose(config))
    with experiment.graph.as_default():
        trainable = tf.trainable_variables()
    built = {
        (v.op.name, v.dtype.base_dtype.name, tuple(v.shape.as_list()), v in trainable)
        for v in experiment.variables
    }
    record_property('references', len(built))
    assert built == original('resnet18_momentum_alignadam')


def test_every_table_is_read_and_every_network_has_one():
    assert reference.files('variables_', '.json') == set(skeleton.networks())
    assert reference.files('vars_', '.json') == ORIGINALS
