"""The slices of the nightly tier, and the tests that are not reached in time."""

import re
import subprocess
import sys

import pytest

import tiers

pytestmark = pytest.mark.slow
FILE = """
import pytest


@pytest.mark.parametrize('number', range(60))
def test_one(number):
    pass
"""


def pytest_of(folder, *words):
    """Returns the output of pytest for a file of 60 tests in an otherwise empty folder."""
    folder.joinpath('test_sixty.py').write_text(FILE)
    folder.joinpath('conftest.py').write_text(
        'import tiers\n\n'
        'pytest_addoption = tiers.add_options\n\n\n'
        'def pytest_configure(config):\n'
        "    config.pluginmanager.register(tiers.Tiers(config.getoption('slice'), "
        "config.getoption('stop_after')))\n"
    )
    done = subprocess.run(
        [
            sys.executable,
            '-m',
            'pytest',
            '-v',
            '-p',
            'no:cacheprovider',
            '--rootdir',
            str(folder),
            *words,
            str(folder),
        ],
        stdout=subprocess.PIPE,
        text=True,
        env={'PYTHONPATH': tiers.__file__.rpartition('/')[0]},
    )
    return done.stdout


def test_slices_share_the_tests_without_a_rest(tmp_path):
    ids = [f'test_sixty.py::test_one[{number}]' for number in range(60)]
    for number, step in ((3, -1), (4, 1)):  # an odd slice runs backwards
        shown = pytest_of(tmp_path, f'--slice={number + 2 * tiers.SLICES}')
        expected = [name for name in ids if tiers.slice_of(name) == number]
        assert re.findall(r'(test_sixty\.py\S+) PASSED', shown) == expected[::step]
        assert len(expected) > 1
    assert {tiers.slice_of(name) for name in ids} <= set(range(tiers.SLICES))


def test_tests_that_come_too_late_are_named(tmp_path):
    late = pytest_of(tmp_path, '--stop_after=-1')
    assert 'not reached in time' in late and 'PASSED' not in late
    assert all(f'test_sixty.py::test_one[{number}]\n' in late for number in range(60))
    assert 'not reached' not in pytest_of(tmp_path, '--stop_after=600')
