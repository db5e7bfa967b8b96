"""Draws the plots of a report, for a PNG and for the HTML page."""

import io
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from database.layout import ANGLES
from reports.runs import Run
from reports.searches import Search
from reports.types import Colour, Points, Style

INCHES = (4.2, 3.0)  # width and height of a plot
COLUMNS = 3  # plots per row of a PNG
DPI = 150  # resolution of a PNG
MOST_NAMED = 10  # how many curves a legend names
FEW, MANY, DEPTH = matplotlib.cm.tab10, matplotlib.cm.tab20, matplotlib.cm.viridis
STYLE: Style = {
    'svg.fonttype': 'none',
    'svg.hashsalt': 'report',
    'font.size': 9,
    'font.family': 'sans-serif',
    'axes.grid': True,
    'grid.alpha': 0.3,
    'axes.spines.top': False,
    'axes.spines.right': False,
    'legend.fontsize': 7,
    'legend.framealpha': 0.7,
    'lines.linewidth': 1.4,
    'lines.markersize': 3,
    'axes.titlesize': 10,
}


class Plot(NamedTuple):
    """A plot.

    Attributes:
        title: The title.
        note: A text alternative for readers who cannot see the plot.
        draw: Draws the plot on axes.
    """

    title: str
    note: str
    draw: Callable[[Axes], None]


class Curve(NamedTuple):
    """A curve of a plot."""

    name: str
    points: Points
    colour: Colour


class Compared(NamedTuple):
    """A plot that compares one curve of each run.

    Attributes:
        name: The name of the curve.
        title: The title of the plot.
        label: The label of the vertical axis.
        bottom: The lower end of the vertical axis, or None to fit the data.
    """

    name: str
    title: str
    label: str
    bottom: Optional[float] = None


COMPARED = (
    Compared('top1', 'Top-1', 'fraction of validation images', 0),
    Compared('model_loss', 'Task loss', 'cross-entropy (nats)'),
    Compared('alignment_loss', 'Alignment loss', 'loss'),
    Compared('weight_angles', 'Weight angle, mean of layers', 'degrees', 0),
    Compared('projection_angles', 'Projection angle, mean of layers', 'degrees', 0),
    Compared('gradient_angles', 'Gradient angle, mean of layers', 'degrees', 0),
)


def comparing(found: Sequence[Run]) -> List[Plot]:
    """Returns the plots that compare several runs."""
    names, colours = _names(found), _colours(len(found))
    plots = [_rules(found, colours)] if any(run.last('top1') is not None for run in found) else []
    for name, title, label, bottom in COMPARED:
        curves = [
            Curve(called, run.curve(name), colour)
            for called, run, colour in zip(names, found, colours)
        ]
        curves = [curve for curve in curves if curve.points]
        if curves:
            plots.append(_lines(title, label, bottom, curves))
    return plots


def of_run(run: Run) -> List[Plot]:
    """Returns the plots of one run: its losses, and the angles of each layer."""
    losses = [
        Curve(name.replace('_', ' '), run.curve(name), FEW(i))
        for i, name in enumerate(('model_loss', 'reg_loss', 'alignment_loss'))
    ]
    losses = [loss for loss in losses if loss.points] or [Curve('loss', run.curve('loss'), FEW(0))]
    plots = [_lines('Losses', 'loss', None, losses)] if losses[0].points else []
    for name in ANGLES:
        layers = run.layers(name)
        curves = [
            Curve(layer, points, DEPTH(0.9 * i / max(len(layers) - 1, 1)))
            for i, (layer, points) in enumerate(layers.items())
        ]
        if curves:
            plots.append(
                _lines(
                    name.replace('_angles', ' angle').capitalize() + ' by layer',
                    'degrees',
                    0,
                    curves,
                )
            )
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
    states = sorted({state for _, _, state in points})

    def draw(axes: Axes) -> None:
        for index, state in enumerate(states):
            axes.plot(
                *zip(*[(number, value) for number, value, other in points if other == state]),
                'o',
                color=FEW(index),
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
        axes.legend(loc='best')

    return [
        Plot(
            f'Search {_short(search.study)}',
            f'top-1 of each of {len(points)} trials; the best is '
            f'{max(value for _, value, _ in points):.4f}',
            draw,
        )
    ]


def png(plots: Sequence[Plot], path: str) -> None:
    """Writes plots as one PNG.

    Args:
        plots: The plots, at least one.
        path: The path of the PNG.

    Raises:
        OSError: The file cannot be written.
    """
    rows = -(-len(plots) // COLUMNS)
    with matplotlib.rc_context(STYLE):
        figure = Figure((INCHES[0] * min(COLUMNS, len(plots)), INCHES[1] * rows), dpi=DPI)
        FigureCanvasAgg(figure)
        for i, plot in enumerate(plots):
            _draw(plot, figure.add_subplot(rows, min(COLUMNS, len(plots)), i + 1))
        figure.tight_layout()
        figure.savefig(path, format='png', metadata={'Software': None})


def svg(plot: Plot) -> bytes:
    """Returns a plot as the bytes of an SVG file."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(INCHES)
        FigureCanvasSVG(figure)
        _draw(plot, figure.add_subplot(1, 1, 1))
        figure.tight_layout()
        buffer = io.BytesIO()
        figure.savefig(buffer, format='svg', metadata={'Date': None})
    return buffer.getvalue()


def _draw(plot: Plot, axes: Axes) -> None:
    axes.set_title(_plain(plot.title))
    plot.draw(axes)


def _lines(title: str, label: str, bottom: Optional[float], curves: Sequence[Curve]) -> Plot:
    """Returns a plot of curves over steps."""

    def draw(axes: Axes) -> None:
        for name, points, colour in curves:
            axes.plot(
                *zip(*points),
                color=colour,
                marker='o' if len(points) < 30 else None,
                label=_plain(_short(name)),
            )
        axes.set_xlabel('step')
        axes.set_ylabel(label)
        if bottom is not None:
            axes.set_ylim(
                bottom, 1.08 * max(value for _, points, _ in curves for _, value in points) + 1e-9
            )
        _legend(axes, len(curves))

    ends = []
    for curve in curves:
        values = [value for _, value in curve.points]
        ends.append(f'{curve.name} from {values[0]:.4g} to {values[-1]:.4g}')
    return Plot(title, f'{title} over steps: {"; ".join(ends)}', draw)


def _legend(axes: Axes, count: int) -> None:
    """Adds a legend. Of many curves it names the first, the last and some in between."""
    handles, labels = axes.get_legend_handles_labels()
    if count > MOST_NAMED:
        shown = sorted({round(i * (count - 1) / (MOST_NAMED - 1)) for i in range(MOST_NAMED)})
        handles, labels = [handles[i] for i in shown], [labels[i] for i in shown]
    if any(label.startswith('_') for label in labels):  # matplotlib would omit these labels
        labels = [' ' + label for label in labels]
    axes.legend(handles, labels, loc='best')


def _rules(found: Sequence[Run], colours: Sequence[Colour]) -> Plot:
    """Returns a plot of the newest top-1 of each run, with one row per rule."""
    reached = [(run.rule, run.last('top1'), colour) for run, colour in zip(found, colours)]
    last = [(rule, top1, colour) for rule, top1, colour in reached if top1 is not None]
    best: Dict[str, float] = {}
    for rule, top1, _ in last:
        best[rule] = max(top1, best.get(rule, top1))
    order = sorted(best, key=lambda rule: best[rule])

    def draw(axes: Axes) -> None:
        for rule, top1, colour in last:
            axes.plot([top1], [order.index(rule)], 'o', color=colour, markersize=6)
        for rule in order:
            axes.annotate(
                f'{best[rule]:.4f}',
                (best[rule], order.index(rule)),
                (0, 6),
                textcoords='offset points',
                ha='center',
                fontsize=7,
            )
        axes.set_yticks(range(len(order)))
        axes.set_yticklabels([_plain(_short(rule)) for rule in order])
        axes.set_ylim(-0.7, len(order) - 0.2)
        axes.margins(x=0.15)
        axes.set_xlabel('top-1 at the end of each run')

    return Plot(
        'Top-1 by rule',
        'best top-1 of each rule: '
        + '; '.join(f'{rule} {best[rule]:.4f}' for rule in reversed(order)),
        draw,
    )


def _names(found: Sequence[Run]) -> List[str]:
    """Returns a unique name for each run: its exp_id, with the collection if there are several."""
    several = len({run.collection for run in found}) > 1
    return [f'{run.exp_id} ({run.collection})' if several else run.exp_id for run in found]


def _colours(count: int) -> List[Colour]:
    """Returns a colour for each of `count` runs."""
    return [FEW(i) if count <= FEW.N else MANY(i % MANY.N) for i in range(count)]


def _short(name: str, most: int = 28) -> str:
    return name if len(name) <= most else name[: most // 2 - 1] + '…' + name[-most // 2 :]


def _plain(text: str) -> str:
    """Returns text that matplotlib and XML display literally.

    Dollar signs are escaped, because they would start a formula. Characters that cannot be printed
    become '?', because XML forbids some of them.
    """
    return ''.join(c if c.isprintable() else '?' for c in text).replace('$', r'\$')
