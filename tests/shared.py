"""Fixtures of all test folders, such as a real MongoDB server. tests/conftest.py loads them."""

import collections
import gc
import os
import random
import shutil
import socket
import sys

import pytest

import ignored
from training import runtime  # noqa: F401 (first, because it prepares TensorFlow)
from config import flags, params, recipes
from database import server
from tensorflow.python.framework import ops
from training.choices import check, choices

ignored.end_here()

Address = collections.namedtuple('Address', 'host port root')
PORTS = range(10000, 32000)  # below the ports that Linux gives to clients


def free_port():
    """Returns a TCP port that nothing listens on and that the system does not give to clients."""
    while True:
        port = random.SystemRandom().choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(('127.0.0.1', port))
            except OSError:
                continue
            return port


@pytest.fixture(autouse=True, scope='module')
def graphs_of_a_file():
    """Drops graphs after each test file: TensorFlow keeps every custom gradient, and its graph."""
    yield
    registry = (getattr(ops, 'gradient_registry', None) or ops._gradient_registry)._registry
    for name in [name for name in registry if name.startswith('CustomGradient-')]:
        del registry[name]
    gc.collect()
    gc.freeze()  # what is left now mostly lives as long as the process


@pytest.fixture
def record_property(record_property):
    """Records a number of a test, also if it is a NumPy number, which workers cannot send."""
    return lambda name, number: record_property(name, getattr(number, 'item', lambda: number)())


@pytest.fixture(scope='session')
def free_address():
    """A function that returns an address, 'host:port', on which nothing listens."""
    return lambda: f'127.0.0.1:{free_port()}'


@pytest.fixture(scope='session')
def mongo_server(tmp_path_factory):
    """A private mongod on a free port, with `host`, `port` and `root`. Stops after the tests."""
    address = Address('localhost', free_port(), str(tmp_path_factory.mktemp('mongo')))
    server.ensure(*address)
    yield address
    server.stop(address.port, address.root)


@pytest.fixture
def own_port(tmp_path):
    """A free port and an empty root for a test's own server, which is stopped after the test."""
    address = Address('localhost', free_port(), str(tmp_path / 'root'))
    yield address
    server.stop(address.port, address.root)


@pytest.fixture
def read(tmp_path):
    """A function that returns the Config of a command line, given as a list of words.

    Its config/*.pkl are our recipes, and one file in the authors' form.
    """
    recipes.write(list(recipes.RECIPES), str(tmp_path), choices())
    recipes.write(['mnist_mirror'], str(tmp_path), choices(), params.JSON)
    shutil.copy(
        os.path.join(os.path.dirname(__file__), 'config', 'authors', 'symmetric_dill0.3.5.1.pkl'),
        str(tmp_path / 'symmetric.pkl'),
    )

    def parse(words):
        values = flags.FlagValues()
        flags.define_flags(choices(), values)
        values([word.replace('=config/', f'={tmp_path}/') for word in words])
        asked = params.read(values, choices())
        check(asked.config)
        assert asked.ignored == ()
        return asked.config

    return parse


@pytest.fixture(scope='session')
def forks(tmp_path_factory):
    """The commands.Forks of tests/cli: programs run as forks of one process.

    The process has imported TensorFlow, and the user's folder is empty.
    """
    sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), 'cli'))
    import commands

    server = commands.Forks(str(tmp_path_factory.mktemp('home')))
    yield server
    server.close()
