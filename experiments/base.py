"""The base of all experiments: what runs they consist of, and their results.

An experiment is a list of runs. A run is a Config plus a name. `experiments.program` trains the
runs that are missing, and prints and writes the results.
"""

import json
import math
import os
import re
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from config.root import ROOT
from config.rows import ConfigError
from config.schema import ROWS, SEED, Config
from experiments.lines import COLUMNS, Key, Line, State, text
from reports import statistics

MOST_TIES = 0.01  # of the images; a validation with more of them has a top-1 that is too high
OVER_TIME = ('top1', 'gradient_angle')  # the metrics that are drawn over time
NONE = '-'  # a number that does not exist


def named(factors: Mapping[str, str], seed: Optional[int] = None) -> str:
    """Returns the name of a run or of a group: 'alignment=mirror learning_rate=0.1 seed=1'."""
    words = [f'{name}={value}' for name, value in factors.items()]
    return ' '.join(words + ([] if seed is None else [f'seed={seed}'])) or 'all'


class Run(NamedTuple):
    """A training of an experiment.

    Attributes:
        factors: {name: value as text} of what distinguishes it from the other runs, without the
            seed. It is the name of the run, together with the seed.
        config: Its settings, without the place of its records.
    """

    factors: Dict[str, str]
    config: Config

    @property
    def name(self) -> str:
        """Its name, such as 'alignment=mirror seed=1'."""
        return named(self.factors, self.config.seed)

    def key(self, runtime: str) -> Key:
        """Returns what the run is recognised by in the CSV file."""
        return Key(self.config.digests().settings, self.config.seed, runtime)


class Metric(NamedTuple):
    """A number that runs are compared by.

    Attributes:
        title: Its name in tables and plots.
        digits: How many digits follow the decimal point.
        is_better_more: Whether a larger number is better.
        most: The largest value that it can have.
        least: The smallest value that it can have.
    """

    title: str
    digits: int
    is_better_more: bool
    most: float = math.inf
    least: float = 0.0


METRICS = {
    'top1': Metric('top-1', 4, True, 1.0),
    'top5': Metric('top-5', 4, True, 1.0),
    'loss': Metric('loss', 4, False),
    'weight_angle': Metric('weight angle', 1, False, 180.0),
    'projection_angle': Metric('projection angle', 1, False, 180.0),
    'gradient_angle': Metric('gradient angle', 1, False, 180.0),
    'best_top1': Metric('best top-1', 4, True, 1.0),
    'best_top5': Metric('top-5 at the best top-1', 4, True, 1.0),
    'best_loss': Metric('loss at the best top-1', 4, False),
    'seconds': Metric('seconds in steps', 1, False),
    'process_seconds': Metric('seconds', 1, False),
}


class Group:
    """The runs that differ in the seed alone.

    Args:
        factors: {name: value as text} of what distinguishes it from other groups.
        lines: {seed: the line of the run, or None if it has none}.

    Attributes:
        factors: {name: value as text} of what distinguishes it from other groups.
        lines: {seed: the line of the run, or None if it has none}.
    """

    def __init__(self, factors: Mapping[str, str], lines: Mapping[int, Optional[Line]]) -> None:
        self.factors, self.lines = factors, lines

    @property
    def name(self) -> str:
        """Its name, such as 'alignment=mirror'."""
        return named(self.factors)

    def finished(self) -> Dict[int, Line]:
        """Returns {seed: line} of the runs that reached their last step."""
        return {
            seed: line
            for seed, line in self.lines.items()
            if line is not None and line.state is State.FINISHED
        }

    def lost(self) -> Dict[int, Line]:
        """Returns {seed: line} of the runs that diverged."""
        return {
            seed: line
            for seed, line in self.lines.items()
            if line is not None and line.state is State.LOST
        }

    def values(self, metric: str) -> Dict[int, float]:
        """Returns {seed: value} of the runs that reached their last step and have this number."""
        found = {seed: getattr(line.measured, metric) for seed, line in self.finished().items()}
        return {seed: float(value) for seed, value in found.items() if value is not None}

    def summary(self, metric: str) -> statistics.Summary:
        """Returns the statistics of a metric over the runs that reached their last step."""
        return statistics.summary(list(self.values(metric).values()))

    def mean(self, metric: str) -> Optional[float]:
        """Returns the mean of a metric, or None if no run has it."""
        found = self.summary(metric)
        return found.mean if found.n else None


def _all_factors(lines: Sequence[Line]) -> List[Dict[str, str]]:
    """Returns the factors of each line, and every other setting that differs between lines."""
    settings = [
        {name: text(value) for name, value in json.loads(line.source.settings).items()}
        for line in lines
    ]
    found = [dict(line.factors) for line in lines]
    for name in sorted({name for each in settings for name in each}):
        default = text(ROWS[name].default) if name in ROWS else ''
        values = [each.get(name, default) for each in settings]
        if len(set(values)) > 1:
            for factors, value in zip(found, values):
                factors[name] = value
    return found


class Results:
    """The results of an experiment, group by group.

    Args:
        groups: The groups, in the order of the table.
        failures: {name of a run: message} of the runs that failed for another reason than
            divergence.

    Attributes:
        groups: The groups, in the order of the table.
        failures: {name of a run: message} of the runs that failed.
    """

    def __init__(
        self, groups: Sequence[Group], failures: Optional[Mapping[str, str]] = None
    ) -> None:
        self.groups, self.failures = groups, dict(failures or {})

    @classmethod
    def of(
        cls,
        runs: Sequence[Run],
        lines: Sequence[Line],
        runtime: str,
        failures: Optional[Mapping[str, str]] = None,
    ) -> 'Results':
        """Returns the results of runs, from the lines that have their digest, seed and runtime.

        Args:
            runs: The runs.
            lines: All lines. Of two lines with one key, the first counts.
            runtime: The version of TensorFlow.
            failures: {name of a run: message} of the runs that failed.
        """
        by_key: Dict[Key, Line] = {}
        for line in lines:
            by_key.setdefault(line.key, line)
        found: Dict[str, Tuple[Dict[str, str], Dict[int, Optional[Line]]]] = {}
        for run in runs:
            _, seeds = found.setdefault(named(run.factors), (run.factors, {}))
            seeds[run.config.seed] = by_key.get(run.key(runtime))
        return cls([Group(*each) for each in found.values()], failures)

    @classmethod
    def of_lines(cls, lines: Sequence[Line]) -> 'Results':
        """Returns the results of lines of one runtime, whose runs are not known otherwise."""
        found: Dict[str, Tuple[Mapping[str, str], Dict[int, Optional[Line]]]] = {}
        for factors, line in zip(_all_factors(lines), lines):
            _, group = found.setdefault(line.source.digest, (factors, {}))
            group.setdefault(line.seed, line)
        return cls([Group(*each) for each in found.values()])

    def group(self, **factors: str) -> Group:
        """Returns the group with these factors.

        Raises:
            KeyError: There is none.
        """
        for group in self.groups:
            if dict(group.factors) == factors:
                return group
        raise KeyError(named(factors))

    def seeds(self) -> List[int]:
        """Returns all seeds, sorted."""
        return sorted({seed for group in self.groups for seed in group.lines})

    def table(self, metric: str = 'top1') -> str:
        """Returns a Markdown table of a metric: a row for each group, a column for each seed."""
        about, seeds = METRICS[metric], self.seeds()
        factors = list(dict.fromkeys(name for group in self.groups for name in group.factors))
        best = ['best epoch'] if metric == 'top1' else []
        header = factors + ['n', 'mean', 'std', '95 % interval', 'median', 'worst'] + best
        rows = [header + [f'seed {seed}' for seed in seeds]]
        for group in self.groups:
            found = group.summary(metric)
            row = [group.factors.get(name, '') for name in factors] + [str(found.n)]
            row += [number(value, about.digits) for value in (found.mean, found.std)]
            row.append(_interval(found, about.digits))
            worst = found.least if about.is_better_more else found.most
            row += [number(value, about.digits) for value in (found.median, worst)]
            row += [number(group.mean('best_top1'), about.digits)] if best else []
            rows.append(row + [self._cell(group, seed, metric) for seed in seeds])
        return markdown(rows)

    def overview(self, metrics: Sequence[str]) -> str:
        """Returns a Markdown table of several metrics: a row for each group.

        It has the number of runs that reached their last step, the number of runs that diverged,
        and the mean and standard deviation of each metric.

        Args:
            metrics: Names of METRICS.
        """
        factors = list(dict.fromkeys(name for group in self.groups for name in group.factors))
        rows = [factors + ['n', 'diverged'] + [METRICS[metric].title for metric in metrics]]
        for group in self.groups:
            row = [group.factors.get(name, '') for name in factors]
            row += [str(len(group.finished())), str(len(group.lost()))]
            rows.append(
                row + [spread(group.summary(each), METRICS[each].digits) for each in metrics]
            )
        return markdown(rows)

    def differences(self, references: Sequence[Group], metric: str = 'top1') -> str:
        """Returns a Markdown table of the differences of each group from reference groups.

        The differences are paired over the seeds: the table has their number, their mean and its
        95 % interval.

        Args:
            references: The groups that are subtracted.
            metric: The metric.
        """
        factors = list(dict.fromkeys(name for group in self.groups for name in group.factors))
        header = list(factors)
        for reference in references:
            header += ['n', f'minus {" ".join(reference.factors.values())}', '95 % interval']
        rows = [header]
        for group in self.groups:
            row = [group.factors.get(name, '') for name in factors]
            for reference in references:
                found = statistics.paired(group.values(metric), reference.values(metric))
                is_itself = group.factors == reference.factors
                row += [''] * 3 if is_itself else _difference(found, METRICS[metric].digits)
            rows.append(row)
        return markdown(rows)

    def _cell(self, group: Group, seed: int, metric: str) -> str:
        line = group.lines.get(seed)
        if line is None:
            return 'failed' if named(group.factors, seed) in self.failures else NONE
        if line.state is State.LOST:
            return line.state.value
        return number(getattr(line.measured, metric), METRICS[metric].digits)

    def notes(self) -> List[str]:
        """Returns sentences on what a reader of the table has to know."""
        count = len(self.failures)
        found = self._lost() + [
            f'failed, not in the means ({number} of {count}): {name}: {message}'
            for number, (name, message) in enumerate(self.failures.items(), 1)
        ]
        missing = [
            named(group.factors, seed)
            for group in self.groups
            for seed, line in group.lines.items()
            if line is None and named(group.factors, seed) not in self.failures
        ]
        if missing:
            found.append(f'not trained yet ({len(missing)}): {"; ".join(missing)}')
        return found + self._ties() + self._images()

    def _lost(self) -> List[str]:
        return [
            f'diverged, not in the means: {named(group.factors, seed)}'
            + (
                ''
                if line.measured.step is None
                else f', last validated at step {line.measured.step:,}'
            )
            + ('' if line.measured.top1 is None else f' with top-1 {line.measured.top1:.4f}')
            for group in self.groups
            for seed, line in group.lost().items()
        ]

    def _ties(self) -> List[str]:
        tied = [
            named(group.factors, seed)
            for group in self.groups
            for seed, line in group.finished().items()
            if (line.measured.ties or 0) > MOST_TIES * (line.measured.images or 1)
        ]
        return [
            f'{name}: the label of many images shares the largest logit with another class, which '
            'counts as right; its top-1 is too high'
            for name in tied
        ]

    def _images(self) -> List[str]:
        sizes = {
            line.measured.images for group in self.groups for line in group.finished().values()
        }
        if len(sizes) < 2:
            return []
        listed = ', '.join(f'{size:,}' for size in sorted(size or 0 for size in sizes))
        return [
            f'the runs were validated on different numbers of images ({listed}): they did not have '
            'the same data, so do not compare them'
        ]

    def json(self, name: str, runtime: str) -> str:
        """Returns the results of all metrics as JSON.

        Args:
            name: The name of the experiment.
            runtime: The version of TensorFlow.
        """
        groups = [
            {
                'factors': dict(group.factors),
                'seeds': {
                    str(seed): line.state.value if line else None
                    for seed, line in group.lines.items()
                },
                'metrics': {metric: _metric(group, metric) for metric in METRICS},
            }
            for group in self.groups
        ]
        about = {'experiment': name, 'runtime': runtime, 'groups': groups, 'notes': self.notes()}
        return json.dumps(about, indent=1, allow_nan=False) + '\n'


def _metric(group: Group, metric: str) -> Dict[str, object]:
    """Returns a metric of a group for JSON, which has no NaN."""
    found = group.summary(metric)._asdict()
    values = {str(seed): _finite(each) for seed, each in group.values(metric).items()}
    return dict({name: _finite(value) for name, value in found.items()}, values=values)


def _finite(value: float) -> Optional[float]:
    return value if math.isfinite(value) else None


def number(value: Optional[float], digits: int) -> str:
    """Returns a number as text, or a dash for None and NaN."""
    return NONE if value is None or math.isnan(value) else f'{value:.{digits}f}'


def spread(found: statistics.Summary, digits: int) -> str:
    """Returns the mean and, if there are several values, the standard deviation as text."""
    if not found.n:
        return NONE
    deviation = f' ± {found.std:.{digits}f}' if found.n > 1 else ''
    return f'{found.mean:.{digits}f}{deviation}'


def _difference(found: statistics.Summary, digits: int) -> List[str]:
    """Returns n, the mean and the interval of differences, with their signs."""
    if not found.n:
        return ['0', NONE, NONE]
    signed = [f'{value:+.{digits}f}' for value in (found.mean, found.low, found.high)]
    interval = NONE if math.isnan(found.low) else f'{signed[1]} to {signed[2]}'
    return [str(found.n), signed[0], interval]


def _interval(found: statistics.Summary, digits: int) -> str:
    if math.isnan(found.low):
        return NONE
    return f'{found.low:.{digits}f} to {found.high:.{digits}f}'


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Returns rows, of which the first is the header, as a Markdown table with aligned columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        '| ' + ' | '.join(cell.ljust(width) for cell, width in zip(row, widths)) + ' |'
        for row in rows
    ]
    lines.insert(1, '|' + '|'.join('-' * (width + 2) for width in widths) + '|')
    return '\n'.join(lines)


class Experiment:
    """Runs that are trained and compared. Subclasses define `runs`, and may define `table`.

    Attributes:
        name: Its name: of its database, of its CSV file, and a part of its exp_ids.
    """

    name = ''

    def runs(self, known: Sequence[Line]) -> List[Run]:
        """Returns the runs, in the order of the table.

        Args:
            known: The results so far, for an experiment whose settings come from results.

        Raises:
            ConfigError: A run is impossible.
        """
        raise NotImplementedError

    def results(self, known: Sequence[Line], version: str) -> Results:
        """Returns the results of its runs, from lines.

        Args:
            known: The lines.
            version: The version of TensorFlow that counts.
        """
        return Results.of(self.runs(known), known, version)

    def table(self, results: Results) -> str:
        """Returns the table of the results, in Markdown."""
        return results.table()

    def draw(self, results: Results, path: str) -> None:
        """Writes a figure of the results; the ending of the path decides on the format.

        Raises:
            OSError: The file cannot be written.
        """
        from experiments import figures

        figures.dots(results, self.name, path)

    def draw_all(self, results: Results, csv: str, path: str) -> List[str]:
        """Writes all figures of the results, and returns their paths.

        The second one shows the validations of the runs over time, if there are any.

        Args:
            results: The results.
            csv: Path of the CSV file of the results, beside which the validations are.
            path: Path of the first figure; its ending decides on the format.

        Raises:
            ConfigError: The file of the validations cannot be read.
            OSError: A figure cannot be written.
        """
        from experiments import figures, validations

        self.draw(results, path)
        second, known = validations.path(path), validations.File(csv).read()
        if figures.over_time(results, known, OVER_TIME, self.name, second):
            return [path, second]
        return [path]

    @property
    def target(self) -> str:
        """The target of make that trains its runs."""
        return self.name

    def csv(self) -> str:
        """Returns the path of the CSV file of an experiment that the program ships."""
        return os.path.join(ROOT, 'docs', 'results', self.name + '.csv')


def checked(runs: Sequence[Run], name: str) -> Sequence[Run]:
    """Returns runs, after checking that their names and settings differ.

    Args:
        runs: The runs.
        name: The name of the experiment.

    Raises:
        ConfigError: There is no run, two runs are the same, or a factor has the name of a column.
    """
    if not re.fullmatch(r'[\w-]+', name):
        raise ConfigError(f'--name={name} must consist of letters, digits, - and _')
    if not runs:
        raise ConfigError(f'the experiment {name} has no runs')
    by_name: Dict[str, Run] = {}
    for run in runs:
        reserved = sorted(set(run.factors) & (set(COLUMNS) | {SEED}))
        if reserved:
            raise ConfigError(f'{reserved[0]} cannot distinguish runs: it is a column of results')
        if run.name in by_name:
            raise ConfigError(f'the run {run.name} is declared twice; give each value only once')
        by_name[run.name] = run
    return runs
