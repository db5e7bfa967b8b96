"""Predicts and simulates where the local dynamics of mirror and information are stable.

    make dynamics

One linear layer that only its alignment loss trains, with W at rest and with `--update_forward`, in
continuous time and by the steps of gradient descent. docs/concepts.md derives the linear systems,
whose eigenvalues decide. Beside them, the program's own layer is trained by its rule near each
fixed point. Each line of the table is one simulation: how far it is from the fixed point at the
end, over the distance at the start. All coefficients are the defaults of the rules.

No image is read and no database is used. It takes about 10 seconds on one core.

Source of the question: Kunin et al. 2020 (arXiv:2003.01513), who find the weight mirror unstable.
"""

from training import runtime  # noqa: F401 (first: it prepares TensorFlow)

import argparse
import csv
import os
import sys
from typing import Dict, List, NamedTuple, Optional, Sequence

import numpy as np

from alignment import rules
from config.root import ROOT
from config.rows import ConfigError
from experiments import base, program
from experiments.linear_layer import (
    Around,
    Case,
    Predicted,
    largest_step,
    layer,
    predict,
    simulate,
    verdict,
)
from training import places

NAME = 'dynamics'
INPUTS, UNITS = 7, 5
GRADED = (3.0, 2.0, 1.5, 0.8, 0.5, 0.3, 0.2)
BELOW, ABOVE = 0.9, 1.1  # of the largest stable step
AT_REST, MOVING = 'at rest', 'moves'
CONTINUOUS = 'continuous'
DIGITS = 4


def white(moment: float) -> Sequence[float]:
    """Returns the second moments of an input that is the same in all directions, as noise is."""
    return (moment,) * INPUTS


def case(rule: str, moves: bool, moments: Sequence[float], around: Around) -> Case:
    """Returns a case with the default coefficients of its rule."""
    found: Dict[str, float] = dict(rules.RULES[rule].coefficients)
    return Case(rule, moves, found, tuple(moments), UNITS, around)


CASES = (
    case('mirror', False, GRADED, Around.ONLY),
    case('mirror', True, white(1.0), Around.ZERO),
    case('mirror', True, white(2.0), Around.ZERO),
    case('mirror', True, GRADED, Around.ZERO),
    case('information', False, GRADED, Around.ONLY),
    case('information', True, white(0.5), Around.ZERO),
    case('information', True, white(2.0), Around.ZERO),
    case('information', True, white(2.0), Around.PRINCIPAL),
    case('information', True, GRADED, Around.ZERO),
    case('information', True, GRADED, Around.PRINCIPAL),
    case('information', True, GRADED, Around.OTHERS),
)


class Outcome(NamedTuple):
    """One line of the CSV file and of the table.

    Attributes:
        rule: The name of the rule.
        forward_kernel: AT_REST or MOVING.
        moments: The second moments of the input, comma-separated.
        around: The fixed point, a value of Around.
        time: CONTINUOUS, or the step as a share of the largest stable one.
        step: The learning rate of the simulation.
        steps: The number of its steps.
        factor: The multiplier of the mode that dominates at last, of a step or a unit of time.
        predicted: The verdict of the linear system.
        simulated: The verdict of the simulation.
        distance_predicted: The distance at the end over that at the start, by the linear system.
        distance_simulated: The same in the simulation.
        runtime: The version of TensorFlow.
    """

    rule: str
    forward_kernel: str
    moments: str
    around: str
    time: str
    step: str
    steps: str
    factor: str
    predicted: str
    simulated: str
    distance_predicted: str
    distance_simulated: str
    runtime: str


def times(each: Case) -> Dict[str, Optional[float]]:
    """Returns {Outcome.time: step} of the simulations of a case; the step of CONTINUOUS is None."""
    largest = largest_step(np.linalg.eigvalsh(layer(each).J))
    found: Dict[str, Optional[float]] = {CONTINUOUS: None}
    if largest is not None:
        found.update({f'{share:g} of largest step': share * largest for share in (BELOW, ABOVE)})
    return found


def outcome(each: Case, time: str, step: Optional[float]) -> Outcome:
    """Returns the prediction and the simulation of a case."""
    found = predict(each, step)
    distances = simulate(each, found.step, found.steps)
    return Outcome(
        each.rule,
        MOVING if each.moves else AT_REST,
        ','.join(f'{moment:g}' for moment in each.moments),
        each.around.value,
        time,
        f'{found.step:.6g}',
        str(found.steps),
        f'{found.factor:.6g}',
        found.verdict.value,
        verdict(distances).value,
        f'{found.distances[-1]:.6g}',
        f'{distances[-1]:.6g}',
        runtime.describe().partition(' on ')[0],
    )


def outcomes(cases: Sequence[Case] = CASES) -> List[Outcome]:
    """Returns all lines."""
    return [outcome(each, *found) for each in cases for found in times(each).items()]


def read(path: str) -> List[Outcome]:
    """Returns the lines of a CSV file.

    Raises:
        ConfigError: It cannot be read, or has other columns.
    """
    try:
        with open(path, newline='', encoding='utf-8') as file:
            rows = list(csv.reader(file))
    except OSError as error:
        raise ConfigError(f'{path} cannot be read ({error.strerror})')
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f'{path} is not a CSV file ({error}); make dynamics writes it again')
    if rows[:1] != [list(Outcome._fields)] or any(len(row) != len(rows[0]) for row in rows):
        raise ConfigError(
            f'{path} does not have the columns of {NAME}; make dynamics writes it again'
        )
    return [Outcome(*row) for row in rows[1:]]


def write(found: Sequence[Outcome], path: str) -> None:
    """Writes a CSV file, as a whole.

    Raises:
        ConfigError: It cannot be written.
    """
    try:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        with open(path + '.part', 'w', newline='', encoding='utf-8') as file:
            csv.writer(file, lineterminator='\n').writerows([Outcome._fields, *found])
        os.replace(path + '.part', path)
    except OSError as error:
        raise ConfigError(f'{path} cannot be written ({error.strerror})')


def table(found: Sequence[Outcome]) -> str:
    """Returns the table of docs/results.md, a line for each simulation."""
    rows = [
        ['rule', 'W', 'second moments of x', 'around', 'time', 'predicted', 'simulated']
        + ['distance, predicted', 'simulated']
    ]
    for each in found:
        moments = each.moments.split(',')
        distances = each.distance_predicted, each.distance_simulated
        rows.append(
            [each.rule, each.forward_kernel]
            + [f'all {moments[0]}' if len(set(moments)) == 1 else ', '.join(moments)]
            + [each.around, each.time, each.predicted, each.simulated]
            + [base.number(float(distance), DIGITS) for distance in distances]
        )
    return base.markdown(rows)


def drawn() -> List[Case]:
    """Returns the cases of the figure: those with one input."""
    return [each for each in CASES if each.moments == GRADED]


def draw(cases: Sequence[Case], path: str) -> None:
    """Writes a figure: the distance from the fixed point in continuous time, a line for each case.

    Raises:
        OSError: The file cannot be written.
    """
    from experiments import figures

    found: Dict[str, figures.Trajectory] = {}
    for each in cases:
        predicted: Predicted = predict(each, None)
        title = f'{each.rule}, W {MOVING if each.moves else AT_REST}, {each.around.value}'
        shares = [number / predicted.steps for number in range(predicted.steps + 1)]
        simulated = simulate(each, predicted.step, predicted.steps)
        found[title] = figures.Trajectory(shares, list(predicted.distances), list(simulated))
    figures.trajectories(found, 'Distance from the fixed point: linear system and layer', path)


def _run(arguments: argparse.Namespace) -> int:
    found = outcomes()
    print(table(found), flush=True)
    write(found, arguments.csv)
    figure = arguments.figure or os.path.splitext(arguments.csv)[0] + '.png'
    try:
        draw(drawn(), figure)
    except OSError as error:
        raise ConfigError(f'{figure} cannot be written ({error.strerror})')
    places.say(f'written: {arguments.csv}, {figure}')
    return 0


def path() -> str:
    """Returns the path of the CSV file that the program ships."""
    return os.path.join(ROOT, 'docs', 'results', NAME + '.csv')


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Predicts and simulates all cases, and prints the table. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog='python -m experiments.dynamics',
        description=(__doc__ or '').splitlines()[0],
        allow_abbrev=False,
    )
    parser.add_argument('--csv', default=path(), help='file of the results, which is replaced')
    parser.add_argument('--figure', help='figure to write (default: a PNG beside the CSV file)')
    arguments = parser.parse_args(argv)
    return program.run(lambda: _run(arguments))


if __name__ == '__main__':
    sys.exit(main())
