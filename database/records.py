"""The document of one saving point, in the layout of tfutils, made of plain data that BSON can
hold.
"""

import collections.abc
import datetime
import functools
import hashlib
import re
from typing import Dict, Iterable, Mapping, Optional, Tuple, Union

import bson
import numpy as np

from database.errors import RecordError
from database.types import Array, Document

INT64 = range(-(2**63), 2**63)
DEEPEST = 80  # MongoDB refuses documents that nest deeper than 100; a cycle ends here, too

DATABASE_NAME_BYTES = 63
DATABASE_NAME_ILLEGAL = re.compile(r'[/\\. "$*<>:|?\x00-\x1f\x7f]')
COLLECTION_NAME_BYTES = 180  # `<dbname>.<collname>.chunks` must stay below 256
EXP_ID_BYTES = 200  # it is the name of a folder as well
SYSTEM_DATABASES = ('admin', 'config', 'local')

RECENT_SUFFIX = '___RECENT'
SHORTENED = re.compile(rf'~[0-9a-f]{{16}}{RECENT_SUFFIX}$')

Path = Tuple[Union[str, int], ...]  # the keys and numbers that lead to a value


def plain(value: object, where: str = 'value') -> object:
    """Turns a value into plain data: None, bool, int, float, str, bytes, ObjectId, datetime, list
    and dict.

    NumPy scalars and arrays become numbers and lists, tuples lists, functions, classes and what has
    a __call__ {'modname', 'objname'}, with 'args' and 'keywords' if partial; '.' in a key becomes
    '___' and a leading '$' gets a '_' before it.

    Args:
        value: what to convert; it is not changed.
        where: the name of the value, for messages.

    Raises:
        RecordError: something in it cannot be stored; the message names its key path.
    """
    return _plain(value, (where,))


def _plain(value: object, path: Path) -> object:
    if len(path) > DEEPEST:
        raise RecordError(
            f'{_where(path[:6])}... nests deeper than {DEEPEST} levels: a record must be flatter, '
            'and may not hold itself.'
        )
    if isinstance(value, collections.abc.Mapping):
        return _plain_mapping(value, path)
    if isinstance(value, (list, tuple)):
        return [_plain(item, path + (index,)) for index, item in enumerate(value)]
    if isinstance(value, np.ndarray):
        return _plain_array(value, path)
    if isinstance(value, functools.partial):
        arguments = _plain_mapping({'args': value.args, 'keywords': value.keywords}, path)
        return dict(_named(value.func), **arguments)
    if callable(value):
        return _named(value)
    return _plain_scalar(value, path)


def _named(function: object) -> Document:
    """A function or class by its name, or what has a __call__ by that of its class."""
    name = getattr(function, '__name__', None)
    named = function if isinstance(name, str) else type(function)
    return {
        'modname': getattr(named, '__module__', None) or type(function).__module__,
        'objname': name if isinstance(name, str) else type(function).__name__,
    }


def _plain_scalar(value: object, path: Path) -> object:
    if value is None or isinstance(value, (bson.ObjectId, datetime.datetime)):
        return value
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)) and not isinstance(value, np.timedelta64):
        if int(value) not in INT64:
            raise RecordError(
                f'{_where(path)} is {int(value)}, beyond the 64-bit integers that MongoDB stores: '
                'give a float or text.'
            )
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value)
    if isinstance(value, str):
        return _text(value, path)
    if isinstance(value, bytes):
        return bytes(value)
    raise RecordError(
        f'{_where(path)} is a {type(value).__module__}.{type(value).__name__}, which a record '
        'cannot hold: give numbers, text, lists, dictionaries or arrays.'
    )


def _plain_array(array: Array, path: Path) -> object:
    if array.dtype.kind in 'bi':
        return array.tolist()
    if array.dtype.kind == 'f':  # tolist() would leave the elements of a long double as they are
        return array.astype(np.float64).tolist()
    if array.dtype.kind in 'uOSU':
        return _plain(array.tolist(), path)
    raise RecordError(
        f'{_where(path)} is an array of {array.dtype}, which a record cannot hold: convert it to '
        'numbers or text.'
    )


def _plain_mapping(mapping: Mapping[object, object], path: Path) -> Document:
    result: Document = {}
    origins: Dict[str, object] = {}
    for key, item in mapping.items():
        safe = _safe_key(key, path)
        if safe in result:
            raise RecordError(
                f'{_where(path)} has the keys {origins[safe]!r} and {key!r}, which are stored as '
                f'one key, {safe!r}: rename one of them.'
            )
        result[safe] = _plain(item, path + (safe,))
        origins[safe] = key
    return result


def _safe_key(key: object, path: Path) -> str:
    if isinstance(key, (int, np.integer)) and not isinstance(key, bool):
        key = str(int(key))
    if not isinstance(key, str) or '\0' in key:
        raise RecordError(
            f'{_where(path)} has the key {key!r}, which a record cannot hold: use text without NUL.'
        )
    safe = _text(key, path).replace('.', '___')
    return '_' + safe if safe.startswith('$') else safe


def _text(value: str, path: Path) -> str:
    text = str.__str__(value)
    try:
        text.encode('utf-8')
    except UnicodeEncodeError:
        raise RecordError(
            f'{_where(path)} holds the text {text!r}, which is not valid Unicode.'
        ) from None
    return text


def _where(path: Path) -> str:
    first, *others = path
    return str(first) + ''.join(f'[{key}]' if isinstance(key, int) else f'.{key}' for key in others)


def build(
    exp_id: str,
    step: int,
    params: Mapping[str, object],
    duration: Optional[float] = None,
    train_results: Iterable[Mapping[str, object]] = (),
    validation_results: Optional[Mapping[str, object]] = None,
    saved_filters: bool = False,
    validates: Union[bson.ObjectId, str, None] = None,
) -> Document:
    """Makes the record of one saving point.

    Args:
        exp_id: name of the experiment.
        step: global step, 0 or more.
        params: the whole dictionary of parameters.
        duration: seconds a step or, where no step was made, of the validation; None where nothing
        was timed.
        train_results: one dictionary a step since the last record; the field is left out when
            empty, so that {'train_results': {'$exists': True}} finds what a reader of tfutils'
            records expects.
        validation_results: dictionary of dictionaries, by validation target; left out when empty,
        too.
        saved_filters: whether the weights are stored with it; `Store.save` sets this to what it
        stores.
        validates: `_id` of the record whose weights were validated; the field is left out when
        None.

    Returns:
        A dictionary of plain data with an `_id` of its own, so that writing it twice stores it
        once.

    Raises:
        RecordError: a value cannot be stored; the message names its key path.
    """
    whole = plain(step, 'step')
    if isinstance(whole, bool) or not isinstance(whole, int) or whole < 0:
        raise RecordError(f'step is {whole!r}: it must be a whole number, 0 or more.')
    record = {
        'exp_id': exp_id,
        'step': whole,
        'duration': duration,
        'params': params,
        'saved_filters': bool(saved_filters),
    }
    record.update(
        {
            name: value
            for name, value in (
                ('train_results', list(train_results)),
                ('validation_results', validation_results),
                ('validates', validates),
            )
            if value
        }
    )
    record = {key: plain(item, key) for key, item in record.items()}
    return dict(record, _id=bson.ObjectId())


def recent_database(dbname: str, collname: str, exp_id: str) -> str:
    """Name of the database of an experiment's recent checkpoints; legal for MongoDB whatever the
    names.

    It is `<dbname>_<collname>_<exp_id>___RECENT`, as tfutils has it; where MongoDB would refuse
    that, a shortened one with a hash, which no other experiment gets. (tfutils' own form cannot
    tell a_b, c, d from a, b_c, d: `Store` keeps such neighbours apart by the fields exp_id and
    collname.)
    """
    name = f'{dbname}_{collname}_{exp_id}{RECENT_SUFFIX}'
    legal = len(name.encode('utf-8')) <= DATABASE_NAME_BYTES and not DATABASE_NAME_ILLEGAL.search(
        name
    )
    if legal and not SHORTENED.search(
        name
    ):  # the plain form never takes what a shortened one may be
        return name
    digest = hashlib.sha256(
        '\0'.join((dbname, collname, exp_id)).encode('utf-8', 'surrogatepass')
    ).hexdigest()
    tail = '~' + digest[:16] + RECENT_SUFFIX
    head = DATABASE_NAME_ILLEGAL.sub('_', name[: -len(RECENT_SUFFIX)]).encode('utf-8', 'replace')
    return head[: DATABASE_NAME_BYTES - len(tail)].decode('utf-8', 'ignore') + tail


def check_names(dbname: str, collname: str, exp_id: str) -> None:
    """Refuses names that MongoDB would refuse, or that would not be the name of one folder.

    Raises:
        RecordError: one of them is illegal; the message says which, why and what to use.
    """
    _check_name('dbname', dbname, DATABASE_NAME_BYTES)
    _check_name('collname', collname, COLLECTION_NAME_BYTES)
    _check_name('exp_id', exp_id, EXP_ID_BYTES)
    illegal = DATABASE_NAME_ILLEGAL.search(dbname)
    if illegal:
        raise RecordError(
            f'The dbname {dbname!r} holds {illegal.group()!r}, which MongoDB does not allow: use '
            'letters, digits, "-" and "_".'
        )
    if dbname.lower() in SYSTEM_DATABASES:
        raise RecordError(
            f"The dbname {dbname!r} is one of MongoDB's own databases: choose another."
        )
    if collname.startswith('system.'):
        raise RecordError(
            f'The collname {collname!r} begins with "system.", which MongoDB keeps for itself: '
            'choose another.'
        )


def _check_name(kind: str, name: str, most_bytes: int) -> None:
    advice = 'use letters, digits, "-" and "_"'
    if not isinstance(name, str) or not name.strip():
        raise RecordError(f'The {kind} is {name!r}: it must be a name; {advice}.')
    fault = re.search(r'[/\\$]', name)
    if fault:
        raise RecordError(
            f'The {kind} {name!r} holds {fault.group()!r}, which neither a MongoDB name nor a '
            f'folder may: {advice}.'
        )
    if not name.isprintable():
        raise RecordError(f'The {kind} {name!r} holds a control character: {advice}.')
    if name.startswith('.') or name.endswith('.') or '..' in name:
        raise RecordError(f'The {kind} {name!r} begins or ends with "." or holds "..": {advice}.')
    size = len(name.encode('utf-8'))
    if size > most_bytes:
        raise RecordError(
            f'The {kind} {name!r} is {size} bytes long, and {most_bytes} is the most: choose a '
            'shorter one.'
        )
