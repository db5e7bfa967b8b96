"""The colours and markers of rules: the same rule looks the same in every plot of a report.

The first colours are those of Okabe and Ito (https://jfly.uni-koeln.de/color), which people with
any kind of colour blindness can tell apart, without yellow and with grey for black, so that all of
them can be seen on white and on black. Nobody can tell apart many more: later rules have another
marker, too.
"""

from typing import Dict, Iterable, NamedTuple

COLOURS = (
    '#0072b2',  # blue
    '#d55e00',  # vermillion
    '#009e73',  # green
    '#cc79a7',  # purple
    '#e69f00',  # orange
    '#56b4e9',  # sky blue
    '#6b6b6b',  # grey
    '#8c6d31',  # brown
    '#44aa99',  # teal
    '#7a6fd0',  # violet
    '#999933',  # olive
    '#b5487a',  # raspberry
)
FIRST = 7  # colours that anyone can tell apart; those after them have another marker, too
# The places of the rules that this program had when it was written. Others follow by name.
ORDER = (
    *('symmetric', 'mirror', 'information', 'kolen_pollack', 'feedback', 'activation', 'backprop'),
    *('pfa', 'dfa', 'usf', 'frsf', 'brsf'),
)


class Marker(NamedTuple):
    """A marker: its name in Matplotlib and in plotly.js."""

    matplotlib: str
    plotly: str


class Dash(NamedTuple):
    """A kind of line: its name in Matplotlib and in plotly.js."""

    matplotlib: str
    plotly: str


MARKERS = (
    Marker('o', 'circle'),
    Marker('s', 'square'),
    Marker('D', 'diamond'),
    Marker('^', 'triangle-up'),
)
DASHES = (Dash('-', 'solid'), Dash('--', 'dash'), Dash(':', 'dot'), Dash('-.', 'dashdot'))


class Look(NamedTuple):
    """How a rule is drawn: a colour, such as '#0072b2', and a marker."""

    colour: str
    marker: Marker


def of(rules: Iterable[str]) -> Dict[str, Look]:
    """Returns {rule: its look}. Rules of this program look the same whatever others there are."""
    others = sorted(set(rules) - set(ORDER))
    return {
        rule: Look(COLOURS[place % len(COLOURS)], MARKERS[place // len(COLOURS) % len(MARKERS)])
        for place, rule in enumerate([*ORDER, *others])
    }
