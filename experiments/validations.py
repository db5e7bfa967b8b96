"""The results of every validation of the runs of an experiment, in a second CSV file.

The file is for curves over time. It is in the folder of the experiment's own file: the validations
of the runs in `rules.csv` are in `rules_validations.csv`.
"""

import csv
import io
import math
import os
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence

from config.rows import ConfigError
from experiments import files
from experiments.base import Group
from experiments.lines import Key
from reports import statistics

SUFFIX = '_validations'
LEAST = 3  # validations of a run that is worth a curve
DIGITS = 6  # significant digits of the numbers in the file


class Validation(NamedTuple):
    """The results of one validation.

    Attributes:
        epoch: How many epochs the run had trained.
        step: How many steps the run had trained.
        top1: The top-1.
        top5: The top-5.
        loss: The mean cross-entropy, in nats.
        weight_angle: The mean weight angle over the layers, in degrees.
        projection_angle: The mean projection angle, in degrees.
        gradient_angle: The mean gradient angle, in degrees.
    """

    epoch: float
    step: int
    top1: Optional[float] = None
    top5: Optional[float] = None
    loss: Optional[float] = None
    weight_angle: Optional[float] = None
    projection_angle: Optional[float] = None
    gradient_angle: Optional[float] = None


COLUMNS = (*Key._fields, *Validation._fields)


class File:
    """The CSV file with the validations of an experiment.

    Args:
        results: Path of the CSV file of the experiment.
    """

    def __init__(self, results: str) -> None:
        self.path = path(results)

    def read(self) -> Dict[Key, List[Validation]]:
        """Returns {key of a run: its validations, in order}.

        Raises:
            ConfigError: The file cannot be read, or a line is damaged.
        """
        try:
            with open(self.path, encoding='utf-8', newline='') as file:
                return _parsed(file.read(), self.path)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise ConfigError(f'{self.path} cannot be read ({error.strerror})')
        except UnicodeDecodeError as error:
            raise ConfigError(f'{self.path} is not a CSV file ({error}); restore or remove it')

    def store(self, key: Key, found: Sequence[Validation]) -> None:
        """Stores the validations of a run, in place of those that the file has of it.

        A run with fewer than LEAST validations is left out.

        Raises:
            ConfigError: The file cannot be read or written, or a line is damaged.
        """
        if len(found) < LEAST:
            return
        with files.writing(self.path):
            stored = self.read()
            stored[key] = list(found)
            rows: List[Sequence[str]] = [COLUMNS]
            for own, validations in stored.items():
                start = [own.digest, str(own.seed), own.runtime]
                rows += [start + [_text(value) for value in each] for each in validations]
            files.replace(self.path, files.encoded(rows))


def path(results: str) -> str:
    """Returns the path of the validations that belong to the CSV file of an experiment."""
    start, ending = os.path.splitext(results)
    return start + SUFFIX + ending


def _text(value: Optional[float]) -> str:
    if value is None:
        return ''
    return str(value) if isinstance(value, int) else f'{value:.{DIGITS}g}'


def _parsed(content: str, path: str) -> Dict[Key, List[Validation]]:
    rows = list(csv.reader(io.StringIO(content, newline='')))
    if rows and tuple(rows[0]) != COLUMNS:
        raise ConfigError(f'{path} does not have the columns of validations; restore or remove it')
    found: Dict[Key, List[Validation]] = {}
    for number, row in enumerate(rows[1:], 2):
        try:
            if len(row) != len(COLUMNS):
                raise ValueError(f'it has {len(row)} fields instead of {len(COLUMNS)}')
            digest, seed, runtime, epoch, step, *results = row
            key = Key(digest, int(seed), runtime)
            validation = Validation(float(epoch), int(step), *map(_number, results))
        except ValueError as error:
            raise ConfigError(f'{path}, line {number}: {error}; restore or remove this file')
        found.setdefault(key, []).append(validation)
    return found


def _number(text: str) -> Optional[float]:
    return float(text) if text else None


class Band(NamedTuple):
    """The mean of a metric over the seeds of a group, and the range of the seeds, over time.

    Attributes:
        epochs: When the validations took place.
        means: The mean at each of them.
        lows: The lowest seed at each of them.
        highs: The highest seed at each of them.
        seeds: The number of seeds.
    """

    epochs: List[float]
    means: List[float]
    lows: List[float]
    highs: List[float]
    seeds: int


def band(group: Group, known: Mapping[Key, Sequence[Validation]], metric: str) -> Optional[Band]:
    """Returns a metric of a group over time, or None if it does not exist.

    Only runs that reached their last step count, and only epochs in which all of them have the
    metric. Step 0 is left out: it only has the results of the initial values.

    Args:
        group: The group.
        known: {key of a run: its validations}.
        metric: One of the fields of Validation.
    """
    over_seeds: Dict[float, List[float]] = {}
    runs = [known[line.key] for line in group.finished().values() if line.key in known]
    for run in runs:
        for each in run:
            value = getattr(each, metric)
            if each.step and value is not None and math.isfinite(value):
                over_seeds.setdefault(each.epoch, []).append(value)
    epochs = sorted(epoch for epoch, values in over_seeds.items() if len(values) == len(runs))
    if not epochs:
        return None
    values = [over_seeds[epoch] for epoch in epochs]
    means = [statistics.summary(each).mean for each in values]
    return Band(epochs, means, list(map(min, values)), list(map(max, values)), len(runs))
