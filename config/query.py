"""Reads MongoDB queries in Extended JSON, as --load_query takes them."""

import json
from typing import Dict, Optional

import bson
from bson import json_util
from bson.errors import BSONError

from config.rows import ConfigError, shown

# Operators of a MongoDB query that execute JavaScript.
EXECUTING = ('$where', '$function', '$accumulator')


def query_of(text: Optional[str], flag: str = '--load_query') -> Dict[str, object]:
    """Returns the query in a text in MongoDB's Extended JSON; {} for None.

    Args:
        text: The text.
        flag: The flag that has the text, for messages.

    Raises:
        ConfigError: The text is not a query, or the query would execute code.
    """
    if text is None:
        return {}
    try:
        query = json.loads(text)
        typed = json_util.loads(text)
    # The reader of extended JSON raises nearly any error if a value does not have its type.
    except Exception as error:
        raise ConfigError(f'{flag}={shown(text)} is not JSON ({error})')
    if not isinstance(query, dict) or not isinstance(typed, dict):
        raise ConfigError(f'{flag}={shown(text)} is not a query, {{"field": value, ...}}')
    try:
        bson.encode(typed)
        executing = sorted(name for name in EXECUTING if f'"{name}"' in json.dumps(query))
    except (ValueError, OverflowError, RecursionError, BSONError) as error:
        raise ConfigError(f'{flag}={shown(text)} cannot be sent to MongoDB ({error})')
    if executing:
        raise ConfigError(f'{flag} must not contain {", ".join(executing)}, which executes code')
    return typed
