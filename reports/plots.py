"""Draws the plots of a report: for a PNG, for papers, and for the page without scripts."""

import io
import math
import os
import re
from typing import Callable, List, NamedTuple, Optional, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from database.layout import ANGLES
from reports import curves, looks, searches
from reports.classes import Classes
from reports.columns import of_runs
from reports.curves import DEGREES, Band, Measure
from reports.runs import Run
from reports.searches import STATES, Search
from reports.stored import finite
from reports.sections import BASELINES, Member, Section
from reports.types import Colour, Style

WIDTH = 3.35  # inches; the column of a paper in two columns
HEIGHT = 2.3  # inches, without a legend
LEGEND_ROW = 0.17  # inches
NAMES_PER_ROW = 2  # of a legend
COLUMNS = 3  # plots per row of a PNG
DPI = 150  # resolution of a PNG
MOST_NAMED = 10  # how many layers a legend names
MOST_CLASSES = 25  # how many classes an axis names
SHARES = (0.0, 0.01, 0.1, 0.25, 0.5, 1.0)  # that the colours of confusions name
MOST_POINTS = 200  # points of a curve
DEPTH = matplotlib.cm.viridis
STYLE: Style = {
    'svg.fonttype': 'none',
    'pdf.fonttype': 42,
    'font.size': 8,
    'font.family': 'sans-serif',
    'axes.grid': True,
    'axes.axisbelow': True,
    'grid.alpha': 0.3,
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.formatter.useoffset': False,
    'legend.fontsize': 7,
    'legend.frameon': False,
    'lines.linewidth': 1.2,
    'lines.markersize': 3,
    'axes.titlesize': 9,
}


class Plot(NamedTuple):
    """A plot.

    Attributes:
        title: The title.
        note: A text alternative for readers who cannot see the plot.
        draw: Draws the plot on axes.
        height: The height in inches.
    """

    title: str
    note: str
    draw: Callable[[Axes], None]
    height: float = HEIGHT


class Curve(NamedTuple):
    """A curve of a plot, and the spread around it."""

    name: str
    band: Band
    colour: Colour
    line: str = '-'
    marker: str = 'o'

    @property
    def told(self) -> str:
        """What it shows, for readers who cannot see it."""
        first, last = self.band.mean[0], self.band.mean[-1]
        mean = f' (mean of {self.band.n} seeds)' if self.band.n > 1 else ''
        return f'{self.name}{mean} from {first:.4g} to {last:.4g}'


# --- what is drawn --------------------------------------------------------------------------------


def of_sections(sections: Sequence[Section]) -> List[Plot]:
    """Returns the plots that compare the groups of each section."""
    several = len(sections) > 1
    found = []
    for section in sections:
        title = f' ({section.alike.title})' if several else ''
        members = section.drawn
        if any(value is not None for each in members for value in each.group.values('top1')):
            found.append(_compared('top1', section, title))
        for measure in curves.measures([run for each in members for run in each.runs]):
            lines = [_of_member(member, measure) for member in members]
            lines = [line for line in lines if line.band.steps]
            if lines:
                mean = ', mean of layers' if measure.is_by_layer else ''
                name = f'{measure.title}{mean}{title}'
                found.append(_lines(name, measure.label, lines))
    return found


def of_layers(sections: Sequence[Section]) -> List[Plot]:
    """Returns a heat map, layer by step, of each measure by layer of each group."""
    found = []
    for section in sections:
        for member in section.drawn:
            for measure in curves.measures(member.runs):
                layers = curves.layer_map(member.counted, measure.key)
                if measure.is_by_layer and layers.steps:
                    found.append(_map(f'{measure.title} of {member.label}', measure.label, layers))
    return found


def of_classes(found: Classes) -> List[Plot]:
    """Returns the plots of the results by class of a run: top-1, and the matrix of confusions."""
    return [_by_class(found)] + ([_confusions(found)] if found.matrix else [])


def _by_class(found: Classes) -> Plot:
    """Returns a bar for the top-1 of each class, the least first."""
    known = sorted((top1, name) for name, top1 in zip(found.names, found.top1) if top1 is not None)

    def draw(axes: Axes) -> None:
        axes.barh(range(len(known)), [top1 for top1, _ in known], color=looks.COLOURS[0])
        kept = curves.evenly(len(known), MOST_CLASSES)
        axes.set_yticks(kept)
        axes.set_yticklabels([_plain(_short(known[place][1])) for place in kept])
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        axes.set_xlabel('top-1')

    told = '; '.join(f'{name} {top1:.4f}' for top1, name in known[:MOST_NAMED])
    return Plot(
        f'Top-1 by class of {found.run.exp_id}',
        f'top-1 of {len(known)} classes; the least: {told}',
        draw,
        HEIGHT + 0.08 * min(len(known), MOST_CLASSES),
    )


def _confusions(found: Classes) -> Plot:
    """Returns a heat map of confusions: a row for each label, a column for each answer."""
    kept = curves.evenly(len(found.names), MOST_CLASSES)
    names = [_plain(_short(found.names[place], 14)) for place in kept]

    def draw(axes: Axes) -> None:
        # The root makes small shares visible.
        image = axes.imshow(
            np.sqrt(found.shares),
            aspect='auto',
            interpolation='nearest',
            cmap=DEPTH,
            vmin=0,
            vmax=1,
        )
        bar = axes.figure.colorbar(image, ax=axes, label="share of the label's images")
        bar.set_ticks([math.sqrt(share) for share in SHARES])
        bar.set_ticklabels([f'{100 * share:g} %' for share in SHARES])
        axes.grid(False)
        axes.set_xticks(kept)
        axes.set_xticklabels(names, rotation=90, fontsize=6)
        axes.set_yticks(kept)
        axes.set_yticklabels(names, fontsize=6)
        axes.set_xlabel('answer')
        axes.set_ylabel('label')

    return Plot(f'Confusions of {found.run.exp_id}', found.confused, draw, WIDTH)


def of_run(run: Run) -> List[Plot]:
    """Returns the plots of one run: its losses, and the angles of each layer."""
    there = [measure for measure in curves.measures([run]) if not measure.is_result]
    losses = [
        Curve(measure.title, curves.band([measure.of(run)]), looks.COLOURS[place])
        for place, measure in enumerate(each for each in there if each.name.endswith('loss'))
    ]
    plots = [_lines('Losses', 'loss', losses)] if losses else []
    for name in ANGLES:
        layers = run.layers(name)
        lines = [
            Curve(layer, curves.band([points]), DEPTH(0.9 * place / max(len(layers) - 1, 1)))
            for place, (layer, points) in enumerate(layers.items())
        ]
        if lines:
            title = name.replace('_angles', ' angle').capitalize() + ' by layer'
            plots.append(_lines(title, DEGREES, lines))
    return plots


def of_search(search: Search) -> List[Plot]:
    """Returns the plots of a search: the top-1 of each trial, and the best so far."""
    points = [
        (trial.number, trial.value, trial.state)
        for trial in search.trials
        if trial.value is not None
    ]
    if not points:
        return []
    states = [state for state in STATES if state in {own for _, _, own in points}]
    states += sorted({state for _, _, state in points} - set(states))

    def draw(axes: Axes) -> None:
        for index, state in enumerate(states):
            axes.plot(
                *zip(*[(number, value) for number, value, other in points if other == state]),
                looks.MARKERS[index % len(looks.MARKERS)].matplotlib,
                color=looks.COLOURS[index % len(looks.COLOURS)],
                label=_plain(state),
            )
        reached = [max(value for _, value, _ in points[: i + 1]) for i in range(len(points))]
        axes.step(
            [number for number, _, _ in points],
            reached,
            where='post',
            color='black',
            label='best so far',
        )
        axes.set_xlabel('trial')
        axes.set_ylabel('top-1')
        _legend(axes, len(states) + 1)

    best = max(value for _, value, _ in points)
    note = f'top-1 of each of {len(points)} trials; the best is {best:.4f}'
    height = HEIGHT + _legend_height(len(states) + 1)
    return [Plot(f'Search {_short(search.study)}', note, draw, height)]


def of_settings(search: Search) -> List[Plot]:
    """Returns the importance of the settings of a search, and each setting against top-1."""
    shares = searches.importance(search)
    names = sorted(shares, key=lambda name: shares[name])

    def draw(axes: Axes) -> None:
        axes.barh(range(len(names)), [shares[name] for name in names], color=looks.COLOURS[0])
        axes.set_yticks(range(len(names)))
        axes.set_yticklabels([_plain(_short(name)) for name in names])
        axes.set_xlim(0, 1)
        axes.set_xlabel('share of the importance (PED-ANOVA)')

    told = '; '.join(f'{name} {shares[name]:.3f}' for name in reversed(names))
    title = f'Importance of settings in {_short(search.study)}'
    found = [Plot(title, f'{title}: {told}', draw)] if names else []
    return found + [_setting(search, name) for name in searches.settings(search)]


def _setting(search: Search, name: str) -> Plot:
    points = [
        (trial.params[name], trial.value, trial.state)
        for trial in search.trials
        if trial.value is not None and name in trial.params
    ]
    numbers = [finite(value) for value, _, _ in points]
    known = [number for number in numbers if number is not None]
    is_numeric = len(known) == len(points)
    states = sorted({state for _, _, state in points})

    def draw(axes: Axes) -> None:
        for index, state in enumerate(states):
            own = [(value, top1) for value, top1, other in points if other == state]
            axes.plot(
                [value if is_numeric else str(value) for value, _ in own],
                [top1 for _, top1 in own],
                looks.MARKERS[index % len(looks.MARKERS)].matplotlib,
                color=looks.COLOURS[index % len(looks.COLOURS)],
                label=_plain(state),
            )
        if known and is_numeric and min(known) > 0 and max(known) / min(known) > searches.WIDE:
            axes.set_xscale('log')
        axes.set_xlabel(_plain(_short(name)))
        axes.set_ylabel('top-1')
        _legend(axes, len(states))

    title = f'{_short(name)} and top-1 in {_short(search.study)}'
    height = HEIGHT + _legend_height(len(states))
    return Plot(title, f'{title}: top-1 of {len(points)} trials', draw, height)


def _of_member(member: Member, measure: Measure) -> Curve:
    return Curve(
        member.label,
        curves.band([measure.of(run) for run in member.counted]),
        member.look.colour,
        member.dash.matplotlib,
        member.look.marker.matplotlib,
    )


def _lines(title: str, label: str, lines: Sequence[Curve]) -> Plot:
    """Returns a plot of curves over steps, each with a band of one standard deviation."""

    def draw(axes: Axes) -> None:
        for curve in lines:
            steps, mean, std, _ = _thin(curve.band)
            axes.plot(
                steps,
                mean,
                curve.line,
                color=curve.colour,
                marker=curve.marker if len(steps) < 30 else None,
                label=_plain(_short(curve.name)),
            )
            if std:
                low, high = np.subtract(mean, std), np.add(mean, std)
                axes.fill_between(steps, low, high, color=curve.colour, alpha=0.2, linewidth=0)
        axes.set_xlabel('step')
        axes.set_ylabel(label)
        _legend(axes, len(lines))

    told = '; '.join(curve.told for curve in lines)
    height = HEIGHT + _legend_height(len(lines))
    return Plot(title, f'{title} over steps: {told}', draw, height)


def _thin(band: Band) -> Band:
    kept = curves.thin(band.mean, MOST_POINTS)
    std = [band.std[place] for place in kept] if band.std else []
    return Band(
        [band.steps[place] for place in kept], [band.mean[place] for place in kept], std, band.n
    )


def _map(title: str, label: str, found: curves.LayerMap) -> Plot:
    """Returns a heat map of a measure: a row for each layer, a column for each step."""

    def draw(axes: Axes) -> None:
        values = np.array(
            [[np.nan if value is None else value for value in row] for row in found.values], float
        )
        image = axes.imshow(values, aspect='auto', interpolation='nearest', cmap=DEPTH)
        axes.figure.colorbar(image, ax=axes, label=label)
        axes.grid(False)
        rows = curves.evenly(len(found.layers), 16)
        axes.set_yticks(rows)
        axes.set_yticklabels([_plain(_short(found.layers[row])) for row in rows], fontsize=6)
        places = curves.evenly(len(found.steps), 4)
        axes.set_xticks(places)
        axes.set_xticklabels([f'{found.steps[place]:,}' for place in places])
        axes.set_xlabel('step')

    ends = [(row[0], row[-1]) for row in found.values]
    told = '; '.join(
        f'{layer} from {_number(first)} to {_number(last)}'
        for layer, (first, last) in list(zip(found.layers, ends))[:MOST_NAMED]
    )
    return Plot(title, f'{title}, layer by step: {told}', draw, HEIGHT + 0.3)


def _compared(name: str, section: Section, title: str) -> Plot:
    """Returns a plot of final results: each seed, and the mean of each group with its interval."""
    members = [
        member
        for member in section.drawn
        if any(value is not None for value in member.group.values(name))
    ]
    members.sort(key=lambda member: member.group.summary(name).mean)
    heading = {column.name: column.title for column in of_runs()}[name]

    def draw(axes: Axes) -> None:
        for row, member in enumerate(members):
            values = [value for value in member.group.values(name) if value is not None]
            marker, colour = member.look.marker.matplotlib, member.look.colour
            axes.plot(values, [row] * len(values), marker, color=colour, alpha=0.5)
            found = member.group.summary(name)
            if found.n > 1:
                half = found.high - found.mean
                axes.errorbar(found.mean, row, xerr=half, fmt='|', color='black', capsize=2)
            if member.group.first.rule in BASELINES:
                axes.axvline(found.mean, color=colour, linestyle='--', linewidth=0.8)
        axes.set_yticks(range(len(members)))
        axes.set_yticklabels([_plain(_short(member.label)) for member in members])
        axes.set_ylim(-0.6, len(members) - 0.4)
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(4))
        axes.set_xlabel(f'{heading} (mean, 95 % interval)')

    told = '; '.join(
        f'{member.label} {member.group.summary(name).mean:.4f} (n = {member.group.summary(name).n})'
        for member in reversed(members)
    )
    size = max(HEIGHT, 0.9 + 0.2 * len(members))
    return Plot(
        f'{heading.capitalize()} by rule{title}',
        f'mean {heading} of each group: {told}',
        draw,
        size,
    )


# --- how it is written ----------------------------------------------------------------------------


def png(plots: Sequence[Plot], path: str) -> None:
    """Writes plots as one PNG.

    Args:
        plots: The plots, at least one.
        path: The path of the PNG.

    Raises:
        OSError: The file cannot be written.
    """
    columns = min(COLUMNS, len(plots))
    rows = -(-len(plots) // COLUMNS)
    height = max(plot.height for plot in plots)
    with matplotlib.rc_context(STYLE):
        figure = Figure((1.2 * WIDTH * columns, 1.2 * height * rows), dpi=DPI)
        FigureCanvasAgg(figure)
        for place, plot in enumerate(plots):
            _draw(plot, figure.add_subplot(rows, columns, place + 1))
        figure.tight_layout()
        figure.savefig(path, format='png', metadata={'Software': None})


def svg(plot: Plot) -> str:
    """Returns a plot as the text of an SVG element."""
    buffer = io.BytesIO()
    # The identifiers of two plots on one page differ.
    style: Style = dict(STYLE, **{'svg.hashsalt': plot.title})
    with matplotlib.rc_context(style):
        figure = _figure(plot, FigureCanvasSVG)
        figure.savefig(buffer, format='svg', metadata={'Date': None})
    text = buffer.getvalue().decode()
    return text[text.index('<svg') :]


def files(plots: Sequence[Plot], folder: str) -> List[str]:
    """Writes each plot as a PDF and as an SVG file at the width of a paper's column.

    Args:
        plots: The plots.
        folder: The folder, which is made if it does not exist.

    Returns:
        The names of the files.

    Raises:
        OSError: A file cannot be written.
    """
    os.makedirs(folder, exist_ok=True)
    written: List[str] = []
    for plot in plots:
        name = _file_name(plot.title, written)
        style: Style = dict(STYLE, **{'svg.hashsalt': name})
        with matplotlib.rc_context(style):
            for ending, canvas, date in (
                ('pdf', FigureCanvasPdf, 'CreationDate'),
                ('svg', FigureCanvasSVG, 'Date'),
            ):
                path = os.path.join(folder, f'{name}.{ending}')
                _figure(plot, canvas).savefig(path, format=ending, metadata={date: None})
                written.append(f'{name}.{ending}')
    return written


def _file_name(title: str, taken: Sequence[str]) -> str:
    """Returns a name of a file, without its ending, for a title."""
    name = re.sub(r'[^a-z0-9]+', '_', title.lower()).strip('_')[:80] or 'figure'
    number, found = 1, name
    while f'{found}.pdf' in taken:
        number += 1
        found = f'{name}_{number}'
    return found


def _figure(plot: Plot, canvas: Callable[[Figure], object]) -> Figure:
    figure = Figure((WIDTH, plot.height))
    canvas(figure)
    _draw(plot, figure.add_subplot(1, 1, 1))
    figure.tight_layout(pad=0.4)
    return figure


def _draw(plot: Plot, axes: Axes) -> None:
    axes.set_title(_plain(_short(plot.title, 52)))
    plot.draw(axes)


def _legend(axes: Axes, count: int) -> None:
    """Adds a legend below the axes. Of many curves it names the first, the last and some between.

    The plot then says how many it does not name.
    """
    handles, labels = axes.get_legend_handles_labels()
    shown = curves.evenly(count, MOST_NAMED)
    handles, labels = [handles[i] for i in shown], [labels[i] for i in shown]
    if any(label.startswith('_') for label in labels):  # matplotlib would omit these labels
        labels = [' ' + label for label in labels]
    title = None if len(shown) == count else f'{len(shown)} of {count} are named'
    axes.legend(
        handles,
        labels,
        loc='upper center',
        bbox_to_anchor=(0.45, -0.22),
        ncol=NAMES_PER_ROW,
        title=title,
        title_fontsize=7,
    )


def _legend_height(count: int) -> float:
    rows = -(-min(count, MOST_NAMED) // NAMES_PER_ROW) + (count > MOST_NAMED)
    return LEGEND_ROW * rows


def _number(value: Optional[float]) -> str:
    return '-' if value is None else f'{value:.4g}'


def _short(name: str, most: int = 28) -> str:
    return name if len(name) <= most else name[: most // 2 - 1] + '…' + name[-most // 2 :]


def _plain(text: str) -> str:
    """Returns text that matplotlib and XML display literally.

    Dollar signs are escaped, because they would start a formula. Characters that cannot be printed
    become '?', because XML forbids some of them.
    """
    return ''.join(c if c.isprintable() else '?' for c in text).replace('$', r'\$')
