"""The claims of `make faithful`, and the tests that are marked as supporting them."""

import ast
import functools
import glob
import math
import os
import types

import faithful
import pytest

FILES = glob.glob(os.path.join(faithful.ROOT, 'tests', '**', 'test_*.py'), recursive=True)


@functools.lru_cache(maxsize=None)
def trees():
    """Returns [(path, syntax tree)] of all test files that can give marks."""
    found = []
    for path in FILES:
        with open(path, encoding='utf-8') as file:
            text = file.read()
        if 'pytestmark' in text or 'mark.claim' in text:
            found.append((path, ast.parse(text, path)))
    return found


def marked(tree):
    """Returns the names in `pytest.mark.claim(name)` of a file."""
    return {
        ast.literal_eval(node.args[0])
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == 'claim'
        and getattr(node.func.value, 'attr', None) == 'mark'
    }


def test_every_marker_names_a_claim_and_every_claim_has_a_test():
    assert set().union(*[marked(tree) for _, tree in trees()]) == set(faithful.CLAIMS)


def test_the_table_of_the_docs_has_the_claims_in_their_order():
    with open(os.path.join(faithful.ROOT, 'docs', 'original.md'), encoding='utf-8') as file:
        table = file.read().partition('| claim | references |')[2].partition('\n\n')[0]
    rows = [line.split(' | ')[0].lstrip('| ') for line in table.splitlines()[2:]]
    assert rows == [claim.text for claim in faithful.CLAIMS.values()]


def test_no_file_gives_its_marks_twice():
    """A second `pytestmark` in a file would replace the first."""
    names = {
        os.path.basename(path): [
            node.targets[0].id
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        ]
        for path, tree in trees()
    }
    assert len({os.path.basename(path) for path in FILES}) == len(FILES) > 50 > len(names) > 30
    assert [name for name, assigned in names.items() if assigned.count('pytestmark') > 1] == []


@pytest.mark.parametrize('errors', [(1e-7, math.nan), (math.nan, 1e-7)])
def test_the_table_does_not_hide_an_error_that_is_nan(errors):
    collector, (name, *_) = faithful.Collector(), faithful.CLAIMS
    for number, error in enumerate(errors):
        report = types.SimpleNamespace(
            when='call', passed=True, nodeid=str(number), user_properties=[('error', error)]
        )
        collector._claims = {report.nodeid: [name]}
        collector.pytest_runtest_logreport(report)
    assert math.isnan(collector.results[name]['error'])
