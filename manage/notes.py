"""Tags and notes of experiments, in `<collection>.notes`, so that records stay as written."""

import argparse
import datetime
from typing import List, NamedTuple, Sequence

from pymongo.collection import Collection

from config.rows import ConfigError
from database.bucket import JOURNALED
from database.connection import Client
from database.place import NOTES, Place
from database.types import Document
from manage.command import Command, say
from manage.finding import Where, locate, opened


class Note(NamedTuple):
    """A note on an experiment.

    Attributes:
        time: When it was written (UTC).
        text: What it says.
    """

    time: datetime.datetime
    text: str


class Labels(NamedTuple):
    """The tags and notes of an experiment.

    Attributes:
        tags: Its tags, sorted.
        notes: Its notes, in the order in which they were written.
    """

    tags: Sequence[str] = ()
    notes: Sequence[Note] = ()


def collection_of(client: Client, dbname: str, collection: str) -> Collection[Document]:
    """Returns the collection of the tags and notes; the `_id` of a document is the exp_id.

    The document of an experiment has the fields `tags`, a list of texts, and `notes`, a list of
    {time, text}.
    """
    return client[dbname].get_collection(collection + NOTES, write_concern=JOURNALED)


def of_document(document: Document) -> Labels:
    """Returns the tags and notes of a document of the collection."""
    return Labels(
        sorted(document.get('tags', ())),
        [Note(note['time'], note['text']) for note in document.get('notes', ())],
    )


def read(client: Client, place: Place) -> Labels:
    """Returns the tags and notes of an experiment."""
    found = collection_of(client, place.dbname, place.collname).find_one({'_id': place.exp_id})
    return of_document(found or {})


def update(client: Client, place: Place, change: Document) -> Labels:
    """Applies an update of MongoDB to the document of an experiment; returns the new labels."""
    collection = collection_of(client, place.dbname, place.collname)
    collection.update_one({'_id': place.exp_id}, change, upsert=True)
    return read(client, place)


class Tag(Command):
    """`tag RUN TAG...`: adds tags to an experiment, or removes them."""

    help = 'add tags to an experiment, or remove them'
    description = (
        'Adds tags to an experiment and prints all that it has. `list` and `show` print them. The '
        'records stay as they were written.'
    )

    def define(self, parser: argparse.ArgumentParser) -> None:
        """Adds the experiment, the tags and --remove."""
        parser.add_argument('exp_id', metavar='RUN', help='exp_id of the experiment')
        parser.add_argument('tags', metavar='TAG', nargs='+', help='one word, such as baseline')
        parser.add_argument('--remove', action='store_true', help='remove these tags instead')

    def run(self, where: Where, options: argparse.Namespace) -> int:
        """Adds or removes the tags."""
        tags: List[str] = options.tags
        wrong = [tag for tag in tags if not tag.isprintable() or tag.split() != [tag] or ',' in tag]
        if wrong:
            raise ConfigError(
                f'{wrong[0]!r} cannot be a tag. A tag is one word without spaces and commas; use '
                '`note` for a sentence.'
            )
        with opened(where) as client:
            place = locate(client, where, options.exp_id)
            change: Document = (
                {'$pull': {'tags': {'$in': tags}}}
                if options.remove
                else {'$addToSet': {'tags': {'$each': tags}}}
            )
            left = update(client, place, change).tags
        say(f'{place.exp_id}: ' + (', '.join(left) or 'no tags'))
        return 0


class Write(Command):
    """`note RUN TEXT`: adds a note to an experiment, or removes it."""

    help = 'add a note to an experiment, or remove it'
    description = (
        'Adds a note, with the time, to an experiment. `show` prints all of its notes and `list` '
        'the newest. The records stay as they were written.'
    )

    def define(self, parser: argparse.ArgumentParser) -> None:
        """Adds the experiment, the text and --remove."""
        parser.add_argument('exp_id', metavar='RUN', help='exp_id of the experiment')
        parser.add_argument('text', metavar='TEXT', help='the note, in quotes')
        parser.add_argument(
            '--remove', action='store_true', help='remove the notes with exactly this text instead'
        )

    def run(self, where: Where, options: argparse.Namespace) -> int:
        """Adds the note, or removes those with its text."""
        text: str = options.text
        if not text.strip():
            raise ConfigError('The note is empty. Put its text in quotes.')
        now = datetime.datetime.now(datetime.timezone.utc)
        with opened(where) as client:
            place = locate(client, where, options.exp_id)
            change: Document = (
                {'$pull': {'notes': {'text': text}}}
                if options.remove
                else {'$push': {'notes': {'time': now, 'text': text}}}
            )
            count = len(update(client, place, change).notes)
        say(f'{place.exp_id}: {count} note{"" if count == 1 else "s"}')
        return 0
