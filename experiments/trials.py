"""A random search as an experiment: each trial is a run, so that it is a line of a CSV file.

The settings of a trial are drawn from ranges. The draws depend only on a seed, so that every
machine declares the same trials. A trial is validated on training images that are held out, so the
test images choose nothing.
"""

import math
import zlib
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence

import numpy as np

from config.rows import Value
from config.schema import Config
from experiments import base
from experiments.base import Experiment, Group, Results, Run
from experiments.lines import Line, State
from training.choices import choices

TRIAL = 'trial'  # the factor that numbers the trials of a row, from 1


class Range(NamedTuple):
    """The range of a setting that is drawn; its logarithm is uniform.

    Attributes:
        low: The lower bound, above 0.
        high: The upper bound.
    """

    low: float
    high: float


class Row(NamedTuple):
    """Trainings that share everything but the settings that are drawn.

    Attributes:
        factors: {name: value as text} of what distinguishes this row from others.
        settings: {name: value} of the settings that differ from their defaults.
        ranges: {name: its range} of the settings that are drawn.
    """

    factors: Mapping[str, str]
    settings: Mapping[str, Value]
    ranges: Mapping[str, Range]


def draw(ranges: Mapping[str, Range], count: int, seed: int) -> List[Dict[str, float]]:
    """Returns `count` draws from ranges, each {name: a number of three significant digits}.

    They are a Latin hypercube: each range is cut into `count` parts of equal length, in the
    logarithm, and every part is drawn from once, in a random order (McKay, Beckman & Conover 1979,
    doi:10.2307/1268522). The draws of a setting do not depend on the other settings.

    Args:
        ranges: {name: its range}.
        count: The number of draws.
        seed: The seed, below 2**31.
    """
    columns = {name: _column(name, each, count, seed) for name, each in ranges.items()}
    return [{name: column[number] for name, column in columns.items()} for number in range(count)]


def _column(name: str, bounds: Range, count: int, seed: int) -> List[float]:
    stream = np.random.RandomState([seed, zlib.crc32(name.encode())])
    parts = (stream.permutation(count) + stream.uniform(size=count)) / count
    low, high = math.log(bounds.low), math.log(bounds.high)
    return [float(f'{math.exp(low + part * (high - low)):.3g}') for part in parts]


class Trials(Experiment):
    """Trials with settings that are drawn at random, the same number for each row.

    Args:
        name: The name of the experiment.
        rows: The rows. Their settings hold out images, with `validation_split`.
        count: The number of trials of each row.
        target: The target of make that trains them.
        seed: The seed of the draws. The trainings have the seed of their settings.
    """

    def __init__(
        self, name: str, rows: Sequence[Row], count: int, target: str, seed: int = 0
    ) -> None:
        self.name, self._rows, self._count, self._seed = name, rows, count, seed
        self._target = target

    @property
    def target(self) -> str:
        """The target of make that trains the trials."""
        return self._target

    def runs(self, known: Sequence[Line]) -> List[Run]:
        """Returns the trials, row by row."""
        del known
        return [
            Run(dict(row.factors, **{TRIAL: str(number)}), _config(row, drawn))
            for row in self._rows
            for number, drawn in enumerate(self._draws(row), 1)
        ]

    def _draws(self, row: Row) -> List[Dict[str, float]]:
        return draw(row.ranges, self._count, self._seed)

    def best(self, known: Sequence[Line]) -> Dict[str, Dict[str, float]]:
        """Returns {name of a row: its best settings} of the rows whose trials have all ended.

        The best trial has the largest top-1 at its last validation; of equal ones, the first. A
        trial that diverged is not the best one. A row without any other trial is left out.

        Args:
            known: The lines of the trials. The runtime of the first one decides which count, so
                that both runtimes find the same settings.
        """
        if not known:
            return {}
        results = Results.of(self.runs(known), known, known[0].source.runtime)
        found = {}
        for row in self._rows:
            groups = self._groups(row, results)
            best = _best(groups)
            if best is not None and all(_has_ended(group) for group in groups):
                found[base.named(row.factors)] = self._draws(row)[groups.index(best)]
        return found

    def _groups(self, row: Row, results: Results) -> List[Group]:
        return [
            results.group(**dict(row.factors, **{TRIAL: str(number)}))
            for number in range(1, self._count + 1)
        ]

    def table(self, results: Results) -> str:
        """Returns the best trial of each row: its top-1 on the images held out, and its settings.

        The table also has the number of the trials that have ended and of those that diverged.
        """
        names = list(dict.fromkeys(name for row in self._rows for name in row.factors))
        searched = list(dict.fromkeys(name for row in self._rows for name in row.ranges))
        table = [names + ['trials', 'diverged', 'best top-1'] + searched]
        for row in self._rows:
            groups = self._groups(row, results)
            best = _best(groups)
            drawn = self._draws(row)[groups.index(best)] if best else {}
            table.append(
                [row.factors.get(name, '') for name in names]
                + [str(sum(map(_has_ended, groups))), str(sum(map(_has_diverged, groups)))]
                + [base.number(best.mean('top1') if best else None, 4)]
                + [f'{drawn[name]:g}' if name in drawn else '' for name in searched]
            )
        return base.markdown(table)


def _config(row: Row, drawn: Mapping[str, float]) -> Config:
    return Config.of(dict(row.settings, **drawn), choices())


def _best(groups: Sequence[Group]) -> Optional[Group]:
    """Returns the trial with the largest top-1, or None if none has finished."""
    finished = [group for group in groups if group.finished()]
    return max(finished, key=lambda group: group.mean('top1') or 0.0, default=None)


def _has_ended(group: Group) -> bool:
    return all(line is not None for line in group.lines.values())


def _has_diverged(group: Group) -> bool:
    return any(line is not None and line.state is State.LOST for line in group.lines.values())
