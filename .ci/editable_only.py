"""The build backend of the program: setuptools, for editable installations alone.

The packages of this checkout have plain names (`config`, `data`, `models`), which would shadow
those of other programs if they were copied into an environment. A build of a wheel or of an archive
is refused by its first hook, before pip downloads any dependency.
"""

import sys

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403 (the hooks of an editable installation)

REFUSAL = (
    'This program is run from its checkout, and its packages have names such as config, data and '
    'models: install it with `pip install -e .` (for example `pip install -e .[cpu]`), not with '
    '`pip install .`.'
)


def get_requires_for_build_wheel(config_settings=None):
    """Refuses a build of a wheel."""
    sys.exit(REFUSAL)


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    """Refuses a build of a wheel by a program that does not ask what it requires."""
    sys.exit(REFUSAL)


def get_requires_for_build_sdist(config_settings=None):
    """Refuses a build of an archive, from which nothing but a wheel could be built."""
    sys.exit(REFUSAL)


def build_sdist(sdist_directory, config_settings=None):
    """Refuses a build of an archive."""
    sys.exit(REFUSAL)


if not hasattr(build_meta, 'build_editable'):
    sys.exit('setuptools 64 or newer is needed to install this program.')
