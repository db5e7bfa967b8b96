"""The errors of this package: each message is one sentence for the user; catch StoreError to catch
all.
"""


class StoreError(Exception):
    """Something about the database that the user has to know or decide."""


class RecordError(StoreError):
    """A name or a value that cannot be stored."""


class ServerError(StoreError):
    """No MongoDB server where one was looked for, or one that cannot be started or stopped."""


class DamagedError(StoreError):
    """What is stored is not whole any more."""
