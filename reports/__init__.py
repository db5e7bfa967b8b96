"""Reports on the runs of a database: tables, files, plots, one HTML page and data frames.

`reports.frame` is `reports.frames.frame`. It is imported when it is first used, because it needs
pandas.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reports.frames import frame as frame


def __getattr__(name: str) -> object:
    """Imports `frame` when it is first used."""
    if name == 'frame':
        from reports.frames import frame

        return frame
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
