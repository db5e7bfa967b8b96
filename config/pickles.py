"""Reads pickles without executing anything in them.

`plain` reads plain data and refuses a file that contains anything else. It is for our settings
files. `inert` reads any pickle and replaces every object in it with an Inert. It is for the
authors' files. Neither imports, calls or downloads what a file names. Both subclass Python's
pure-Python unpickler, because the C version would bypass the operations that are replaced here.
"""

import io
import pickle
import pickletools
import re
import reprlib
from typing import Callable, ClassVar, Dict, List, Optional, Type

# What a settings file may contain. The largest of the authors' files has 1,400 opcodes.
MOST_OPCODES = 50_000
MOST_ATTRIBUTES = 500  # of one object
MOST_VALUES = 50_000  # counted as often as they occur: a list can contain itself many times
DEEPEST = 50  # containers inside one another
# Reading a number from more digits takes very long, on Pythons that do it at all.
MANY_DIGITS = re.compile(rb'\d{1000}')


class PickleError(ValueError):
    """A pickle cannot be read. The message states why."""


def plain(content: bytes) -> object:
    """Returns the plain data (containers and scalars) in a pickle, or raises PickleError."""
    value = _read(content, _PlainUnpickler, encoding='utf-8')
    check_extent(value)
    return value


def inert(content: bytes) -> object:
    """Returns the content of a pickle with an Inert for every object, or raises PickleError."""
    return _read(content, _InertUnpickler, encoding='latin-1')


def check_extent(value: object) -> None:
    """Raises PickleError if plain data is too deep, or too large when it is written out.

    A file of 400 bytes can contain a list of 2^40 items: one that holds the same list twice, which
    holds the same list twice, and so on.
    """
    waiting, found = [(value, 0)], 1
    while waiting:
        item, depth = waiting.pop()
        if isinstance(item, (dict, list, tuple)):
            found += len(item)
            if depth == DEEPEST or found > MOST_VALUES:
                raise PickleError(
                    f'nested too deeply, or it contains more than {MOST_VALUES:,} values'
                )
            inside = item.values() if isinstance(item, dict) else item
            waiting += [(each, depth + 1) for each in inside]


class Inert:
    """Stands for an object of a pickle: a name in a module, or the result of a call.

    Nothing is imported or called.

    Attributes:
        name: 'module.name' of an object that the pickle names; None for the result of a call.
        of: What the pickle would call to make the object.
        args: The arguments of that call.
        state: The attributes that the pickle would set: {attribute: value}.
        items: What the pickle would add to the object.
    """

    __slots__ = ('name', 'of', 'args', 'state', 'items')

    def __init__(self, name: Optional[str] = None, of: object = None, args: object = ()) -> None:
        self.name, self.of = name, of
        self.args = args if isinstance(args, tuple) else ()  # not copied: many may share them
        self.state: Dict[str, object] = {}
        self.items: List[object] = []

    def append(self, item: object) -> None:
        """Notes an item that the pickle would add to a list or set."""
        self.items.append(item)

    add = append

    def extend(self, items: List[object]) -> None:
        """Notes several items that the pickle would add."""
        self.items.extend(items)

    def __setitem__(self, key: object, value: object) -> None:
        self.items.append((key, value))

    def __repr__(self) -> str:
        of = self.of.name if isinstance(self.of, Inert) else None
        return f'<{self.name or of or "object"}>'


def is_call_of(thing: object, name: str) -> bool:
    """Returns whether an object is the result of calling a function or class of this bare name."""
    return (
        isinstance(thing, Inert)
        and isinstance(thing.of, Inert)
        and (thing.of.name or '').split('.')[-1] == name
    )


class _Unpickler(pickle._Unpickler):
    """Reads a pickle, using the class `dictionary` for every dictionary in it."""

    dictionary: ClassVar[Type[dict]] = dict
    # The operation of each opcode; the operations below replace Python's.
    dispatch: ClassVar[Dict[int, object]] = {  # type: ignore[assignment]
        **pickle._Unpickler.dispatch
    }
    # Attributes of Python's class while it reads: its stack, a function that pushes onto it, and a
    # function that pops everything after the last mark.
    stack: List[object]
    append: Callable[[object], None]
    pop_mark: Callable[[], List[object]]

    def load_empty_dictionary(self) -> None:
        self.append(self.dictionary())

    dispatch[pickle.EMPTY_DICT[0]] = load_empty_dictionary

    def load_dict(self) -> None:
        items, made = self.pop_mark(), self.dictionary()
        for key, value in zip(items[::2], items[1::2]):
            made[key] = value
        self.append(made)

    dispatch[pickle.DICT[0]] = load_dict


class _Named(dict):
    """A dictionary that only accepts strings as keys.

    Python would hash any other key, and hashing a deeply nested tuple can crash the process.
    """

    def __setitem__(self, name: object, value: object) -> None:
        if not isinstance(name, str):
            raise PickleError(
                f'it contains a dictionary with the key {reprlib.repr(name)}, which is not a string'
            )
        super().__setitem__(name, value)


class _PlainUnpickler(_Unpickler):
    """Reads containers and scalars, and raises PickleError for a class or function."""

    dictionary = _Named
    dispatch = dict(_Unpickler.dispatch)
    for opcode in (
        pickle.ADDITEMS,
        pickle.FROZENSET,
    ):  # sets hash their items, and no setting is a set
        del dispatch[opcode[0]]

    def find_class(self, module: str, name: str) -> object:
        raise PickleError(f'it refers to {module}.{name}, and only plain data is allowed')

    def get_extension(self, code: int) -> None:
        raise PickleError(
            f'it refers to a registered extension ({code}), and only plain data is allowed'
        )

    def persistent_load(self, pid: object) -> object:
        raise PickleError('it refers to an external object, and only plain data is allowed')


class _Keys(dict):
    """A dictionary that drops entries whose key is not a string.

    Hashing anything else that a file contains is not safe.
    """

    def __setitem__(self, key: object, value: object) -> None:
        if isinstance(key, str):
            super().__setitem__(key, value)


class _InertUnpickler(_Unpickler):
    """Reads a pickle of any protocol into plain containers, scalars and Inert objects."""

    dictionary = _Keys
    dispatch = dict(_Unpickler.dispatch)

    def find_class(self, module: str, name: str) -> Inert:
        return Inert(f'{module}.{name}')

    def get_extension(self, code: int) -> None:
        self.append(Inert(f'extension {code}'))

    def persistent_load(self, pid: object) -> Inert:
        return Inert('outside the file')

    def _instantiate(self, of: object, args: List[object]) -> None:
        self.append(Inert(of=of, args=tuple(args)))

    def load_reduce(self) -> None:
        args, of = self.stack.pop(), self.stack.pop()
        if (
            _is_setattr(of)
            and isinstance(args, tuple)
            and len(args) == 3
            and isinstance(args[1], str)
        ):
            _set(args[0], {args[1]: args[2]})
        self.append(Inert(of=of, args=args))

    dispatch[pickle.REDUCE[0]] = load_reduce

    def load_newobj(self) -> None:
        args, of = self.stack.pop(), self.stack.pop()
        self.append(Inert(of=of, args=args))

    dispatch[pickle.NEWOBJ[0]] = load_newobj

    def load_newobj_ex(self) -> None:
        kwargs, args, of = self.stack.pop(), self.stack.pop(), self.stack.pop()
        self.append(Inert(of=of, args=args))
        _set(self.stack[-1], kwargs)

    dispatch[pickle.NEWOBJ_EX[0]] = load_newobj_ex

    def load_build(self) -> None:
        state = self.stack.pop()
        for part in state if isinstance(state, tuple) else (state,):  # (attributes, slots)
            _set(self.stack[-1], part)

    dispatch[pickle.BUILD[0]] = load_build

    def load_empty_set(self) -> None:
        self.append(Inert('set'))

    dispatch[pickle.EMPTY_SET[0]] = load_empty_set

    def load_additems(self) -> None:
        items, into = self.pop_mark(), self.stack[-1]
        if isinstance(into, Inert):
            into.extend(items)

    dispatch[pickle.ADDITEMS[0]] = load_additems

    def load_frozenset(self) -> None:
        made = Inert('frozenset')
        made.extend(self.pop_mark())
        self.append(made)

    dispatch[pickle.FROZENSET[0]] = load_frozenset


def _is_setattr(thing: object) -> bool:
    """Returns whether this is the function by which dill 0.3.5 sets the content of a cell.

    It is setattr or getattr(dill, '_setattr', setattr).
    """
    if not isinstance(thing, Inert):
        return False
    if is_call_of(thing, 'getattr'):
        return len(thing.args) > 1 and thing.args[1] == '_setattr'
    return (thing.name or '').split('.')[-1] in ('setattr', '_setattr')


def _set(target: object, state: object) -> None:
    """Adds attributes to an Inert, which may have at most MOST_ATTRIBUTES."""
    if isinstance(target, Inert) and isinstance(state, dict):
        names = len(target.state) + len(state)
        if names > MOST_ATTRIBUTES:
            raise PickleError(f'an object has more than {MOST_ATTRIBUTES:,} attributes')
        target.state.update((name, value) for name, value in state.items() if isinstance(name, str))


def _read(content: bytes, unpickler: Type[_Unpickler], encoding: str) -> object:
    try:
        # Check that the file is complete and has only valid opcodes before reading it.
        if MANY_DIGITS.search(content):
            raise PickleError('it contains a number of a thousand digits or more')
        for count, _ in enumerate(pickletools.genops(content)):
            if count == MOST_OPCODES:
                raise PickleError(f'it has more than {MOST_OPCODES:,} opcodes')
        return unpickler(io.BytesIO(content), encoding=encoding).load()
    except PickleError:
        raise
    except RecursionError:
        raise PickleError('nested too deeply')
    except Exception as error:  # a damaged pickle can raise nearly any exception
        raise PickleError(f'damaged, or not a pickle ({error})')
