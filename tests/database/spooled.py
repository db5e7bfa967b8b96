"""What the tests of this folder share: reading a spool."""


def stored(spool):
    """Returns [(path, document)] of the entries in a spool, oldest first."""
    return [(path, spool.read(path)) for path in spool.paths()]
