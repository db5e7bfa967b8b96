"""The mutations fit the current program. run.py checks whether tests detect them."""

import ast
import os
import subprocess
import sys

import pytest

import by_hand
import operators
import run
from mutation import PACKAGES, Mutation, MutationError, Sources, apply

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        sys.version_info < (3, 9),
        reason='mutations need the positions of syntax trees, and their text: Python 3.9',
    ),
]
SOURCE = '''"""A house."""


class House:
    def rent(self, rooms, months=1):
        """The rent of some rooms: a text that looks like code, rooms * 100."""
        total = rooms * 100 - self.rebate(
            months,
            rooms,
        )
        for _ in range(months):
            self.pay(total)
            self.note(f'{rooms * 100}')
        return total

    def rebate(self, months, rooms):
        return min(months, 3) * rooms if not self.is_new else 0.5
'''


@pytest.fixture(scope='module')
def sources():
    """The files of the program, parsed once."""
    return Sources(run.ROOT)


@pytest.fixture
def house(tmp_path):
    """A function (path, source) that returns the Sources of a program of one file."""

    def make(path, source=SOURCE):
        tmp_path.joinpath(path).parent.mkdir(parents=True)
        tmp_path.joinpath(path).write_text(source)
        return Sources(str(tmp_path))

    return make


def mutation(before, after, within='House.rent', package='data'):
    return Mutation('a mutation', package, within, before, after, 'For a test.')


@pytest.mark.parametrize('each', by_hand.MUTATIONS, ids=lambda each: each.name)
def test_every_mutation_fits_at_one_place_and_changes_the_program(sources, each):
    path, content = apply(sources, each)
    (before,) = [file.content for file in sources.of(each.package) if file.path == path]
    assert content != before
    assert each.what.endswith('.')


def test_there_are_enough_and_most_are_silent():
    names = [each.name for each in by_hand.MUTATIONS]
    assert len(set(names)) == len(names) >= 40
    assert sum(each.silent for each in by_hand.MUTATIONS) >= 25
    assert {each.package for each in by_hand.MUTATIONS} == set(PACKAGES)


def test_drawn_mutations_fit_and_come_from_every_operator(sources):
    found = operators.drawn(sources, 1, 60)
    assert len({each.name for each in found}) == 60
    assert {each.name.split()[1] for each in found} == set(operators.OPERATORS)
    assert {each.package for each in found} <= set(operators.PACKAGES)
    for each in found:
        path, _ = apply(sources, each)
        assert path.startswith(each.package)


def test_a_seed_draws_the_same_mutations_again(house):
    sources = house('data/house.py')
    found = operators.drawn(sources, 1, 6)
    assert found == operators.drawn(Sources(sources.root), 1, 6)
    assert found != operators.drawn(sources, 2, 6)


def test_a_draw_outlives_a_change_elsewhere(house):
    first = operators.drawn(house('data/house.py'), 1, 6)
    moved = house('other/data/deeper/home.py', SOURCE.replace('3) * rooms', '4) * rooms'))
    moved = operators.drawn(Sources(os.path.join(moved.root, 'other')), 1, 6)
    in_rent = [each for each in first if each.within == 'House.rent']
    assert in_rent and set(in_rent) <= set(moved)


def test_no_operator_touches_texts(house):
    for candidate in operators.candidates(house('data/house.py')):
        changed = ast.unparse(
            operators._changed(*candidate.ancestors[-1:], candidate.ancestors[0], candidate.new)
        )
        assert 'note' not in changed and 'A house' not in changed


def test_the_parts_of_an_index_can_be_drawn(house):
    sources = house('data/house.py', 'def rooms(house):\n    return house[1:, :-2]\n')
    found = [operators._mutation(sources, each, 1) for each in operators.candidates(sources)]
    changed = {ast.unparse(ast.parse(apply(sources, each)[1]).body[0].body[0]) for each in found}
    assert changed == {f'return house[{index}]' for index in ('2:, :-2', '1:, :2', '1:, :-3')}


@pytest.mark.parametrize('path', ['data/house.py', 'data/rooms/small/house.py'])
@pytest.mark.parametrize(
    'before, after, line',
    [
        ('self.rebate( months,rooms )', 'self.rebate(rooms)', ' - (self.rebate(rooms))\n'),
        ('rooms*100', 'rooms / 100', '(rooms / 100) - '),
        ('self.pay(total)', 'pass', '            pass\n            self.note'),
        (
            'self.pay(total)\nself.note(f"{rooms * 100}")',
            'self.note("")\nself.pay(total)',
            "            self.note('')\n            self.pay(total)\n        return",
        ),
    ],
)  # fmt: skip
def test_neither_formatting_nor_file_matters(house, path, before, after, line):
    changed, content = apply(house(path), mutation(before, after))
    assert changed == path
    assert line in content.decode() and '"""A house."""' in content.decode()


@pytest.mark.parametrize(
    'wrong, words',
    [
        (mutation('rooms * 200', '1'), '0 times in House.rent of data'),
        (mutation('months', 'rooms'), '2 times in House.rent of data'),
        (mutation('rooms * 100', 'rooms', within='House.sell'), '0 times in House.sell of data'),
        (mutation('rooms * 100', 'rooms', package='models'), '0 times in House.rent of models'),
        (mutation('rooms * 100', '(rooms) * 100'), 'changes nothing'),
    ],
)
def test_a_mutation_that_does_not_fit_is_refused(house, wrong, words):
    with pytest.raises(MutationError, match=words):
        apply(house('data/house.py'), wrong)


@pytest.mark.parametrize(
    'code, stuck, output, test, how',
    [
        (0, False, 'tests/a.py::test_1 PASSED [ 50%]\n', '', ''),
        (5, False, 'collected 0 items\n', '', ''),
        (
            1,
            False,
            'tests/a.py::test_1 PASSED [ 50%]\ntests/a.py::test_2[x y] FAILED [100%]\n'
            'FAILED tests/a.py::test_2[x y] - AssertionError: no - yes\n',
            'tests/a.py::test_2[x y]',
            '',
        ),
        (2, False, 'ERROR tests/a.py - ImportError\n', 'tests/a.py', ''),
        (
            -11,
            False,
            'tests/a.py::test_1 PASSED [ 50%]\ntests/a.py::test_2 ',
            'tests/a.py::test_2',
            'pytest ended with code -11',
        ),
        (None, True, 'tests/a.py::test_1 ', 'tests/a.py::test_1', 'stuck'),
        (4, False, 'ImportError\n', 'before any test', 'pytest ended with code 4'),
    ],
)  # fmt: skip
def test_what_pytest_prints_is_understood(code, stuck, output, test, how):
    found = run._outcome(code, stuck, output)
    assert (found.test, found.how) == (test, how)


TESTS = """
from data.house import rent

seen = []


def test_without_result():
    seen.append(rent(1))


def test_that_fails_after_another():
    assert seen in ([], [100])


def test_that_always_fails():
    assert False


def test_that_detects():
    assert rent(2) == 200
"""


@pytest.mark.nightly
def test_a_test_counts_if_it_fails_on_its_own_because_of_the_mutation(tmp_path, capsys):
    for path, source in (
        ('data/house.py', 'def rent(rooms):\n    return rooms * 100\n'),
        ('tests/data/test_house.py', TESTS),
    ):
        tmp_path.joinpath(path).parent.mkdir(parents=True)
        tmp_path.joinpath(path).write_text(source)
    for words in (['init', '-q'], ['add', '.']):
        subprocess.run(['git', '-C', str(tmp_path)] + words, check=True)
    with run.Copy(str(tmp_path), silence=60.0) as copy:
        runner = run.Runner(copy, ['fast'], limit=300.0)
        found = runner.run(mutation('rooms * 100', 'rooms * 90', within='rent'))
    here = 'tests/data/test_house.py::test_that_'
    assert found == f'fast: {here}detects'
    assert capsys.readouterr().out == (
        f'left out, because it only fails after others: {here}fails_after_another\n'
        f'left out, because it fails without a mutation: {here}always_fails\n'
    )
