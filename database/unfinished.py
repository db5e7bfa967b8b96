"""Marks an experiment while it is imported or deleted.

Until the mark is gone, MongoDB may hold only a part of the experiment, so nothing opens it. The
marks are in `<collection>.unfinished`; the `_id` of a document is the exp_id.
"""

import contextlib
import datetime
from typing import Iterator, Optional

from pymongo.collection import Collection

from database.errors import StoreError
from database.place import Place
from database.types import Document

IMPORT, DELETE = 'import', 'delete'
REMEDIES = {
    IMPORT: 'Run the same `python runs.py import` again to finish it, or remove that part by '
    '`python runs.py delete`',
    DELETE: 'Run the same `python runs.py delete` again to finish it',
}


@contextlib.contextmanager
def marked(collection: Collection[Document], exp_id: str, doing: str) -> Iterator[None]:
    """Context manager: marks an experiment, and removes the mark unless there is an error.

    Args:
        collection: The collection of the marks.
        exp_id: Name of the experiment.
        doing: IMPORT or DELETE.

    Raises:
        PyMongoError: MongoDB cannot be written.
    """
    begun = datetime.datetime.now(datetime.timezone.utc)
    collection.replace_one({'_id': exp_id}, dict(doing=doing, begun=begun), upsert=True)
    yield
    collection.delete_one({'_id': exp_id})


def doing(collection: Collection[Document], exp_id: str) -> Optional[str]:
    """Returns what was begun with an experiment and is not finished: IMPORT, DELETE or None."""
    found = collection.find_one({'_id': exp_id})
    return found.get('doing') if found else None


def check(collection: Collection[Document], place: Place) -> None:
    """Checks that MongoDB holds all of an experiment.

    Raises:
        StoreError: An import or a deletion of it was begun and is not finished.
        PyMongoError: MongoDB cannot be read.
    """
    begun = doing(collection, place.exp_id)
    if begun is not None:
        raise StoreError(
            f'Only a part of the experiment {place.exp_id} is in database {place.dbname}, '
            f'collection {place.collname}.files at {place.server}, because `runs.py {begun}` was '
            f'interrupted or is not done yet. {REMEDIES.get(begun, "Look at it with mongosh")}.'
        )
