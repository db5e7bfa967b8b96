"""Learning curves: of a run, and the mean over the runs of a group with its spread."""

import math
from typing import Dict, List, NamedTuple, Optional, Sequence, Set

from database.layout import ANGLES
from database.types import Document
from reports.runs import Run
from reports.types import Points

DEGREES = 'degrees'
# What validations record besides numbers and numbers by layer that can be drawn as curves.
# They say something about the validation, or are 0 in every record (docs/database.md).
NOT_CURVES = (
    *('measured_images', 'images', 'global_step', 'hebb_angle'),
    *('per_class', 'confusion', 'mistakes'),
)


class Measure(NamedTuple):
    """What a curve shows.

    Attributes:
        name: Its name, unique among the measures.
        title: The title of a plot of it.
        label: What its axis shows, with the unit.
        key: Its name in records.
        is_result: Whether it is a result of validations, not a loss of the training.
        is_by_layer: Whether it has a value for each layer; its curve is the mean over the layers.
    """

    name: str
    title: str
    label: str
    key: str
    is_result: bool = True
    is_by_layer: bool = False

    def of(self, run: Run) -> Points:
        """Returns [(step, number)] of a run."""
        return run.validated(self.key) if self.is_result else run.curve(self.key)


KNOWN = (
    Measure('top1', 'Top-1', 'fraction of validation images', 'top1'),
    Measure('model_loss', 'Task loss in training', 'cross-entropy (nats)', 'model_loss', False),
    Measure('validation_loss', 'Task loss in validation', 'cross-entropy (nats)', 'loss'),
    Measure('alignment_loss', 'Alignment loss', 'loss', 'alignment_loss', False),
    *[
        Measure(name, f'{name[:-1].replace("_", " ").capitalize()}', DEGREES, name, True, True)
        for name in ANGLES
    ],
    Measure('top5', 'Top-5', 'fraction of validation images', 'top5'),
    Measure('reg_loss', 'Regularisation loss', 'loss', 'reg_loss', False),
    Measure('loss', 'Total loss in training', 'loss', 'loss', False),
    Measure('learning_rate', 'Learning rate', 'learning rate', 'learning_rate', False),
)


def measures(found: Sequence[Run]) -> List[Measure]:
    """Returns the measures that some of these runs have, the known ones first.

    A total loss is left out where each run has its parts, or has none.
    """
    losses: Set[str] = set()
    results: Document = {}
    for run in found:
        for point in run.points:
            losses.update(point.losses)
            results.update(point.results)
    known = {measure.key for measure in KNOWN if measure.is_result}
    others = [
        Measure(
            f'result_{name}',
            name.replace('_', ' ').capitalize(),
            name.replace('_', ' '),
            name,
            True,
            isinstance(results[name], dict),
        )
        for name in sorted(set(results) - known - set(NOT_CURVES))
    ]
    there = [
        measure
        for measure in KNOWN
        if measure.key in (results if measure.is_result else losses)
        and not (measure.name == 'loss' and 'model_loss' in losses)
    ]
    return [each for each in there + others if any(each.of(run) for run in found)]


class Band(NamedTuple):
    """The mean of several curves and its spread.

    Attributes:
        steps: The steps at which each of the curves has a value.
        mean: The mean at each of them.
        std: The standard deviation, with n - 1; empty if there is one curve.
        n: How many curves there are.
    """

    steps: List[int]
    mean: List[float]
    std: List[float]
    n: int


def band(curves: Sequence[Points]) -> Band:
    """Returns the mean of curves at the steps at which each of them has a value.

    At any other step it would be a mean over fewer curves, and would jump where one of them ends.
    """
    values = [dict(points) for points in curves if points]
    if not values:
        return Band([], [], [], 0)
    shared = sorted(set(values[0]).intersection(*values[1:]))
    at = [[each[step] for each in values] for step in shared]
    # The mean of equal numbers is this number: rounding would give it a spread that a plot shows.
    means = [math.fsum(each) / len(each) if len(set(each)) > 1 else each[0] for each in at]
    spread: List[float] = []
    if len(values) > 1:
        spread = [
            math.sqrt(math.fsum((value - mean) ** 2 for value in each) / (len(each) - 1))
            for each, mean in zip(at, means)
        ]
    return Band(shared, means, spread, len(values))


def thin(values: Sequence[float], most: int) -> List[int]:
    """Returns which of some values to draw: the first, the last, and the extremes in between.

    Drawn on `most` / 2 pixels, the others would not be seen.

    Args:
        values: The values, at evenly spaced places.
        most: How many to keep at most, at least 4.
    """
    count = len(values)
    if count <= most:
        return list(range(count))
    parts = (most - 2) // 2
    kept = {0, count - 1}
    for part in range(parts):
        places = range(part * count // parts, (part + 1) * count // parts)
        kept.add(min(places, key=values.__getitem__))
        kept.add(max(places, key=values.__getitem__))
    return sorted(kept)


def evenly(count: int, most: int) -> List[int]:
    """Returns at most `most` of `count` places, evenly spaced, with the first and the last one."""
    if count <= most:
        return list(range(count))
    return sorted({round(place * (count - 1) / (most - 1)) for place in range(most)})


class LayerMap(NamedTuple):
    """A measure by layer over the steps, as the mean over runs.

    Attributes:
        layers: The layers, in their order.
        steps: The steps.
        values: The values of each layer; None where it has none.
    """

    layers: List[str]
    steps: List[int]
    values: List[List[Optional[float]]]


def layer_map(found: Sequence[Run], key: str) -> LayerMap:
    """Returns a measure by layer of a group of runs, as means over the runs.

    A mean is that of all runs: where one of them has no value, there is none.
    """
    every = [run.layers(key) for run in found]
    by_run = [layers for layers in every if layers]
    if not by_run:
        return LayerMap([], [], [])
    layers = [layer for layer in by_run[0] if all(layer in other for other in by_run)]
    bands = [band([each[layer] for each in by_run]) for layer in layers]
    steps = sorted({step for each in bands for step in each.steps})
    means: List[Dict[int, float]] = [dict(zip(each.steps, each.mean)) for each in bands]
    return LayerMap(layers, steps, [[own.get(step) for step in steps] for own in means])


def hours(found: Sequence[Run]) -> Points:
    """Returns [(step, mean hours of training until there)] over the runs of a group."""
    means = band([run.hours() for run in found])
    return list(zip(means.steps, means.mean))
