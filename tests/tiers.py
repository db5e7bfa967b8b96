"""A pytest plugin: one slice of the nightly tests, and a time after which no further test starts.

    pytest -m nightly --slice=7 --stop_after=240 tests

runs those of the nightly tests whose crc32(id) modulo 20 is 7, as `.ci/run` does with the number of
the commit.
"""

import time
import zlib

import pytest

SLICES = 20


def slice_of(nodeid):
    """Which of the SLICES a test belongs to."""
    return zlib.crc32(nodeid.encode('utf-8')) % SLICES


def at_night(*cases):
    """Parameters for pytest, each a value or a tuple of values, that run at night only."""
    return [
        pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.nightly)
        for case in cases
    ]


class Tiers:
    """The two options of this plugin at work, and what it left out."""

    def __init__(self, number, stop_after):
        self.number = number
        self.ends = None if stop_after is None else time.time() + stop_after
        self.not_reached = []

    def pytest_collection_modifyitems(self, config, items):
        """Keeps the tests of the slice alone."""
        if self.number is not None:
            others = [item for item in items if slice_of(item.nodeid) != self.number % SLICES]
            config.hook.pytest_deselected(items=others)
            items[:] = [item for item in items if slice_of(item.nodeid) == self.number % SLICES]

    def pytest_runtest_protocol(self, item):
        """Passes over a test that comes too late; None lets pytest run it."""
        if self.ends is None or time.time() < self.ends:
            return None
        self.not_reached.append(item.nodeid)
        return True

    def pytest_terminal_summary(self, terminalreporter):
        """Names the tests that came too late."""
        if self.not_reached:
            terminalreporter.section('not reached in time')
            for nodeid in self.not_reached:
                terminalreporter.line(nodeid)


def add_options(parser):
    """The options of the plugin."""
    parser.addoption(
        '--slice',
        type=int,
        metavar='NUMBER',
        help=f'run the tests whose crc32(id) modulo {SLICES} is this number modulo the same',
    )
    parser.addoption(
        '--stop_after',
        type=float,
        metavar='SECONDS',
        help='start no further test after so long, and name those that were not reached',
    )
