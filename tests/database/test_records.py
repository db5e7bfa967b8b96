"""Tests of records: plain data, the layout of the document, and names."""

import collections
import datetime
import functools
import itertools
import json
import math

import bson
import numpy as np
import pymongo
import pytest

from database import records
from database.errors import RecordError, StoreError


class Callable:
    def __call__(self):
        """Does nothing; the rules of the original are callable objects like this."""


class Odd:
    """An object that is neither data nor callable."""


@pytest.mark.parametrize(
    'given, stored',
    [
        (np.float32(0.5), 0.5),
        (np.float64(0.1), 0.1),
        (np.longdouble(0.25), 0.25),
        (np.int8(-3), -3),
        (np.uint64(7), 7),
        (np.bool_(True), True),
        (np.str_('a'), 'a'),
        (np.bytes_(b'a'), b'a'),
        (np.arange(6).reshape(2, 3), [[0, 1, 2], [3, 4, 5]]),
        (np.array(1.5), 1.5),
        (np.array(['a', 'bc']), ['a', 'bc']),
        (np.array([1, 'b', None], dtype=object), [1, 'b', None]),
        (np.array([0.5], np.longdouble), [0.5]),
        (np.array([True]), [True]),
        (np.zeros((0, 3)), []),
        ((1, (2, [3])), [1, [2, [3]]]),
        ({'a': {'b.c': 1}}, {'a': {'b___c': 1}}),
        ({'$set': 1, 3: 2}, {'_$set': 1, '3': 2}),
        (collections.OrderedDict([('z', 1), ('a', 2)]), {'z': 1, 'a': 2}),
        (None, None),
        (True, True),
        (b'\0\xff', b'\0\xff'),
        (2**63 - 1, 2**63 - 1),
        (-(2**63), -(2**63)),
        (json.dumps, {'modname': 'json', 'objname': 'dumps'}),
        (collections.OrderedDict, {'modname': 'collections', 'objname': 'OrderedDict'}),
        (
            functools.partial(json.dumps, (1, 2), indent=3),
            {'modname': 'json', 'objname': 'dumps', 'args': [[1, 2]], 'keywords': {'indent': 3}},
        ),
        (Callable(), {'modname': __name__, 'objname': 'Callable'}),
        (np.tanh, {'modname': 'numpy', 'objname': 'tanh'}),
        (len, {'modname': 'builtins', 'objname': 'len'}),
    ],
)
def test_plain_data_survives_bson(given, stored):
    result = records.plain(given)
    assert result == stored and type(result) is type(stored)
    assert bson.decode(bson.encode({'value': result})) == {'value': stored}


def test_not_a_number_stays_a_number():
    result = bson.decode(
        bson.encode({'loss': records.plain([float('nan'), np.float32('inf'), -math.inf])})
    )['loss']
    assert math.isnan(result[0]) and result[1:] == [math.inf, -math.inf]


def test_ids_and_dates_stay():
    values = [bson.ObjectId(), datetime.datetime(2020, 7, 13)]
    assert records.plain(values) == values


@pytest.mark.parametrize(
    'bad, message',
    [
        ({'model': [0, {'size': 2**63}]}, r'params\.model\[1\]\.size is 9223372036854775808'),
        ({'seed': np.uint64(2**64 - 1)}, r'params\.seed is 18446744073709551615'),
        ({'seeds': np.array([2**64 - 1], np.uint64)}, r'params\.seeds\[0\]'),
        ({'x': {'odd': Odd()}}, r'params\.x\.odd is a .*\.Odd'),
        ({'x': {1, 2}}, r'params\.x is a builtins\.set'),
        ({'x': 1j}, r'params\.x is a builtins\.complex'),
        ({'x': functools.partial(len, 1j)}, r'params\.x\.args\[0\] is a builtins\.complex'),
        ({'x': np.array([1j])}, r'params\.x is an array of complex128'),
        ({'x': np.datetime64('2020-01-01')}, r'params\.x is a numpy\.datetime64'),
        ({'x': np.timedelta64(3)}, r'params\.x is a numpy\.timedelta64'),
        ({'x': math}, r'params\.x is a builtins\.module'),
        ({'x': {'a.b': 1, 'a___b': 2}}, r"params\.x has the keys 'a\.b' and 'a___b'"),
        ({'x': {None: 1}}, 'has the key None'),
        ({'x': {True: 1}}, 'has the key True'),
        ({'x': {'a\0': 1}}, 'has the key'),
        ({'x': '\ud800'}, r'params\.x contains'),
        ({'x': {'\ud800': 1}}, r'params\.x contains'),
    ],
)
def test_what_cannot_be_stored_is_refused_by_its_key_path(bad, message):
    with pytest.raises(RecordError, match=message):
        records.plain(bad, 'params')


def test_what_holds_itself_is_refused():
    loop = {}
    loop['again'] = loop
    with pytest.raises(RecordError, match='is nested deeper'):
        records.plain(loop, 'params')


def test_the_layout_is_that_of_tfutils():
    record = records.build(
        'symmetric_test0',
        np.int64(300),
        {'model_params': {'func': json.loads}},
        duration=0.25,
        train_results=[{'loss': np.float32(2)}],
        validation_results={'topn_val': {'top1': 0.5, 'weight_angles': {'conv0': np.float32(90)}}},
    )
    assert isinstance(record.pop('_id'), bson.ObjectId)
    assert record == {
        'layout': 3,  # what later versions add is in database/layout.py
        'exp_id': 'symmetric_test0',
        'step': 300,
        'duration': 0.25,
        'saved_filters': False,
        'params': {'model_params': {'func': {'modname': 'json', 'objname': 'loads'}}},
        'train_results': [{'loss': 2.0}],
        'validation_results': {'topn_val': {'top1': 0.5, 'weight_angles': {'conv0': 90.0}}},
    }


def test_a_record_has_defaults_and_names_what_it_validates():
    validated = bson.ObjectId()
    record = records.build('validation', 0, {}, validates=validated)
    assert record['validates'] == validated
    assert record['duration'] is None and not {'train_results', 'validation_results'} & set(record)
    assert 'validates' not in records.build('validation', 0, {})
    assert records.build('a', 0, {})['_id'] != records.build('a', 0, {})['_id']


@pytest.mark.parametrize('step', [-1, 1.5, True, None, '3'])
def test_a_step_is_a_whole_number(step):
    with pytest.raises(RecordError, match='step is'):
        records.build('a', step, {})


def test_the_refusal_names_the_field():
    with pytest.raises(RecordError, match=r'train_results\[1\]\.loss'):
        records.build('a', 1, {}, train_results=[{'loss': 1.0}, {'loss': Odd()}])
    assert issubclass(RecordError, StoreError)


def test_a_recent_database_has_the_name_of_tfutils_where_that_is_legal():
    assert (
        records.recent_database('reproduction', 'resnet18', 'symmetric_test0')
        == 'reproduction_resnet18_symmetric_test0___RECENT'
    )
    longest = 'e' * (63 - len('d_c____RECENT'))
    assert records.recent_database('d', 'c', longest) == f'd_c_{longest}___RECENT'
    assert records.recent_database('d', 'c', longest + 'e') != f'd_c_{longest}e___RECENT'


LONG = 'x' * 70
EXPERIMENTS = [
    'lr0.1',
    'lr0_1',
    'lr0 1',
    'lr0*1',
    'lr0?1',
    LONG,
    LONG + 'y',
    LONG[:-1] + '.',
    'A' * 60,
    'a' * 60,
    'caf\u00e9' * 20,
    'caf\u00ea' * 20,
]


@pytest.mark.parametrize('exp_id', EXPERIMENTS)
def test_a_recent_database_is_legal_for_a_real_server(exp_id, mongo_server):
    name = records.recent_database('neur-al', 'fc_32-16', exp_id)
    assert len(name.encode('utf-8')) <= 63 and name.endswith('___RECENT')
    with pymongo.MongoClient(mongo_server.host, mongo_server.port) as client:
        client[name]['fs.files'].insert_one({'exp_id': exp_id})
        client.drop_database(name)


def test_no_two_experiments_share_a_recent_database():
    names = [records.recent_database('neur-al', 'fc', exp_id) for exp_id in EXPERIMENTS]
    names += names_of_the_shortened_as_experiments(names)
    assert len({name.lower() for name in names}) == len(names)
    split = [records.recent_database(*names) for names in [('a_b', 'c', LONG), ('a', 'b_c', LONG)]]
    assert split[0] != split[1]


def names_of_the_shortened_as_experiments(names):
    """Returns the databases of exp_ids whose plain form is the shortened name of another."""
    start, end = 'neur-al_fc_', '___RECENT'
    shortened = [name for name in names if '~' in name and name.startswith(start)]
    assert shortened
    return [
        records.recent_database('neur-al', 'fc', name[len(start) : -len(end)]) for name in shortened
    ]


def test_good_names_pass():
    records.check_names('neur-al', 'fc_32-16', 'symmetric_test0')
    records.check_names('reproduction', 'resnet50v2', 'None_lr0.1 b\u00e9ta')
    records.check_names('d' * 63, 'c' * 180, 'e' * 200)


ALWAYS_BAD = [
    '',
    ' ',
    None,
    3,
    '..',
    '.',
    'a..b',
    '.a',
    'a.',
    'a/b',
    '/a',
    'a\\b',
    '../a',
    'a$b',
    '$a',
    'a\0',
    'a\nb',
    'a\x7f',
    '\ud800',
    'a' * 201,
]


@pytest.mark.parametrize('bad, place', list(itertools.product(ALWAYS_BAD, range(3))))
def test_bad_names_are_refused_everywhere(bad, place):
    names = ['neur-al', 'fc', 'symmetric']
    names[place] = bad
    with pytest.raises(RecordError, match=('dbname', 'collname', 'exp_id')[place]) as refusal:
        records.check_names(*names)
    assert '\n' not in str(refusal.value)


@pytest.mark.parametrize(
    'dbname',
    ['a.b', 'a b', 'a"b', 'a*b', 'a<b', 'a>b', 'a:b', 'a|b', 'a?b', 'd' * 64, 'admin', 'Local'],
)
def test_names_that_no_database_may_have(dbname):
    with pytest.raises(RecordError, match='dbname'):
        records.check_names(dbname, 'fc', 'symmetric')


@pytest.mark.parametrize('collname', ['system.users', 'c' * 181])
def test_names_that_no_collection_may_have(collname):
    with pytest.raises(RecordError, match='collname'):
        records.check_names('neur-al', collname, 'symmetric')
