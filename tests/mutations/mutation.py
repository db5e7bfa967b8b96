"""Mutations: small faults that are put into the program, of which the tests must notice each.

A mutation says what it replaces as source text. Both sides are compared as syntax trees, within a
function or class of a package, so that neither the formatting nor the file of that function
matters. It has to fit at exactly one place.

The positions of syntax trees are those of Python 3.8 and later.
"""

import ast
import os
import typing
from typing import Dict, Iterator, List, Optional, Tuple, Union

PACKAGES = ('alignment', 'models', 'training', 'data', 'database', 'config', 'reports')


class MutationError(Exception):
    """A mutation that fits nowhere, or at several places, or changes nothing."""


class Mutation(typing.NamedTuple):
    """A fault.

    Attributes:
        name: What it is called, unique.
        package: The package of PACKAGES in which it lies.
        within: The function, method or class that it changes, by its qualified name, such as
            'Spool.keep' or 'OneDevice.mean.add_part'. None where it lies in none of them.
        before: An expression or statements, as they stand there.
        after: What takes their place.
        what: One sentence for people.
        silent: Whether it leaves shapes, dtypes, names and exit codes as they are: the program
            runs, and only its results are wrong.
    """

    name: str
    package: str
    within: Optional[str]
    before: str
    after: str
    what: str
    silent: bool = True

    @property
    def where(self) -> str:
        """Its package and what it changes there, for people."""
        return where(self.package, self.within)


def where(package: str, within: Optional[str]) -> str:
    """The whole name of a function, method or class of a package, or the package for None."""
    return f'{package}.{within}' if within else package


Fragment = Union[ast.expr, List[ast.stmt]]
Place = Tuple[ast.AST, ast.AST]  # the first and the last node of an expression or of statements


class File:
    """A source file: its path in the tree, its content and its syntax."""

    def __init__(self, root: str, path: str) -> None:
        self.path = path
        with open(os.path.join(root, path), 'rb') as file:
            self.content = file.read()
        self.tree = ast.parse(self.content)
        self.syntax = ast.dump(self.tree)
        self.scopes: Dict[str, List[ast.AST]] = {}  # those of each qualified name
        self._find_scopes(self.tree, '')

    def scope(self, within: Optional[str]) -> List[ast.AST]:
        """The functions or classes of a qualified name, or the file for None."""
        return [self.tree] if within is None else self.scopes.get(within, [])

    def _find_scopes(self, node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            name = prefix
            if isinstance(child, (ast.FunctionDef, ast.ClassDef)):
                name = prefix + child.name
                self.scopes.setdefault(name, []).append(child)
                name += '.'
            self._find_scopes(child, name)


class Sources:
    """The source files of a tree, package by package; each is parsed once."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._packages: Dict[str, List[File]] = {}

    def of(self, package: str) -> List[File]:
        """The files of a package, by their paths."""
        if package not in self._packages:
            paths = [
                os.path.relpath(os.path.join(folder, name), self.root)
                for folder, _, names in os.walk(os.path.join(self.root, package))
                for name in names
                if name.endswith('.py')
            ]
            self._packages[package] = [File(self.root, path) for path in sorted(paths)]
        return self._packages[package]

    def places(
        self, package: str, within: Optional[str], fragment: Fragment
    ) -> List[Tuple[File, Place]]:
        """Where a fragment stands within the functions or classes of a qualified name."""
        return [
            (file, place)
            for file in self.of(package)
            for scope in file.scope(within)
            for place in places(scope, fragment)
        ]

    def find(self, mutation: Mutation) -> Tuple[File, Place]:
        """The file of a mutation, and what it replaces there. Raises MutationError."""
        old, _ = fragments(mutation)
        found = self.places(mutation.package, mutation.within, old)
        if len(found) != 1:
            raise MutationError(
                f'{mutation.name}: {mutation.before!r} is there {len(found)} times in '
                f'{mutation.within or "the files"} of {mutation.package}'
            )
        return found[0]


def apply(sources: Sources, mutation: Mutation) -> Tuple[str, bytes]:
    """The path of the file that a mutation changes, and its new content. Raises MutationError."""
    file, (first, last) = sources.find(mutation)
    _, new = fragments(mutation)
    start = _offset(file.content, first.lineno, first.col_offset)
    end = _offset(file.content, last.end_lineno, last.end_col_offset)
    content = file.content[:start] + _text(new, first.col_offset) + file.content[end:]
    changed = ast.dump(ast.parse(content))
    if changed == file.syntax:
        raise MutationError(f'{mutation.name} changes nothing')
    if changed != _replaced(file.content, (first, last), new):
        raise MutationError(f'{mutation.name}: the new text means something else where it stands')
    return file.path, content


def fragments(mutation: Mutation) -> Tuple[Fragment, Fragment]:
    """What stands before and after: two expressions, or two lists of statements."""
    try:
        old, new = [
            ast.parse(text.strip(), mode='eval').body for text in (mutation.before, mutation.after)
        ]
        return old, new
    except SyntaxError:
        return ast.parse(mutation.before.strip()).body, ast.parse(mutation.after.strip()).body


def places(scope: ast.AST, fragment: Fragment) -> Iterator[Place]:
    """Where a fragment stands within a scope."""
    if isinstance(fragment, ast.expr):
        wanted = ast.dump(fragment)
        for node in walk(scope):
            if type(node) is type(fragment) and ast.dump(node) == wanted:
                yield node, node
        return
    wanted_lines = [ast.dump(statement) for statement in fragment]
    for node in walk(scope):
        for field in ('body', 'orelse', 'finalbody'):
            lines = getattr(node, field, None)
            for start in range(len(lines) if isinstance(lines, list) else 0):
                run = lines[start : start + len(fragment)]
                if [ast.dump(statement) for statement in run] == wanted_lines:
                    yield run[0], run[-1]


def walk(node: ast.AST) -> Iterator[ast.AST]:
    """A node and all below it, but for the inside of f-strings, whose positions Python 3.11 does
    not know.
    """
    yield node
    if not isinstance(node, ast.JoinedStr):
        for child in ast.iter_child_nodes(node):
            yield from walk(child)


def _offset(content: bytes, line: int, column: int) -> int:
    """Where a line, counted from 1, and a column in bytes lie in a file."""
    return sum(len(each) for each in content.splitlines(keepends=True)[: line - 1]) + column


def _text(fragment: Fragment, indent: int) -> bytes:
    """A fragment as source text that can stand at a column."""
    if isinstance(fragment, ast.expr):
        return f'({ast.unparse(fragment)})'.encode()
    lines = ast.unparse(ast.Module(fragment, [])).split('\n')
    return ('\n' + ' ' * indent).join(lines).encode()


class _Replace(ast.NodeTransformer):
    """Puts a fragment in place of the nodes that begin and end where others do."""

    def __init__(self, place: Place, fragment: Fragment) -> None:
        first, last = place
        self._type = type(first)
        self._first = (first.lineno, first.col_offset)
        self._last = (last.end_lineno, last.end_col_offset)
        self._fragment = fragment

    def visit(self, node: ast.AST) -> Union[ast.AST, List[ast.stmt], None]:
        if isinstance(self._fragment, ast.expr):
            same = type(node) is self._type and self._first == (
                getattr(node, 'lineno', None),
                getattr(node, 'col_offset', None),
            )
            if same and self._last == (node.end_lineno, node.end_col_offset):
                return self._fragment
        elif isinstance(node, ast.stmt):
            begins = (node.lineno, node.col_offset)
            if begins == self._first:
                return self._fragment
            if self._first < begins and (node.end_lineno, node.end_col_offset) <= self._last:
                return None
        return self.generic_visit(node)


def _replaced(content: bytes, place: Place, fragment: Fragment) -> str:
    """The syntax of a file with a fragment at a place, as text."""
    return ast.dump(_Replace(place, fragment).visit(ast.parse(content)))
