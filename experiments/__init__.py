"""Programs that train rules and compare the results. README.md and docs/ quote what they print."""

import sys

if sys.argv[:1] == ['-m']:  # one of the programs is about to run
    import missing_packages  # noqa: F401 (first: it reports which packages are missing)
