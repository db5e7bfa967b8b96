"""One sentence where this Python lacks a package that we need, and not Python's traceback; and one
where a setting that a rule declares cannot be, which is known while the program is imported.

A program imports this module before everything else. The module itself needs the standard library
alone. A package that is installed and cannot be imported is left to Python's own words, and so is a
mistake in our own imports.
"""

import glob
import importlib.util
import os
import sys
from types import TracebackType
from typing import Optional, Type

ROOT = os.path.dirname(os.path.abspath(__file__))
# What pip installs for a program; see setup.py.
EXTRAS = {'report.py': 'report', 'search.py': 'cpu,search'}


def sentence(package: str) -> str:
    """What to tell of a package that is not installed: the text names this Python and a remedy."""
    version = '{}.{}'.format(*sys.version_info[:2])
    made = [
        path
        for path in glob.glob(os.path.join(ROOT, '.venv-3.*'))
        if os.path.exists(os.path.join(path, 'bin', 'activate'))
    ]
    if any(os.path.samefile(path, sys.prefix) for path in made):
        advice = ''
    elif made:
        newest = max(made, key=lambda path: int(path.rpartition('.')[2]))
        advice = f'run `source {os.path.relpath(newest)}/bin/activate` first, or '
    else:
        advice = f'run `make setup` and `source .venv-{version}/bin/activate` first, or '
    extras = EXTRAS.get(os.path.basename(sys.argv[0]), 'cpu')
    return (
        f'error: the package {package} is not installed in {sys.executable} (Python {version}); '
        f"{advice}install it there with `pip install -e '.[{extras}]'`"
    )


def _hook(kind: Type[BaseException], error: BaseException, trace: Optional[TracebackType]) -> None:
    package = (getattr(error, 'name', None) or '').partition('.')[0]
    if (
        issubclass(kind, ModuleNotFoundError)
        and package
        and importlib.util.find_spec(package) is None
    ):
        print(sentence(package), file=sys.stderr)  # then Python ends, as after a traceback, with 1
    elif kind.__name__ == 'ConfigError':
        print(f'error: {error}', file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _hook
