"""Prints one sentence, instead of a traceback, if a required package is not installed.

It does the same if a rule declares a setting that is not legal, which is found on import. It also
opens /dev/null in place of standard files that are closed.

Each program imports this module before everything else. The module itself only needs the standard
library. If a package is installed but cannot be imported, or if one of our own imports is wrong,
Python's traceback is printed.
"""

import glob
import importlib.util
import os
import sys
from types import TracebackType
from typing import Optional, Type

ROOT = os.path.dirname(os.path.abspath(__file__))
# The extras of setup.py that a program needs; 'cpu' for all others.
EXTRAS = {'report.py': 'report', 'search.py': 'cpu,search'}


def sentence(package: str) -> str:
    """Returns the message about a package that is not installed, with a remedy.

    Args:
        package: Name of the package.
    """
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
        print(sentence(package), file=sys.stderr)  # then Python exits with code 1
    elif kind.__name__ == 'ConfigError':
        print(f'error: {error}', file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


def _fill_standard_files() -> None:
    """Opens /dev/null in place of standard input, output or error, if one of them is closed.

    The next file that is opened, such as a connection to MongoDB, would otherwise get the number of
    standard error, and TensorFlow would write its messages into it.
    """
    for number, name in enumerate(('stdin', 'stdout', 'stderr')):
        try:
            os.fstat(number)
        except OSError:
            nothing = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
            os.set_inheritable(nothing, True)
            if getattr(sys, name) is None:
                setattr(sys, name, os.fdopen(nothing, 'r' if number == 0 else 'w'))


sys.excepthook = _hook
_fill_standard_files()
