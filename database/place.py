"""The place of an experiment in MongoDB: server, database, collection and name.

What users call a collection, such as resnet18, is several collections of MongoDB. Their names begin
with it and end in one of the names below.
"""

from typing import NamedTuple

FILES = '.files'  # records, and the documents of checkpoints and named results (GridFS)
CHUNKS = '.chunks'  # the bytes of these files (GridFS)
CLAIMS = '.claims'  # which process holds an experiment, or how its last one ended
OWNERS = '.owners'  # the numbers of the processes that have held an experiment
UPLOADS = '.uploads'  # files that are being written
SEARCHES = '.searches'  # trials of searches
NOTES = '.notes'  # tags and notes of experiments
UNFINISHED = '.unfinished'  # experiments that are imported or deleted

RECENT = 'fs'  # the collection in a database of recent checkpoints


class Place(NamedTuple):
    """The place of an experiment in MongoDB. `Store(*place)` opens it.

    Attributes:
        host: Name or address of the server.
        port: TCP port of the server.
        dbname: Name of the database.
        collname: Name of the collection (the GridFS bucket).
        exp_id: Name of the experiment.
    """

    host: str
    port: int
    dbname: str
    collname: str
    exp_id: str

    @property
    def server(self) -> str:
        """The server as host:port, as used in folder names and messages."""
        return f'{self.host}:{self.port}'

    def text(self) -> str:
        """Returns a description of the place for messages."""
        return (
            f'database {self.dbname}, collection {self.collname}.files, exp_id {self.exp_id} at '
            f'{self.server}'
        )
