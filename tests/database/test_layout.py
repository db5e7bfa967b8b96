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


MISTAKE = dict(number=3, label=1, answer=2, probability=0.7, image=b'PNG')
CONFUSION = 'confusion is neither a matrix nor a list of the largest'
PER_CLASS = 'per_class is not a list of classes'
MISTAKES = 'mistakes is not a list of images with their labels and answers'


@pytest.mark.parametrize(
    'details, fault',
    [
        (dict(confusion={'matrix': [[3, 1], [0, 2]]}), None),
        (dict(confusion={'largest': [dict(label=1, answer=2, images=7)]}), None),
        (dict(confusion={'matrix': [[3, 1], [0, 'two']]}), CONFUSION),
        (dict(confusion={'matrix': [3, 1]}), CONFUSION),
        (dict(confusion={'largest': [dict(label=1, answer=2)]}), CONFUSION),
        (dict(confusion=[[3, 1], [0, 2]]), CONFUSION),
        (dict(confusion={}), CONFUSION),
        (dict(per_class=[dict(label=1, images=7, top1=0.5)]), None),
        (dict(per_class=[dict(label=1, images=0, top1=None)]), None),
        (dict(per_class=[dict(label=1, top1=0.5)]), PER_CLASS),
        (dict(per_class=[0.5]), PER_CLASS),
        (dict(per_class={'label': 1}), PER_CLASS),
        (
            dict(per_class=[dict(label=1, images=7, top1='half')]),
            'per_class has a top1 that is not a number',
        ),
        (dict(mistakes=[MISTAKE]), None),
        (dict(mistakes=[dict(MISTAKE, image='PNG')]), MISTAKES),
        (dict(mistakes=[dict(MISTAKE, probability=None)]), MISTAKES),
        (dict(mistakes=7), MISTAKES),
    ],
)
def test_a_fault_of_results_by_class_is_named(details, fault):
    results = dict(RECORD['validation_results']['topn_val'], **details)
    found = layout.faults(dict(RECORD, validation_results={'topn_val': results}))
    assert found == ([f'validation_results.topn_val.{fault}'] if fault else [])


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
