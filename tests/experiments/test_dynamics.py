"""The dynamics experiment: its linear systems beside differences of the losses, and its layer."""

import csv

import numpy as np
import pytest
from PIL import Image

from alignment.rules import RULES
from config.rows import ConfigError
from experiments import dynamics, linear_layer, results
from experiments.linear_layer import Around, Case, Verdict
from test_base import cells
from tiers import at_night

MIRROR = dict(alpha=0.3, beta=0.8)
INFORMATION = dict(alpha=0.9, beta=0.5, gamma=0.2)
WIDE, TALL = ((2.0, 1.1, 0.6), 5), ((2.3, 1.7, 1.2, 0.8, 0.3), 3)  # moments, and units
RESTING = [
    Case('mirror', False, MIRROR, *TALL, Around.ONLY),
    Case('information', False, INFORMATION, *TALL, Around.ONLY),
    Case('information', False, INFORMATION, *WIDE, Around.ONLY),
]
MOVING = [
    Case('mirror', True, MIRROR, *TALL, Around.ZERO),
    Case('mirror', True, MIRROR, *WIDE, Around.ZERO),
    Case('information', True, INFORMATION, *TALL, Around.ZERO),
    Case('information', True, INFORMATION, *TALL, Around.PRINCIPAL),
    Case('information', True, INFORMATION, *TALL, Around.OTHERS),
    Case('information', True, INFORMATION, *WIDE, Around.PRINCIPAL),
]
CASES = RESTING + MOVING


def title(case):
    return f'{case.rule}-{case.moves}-{case.around.name}-{case.units}'


def loss(case, C, B, W):
    """Returns the loss over inputs of second moment C, written out with one input a direction."""
    moments, directions = np.linalg.eigh(C)
    given, total = case.coefficients, 0.0
    for moment, direction in zip(moments, directions.T):
        Wx, Bx = direction @ W, direction @ B
        if case.rule == 'mirror':
            total -= given['beta'] * moment * (Wx @ Bx)
        else:
            reconstruction = B @ Wx
            total += moment * given['beta'] * (reconstruction @ reconstruction)
            total -= moment * given['alpha'] * (Wx @ Bx)
    decay = given['alpha'] if case.rule == 'mirror' else given['gamma']
    return total + decay * (np.sum(W**2) + np.sum(B**2))


def of_state(case, known):
    """Returns (a function of the state, the state at the fixed point)."""
    size = known.B.size
    state = np.concatenate([known.B.ravel()] + ([known.W.ravel()] if case.moves else []))

    def function(z):
        W = z[size:].reshape(known.W.shape) if case.moves else known.W
        return loss(case, known.C, z[:size].reshape(known.B.shape), W)

    return function, state


@pytest.mark.parametrize('case', CASES, ids=title)
def test_the_linear_system_is_the_second_derivative_of_the_loss(case):
    known = linear_layer.layer(case)
    moments = np.linalg.eigvalsh(known.C)[::-1]
    np.testing.assert_allclose(moments, case.moments)
    function, state = of_state(case, known)
    steps, size = 1e-4 * np.eye(len(state)), 1e-4
    slopes = [(function(state + step) - function(state - step)) / (2 * size) for step in steps]
    np.testing.assert_allclose(slopes, 0.0, atol=1e-8)
    curvature = np.array(
        [
            [
                function(state + one + other)
                - function(state + one - other)
                - function(state - one + other)
                + function(state - one - other)
                for one in steps
            ]
            for other in steps
        ]
    )
    np.testing.assert_allclose(curvature / (4 * size**2), known.J, atol=1e-5)


def test_the_fixed_points_are_those_of_the_theory():
    both = linear_layer.layer(CASES[6])
    np.testing.assert_array_equal(both.W, both.B)
    expected = [(0.9 * moment - 0.4) / moment for moment in (2.3, 1.7, 1.2)]  # 2 beta is 1
    np.testing.assert_allclose(np.linalg.svd(both.W)[1] ** 2, expected)
    others = linear_layer.layer(CASES[7])
    expected = [(0.9 * moment - 0.4) / moment for moment in (1.7, 1.2, 0.8)]
    np.testing.assert_allclose(np.linalg.svd(others.W)[1] ** 2, expected)
    rest = linear_layer.layer(CASES[0])
    np.testing.assert_allclose(rest.B, 0.8 / 0.6 * rest.C @ rest.W)


@pytest.mark.parametrize(
    'case, expected',
    list(
        zip(
            CASES,
            ['STABLE'] * 3 + ['UNSTABLE'] * 3 + ['NEUTRAL', 'UNSTABLE', 'NEUTRAL'],
        )
    ),
    ids=list(map(title, CASES)),
)
def test_the_layer_does_what_is_predicted(case, expected):
    largest = linear_layer.largest_step(np.linalg.eigvalsh(linear_layer.layer(case).J))
    assert (largest is None) == (expected == 'UNSTABLE')
    steps = {None: expected} if largest is None else {0.9 * largest: expected}
    if largest is not None:
        steps[1.1 * largest] = 'UNSTABLE'
    for step, told in steps.items():
        found = linear_layer.predict(case, step)
        count = min(found.steps, 40)
        distances = linear_layer.simulate(case, found.step, count)
        np.testing.assert_allclose(distances, found.distances[: count + 1], rtol=0.03, atol=1e-3)
        assert found.verdict.name == told
        if count == found.steps:
            assert linear_layer.verdict(distances).name == told


@pytest.mark.parametrize(
    'moments, expected',
    [((0.7,) * 3, 'STABLE'), ((0.75,) * 3, 'NEUTRAL'), ((0.8,) * 3, 'UNSTABLE')],
)
def test_mirror_is_stable_up_to_one_moment_of_the_input(moments, expected):
    """2 alpha is beta times 0.75."""
    case = Case('mirror', True, MIRROR, moments, 5, Around.ZERO)
    found = linear_layer.predict(case, None)
    assert found.verdict.name == expected
    assert found.factor == pytest.approx(np.exp(0.8 * moments[0] - 0.6))


def test_a_step_beyond_the_limit_turns_the_sign():
    case = Case('mirror', False, MIRROR, *TALL, Around.ONLY)
    found = linear_layer.predict(case, 4.0)
    assert found.verdict is Verdict.UNSTABLE and found.factor == pytest.approx(1 - 4.0 * 0.6)


@pytest.mark.parametrize(
    'distances, expected',
    [([1, 0.5, 0.25], 'STABLE'), ([1, 0.5, 0.49], 'NEUTRAL'), ([1, 0.9, 1.2], 'UNSTABLE')],
)
def test_verdicts(distances, expected):
    assert linear_layer.verdict(np.array(distances)).name == expected


def few():
    """Returns the lines of two small cases."""
    return dynamics.outcomes([CASES[0]])


def test_a_file_gives_the_table_again(tmp_path, capsys):
    found = few()
    assert [each.time for each in found] == [
        'continuous', '0.9 of largest step', '1.1 of largest step'
    ]  # fmt: skip
    assert [each.simulated for each in found] == ['stable', 'stable', 'unstable']
    path = str(tmp_path / 'dynamics.csv')
    dynamics.write(found, path)
    assert dynamics.read(path) == found
    with open(path, newline='') as opened:
        (row, *_) = csv.DictReader(opened)
    assert float(row['step']) == pytest.approx(linear_layer.FINE / 0.6, rel=1e-4)
    assert row['moments'] == '2.3,1.7,1.2,0.8,0.3' and row['forward_kernel'] == 'at rest'
    shown = cells(dynamics.table(found))
    assert [each['time'] for each in shown] == [each.time for each in found]
    assert float(shown[0]['distance, predicted']) == pytest.approx(np.exp(-5), abs=1e-4)
    assert results.main([str(tmp_path)]) == 0
    assert dynamics.table(found) in capsys.readouterr().out


@pytest.mark.parametrize('content', [b'a,b\n1,2\n', b'', b'\xff', b'rule\nmirror\n'])
def test_another_file_is_refused(tmp_path, content):
    path = tmp_path / 'dynamics.csv'
    path.write_bytes(content)
    with pytest.raises(ConfigError, match='make dynamics writes it again'):
        dynamics.read(str(path))
    with pytest.raises(ConfigError, match='cannot be read'):
        dynamics.read(str(tmp_path / 'no'))


def test_the_cases_have_the_defaults_and_every_fixed_point():
    assert {each.around for each in dynamics.CASES} == set(Around)
    for each in dynamics.CASES:
        assert each.coefficients == RULES[each.rule].coefficients
        assert len(each.moments) != each.units and list(each.moments) == sorted(
            each.moments, reverse=True
        )


@pytest.mark.parametrize('program', at_night('dynamics'))
def test_the_program(program, tmp_path, capsys):
    """Every simulation of the shipped cases agrees with its prediction."""
    path = str(tmp_path / 'x.csv')
    assert dynamics.main([f'--csv={path}']) == 0
    found = dynamics.read(path)
    assert dynamics.table(found) in capsys.readouterr().out
    for each in found:
        assert each.predicted == each.simulated
        assert float(each.distance_simulated) == pytest.approx(
            float(each.distance_predicted), rel=0.06
        )
    with Image.open(str(tmp_path / 'x.png')) as image:
        assert image.size == (1125, 630)
