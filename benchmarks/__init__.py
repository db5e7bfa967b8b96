"""Programs that measure speed. docs/speed.md quotes what they print."""

import sys

if sys.argv[:1] == ['-m']:  # one of the programs is about to run
    import missing_packages  # noqa: F401 (first: it reports which package this Python lacks)
