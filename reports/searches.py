"""Reads the searches of a database and lists their trials, the best first."""

import collections
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from pymongo.errors import PyMongoError

from config.flags import as_flag
from database import server
from database.errors import StoreError
from database.types import Document
from reports.runs import finite

SEARCHES = '.searches'
MOST = 10  # how many of the best trials of a search are listed


class Trial(NamedTuple):
    """A trial of a search.

    Attributes:
        number: The number of the trial within the search.
        state: The outcome of the trial.
        value: Its top-1 as a fraction, or None.
        step: The step of its last validation, or None.
        params: The settings that the search chose.
    """

    number: int
    state: str
    value: Optional[float]
    step: Optional[int]
    params: Document


class Search(NamedTuple):
    """A search.

    Attributes:
        collection: The collection of its runs.
        study: The name of its study.
        trials: Its trials, sorted by number.
    """

    collection: str
    study: str
    trials: List[Trial]


# (heading, function from a trial to the text of the cell)
COLUMNS: Sequence[Tuple[str, Callable[[Trial], str]]] = (
    ('trial', lambda trial: str(trial.number)),
    ('top-1', lambda trial: '-' if trial.value is None else f'{trial.value:.4f}'),
    ('step', lambda trial: '-' if trial.step is None else f'{trial.step:,}'),
    ('state', lambda trial: trial.state),
    (
        'settings',
        lambda trial: ' '.join(
            as_flag(str(name), _short(value)) for name, value in trial.params.items()
        ),
    ),
)
NUMBERS = ('trial', 'top-1', 'step')  # columns of numbers


def read(host: str, port: int, dbname: str, collname: Optional[str] = None) -> List[Search]:
    """Reads the searches of a database.

    Args:
        host: Name or address of the MongoDB server.
        port: TCP port of the server.
        dbname: Name of the database.
        collname: Reads only the searches of this collection, or all if None.

    Returns:
        The searches, sorted by collection and study. The list is empty if MongoDB cannot be read.
    """
    found: Dict[Tuple[str, str], List[Trial]] = {}
    try:
        with server.reach(host, port) as client:
            for name in sorted(client[dbname].list_collection_names()):
                collection = name[: -len(SEARCHES)]
                if name.endswith(SEARCHES) and collname in (None, collection):
                    for document in client[dbname][name].find(
                        {'study': {'$type': 'string'}, 'trial': {'$type': 'number'}}
                    ):
                        found.setdefault((collection, document['study']), []).append(
                            _trial(document)
                        )
    except (PyMongoError, StoreError):
        return []
    return [
        Search(collection, study, sorted(trials, key=lambda trial: trial.number))
        for (collection, study), trials in sorted(found.items())
    ]


def best(search: Search) -> List[Trial]:
    """Returns the MOST best trials of a search, the best first."""
    return sorted(
        search.trials, key=lambda trial: -1.0 if trial.value is None else trial.value, reverse=True
    )[:MOST]


def title(search: Search) -> str:
    """Returns one line that summarises a search."""
    states = collections.Counter(trial.state for trial in search.trials)
    counts = ', '.join(f'{count:,} {state}' for state, count in sorted(states.items()))
    return f'Search {search.study} ({search.collection}): {len(search.trials):,} trials, {counts}'


def _trial(document: Document) -> Trial:
    params, step = document.get('params'), finite(document.get('step'))
    return Trial(
        int(document['trial']),
        str(document.get('state', '?')),
        finite(document.get('value')),
        None if step is None else int(step),
        params if isinstance(params, dict) else {},
    )


def _short(value: object) -> object:
    """Returns a setting; a float is rounded to four significant digits."""
    return float(f'{value:.4g}') if isinstance(value, float) else value
