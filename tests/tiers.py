"""A pytest plugin that runs one slice of the nightly tests, for a limited time.

    pytest -m nightly --slice=7 --stop_after=240 tests

runs the nightly tests whose crc32(id) modulo 20 is 7. `.ci/run` does so with the number of the
commit. After 240 seconds, no further test starts.
"""

import time
import zlib

import pytest

SLICES = 20


def slice_of(nodeid):
    """Returns the slice, of SLICES, that a test belongs to."""
    return zlib.crc32(nodeid.encode('utf-8')) % SLICES


def at_night(*cases):
    """Returns parameters for pytest that only run at night. Each is a value or a tuple."""
    return [
        pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.nightly)
        for case in cases
    ]


class Tiers:
    """The plugin with its two options; it also remembers which tests it left out."""

    def __init__(self, number, stop_after):
        self.number = number
        self.ends = None if stop_after is None else time.time() + stop_after
        self.not_reached = []

    def pytest_collection_modifyitems(self, config, items):
        """Keeps only the tests of the slice. An odd one runs backwards: no test needs the order."""
        if self.number is not None:
            others = [item for item in items if slice_of(item.nodeid) != self.number % SLICES]
            config.hook.pytest_deselected(items=others)
            items[:] = [item for item in items if slice_of(item.nodeid) == self.number % SLICES]
            if self.number % 2:
                items.reverse()

    def pytest_runtest_protocol(self, item):
        """Skips a test that comes too late. None lets pytest run it."""
        if self.ends is None or time.time() < self.ends:
            return None
        self.not_reached.append(item.nodeid)
        return True

    def pytest_terminal_summary(self, terminalreporter):
        """Prints the names of the tests that came too late."""
        if self.not_reached:
            terminalreporter.section('not reached in time')
            for nodeid in self.not_reached:
                terminalreporter.line(nodeid)


def add_options(parser):
    """Adds the options of the plugin."""
    parser.addoption(
        '--slice',
        type=int,
        metavar='NUMBER',
        help=f'run only the tests whose crc32(id) modulo {SLICES} is NUMBER modulo {SLICES}',
    )
    parser.addoption(
        '--stop_after',
        type=float,
        metavar='SECONDS',
        help='start no further test after this time, and list the tests that were not reached',
    )
