"""Lets a command print --help without importing TensorFlow, which takes seconds.

A program imports this module before anything that imports TensorFlow. If the command line asks for
help (config/help.py), a stand-in is imported in place of TensorFlow, in which every name is an
empty class. So our modules define their rules, networks and optimisers as usual, and --help lists
what they declare, but nothing can be computed. Without --help, this module does nothing.
"""

import importlib.abc
import importlib.machinery
import sys
from types import ModuleType
from typing import Optional, Sequence

from config import help


class Name(type):
    """The class of a name in the stand-in. Its attributes and results are such names, too."""

    def __getattr__(cls, name: str) -> 'Name':
        return _name(name)

    def __call__(cls, *args: object, **kwargs: object) -> 'Name':
        """Returns the name itself, whatever it is called with."""
        return cls


def _name(name: str) -> Name:
    if name.startswith('__'):  # Python asks for such names to see what an object can do
        raise AttributeError(name)
    return Name(name, (), {})


class StandIn(ModuleType):
    """A module in which every name is a Name."""

    __version__ = ''

    def __getattr__(self, name: str) -> Name:
        return _name(name)


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Makes a StandIn of TensorFlow and of each of its modules that is imported."""

    def find_spec(
        self, name: str, path: Optional[Sequence[object]], target: Optional[ModuleType] = None
    ) -> Optional[importlib.machinery.ModuleSpec]:
        """Returns how to import a module; None if it is not TensorFlow's."""
        if name.partition('.')[0] != 'tensorflow':
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """Returns the stand-in of a module."""
        return StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Does nothing: the module is empty."""


if help.asked(sys.argv):
    sys.meta_path.insert(0, Finder())
