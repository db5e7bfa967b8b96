"""Programs that compare rules by training them; README.md quotes what they print."""

import sys

if sys.argv[:1] == ['-m']:  # one of them is about to run
    import missing_packages  # noqa: F401 (first: it tells which package this Python lacks)
