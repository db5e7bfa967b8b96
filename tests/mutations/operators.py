"""Mutations drawn by a seed. Each operator changes one node of the syntax tree.

The draw depends only on the seed and on the changed functions. Most of a draw therefore stays the
same when other code changes or a file is moved.
"""

import ast
import copy
import hashlib
import itertools
import os
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

from mutation import Mutation, Sources, where

PACKAGES = ('alignment', 'models', 'training', 'data', 'database', 'config')
SHOWN = 30  # the number of characters around a change that its description shows
# The arguments of functions with these names are texts for users.
TELLING = {
    'say', '_say', 'print', 'debug', 'info', 'warning', 'error', 'write', 'filterwarnings', 'note',
    'set_verbosity',
}  # fmt: skip
# The program would end at once if the arguments of these functions were swapped.
ORDERED = {'isinstance', 'issubclass', 'getattr', 'setattr', 'hasattr', 'open', 'enumerate'}

COMPARISONS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
ARITHMETIC = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}
OTHER_NAMES = {
    'reduce_mean': 'reduce_sum', 'reduce_sum': 'reduce_mean', 'minimum': 'maximum',
    'maximum': 'minimum', 'min': 'max', 'max': 'min', 'floor': 'ceil', 'reduce_all': 'reduce_any',
    'reduce_any': 'reduce_all', 'any': 'all', 'all': 'any',
}  # fmt: skip


class Candidate(NamedTuple):
    """A node, its place, and what it can be replaced by."""

    operator: str
    package: str
    within: str
    ancestors: Tuple[ast.AST, ...]  # from the node itself to the statement
    new: ast.AST


def drawn(sources: Sources, seed: int, count: int) -> List[Mutation]:
    """Returns mutations of the tree: in turn the first of each operator, ordered by the seed."""
    by_operator: Dict[str, List[Tuple[str, Candidate]]] = {name: [] for name in OPERATORS}
    statement, text = None, ''
    for candidate in candidates(sources):
        if candidate.ancestors[-1] is not statement:
            statement = candidate.ancestors[-1]
            text = ast.dump(statement)
        key = (seed, candidate.package, candidate.within, text, ast.dump(candidate.new))
        rank = hashlib.sha256(repr(key).encode()).hexdigest()
        by_operator[candidate.operator].append((rank, candidate))
    queues = [
        (candidate for _, candidate in sorted(found, key=lambda pair: pair[0]))
        for found in by_operator.values()
    ]
    in_turn = (
        candidate
        for round_ in itertools.zip_longest(*queues)
        for candidate in round_
        if candidate is not None
    )
    found: Dict[str, Mutation] = {}
    while len(found) < count:
        mutation = _mutation(sources, next(in_turn), seed)
        if mutation:
            found[mutation.name] = mutation
    return list(found.values())


def candidates(sources: Sources) -> Iterator[Candidate]:
    """Returns everything that can be drawn."""
    for package in PACKAGES:
        for file in sources.of(package):
            yield from _below(file.tree, package, '', ())


def _below(
    node: ast.AST, package: str, within: str, ancestors: Tuple[ast.AST, ...]
) -> Iterator[Candidate]:
    """Yields the candidates in a node.

    `ancestors` are the nodes above it within its statement, the nearest first.
    """
    if isinstance(node, (ast.JoinedStr, ast.Raise, ast.Assert)) or _tells(node):
        return
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        within, ancestors = f'{within}.{node.name}'.lstrip('.'), ()
    elif not (isinstance(node, ast.Slice) or _is_docstring(node)):
        chain = (node,) + (() if isinstance(node, ast.stmt) else ancestors)
        for operator, change in OPERATORS.items():
            for new in change(node):
                yield Candidate(operator, package, within, chain, new)
        ancestors = chain
    for field, child in ast.iter_fields(node):
        if field in ('annotation', 'returns', 'decorator_list', 'bases'):
            continue
        for each in child if isinstance(child, list) else [child]:
            if isinstance(each, ast.AST):
                yield from _below(each, package, within, ancestors)


def _mutation(sources: Sources, candidate: Candidate, seed: int) -> Optional[Mutation]:
    """Returns the Mutation of a candidate, or None if there is none.

    It replaces the smallest part of the candidate's statement that occurs at only one place.
    """
    node = candidate.ancestors[0]
    for ancestor in candidate.ancestors:
        if not _can_be_replaced(ancestor):
            continue
        before, after = ast.unparse(ancestor), ast.unparse(_changed(ancestor, node, candidate.new))
        fragment = ast.parse(before).body
        if isinstance(ancestor, ast.expr):
            fragment = ancestor
        package, within = candidate.package, candidate.within or None
        if len(sources.places(package, within, fragment)) == 1:
            place = where(package, within)
            digest = hashlib.sha256(f'{place} {before} {after}'.encode()).hexdigest()[:6]
            return Mutation(
                f'drawn {candidate.operator} {place} {digest}',
                package,
                within,
                before,
                after,
                'drawn by seed {}: {} becomes {}'.format(seed, *_difference(before, after)),
            )
    return None


def _can_be_replaced(node: ast.AST) -> bool:
    """Returns whether a node is an expression, or a statement that contains no other statement.

    The index in `x[:, :-1]` is a tuple that is not a valid expression outside the brackets.
    """
    if isinstance(node, ast.stmt):
        return not hasattr(node, 'body')
    parts = (node, *getattr(node, 'elts', ()))
    return isinstance(node, ast.expr) and not any(isinstance(part, ast.Slice) for part in parts)


def _changed(ancestor: ast.AST, node: ast.AST, new: ast.AST) -> ast.AST:
    """Returns a copy of an ancestor in which a node is replaced."""
    if ancestor is node:
        return new
    changed = copy.copy(ancestor)
    for field, child in ast.iter_fields(ancestor):
        if isinstance(child, list):
            child = [
                _changed(each, node, new) if isinstance(each, ast.AST) else each for each in child
            ]
        elif isinstance(child, ast.AST):
            child = _changed(child, node, new)
        setattr(changed, field, child)
    return changed


def _difference(before: str, after: str) -> Tuple[str, str]:
    """Returns two texts without most of their common beginning and end."""
    same = len(os.path.commonprefix([before, after]))
    start = max(0, same - SHOWN)
    rest = len(before[same:]), len(after[same:])
    end = len(os.path.commonprefix([before[::-1], after[::-1]]))
    end = min(end, *rest)
    end = max(0, end - SHOWN)
    return before[start : len(before) - end], after[start : len(after) - end]


def _name(node: ast.AST) -> str:
    """Returns the last part of a function's name."""
    return getattr(node, 'attr', None) or getattr(node, 'id', '')


def _tells(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and _name(node.func) in TELLING


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_text(node: ast.AST) -> bool:
    """Returns whether the operands of a sum or product are not numbers."""
    return any(
        isinstance(each, (ast.JoinedStr, ast.List, ast.Tuple, ast.ListComp))
        or (isinstance(each, ast.Constant) and isinstance(each.value, (str, bytes)))
        for each in ast.walk(node)
    )


# --- the operators: a node -> what may take its place ---------------------------------------------


def _other_comparison(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        other = COMPARISONS[type(node.ops[0])]()
        yield ast.Compare(left=node.left, ops=[other], comparators=node.comparators)


def _other_arithmetic(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC and not _is_text(node):
        yield ast.BinOp(left=node.left, op=ARITHMETIC[type(node.op)](), right=node.right)


def _next_number(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        yield ast.Constant(node.value + 1)


def _factor(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.Constant) and type(node.value) is float:
        yield ast.Constant(0.9 * node.value if node.value else 0.1)


def _and_or(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.BoolOp):
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield ast.BoolOp(op=other, values=node.values)


def _without_not(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield node.operand


def _without_sign(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield node.operand


def _without_call(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and not _tells(node.value):
        yield ast.Pass()


def _swapped_arguments(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.Call) and _name(node.func) not in ORDERED and len(node.args) > 1:
        first, second, *more = node.args
        starred = isinstance(first, ast.Starred) or isinstance(second, ast.Starred)
        if not starred and ast.dump(first) != ast.dump(second):
            yield ast.Call(func=node.func, args=[second, first, *more], keywords=node.keywords)


def _without_keyword(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.Call):
        for index, keyword in enumerate(node.keywords):
            if keyword.arg:
                others = node.keywords[:index] + node.keywords[index + 1 :]
                yield ast.Call(func=node.func, args=node.args, keywords=others)


def _other_truth(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.Constant) and type(node.value) is bool:
        yield ast.Constant(not node.value)


def _without_stop(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.Call) and _name(node.func) in ('stop_gradient', 'control_dependencies'):
        empty = ast.List(elts=[], ctx=ast.Load())
        if _name(node.func) == 'stop_gradient':
            yield node.args[0]
        elif node.args:
            yield ast.Call(func=node.func, args=[empty], keywords=[])


def _other_name(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.Attribute) and node.attr in OTHER_NAMES:
        yield ast.Attribute(value=node.value, attr=OTHER_NAMES[node.attr], ctx=node.ctx)
    if isinstance(node, ast.Name) and node.id in OTHER_NAMES:
        yield ast.Name(id=OTHER_NAMES[node.id], ctx=node.ctx)


def _other_branch(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.IfExp):
        yield ast.IfExp(test=node.test, body=node.orelse, orelse=node.body)


OPERATORS: Dict[str, Callable[[ast.AST], Iterator[ast.AST]]] = {
    'comparison': _other_comparison,
    'arithmetic': _other_arithmetic,
    'number': _next_number,
    'factor': _factor,
    'and-or': _and_or,
    'not': _without_not,
    'sign': _without_sign,
    'call': _without_call,
    'order': _swapped_arguments,
    'keyword': _without_keyword,
    'truth': _other_truth,
    'stop': _without_stop,
    'name': _other_name,
    'branch': _other_branch,
}
