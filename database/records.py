"""Builds records in the layout of tfutils from plain data that BSON can store, and checks names."""

import collections.abc
import datetime
import functools
import hashlib
import re
from typing import Dict, Iterable, Mapping, Optional, Tuple, Union

import bson
import numpy as np

from database import layout
from database.errors import RecordError
from database.types import Array, Document

INT64 = range(-(2**63), 2**63)
DEEPEST = 80  # MongoDB refuses documents nested deeper than 100; this also stops cycles

DATABASE_NAME_BYTES = 63
DATABASE_NAME_ILLEGAL = re.compile(r'[/\\. "$*<>:|?\x00-\x1f\x7f]')
COLLECTION_NAME_BYTES = 180  # `<dbname>.<collname>.chunks` must stay below 256
EXP_ID_BYTES = 200  # it is also the name of a folder
SYSTEM_DATABASES = ('admin', 'config', 'local')

# Fields that `digest` leaves out.
UNSIGNED = ('digest', 'saved_filters', 'collname') + layout.OF_FILES

RECENT_SUFFIX = '___RECENT'
SHORTENED = re.compile(rf'~[0-9a-f]{{16}}{RECENT_SUFFIX}$')

Path = Tuple[Union[str, int], ...]  # the keys and indices that lead to a value


def plain(value: object, where: str = 'value') -> object:
    """Converts a value to plain data that BSON can store.

    Plain data consists of None, bool, int, float, str, bytes, ObjectId, datetime, list and dict.
    NumPy scalars become numbers. NumPy arrays and tuples become lists. Functions, classes and
    objects with a `__call__` become {'modname', 'objname'}, with 'args' and 'keywords' for a
    partial. In keys, '.' becomes '___' and a leading '$' gets a '_' before it.

    Args:
        value: The value to convert. It is not changed.
        where: The name of the value for messages.

    Returns:
        The plain data.

    Raises:
        RecordError: A part of the value cannot be stored. The message contains its key path.
    """
    return _plain(value, (where,))


def _plain(value: object, path: Path) -> object:
    if len(path) > DEEPEST:
        raise RecordError(
            f'{_where(path[:6])}... is nested deeper than {DEEPEST} levels. A record must be '
            'flatter and must not contain itself.'
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
    """Returns the module and name of a function or class, or of the class of a callable object."""
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
                f'{_where(path)} is {int(value)}, which exceeds the 64-bit integers of MongoDB. '
                'Use a float or text instead.'
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
        'cannot contain. Use numbers, text, lists, dictionaries or arrays.'
    )


def _plain_array(array: Array, path: Path) -> object:
    if array.dtype.kind in 'bi':
        return array.tolist()
    if array.dtype.kind == 'f':  # tolist() alone would not convert the elements of a long double
        return array.astype(np.float64).tolist()
    if array.dtype.kind in 'uOSU':
        return _plain(array.tolist(), path)
    raise RecordError(
        f'{_where(path)} is an array of {array.dtype}, which a record cannot contain. Convert it '
        'to numbers or text.'
    )


def _plain_mapping(mapping: Mapping[object, object], path: Path) -> Document:
    result: Document = {}
    origins: Dict[str, object] = {}
    for key, item in mapping.items():
        safe = _safe_key(key, path)
        if safe in result:
            raise RecordError(
                f'{_where(path)} has the keys {origins[safe]!r} and {key!r}, which would both be '
                f'stored as {safe!r}. Rename one of them.'
            )
        result[safe] = _plain(item, path + (safe,))
        origins[safe] = key
    return result


def _safe_key(key: object, path: Path) -> str:
    if isinstance(key, (int, np.integer)) and not isinstance(key, bool):
        key = str(int(key))
    if not isinstance(key, str) or '\0' in key:
        raise RecordError(
            f'{_where(path)} has the key {key!r}, which a record cannot contain. Use text without '
            'NUL.'
        )
    safe = _text(key, path).replace('.', '___')
    return '_' + safe if safe.startswith('$') else safe


def _text(value: str, path: Path) -> str:
    text = str.__str__(value)
    try:
        text.encode('utf-8')
    except UnicodeEncodeError:
        raise RecordError(
            f'{_where(path)} contains the text {text!r}, which is not valid Unicode.'
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
    stopped: bool = False,
) -> Document:
    """Builds a record.

    Args:
        exp_id: Name of the experiment.
        step: Global step, 0 or more.
        params: All settings, as a nested dictionary.
        duration: Seconds per step; without steps, seconds of the validation; None if nothing was
            timed.
        train_results: One dictionary per step since the last record. The field is omitted if there
            are none, so that {'train_results': {'$exists': True}} finds the records that users of
            tfutils expect.
        validation_results: {target: {name: result}}. The field is omitted if it is empty.
        saved_filters: Whether the weights are stored with the record. `Store.save` overwrites this
            with what it stores.
        validates: The `_id` of the record, or the path of the checkpoint, that was validated. The
            field is omitted if it is None.
        stopped: Whether there is a record only because the run stopped. The field is omitted if
            it is False.

    Returns:
        A dictionary of plain data. It has a new `_id`, so that writing it twice stores it once.

    Raises:
        RecordError: A value cannot be stored. The message contains its key path.
    """
    whole = plain(step, 'step')
    if isinstance(whole, bool) or not isinstance(whole, int) or whole < 0:
        raise RecordError(f'step is {whole!r}, but it must be a whole number, 0 or more.')
    record = {
        'layout': layout.VERSION,
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
                ('stopped', stopped),
            )
            if value
        }
    )
    record = {key: plain(item, key) for key, item in record.items()}
    return dict(record, _id=bson.ObjectId())


def digest(record: Document) -> str:
    """Returns the SHA-256 of the content of a record, in hexadecimal.

    It covers all fields except the digest itself, and those that the record loses with its
    checkpoint. It covers the SHA-256 of the checkpoint.

    Raises:
        BSONError: A value cannot be stored.
    """
    said = {name: value for name, value in sorted(record.items()) if name not in UNSIGNED}
    return hashlib.sha256(bson.encode(said)).hexdigest()


def recent_database(dbname: str, collname: str, exp_id: str) -> str:
    """Returns the name of the database of recent checkpoints of an experiment.

    The name is `<dbname>_<collname>_<exp_id>___RECENT`, as in tfutils. If MongoDB would refuse that
    name, it is a shortened name with a hash, which is unique to the experiment. The form of tfutils
    is the same for the names (a_b, c, d) and (a, b_c, d), so `Store` distinguishes such experiments
    by the fields exp_id and collname.

    Args:
        dbname: Name of the database.
        collname: Name of the collection.
        exp_id: Name of the experiment.
    """
    name = f'{dbname}_{collname}_{exp_id}{RECENT_SUFFIX}'
    legal = len(name.encode('utf-8')) <= DATABASE_NAME_BYTES and not DATABASE_NAME_ILLEGAL.search(
        name
    )
    if legal and not SHORTENED.search(name):  # never use a plain name that could be a shortened one
        return name
    digest = hashlib.sha256(
        '\0'.join((dbname, collname, exp_id)).encode('utf-8', 'surrogatepass')
    ).hexdigest()
    tail = '~' + digest[:16] + RECENT_SUFFIX
    head = DATABASE_NAME_ILLEGAL.sub('_', name[: -len(RECENT_SUFFIX)]).encode('utf-8', 'replace')
    return head[: DATABASE_NAME_BYTES - len(tail)].decode('utf-8', 'ignore') + tail


def check_names(dbname: str, collname: str, exp_id: str) -> None:
    """Checks that MongoDB accepts the names, and that each is usable as the name of one folder.

    Args:
        dbname: Name of the database.
        collname: Name of the collection.
        exp_id: Name of the experiment.

    Raises:
        RecordError: A name is illegal. The message says which one, why, and what to use.
    """
    _check_name('dbname', dbname, DATABASE_NAME_BYTES)
    _check_name('collname', collname, COLLECTION_NAME_BYTES)
    _check_name('exp_id', exp_id, EXP_ID_BYTES)
    illegal = DATABASE_NAME_ILLEGAL.search(dbname)
    if illegal:
        raise RecordError(
            f'The dbname {dbname!r} contains {illegal.group()!r}, which MongoDB does not allow. '
            'Use letters, digits, "-" and "_".'
        )
    if dbname.lower() in SYSTEM_DATABASES:
        raise RecordError(
            f"The dbname {dbname!r} is one of MongoDB's own databases. Choose another name."
        )
    if collname.startswith('system.'):
        raise RecordError(
            f'The collname {collname!r} begins with "system.", which MongoDB reserves for itself. '
            'Choose another name.'
        )


def _check_name(kind: str, name: str, most_bytes: int) -> None:
    advice = 'Use letters, digits, "-" and "_"'
    if not isinstance(name, str) or not name.strip():
        raise RecordError(f'The {kind} is {name!r}, but it must be a name. {advice}.')
    fault = re.search(r'[/\\$]', name)
    if fault:
        raise RecordError(
            f'The {kind} {name!r} contains {fault.group()!r}, which is allowed neither in MongoDB '
            f'names nor in folder names. {advice}.'
        )
    if not name.isprintable():
        raise RecordError(f'The {kind} {name!r} contains a control character. {advice}.')
    if name.startswith('.') or name.endswith('.') or '..' in name:
        raise RecordError(
            f'The {kind} {name!r} begins or ends with "." or contains "..". {advice}.'
        )
    size = len(name.encode('utf-8'))
    if size > most_bytes:
        raise RecordError(
            f'The {kind} {name!r} is {size} bytes long, but at most {most_bytes} are allowed. '
            'Choose a shorter name.'
        )
