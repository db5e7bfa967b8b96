"""Puts the repository on the path, and loads the fixtures in processes that run tests."""

import gc
import os
import sys

sys.path[:0] = [
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
    os.path.dirname(os.path.abspath(__file__)),
]
# TensorFlow 2.x imports Keras, which imports scikit-learn and pandas if they are installed. This
# takes half of the start time of each process. Nothing here uses them, and the older Keras that
# this variable requests is not installed.
os.environ.setdefault('TF_USE_LEGACY_KERAS', '1')

import tiers  # noqa: E402 (after the path)

pytest_addoption = tiers.add_options


def pytest_configure(config):
    """Registers the plugin of tiers.py with the values of its two options."""
    config.pluginmanager.register(
        tiers.Tiers(config.getoption('slice'), config.getoption('stop_after'))
    )


def pytest_sessionstart(session):
    """Loads the fixtures.

    The process that only distributes tests to others (-n) does without them: their import of
    TensorFlow would delay the others.
    """
    config = session.config
    if not config.getoption('numprocesses', None) or hasattr(config, 'workerinput'):
        gc.disable()  # until all modules are imported: almost nothing of them becomes garbage
        config.pluginmanager.import_plugin('shared')


def pytest_make_parametrize_id(val, argname):
    """Names a parameter of bytes by its position, not its content.

    Content can depend on the time, as in a gzip header, but all workers need the same names.
    """
    return argname if isinstance(val, bytes) else None


def pytest_collection_finish():
    """Excludes modules and tests from garbage collection: they live as long as the process.

    Collections are rarer than by default. The many small objects of a graph under construction all
    stay alive, and searching them again and again took a sixth of the time of the tests.
    """
    gc.enable()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
