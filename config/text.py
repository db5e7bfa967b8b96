"""Reads and writes settings files as JSON: the same dictionary as in a .pkl file, and comments.

A key 'comment' or '_comment' is left out, wherever it stands. What JSON cannot hold, or a reader
could take for something else, is refused: NaN, infinite numbers, and the same key twice.
"""

import json
import math
import reprlib
from typing import Dict, List, Tuple

MOST_DIGITS = 1000  # of a number; reading one from more takes very long
COMMENTS = ('comment', '_comment')


class TextError(ValueError):
    """A text that is not read as settings. Its message says why."""


def dumps(document: object) -> bytes:
    """Returns plain data as JSON, in UTF-8 and with a line for each setting.

    Raises:
        TextError: A number is NaN or infinite.
    """
    try:
        text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + '\n'
    except ValueError:
        raise TextError('a number that is not finite cannot be written as JSON')
    try:
        return text.encode('utf-8')
    except UnicodeEncodeError:  # a path that is not text; JSON's escapes can hold it
        return (json.dumps(document, indent=2) + '\n').encode('ascii')


def loads(content: bytes) -> object:
    """Returns the plain data in a JSON text, without its comments.

    Raises:
        TextError: It is not JSON in UTF-8, or holds what is refused.
    """
    try:
        return json.loads(
            content.decode('utf-8-sig'),
            object_pairs_hook=_dictionary,
            parse_constant=_no_number,
            parse_float=_finite,
            parse_int=_whole,
        )
    except TextError:
        raise
    except UnicodeDecodeError:
        raise TextError('it is no text in UTF-8, so it cannot be JSON')
    except RecursionError:
        raise TextError('it is nested too deeply')
    except ValueError as error:
        raise TextError(f'it is not JSON ({error})')


def _dictionary(pairs: List[Tuple[str, object]]) -> Dict[str, object]:
    found: Dict[str, object] = {}
    for name, value in pairs:
        if name in found:
            raise TextError(f'the key {reprlib.repr(name)} is given twice; leave one of them out')
        if name not in COMMENTS:
            found[name] = value
    return found


def _no_number(text: str) -> object:
    raise TextError(f'{text} is not a finite number')


def _finite(text: str) -> float:
    _check_digits(text)
    number = float(text)
    if not math.isfinite(number):
        raise TextError(f'the number {reprlib.repr(text)} is too large')
    return number


def _whole(text: str) -> int:
    _check_digits(text)
    return int(text)


def _check_digits(text: str) -> None:
    if len(text) > MOST_DIGITS:
        raise TextError(f'the number {reprlib.repr(text)} is too large')
