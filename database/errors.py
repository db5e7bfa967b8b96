"""The errors of this package, all subclasses of StoreError.

Each message is one or two sentences for the user.
"""


class StoreError(Exception):
    """A problem with the database that the user has to know about or decide on."""


class RecordError(StoreError):
    """A name or a value that cannot be stored."""


class ServerError(StoreError):
    """No MongoDB server answers, or it cannot be started or stopped."""


class NoRoomError(StoreError):
    """A file cannot be written to a folder of this machine."""


class DamagedError(StoreError):
    """Stored data is damaged or incomplete."""
