"""The words of the call of setuptools.setup in setup.py, without installing anything."""

import os
import runpy
import sys

import setuptools


def read(root):
    """{keyword: value} of the call of setup()."""
    found = {}
    before, arguments = setuptools.setup, sys.argv
    setuptools.setup = lambda **words: found.update(words)
    sys.argv = ['setup.py', '--version']
    try:
        runpy.run_path(os.path.join(root, 'setup.py'))
    finally:
        setuptools.setup, sys.argv = before, arguments
    return found
