"""Groups of runs that differ only in their seed, their statistics, and comparisons of two rules."""

import json
import math
import os
from typing import Callable, Dict, Hashable, List, NamedTuple, Optional, Sequence, Tuple

from config.schema import LOADING, SEED, ConfigError
from reports import statistics
from reports.runs import ENDED, FINISHED, VALIDATED, Run
from reports.statistics import Summary

COUNTED = (FINISHED, ENDED, VALIDATED)  # states of runs whose results are final
# The results that have statistics over a group: {name of a column: its value for a run}.
MEASURES: Dict[str, Callable[[Run], Optional[float]]] = {
    'top1': lambda run: run.result('top1'),
    'top5': lambda run: run.result('top5'),
    'loss': lambda run: run.result('loss'),
    'weight_angle': lambda run: run.result('weight_angles'),
    'projection_angle': lambda run: run.result('projection_angles'),
    'gradient_angle': lambda run: run.result('gradient_angles'),
    'images_per_s': lambda run: run.images_per_s,
}
# Settings that differ between any two groups and say nothing about them.
NOT_IN_LABELS = (
    SEED,
    'alignment',
    'exp_id_suffix',
    'exp_id',
    'dbname',
    'port',
    'host',
    'cache_dir',
)
NOT_SETTINGS = LOADING + ('provenance', 'digests')  # groups of params that do not decide results


class Group:
    """Runs that differ only in their seed.

    Its statistics are those of the runs that are complete. Of several runs with the same seed, only
    the newest counts, because they are not independent.

    Args:
        runs: The runs, at least one.

    Attributes:
        runs: The runs, sorted by seed and exp_id.
        counted: The runs that its statistics are of, one per seed.
        left_out: The other runs, each with the reason.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = sorted(runs, key=lambda run: (run.seed is None, run.seed or 0, run.exp_id))
        self.counted: List[Run] = []
        self.left_out: List[Tuple[Run, str]] = []
        self._summaries: Dict[str, Summary] = {}
        newest = {run.seed: run for run in sorted(runs, key=lambda r: r.time) if _counts(run)}
        for run in self.runs:
            if not _counts(run):
                self.left_out.append((run, run.state))
            elif newest[run.seed] is run:
                self.counted.append(run)
            else:
                self.left_out.append((run, f'same seed as {newest[run.seed].exp_id}'))

    @property
    def first(self) -> Run:
        """The run with the smallest seed. It has the same settings as the others."""
        return self.runs[0]

    @property
    def name(self) -> str:
        """The exp_id of its only run, or what the exp_ids have in common, with a '*'."""
        if len(self.runs) == 1:
            return self.first.exp_id
        return os.path.commonprefix([run.exp_id for run in self.runs]) + '*'

    def values(self, measure: str) -> List[Optional[float]]:
        """Returns the value of one of MEASURES for each run of `counted`; None if it has none."""
        return [MEASURES[measure](run) for run in self.counted]

    def by_seed(self, measure: str) -> Dict[str, Optional[float]]:
        """Returns {seed: value} of one of MEASURES; '?' stands for a seed that is not recorded."""
        seeds = ['?' if run.seed is None else str(run.seed) for run in self.counted]
        return dict(zip(seeds, self.values(measure)))

    def summary(self, measure: str) -> Summary:
        """Returns the statistics of one of MEASURES.

        If some runs have a value and others do not, as after a validation that was not finite, the
        missing values count as NaN. If none has one, n is 0.
        """
        if measure not in self._summaries:
            values = self.values(measure)
            there = [] if all(value is None for value in values) else values
            self._summaries[measure] = statistics.summary(
                [math.nan if value is None else value for value in there]
            )
        return self._summaries[measure]


class Difference(NamedTuple):
    """The statistics of the differences of one of MEASURES between two groups."""

    measure: str
    summary: Summary


class Comparison(NamedTuple):
    """The paired comparison of two groups.

    Attributes:
        first: One group.
        second: The other group.
        seeds: The seeds that both have.
        differences: Those of first - second over these seeds.
        others: The settings, besides those of the rules, that differ: {name: (first, second)}.
    """

    first: Group
    second: Group
    seeds: List[int]
    differences: List[Difference]
    others: Dict[str, Tuple[object, object]]


def of(runs: Sequence[Run]) -> List[Group]:
    """Returns the groups of runs that differ only in their seed, in the order of the runs.

    Runs are in one group if they have the same collection, data, planned steps and settings. A run
    that does not record its settings and its seed is a group by itself, and so is a validation.
    """
    found: Dict[Hashable, List[Run]] = {}
    for run in runs:
        found.setdefault(_key(run), []).append(run)
    return [Group(members) for members in found.values()]


def compare(groups: Sequence[Group], names: Sequence[str]) -> Comparison:
    """Compares two groups over the seeds that both have.

    Args:
        groups: The groups to choose from.
        names: Two rules, or two names of groups.

    Raises:
        ConfigError: A name fits no group or several, the groups have different data or networks, or
            they have fewer than two seeds in common. The message says what to do.
    """
    if len(names) != 2:
        raise ConfigError(
            '--compare needs two rules, or two exp_ids of --group=seed, such as symmetric,mirror'
        )
    first, second = [_named(groups, name) for name in names]
    for what, one, other in (
        ('networks', first.first.collection, second.first.collection),
        ('data', _data(first.first), _data(second.first)),
    ):
        if one != other:
            raise ConfigError(
                f'--compare: {names[0]} and {names[1]} have different {what} ({_shown(one)} and '
                f'{_shown(other)}); choose runs that can be compared with --where'
            )
    values = [_of_seeds(group) for group in (first, second)]
    seeds = sorted(set(values[0]) & set(values[1]))
    if len(seeds) < 2:
        raise ConfigError(
            f'--compare: {names[0]} (seeds {_list(values[0])}) and {names[1]} (seeds '
            f'{_list(values[1])}) need two seeds in common that are complete'
        )
    differences = []
    for measure, of_run in MEASURES.items():
        pairs = [{seed: of_run(each[seed]) for seed in seeds} for each in values]
        if any(value is not None for pair in pairs for value in pair.values()):
            found = statistics.paired(*map(_numbers, pairs))
            differences.append(Difference(measure, found))
    return Comparison(first, second, seeds, differences, _differing(first.first, second.first))


def _named(groups: Sequence[Group], name: str) -> Group:
    """Returns the group with a rule or a name."""
    found = [group for group in groups if name == group.name] or [
        group for group in groups if name == group.first.rule
    ]
    if len(found) == 1:
        return found[0]
    if found:
        names = ', '.join(sorted(group.name for group in found))
        raise ConfigError(
            f'--compare: {len(found)} groups have the rule {name}; choose one by its exp_id in '
            f'--group=seed ({names}) or with --where'
        )
    known = ', '.join(sorted({group.first.rule for group in groups})) or 'none'
    raise ConfigError(f'--compare: there is no rule or exp_id {name}; the rules are {known}')


def _differing(one: Run, other: Run) -> Dict[str, Tuple[object, object]]:
    """Returns the settings in which two runs differ, but for their seeds and those of a rule."""
    of_rules = {'alignment', SEED}
    for run in (one, other):
        declared = run.setting('declared')
        of_rules.update(declared if isinstance(declared, dict) else ())
    settings = one.settings, other.settings
    return {
        name: (one.setting(name), other.setting(name))
        for name in sorted(set(settings[0]) | set(settings[1]))
        if name not in of_rules and settings[0].get(name) != settings[1].get(name)
    }


def _counts(run: Run) -> bool:
    return run.state in COUNTED


def _of_seeds(group: Group) -> Dict[int, Run]:
    return {run.seed: run for run in group.counted if run.seed is not None}


def _numbers(values: Dict[int, Optional[float]]) -> Dict[int, float]:
    return {seed: math.nan if value is None else value for seed, value in values.items()}


def _key(run: Run) -> Hashable:
    """Returns what the runs of a group have in common."""
    settings = _settings(run)
    if settings is None or run.seed is None or run.state == VALIDATED:
        return run.key
    return run.collection, run.rule, _data(run), run.steps, settings


def _data(run: Run) -> Hashable:
    """Returns what is recorded of the images.

    Their digest is part of it. Older records have none, and their folder takes its place, because
    different images can have the same numbers and sizes.
    """
    names = ('dataset', 'num_classes', 'image_shape', 'train_images')
    validation = run.setting('topn_val')
    images = validation.get('validation_images') if isinstance(validation, dict) else None
    environment = run.params.get('environment')
    recorded = environment.get('dataset') if isinstance(environment, dict) else None
    digest = recorded.get('digest') if isinstance(recorded, dict) else None
    which = run.setting('data_dir') if digest is None else {'digest': digest}
    return tuple(_shown(value) for value in [*map(run.setting, names), images, which])


def _settings(run: Run) -> Optional[str]:
    """Returns a text that is equal for equal settings, without the seed, or None if not recorded.

    Records of this program have a digest of their settings. In older ones, all settings are
    compared.
    """
    digests = run.params.get('digests')
    if isinstance(digests, dict) and isinstance(digests.get('settings'), str):
        return digests['settings']
    if run.setting('model') is None:
        return None  # a script of tfutils, whose settings are not recorded
    settings = {
        group: {name: value for name, value in values.items() if name != SEED}
        if isinstance(values, dict)
        else values
        for group, values in run.params.items()
        if group not in NOT_SETTINGS
    }
    return json.dumps(settings, sort_keys=True, default=str)


def _shown(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return ', '.join(map(_shown, value))
    return str(value)


def _list(values: Dict[int, Run]) -> str:
    return ', '.join(map(str, sorted(values))) or 'none'
