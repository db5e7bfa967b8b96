"""Figures of experiments, as PNG, PDF or SVG."""

import os
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.base import METRICS, Group, Results
from experiments.lines import Key
from experiments.types import Style
from experiments.validations import Validation, band
from reports import looks

DPI = 150
STYLE: Style = {
    'font.size': 9,
    'axes.grid': True,
    'grid.alpha': 0.3,
    'axes.spines.top': False,
    'axes.spines.right': False,
    'svg.hashsalt': 'experiments',  # the same figure gives the same file
    'pdf.fonttype': 42,
}
RULE_FACTORS = ('rule', 'alignment')  # the factors that name a rule, which decides on the colour
COLOUR, MEAN = '#0072b2', '#d55e00'
PALETTE = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#000000')
# What would make two files of one figure differ.
DATES: Dict[str, Dict[str, None]] = {
    'png': {'Software': None},
    'pdf': {'CreationDate': None},
    'svg': {'Date': None},
}


def save(figure: Figure, path: str) -> None:
    """Writes a figure; the ending of the path decides on the format.

    Raises:
        OSError: The file cannot be written.
    """
    kind = os.path.splitext(path)[1][1:].lower()
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    figure.tight_layout()
    figure.savefig(path, format=kind, dpi=DPI, metadata=DATES[kind])


def _single(width: float, height: float) -> Tuple[Figure, Axes]:
    """Returns a figure of this size, in inches, and its only axes."""
    figure = Figure((width, height))
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot(1, 1, 1)


def dots(results: Results, title: str, path: str, metric: str = 'top1') -> None:
    """Writes a figure with a row for each group: a dot for each seed, the mean and its interval.

    Raises:
        OSError: The file cannot be written.
    """
    with matplotlib.rc_context(STYLE):
        labels = _labels(results.groups)
        wide = 4.5 + 0.07 * max(map(len, labels))
        figure, axes = _single(wide, 1.0 + 0.3 * len(labels))
        for row, group in enumerate(results.groups):
            values = list(group.values(metric).values())
            axes.plot(values, [row] * len(values), 'o', color=COLOUR, alpha=0.5, markersize=5)
            found = group.summary(metric)
            if found.n > 1:
                half = found.high - found.mean
                axes.errorbar(found.mean, row, xerr=half, fmt='|', color=MEAN, capsize=3)
        axes.set(
            yticks=range(len(results.groups)),
            yticklabels=labels,
            ylim=(len(results.groups) - 0.5, -0.5),
            xlabel=f'{METRICS[metric].title}: each seed, and the mean with its 95 % interval',
            title=title,
        )
        least, most = axes.get_xlim()
        axes.set_xlim(max(least, METRICS[metric].least), min(most, METRICS[metric].most))
        save(figure, path)


def _rule(group: Group) -> Optional[str]:
    """Returns the rule of a group, or None if it is not one of its factors."""
    return next((group.factors[name] for name in RULE_FACTORS if name in group.factors), None)


def _labels(groups: Sequence[Group]) -> List[str]:
    """Returns a short text for each group.

    It is the rule, and those other factors in which the groups of this rule differ.
    """
    found = []
    for group in groups:
        rule = _rule(group)
        others = [other for other in groups if _rule(other) == rule]
        words = [rule] if rule else []
        for name, value in group.factors.items():
            if name not in RULE_FACTORS and {each.factors.get(name) for each in others} != {value}:
                words.append(f'{name} {value}' if len(group.factors) > 1 else value)
        found.append(', '.join(words) or group.name)
    return found


def curves(
    found: Dict[str, Sequence[float]],
    ticks: Sequence[str],
    xlabel: str,
    ylabel: str,
    title: str,
    path: str,
    spread: Optional[Mapping[str, Sequence[float]]] = None,
) -> None:
    """Writes a figure with a line for each name over evenly spaced ticks.

    Args:
        found: {name: a value for each tick; NaN leaves a gap}.
        ticks: The text of each tick.
        xlabel: The title of the horizontal axis.
        ylabel: The title of the vertical axis, which goes from 0 to 1.
        title: The title.
        path: The file to write.
        spread: {name: for each tick, how far a band reaches up and down from the value; NaN leaves
            a gap}, or None for lines without bands.

    Raises:
        OSError: The file cannot be written.
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = _single(5.5, 3.8)
        for index, (name, values) in enumerate(found.items()):
            colour = PALETTE[index % len(PALETTE)]
            axes.plot(range(len(values)), values, marker='o', color=colour, label=name)
            if spread:
                lows = [value - half for value, half in zip(values, spread[name])]
                highs = [value + half for value, half in zip(values, spread[name])]
                axes.fill_between(range(len(values)), lows, highs, color=colour, alpha=0.2)
        axes.set(ylim=(0, 1), xlabel=xlabel, ylabel=ylabel, title=title)
        axes.set(xticks=range(len(ticks)), xticklabels=ticks)
        axes.legend()
        save(figure, path)


class Drawn(NamedTuple):
    """How a group is drawn.

    Attributes:
        colour: The colour, such as '#0072b2'.
        dash: The kind of line, as Matplotlib names it.
        label: The text in the legend.
    """

    colour: str
    dash: str
    label: str


def _drawn(groups: Sequence[Group]) -> List[Drawn]:
    """Returns how each group is drawn: a colour for each rule, a dash for each group of a rule."""
    rules = [_rule(group) or group.name for group in groups]
    colours = looks.of(rules)
    found = []
    for place, (label, rule) in enumerate(zip(_labels(groups), rules)):
        dash = looks.DASHES[rules[:place].count(rule) % len(looks.DASHES)]
        found.append(Drawn(colours[rule].colour, dash.matplotlib, label))
    return found


def over_time(
    results: Results,
    known: Mapping[Key, Sequence[Validation]],
    metrics: Sequence[str],
    title: str,
    path: str,
) -> bool:
    """Writes a figure with a panel for each metric: means over seeds with bands, over epochs.

    A band goes from the lowest to the highest seed. The interval of the mean is not drawn: that of
    a few seeds that differ much would hide all other rules. A metric that no group has is left out.

    Args:
        results: The results.
        known: {key of a run: its validations}.
        metrics: The metrics, fields of Validation.
        title: The title.
        path: The file to write.

    Returns:
        Whether there was anything to draw.

    Raises:
        OSError: The file cannot be written.
    """
    bands = {metric: [band(group, known, metric) for group in results.groups] for metric in metrics}
    shown = [metric for metric in metrics if any(bands[metric])]
    if not shown:
        return False
    groups = _drawn(results.groups)
    with matplotlib.rc_context(STYLE):
        figure = Figure((4.0 * len(shown) + 2.0, 3.8))
        FigureCanvasAgg(figure)
        for place, metric in enumerate(shown, 1):
            axes = figure.add_subplot(1, len(shown), place)
            for drawn, found in zip(groups, bands[metric]):
                if found is not None:
                    axes.plot(found.epochs, found.means, drawn.dash, color=drawn.colour)
                    if found.seeds > 1:
                        axes.fill_between(
                            found.epochs, found.lows, found.highs, color=drawn.colour, alpha=0.2
                        )
            axes.set(xlabel='epoch', ylabel=METRICS[metric].title)
            axes.set_title(title if place == 1 else '', loc='left')
        lines = [
            Line2D([], [], color=drawn.colour, linestyle=drawn.dash, label=drawn.label)
            for drawn, *found in zip(groups, *bands.values())
            if any(found)
        ]
        axes.legend(handles=lines, loc='center left', bbox_to_anchor=(1.02, 0.5), fontsize=7)
        save(figure, path)
    return True


class Trajectory(NamedTuple):
    """A distance over time, predicted and simulated.

    Attributes:
        times: From 0 to 1.
        predicted: The distance at each time.
        simulated: The distance at each time.
    """

    times: Sequence[float]
    predicted: Sequence[float]
    simulated: Sequence[float]


def trajectories(found: Mapping[str, Trajectory], title: str, path: str) -> None:
    """Writes a figure with a line and dots for each name, over a logarithmic distance.

    Args:
        found: {name: its trajectory}. A line is what is predicted, and dots what is simulated.
        title: The title.
        path: The file to write.

    Raises:
        OSError: The file cannot be written.
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = _single(7.5, 4.2)
        for index, (name, each) in enumerate(found.items()):
            colour = PALETTE[index % len(PALETTE)]
            axes.plot(each.times, each.predicted, color=colour, label=name)
            every = max(1, len(each.times) // 12)
            axes.plot(each.times[::every], each.simulated[::every], 'o', color=colour)
        axes.set(yscale='log', xlabel='time, from start to end', ylabel='distance', title=title)
        axes.legend(fontsize=7)
        save(figure, path)


class Points(NamedTuple):
    """Dots of a scatter plot.

    Attributes:
        x: The values on the horizontal axis.
        y: The values on the vertical axis.
    """

    x: List[float]
    y: List[float]


def scatter(panels: Mapping[str, Mapping[str, Points]], ylabel: str, title: str, path: str) -> None:
    """Writes a figure with a panel for each setting, over a logarithmic axis.

    Args:
        panels: {setting: {name: its dots}}. A name has the same colour in all panels.
        ylabel: The title of the vertical axis, which goes from 0 to 1.
        title: The title.
        path: The file to write.

    Raises:
        OSError: The file cannot be written.
    """
    columns = 3
    rows = -(-len(panels) // columns)
    names = list(dict.fromkeys(name for each in panels.values() for name in each))
    with matplotlib.rc_context(STYLE):
        figure = Figure((3.0 * columns, 2.5 * rows + 0.4))
        FigureCanvasAgg(figure)
        for index, (setting, found) in enumerate(panels.items()):
            axes = figure.add_subplot(rows, columns, index + 1)
            for name, points in found.items():
                colour = PALETTE[names.index(name)]
                axes.plot(points.x, points.y, 'o', color=colour, label=name, markersize=4)
            axes.set(xscale='log', ylim=(0, 1), xlabel=setting, ylabel=ylabel)
            if not index:
                axes.legend(fontsize=7)
                axes.set_title(title, loc='left')
        save(figure, path)
