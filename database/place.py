"""Where an experiment is: on which server, in which database and collection, under which name."""

from typing import NamedTuple


class Place(NamedTuple):
    """An experiment's place in MongoDB; Store(*place) opens it.

    Attributes:
        host, port: the server.
        dbname, collname, exp_id: database, collection (GridFS bucket) and experiment.
    """

    host: str
    port: int
    dbname: str
    collname: str
    exp_id: str

    @property
    def server(self) -> str:
        """host:port, as in the name of a folder and in messages."""
        return f'{self.host}:{self.port}'

    def text(self) -> str:
        """What to tell people of it."""
        return (
            f'database {self.dbname}, collection {self.collname}.files, exp_id {self.exp_id} at '
            f'{self.server}'
        )
