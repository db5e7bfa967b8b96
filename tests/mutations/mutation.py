"""Mutations: small faults that are put into the program. The tests must detect each of them.

A mutation gives the code that it replaces as source text. Both are compared as syntax trees, within
a function or class of a package, so that neither the formatting nor the file of that function
matters. The code must be found at exactly one place.

Syntax trees have the necessary positions on Python 3.8 and later.
"""

import ast
import os
import typing
from typing import Dict, Iterator, List, Optional, Tuple, Union

PACKAGES = ('alignment', 'models', 'training', 'data', 'database', 'config', 'reports')


class MutationError(Exception):
    """A mutation that fits nowhere, fits at several places, or changes nothing."""


class Mutation(typing.NamedTuple):
    """A fault.

    Attributes:
        name: A unique name.
        package: The package of PACKAGES that it changes.
        within: The function, method or class that it changes, by its qualified name, such as
            'Spool.keep' or 'OneDevice.mean.add_part'. None for code outside of these.
        before: An expression or statements, as in the code.
        after: The code that replaces them.
        what: One sentence that describes the fault to users.
        silent: Whether shapes, dtypes, names and exit codes stay the same. The program then runs,
            and only its results are wrong.
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
        """The package and what the mutation changes there, as a text for users."""
        return where(self.package, self.within)


def where(package: str, within: Optional[str]) -> str:
    """Returns the whole name of a function, method or class, or the package if `within` is None."""
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
        self.scopes: Dict[
            str, List[ast.AST]
        ] = {}  # the functions and classes of each qualified name
        self._find_scopes(self.tree, '')

    def scope(self, within: Optional[str]) -> List[ast.AST]:
        """Returns the functions or classes of a qualified name, or the file for None."""
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
    """The source files of a tree by package. Each file is parsed once."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._packages: Dict[str, List[File]] = {}

    def of(self, package: str) -> List[File]:
        """Returns the files of a package, ordered by path."""
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
        """Returns where a fragment occurs within the functions or classes of a qualified name."""
        return [
            (file, place)
            for file in self.of(package)
            for scope in file.scope(within)
            for place in places(scope, fragment)
        ]

    def find(self, mutation: Mutation) -> Tuple[File, Place]:
        """Returns the file that a mutation changes, and the place of what it replaces.

        Raises:
            MutationError: The code is not found at exactly one place.
        """
        old, _ = fragments(mutation)
        found = self.places(mutation.package, mutation.within, old)
        if len(found) != 1:
            raise MutationError(
                f'{mutation.name}: {mutation.before!r} occurs {len(found)} times in '
                f'{mutation.within or "the files"} of {mutation.package}'
            )
        return found[0]


def apply(sources: Sources, mutation: Mutation) -> Tuple[str, bytes]:
    """Returns the path of the file that a mutation changes, and its new content.

    Raises:
        MutationError: The mutation does not fit.
    """
    file, (first, last) = sources.find(mutation)
    _, new = fragments(mutation)
    start = _offset(file.content, first.lineno, first.col_offset)
    end = _offset(file.content, last.end_lineno, last.end_col_offset)
    content = file.content[:start] + _text(new, first.col_offset) + file.content[end:]
    changed = ast.dump(ast.parse(content))
    if changed == file.syntax:
        raise MutationError(f'{mutation.name} changes nothing')
    if changed != _replaced(file.content, (first, last), new):
        raise MutationError(f'{mutation.name}: the new code has another meaning at this place')
    return file.path, content


def fragments(mutation: Mutation) -> Tuple[Fragment, Fragment]:
    """Returns the code before and after: two expressions, or two lists of statements."""
    try:
        old, new = [
            ast.parse(text.strip(), mode='eval').body for text in (mutation.before, mutation.after)
        ]
        return old, new
    except SyntaxError:
        return ast.parse(mutation.before.strip()).body, ast.parse(mutation.after.strip()).body


def places(scope: ast.AST, fragment: Fragment) -> Iterator[Place]:
    """Yields the places where a fragment occurs within a scope."""
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
    """Yields a node and all nodes below it, but none inside an f-string.

    Python 3.11 does not know the positions inside f-strings.
    """
    yield node
    if not isinstance(node, ast.JoinedStr):
        for child in ast.iter_child_nodes(node):
            yield from walk(child)


def _offset(content: bytes, line: int, column: int) -> int:
    """Returns the offset in a file of a line, counted from 1, and a column in bytes."""
    return sum(len(each) for each in content.splitlines(keepends=True)[: line - 1]) + column


def _text(fragment: Fragment, indent: int) -> bytes:
    """Returns a fragment as source text that can be inserted at a column."""
    if isinstance(fragment, ast.expr):
        return f'({ast.unparse(fragment)})'.encode()
    lines = ast.unparse(ast.Module(fragment, [])).split('\n')
    return ('\n' + ' ' * indent).join(lines).encode()


class _Replace(ast.NodeTransformer):
    """Replaces the nodes that begin and end at a place by a fragment."""

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
    """Returns the syntax of a file after a fragment replaces a place, as text."""
    return ast.dump(_Replace(place, fragment).visit(ast.parse(content)))
