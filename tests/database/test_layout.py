"""Tests that the check of the layout finds every deviation of a record."""

import datetime

import bson
import pytest

from config import schema
from database import layout

RECORD = {
    '_id': bson.ObjectId(),
    'exp_id': 'mirror',
    'step': 3,
    'duration': 0.5,
    'params': dict({name: {} for name in layout.GROUPS}, model_params={'model': 'fc'}),
    'saved_filters': False,
    'train_results': [dict.fromkeys(layout.STEP, 1.5)],
    'validation_results': {
        'topn_val': dict(dict.fromkeys(layout.VALIDATION, 0.5), weight_angles={'conv0': 90.0})
    },
}
WEIGHTS = {
    'saved_filters': True,
    'filename': 'checkpoint-3.tar',
    'length': 7,
    'chunkSize': 261120,
    'md5': '0' * 32,
    'uploadDate': datetime.datetime(2020, 1, 1),
    '_saver_write_version': 2,
    '_saver_num_data_files': 1,
}
BAD_STEP = [dict(RECORD['train_results'][0], loss='high')]
BAD_ANGLES, BAD_SIZES = [
    {'topn_val': dict(RECORD['validation_results']['topn_val'], **{name: {'conv0': value}})}
    for name, value in (('weight_angles', 'right'), ('weightsq_norm', None))
]


def test_a_record_has_no_faults():
    assert layout.faults(RECORD) == layout.faults(dict(RECORD, **WEIGHTS)) == []
    validated = {name: value for name, value in RECORD.items() if name != 'train_results'}
    trained = {name: value for name, value in RECORD.items() if name != 'validation_results'}
    assert layout.faults(dict(validated, validates='/a/path')) == layout.faults(trained) == []


def test_the_groups_are_those_of_the_settings():
    assert layout.GROUPS == tuple(schema.GROUPS)


@pytest.mark.parametrize(
    'name', sorted(name for name in layout.FIELDS if layout.FIELDS[name].needed != 'never')
)
def test_a_missing_field_is_found(name):
    document = dict(RECORD, **WEIGHTS)
    del document[name]
    assert (
        any(fault.startswith(name + ' is') for fault in layout.faults(document))
        or name == 'saved_filters'
    )
    assert layout.faults(document) != []


@pytest.mark.parametrize(
    'change, fault',
    [
        (dict(step=True), 'step is a bool'),
        (dict(step=3.0), 'step is a float'),
        (dict(extra=1), 'extra is not a field of a record'),
        (dict(duration=None), 'duration is a NoneType'),
        (dict(train_results=[]), 'train_results is empty'),
        (dict(validation_results={}), 'validation_results is empty'),
        (dict(md5='0'), 'md5 is present without a checkpoint'),
        (dict(params={'model_params': {'model': 'fc'}}), 'params.validation_params is missing'),
        (dict(train_results=[{}]), 'train_results[0].loss is missing'),
        (dict(train_results=BAD_STEP), 'train_results[0].loss is not a number'),
        (
            dict(validation_results={'topn_val': {}}),
            'validation_results.topn_val.top1 is not a number',
        ),
        (
            dict(validation_results=BAD_ANGLES),
            'validation_results.topn_val.weight_angles.conv0 is not a number',
        ),
        (
            dict(validation_results=BAD_SIZES),
            'validation_results.topn_val.weightsq_norm.conv0 is not a number',
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else '',
)
def test_a_fault_is_named(change, fault):
    assert fault in layout.faults(dict(RECORD, **change))


def test_where_there_is_no_angle_it_is_null():
    results = dict(
        RECORD['validation_results']['topn_val'],
        **{name: {'conv0': None, 'conv1': 3.5} for name in layout.MAY_BE_UNDEFINED},
    )
    assert layout.faults(dict(RECORD, validation_results={'topn_val': results})) == []


def test_a_record_that_says_on_how_many_images_it_measures_has_the_counts():
    """Older records have none of them and are valid, too."""
    params = dict(RECORD['params'], validation_params={'measure_images': 64})
    old = RECORD['validation_results']['topn_val']
    new = dict(old, measured_images=13, undefined_angles=2, ties=0)
    assert layout.faults(dict(RECORD, params=params, validation_results={'topn_val': new})) == []
    where = 'validation_results.topn_val.'
    assert layout.faults(dict(RECORD, params=params, validation_results={'topn_val': old})) == [
        where + name + ' is not a number'
        for name in ('measured_images', 'undefined_angles', 'ties')
    ]
    assert layout.faults(dict(RECORD, validation_results={'topn_val': dict(new, ties=None)})) == [
        where + 'ties is not a number'
    ]
    moved = dict(params, save_params={'save_to_gfs': ['ties', 'top1']})
    results = {name: value for name, value in new.items() if name not in ('ties', 'top1')}
    assert layout.faults(dict(RECORD, params=moved, validation_results={'topn_val': results})) == []


def test_a_record_of_a_script_has_its_own_results():
    params = {'save_params': {}, 'model_params': {'func': {'modname': 'm', 'objname': 'f'}}}
    record = dict(
        RECORD,
        params=params,
        train_results=[dict(loss=1.0, learning_rate=0.1, own=2)],
        validation_results={'features': {'vectors': [[1.0]]}},
    )
    assert layout.faults(record) == []
    assert layout.faults(dict(record, train_results=[{'own': 2}])) == [
        'train_results[0].loss is missing',
        'train_results[0].learning_rate is missing',
    ]
    assert layout.faults(dict(record, validation_results={'features': 3})) == [
        'validation_results.features is not a dictionary'
    ]
    assert 'params.save_params is missing' in layout.faults(dict(record, params={}))
