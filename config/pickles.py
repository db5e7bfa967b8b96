"""Pickles read without executing anything of them: the two readers, and all that they share.

`plain` reads plain data, and refuses a file that asks for anything else: our settings files.
`inert` reads any pickle, and makes an Inert of everything that it asks for: the authors' settings
files. Neither imports, calls or fetches what a file names. Both are made of Python's own unpickler
in its pure-Python form, which has no fast path around the operations that are replaced here.
"""

import io
import pickle
import pickletools
import reprlib
from typing import Callable, ClassVar, Dict, List, Optional, Type


class PickleError(ValueError):
    """A pickle that is not read; the message says why."""


def plain(content: bytes) -> object:
    """The plain data (containers and scalars) that a pickle holds. Raises PickleError."""
    return _read(content, _PlainUnpickler, encoding='utf-8')


def inert(content: bytes) -> object:
    """What a pickle holds, with an Inert for every object. Raises PickleError."""
    return _read(content, _InertUnpickler, encoding='latin-1')


class Inert:
    """Something that a pickle asks for: a name in a module, or what a call of such a thing would
    give. Nothing is called.

    name: 'module.name' of a thing asked for by name, else None. of, args: what would be called, and
    with what.
    state: what would be set on the result: {attribute: value}. items: what would be put into it.
    """

    __slots__ = ('name', 'of', 'args', 'state', 'items')

    def __init__(self, name: Optional[str] = None, of: object = None, args: object = ()) -> None:
        self.name, self.of = name, of
        self.args = tuple(args) if isinstance(args, (list, tuple)) else ()
        self.state: Dict[str, object] = {}
        self.items: List[object] = []

    def append(self, item: object) -> None:
        """Note what a list, or a set, of this would hold."""
        self.items.append(item)

    add = append

    def extend(self, items: List[object]) -> None:
        """Note several of these."""
        self.items.extend(items)

    def __setitem__(self, key: object, value: object) -> None:
        self.items.append((key, value))

    def __repr__(self) -> str:
        of = self.of.name if isinstance(self.of, Inert) else None
        return f'<{self.name or of or "object"}>'


def is_call_of(thing: object, name: str) -> bool:
    """Whether a thing is what a call of a function or class of this bare name would give."""
    return (
        isinstance(thing, Inert)
        and isinstance(thing.of, Inert)
        and (thing.of.name or '').split('.')[-1] == name
    )


class _Unpickler(pickle._Unpickler):
    """Reads a pickle with dictionaries of a class of ours, whatever opcode makes them."""

    dictionary: ClassVar[Type[dict]] = dict
    # Each opcode's operation; those of ours take our own class.
    dispatch: ClassVar[Dict[int, object]] = {  # type: ignore[assignment]
        **pickle._Unpickler.dispatch
    }
    # What Python's class has while it reads: its stack, how to put something onto it, and how to
    # take all from it that came after the last mark.
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
    """A dictionary whose keys are text: Python would hash any other key, and a deep tuple's hash
    can end the process.
    """

    def __setitem__(self, name: object, value: object) -> None:
        if not isinstance(name, str):
            raise PickleError(
                f'it holds a dictionary with the key {reprlib.repr(name)}, and only names are read'
            )
        super().__setitem__(name, value)


class _PlainUnpickler(_Unpickler):
    """Reads containers and scalars; names every class or function that a file asks for, and fetches
    none.
    """

    dictionary = _Named
    dispatch = dict(_Unpickler.dispatch)
    for opcode in (
        pickle.ADDITEMS,
        pickle.FROZENSET,
    ):  # sets hash what they hold; no setting is one
        del dispatch[opcode[0]]

    def find_class(self, module: str, name: str) -> object:
        raise PickleError(f'it asks for {module}.{name}, and only plain data is read')

    def get_extension(self, code: int) -> None:
        raise PickleError(
            f'it asks for a registered extension ({code}), and only plain data is read'
        )

    def persistent_load(self, pid: object) -> object:
        raise PickleError('it asks for something outside the file, and only plain data is read')


class _Keys(dict):
    """A dictionary that keeps only the entries whose key is text: hashing anything else that a file
    brings is not safe.
    """

    def __setitem__(self, key: object, value: object) -> None:
        if isinstance(key, str):
            super().__setitem__(key, value)


class _InertUnpickler(_Unpickler):
    """Reads a pickle of any protocol into plain containers, scalars and Inert objects; executes
    nothing of it.
    """

    dictionary = _Keys
    dispatch = dict(_Unpickler.dispatch)

    def find_class(self, module: str, name: str) -> Inert:
        return Inert(f'{module}.{name}')

    def get_extension(self, code: int) -> None:
        self.append(Inert(f'extension {code}'))

    def persistent_load(self, pid: object) -> Inert:
        return Inert('outside the file')

    def _instantiate(self, of: object, args: object) -> None:
        self.append(Inert(of=of, args=args))

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
    """Whether this is how dill 0.3.5 sets what a cell holds after making it: setattr, or
    getattr(dill, '_setattr', setattr).
    """
    if not isinstance(thing, Inert):
        return False
    if is_call_of(thing, 'getattr'):
        return len(thing.args) > 1 and thing.args[1] == '_setattr'
    return (thing.name or '').split('.')[-1] in ('setattr', '_setattr')


def _set(target: object, state: object) -> None:
    if isinstance(target, Inert) and isinstance(state, dict):
        target.state.update((name, value) for name, value in state.items() if isinstance(name, str))


def _read(content: bytes, unpickler: Type[_Unpickler], encoding: str) -> object:
    try:
        # A truncated or garbled file is told from a whole one before it is read.
        for _ in pickletools.genops(content):
            pass
        return unpickler(io.BytesIO(content), encoding=encoding).load()
    except PickleError:
        raise
    except RecursionError:
        raise PickleError('nested too deeply')
    except Exception as error:  # a damaged pickle can raise nearly anything; none of it is ours
        raise PickleError(f'damaged or no pickle ({error})')
