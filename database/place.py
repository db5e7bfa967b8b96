"""The place of an experiment in MongoDB: server, database, collection and name."""

from typing import NamedTuple


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
