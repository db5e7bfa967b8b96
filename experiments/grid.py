"""Trains a network with every combination of some settings, and compares the results.

    python -m experiments.grid --recipe=fc_small --alignment=symmetric,mirror --seed=1,2,3

The values of a setting are separated by commas, or by ';' if the setting itself is a comma list.
The same command again trains only what is missing.
"""

from training import runtime  # noqa: F401 (first: it prepares TensorFlow)

import argparse
import itertools
import json
import os
import sys
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from config import recipes
from config.flags import WHOLE_NUMBERS
from config.rows import ConfigError, Row, Scope, Value
from config.schema import SEED, Config, immutable, rows_of
from experiments import base, lines, program
from experiments.base import Experiment, Run
from experiments.lines import Line
from training import places
from training.choices import choices

RECIPE = 'recipe'
# Settings of one call that a grid passes on to its trainings.
PASSED = ('gpu', 'skip_check', 'iterations_per_loop')
# Settings that the program itself uses, or that would change what the digest of a run leaves out.
NOT_OF_A_GRID = ('host', 'port', 'dbname', 'cache_dir', 'exp_id_suffix')
RESULTS = ('top1', 'top5', 'loss', 'ties', 'images', 'weight_angles')

Values = Dict[str, List[Value]]  # {setting: its values}


def settings() -> Dict[str, Row]:
    """Returns {name: Row} of the settings that a grid accepts."""
    return {
        name: row
        for name, row in rows_of(choices()).items()
        if name not in NOT_OF_A_GRID
        and row.group != 'load_params'
        and (row.scope is not Scope.CALL or name in PASSED)
    }


def split(row: Row, text: str) -> List[Value]:
    """Returns the values of a setting, from a text such as '0.1,0.03' or '32,16;64'.

    Raises:
        ConfigError: A value is not one of this setting.
    """
    if row.scope in (Scope.PLACE, Scope.CALL):  # such as --gpu=0,1, which is one value
        parts = [text]
    elif ';' in text or row.kind is list:
        parts = text.split(';')
    else:
        parts = text.split(',')
    try:
        if len(parts) > 1 and '' in parts:
            raise ValueError("''")
        return [_value(row, part) for part in parts]
    except ValueError as error:
        raise ConfigError(f'--{row.name}={text}: {error} is not a value of {row.name}')


def _value(row: Row, text: str) -> Value:
    if row.default is None and text in ('', 'none', 'None'):
        return None
    if row.kind is list:
        parts = text.split(',') if text else []
        if '' in parts:
            raise ValueError(repr(text))
        return (
            tuple(_number(int, part) for part in parts)
            if row.name in WHOLE_NUMBERS
            else (tuple(parts))
        )
    if row.kind is bool:
        if text not in ('true', 'false'):
            raise ValueError(repr(text))
        return text == 'true'
    return text if row.kind is str else _number(row.kind, text)


def _number(kind: type, text: str) -> Value:
    try:
        return kind(text)
    except ValueError:
        raise ValueError(repr(text))


def read(path: str) -> Values:
    """Returns the values of the file of --grid.

    Raises:
        ConfigError: The file cannot be read, or is not of the form {setting: [values]}.
    """
    try:
        with open(os.path.expanduser(path), encoding='utf-8') as file:
            found = json.load(file)
    except OSError as error:
        raise ConfigError(f'--grid={path} cannot be read ({error.strerror})')
    except ValueError as error:
        raise ConfigError(f'--grid={path} is not JSON ({error})')
    if not isinstance(found, dict):
        raise ConfigError(f'--grid={path} must contain {{setting: [values]}}')
    known = [RECIPE, *settings()]
    for name, values in found.items():
        if name not in known:
            raise ConfigError(f'--grid={path}: {name} is not a setting of a grid')
        if not isinstance(values, list) or not values:
            raise ConfigError(f'--grid={path}: {name} needs a list of values, such as [1, 2, 3]')
    return {name: [immutable(value) for value in values] for name, values in found.items()}


class Grid(Experiment):
    """Every combination of the values of some settings.

    Args:
        name: The name of the experiment.
        values: {setting or 'recipe': its values}. Those with one value are common to all runs.
    """

    def __init__(self, name: str, values: Mapping[str, Sequence[Value]]) -> None:
        self.name = name
        self._values = values

    def csv(self) -> str:
        """Returns the path of the CSV file."""
        return os.path.join('local', self.name + '.csv')

    def runs(self, known: Sequence[Line]) -> List[Run]:
        """Returns the runs; the last setting varies fastest, but seeds vary faster than all."""
        del known
        ordered = sorted(self._values, key=lambda name: name == SEED)
        varying = [name for name in ordered if len(self._values[name]) > 1 and name != SEED]
        found = []
        for combination in itertools.product(*[self._values[name] for name in ordered]):
            chosen = dict(zip(ordered, combination))
            factors = {name: lines.text(chosen[name]) for name in varying}
            found.append(Run(factors, _config(chosen, base.named(factors) if factors else '')))
        return found


def _config(chosen: Mapping[str, Value], name: str) -> Config:
    """Returns the settings of a combination.

    Args:
        chosen: {setting or 'recipe': its value}.
        name: Its name in messages; '' if it is the only one.

    Raises:
        ConfigError: It is impossible.
    """
    values = dict(chosen)
    recipe = values.pop(RECIPE, None)
    if recipe is not None and recipe not in recipes.RECIPES:
        raise ConfigError(
            f'there is no recipe {recipe}; choose one of {", ".join(recipes.RECIPES)}'
        )
    given = dict(recipes.RECIPES[str(recipe)].settings) if recipe is not None else {}
    given.update(values)
    folder = given.get('data_dir')
    if isinstance(folder, str):  # trainings run in the folder of the program
        given['data_dir'] = places.absolute(folder)
    try:
        config = Config.of(given, choices())
    except ConfigError as error:
        raise ConfigError(f'{name}: {error}' if name else str(error))
    hidden = sorted(set(RESULTS) & set(config.save_to_gfs))
    if hidden:
        raise ConfigError(f'--save_to_gfs={hidden[0]}: a grid reads this result from the records')
    return config


def parser() -> Tuple[argparse.ArgumentParser, Dict[str, Row]]:
    """Returns the parser of the program, and the settings that it accepts."""
    made, rows = program.parser('experiments.grid', __doc__ or ''), settings()
    made.add_argument('--name', default='grid', help='name of the experiment (grid)')
    made.add_argument('--grid', metavar='FILE', help='values as JSON, {setting: [values]}')
    group = made.add_argument_group('settings of the runs, each with one value or several')
    group.add_argument('--' + RECIPE, help=f'the other settings: {", ".join(recipes.RECIPES)}')
    for name, row in rows.items():
        about = row.help.replace('%', '%%')
        if row.kind is bool:
            group.add_argument('--' + name, nargs='?', const='true', help=about)
            group.add_argument(
                '--no' + name, dest=name, action='store_const', const='false', help='the opposite'
            )
        else:
            group.add_argument('--' + name, help=about)
    return made, rows


def given(arguments: argparse.Namespace, rows: Mapping[str, Row]) -> Values:
    """Returns the values that the command line gives, those of a file first.

    Raises:
        ConfigError: A value is wrong, or a setting is given twice.
    """
    found = read(arguments.grid) if arguments.grid else {}
    words: Dict[str, Optional[str]] = {name: getattr(arguments, name) for name in [RECIPE, *rows]}
    for name, text in words.items():
        if text is None:
            continue
        if name in found:
            raise ConfigError(f'--{name} and --grid={arguments.grid} both give {name}')
        found[name] = list(text.split(',')) if name == RECIPE else split(rows[name], text)
    if not found:
        raise ConfigError('give the settings to vary, such as --recipe=fc_small --seed=1,2,3')
    return found


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Runs the program; returns its exit code."""
    made, rows = parser()
    arguments = made.parse_args(argv)
    return program.run(
        lambda: program.main(Grid(arguments.name, given(arguments, rows)), arguments)
    )


if __name__ == '__main__':
    sys.exit(main())
