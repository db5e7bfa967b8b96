"""The data of the page, for its scripts: an object of JSON of a limited size."""

import json
import math
import re
from typing import Dict, List, Match, NamedTuple, Optional, Sequence, Tuple

from reports import classes, curves, groups, searches, sections, table
from reports.curves import Band, LayerMap, Measure
from reports.digests import Digests
from reports.page import details
from reports.repeat import Here
from reports.runs import STATES, Run
from reports.searches import Search
from reports.sections import Member, Section
from reports.selection import Sheet
from reports.types import Json, Points

LIMIT = 2_000_000  # bytes of all data
MOST_ROWS = 2000  # rows of a table
MOST_NAMES = 20  # runs that a note names
# The columns of runs that are shown at first, in this order, unless columns were asked for.
USUAL = (
    *('exp_id', 'rule', 'dataset', 'model', 'seed', 'top1', 'top5', 'loss', 'weight_angle'),
    *('projection_angle', 'gradient_angle', 'state', 'epoch', 'learning_rate', 'images_per_s'),
    *('started', 'duration', 'why', 'commit', 'tags', 'notes'),
)
# The escapes of JSON: of a backslash or another character, or of a character by its number.
UNPRINTABLE = re.compile(r'\\(?:u([0-9a-f]{4})|.)')
# Characters that control the direction of text, and other invisible ones but the end of a line.
BIDIRECTIONAL = re.compile(r'00[01789].|200[b-f]|202[89a-e]|206.|feff')
DIGITS = 5  # significant digits of the numbers in plots; those in tables have all of theirs


class Detail(NamedTuple):
    """How much of the curves a page holds.

    Attributes:
        points: Points of a curve; twice as many as the pixels that it is drawn on.
        columns: Steps of a heat map.
        seeds: Whether each seed of a group has its own curves.
    """

    points: int
    columns: int
    seeds: bool


# From the most to the least; the first that fits LIMIT is used.
DETAILS = (
    Detail(800, 200, True),
    Detail(400, 100, True),
    Detail(200, 50, True),
    Detail(100, 25, True),
    Detail(100, 25, False),
    Detail(40, 10, False),
    Detail(4, 2, False),
)


class Contents(NamedTuple):
    """What a page shows.

    Attributes:
        title: The heading.
        note: A line below the heading.
        runs: The runs.
        whole: Those whose curves are drawn, with all of their records.
        run_sheet: The table of the runs, in the same order.
        group_sheet: The table of their groups, or None.
        searched: The searches of the database.
        by_class: The results by class of the runs whose curves are drawn.
        digests: The digests of the settings of runs whose settings may have changed.
        here: The database that the runs are in.
        refresh_s: Seconds after which a browser reloads the page, or None.
        is_served: Whether the page is served, and asks for new data every `refresh_s` seconds.
    """

    title: str
    note: str
    runs: Sequence[Run]
    whole: Sequence[Run]
    run_sheet: Sheet
    group_sheet: Optional[Sheet] = None
    searched: Sequence[Search] = ()
    by_class: classes.Found = classes.NONE
    digests: Digests = {}
    here: Optional[Here] = None
    refresh_s: Optional[int] = None
    is_served: bool = False


class Grids:
    """The lists of steps of a page. Curves that share a list refer to its place.

    Attributes:
        all: The lists.
    """

    def __init__(self) -> None:
        self.all: List[List[int]] = []
        self._places: Dict[Tuple[int, ...], int] = {}

    def place(self, steps: Sequence[int]) -> int:
        """Returns the place of a list of steps."""
        key = tuple(steps)
        if key not in self._places:
            self._places[key] = len(self.all)
            self.all.append(list(key))
        return self._places[key]


def text(contents: Contents, found: Sequence[Section]) -> str:
    """Returns the data as JSON, which may be part of a page: it contains no '<'.

    Args:
        contents: What the page shows.
        found: The sections of its runs.
    """
    base = dict(
        title=contents.title,
        note=contents.note,
        served=contents.refresh_s if contents.is_served else None,
        tables=tables(contents),
        runs=_runs(contents),
        searches=[_search(search) for search in contents.searched],
    )
    base['classes'] = _classes(contents, (LIMIT - len(_encoded(base))) // 2)
    whole = [_drawn(section) for section in found]
    for detail in DETAILS:
        grids = Grids()
        drawn = [_section(*each, grids, detail) for each in zip(found, whole)]
        encoded = _encoded(dict(base, sections=drawn, grids=grids.all))
        if len(encoded) <= LIMIT:
            break
    return encoded


def _encoded(data: Json) -> str:
    encoded = json.dumps(data, separators=(',', ':'), allow_nan=False)
    # What cannot be printed could change how the text after it is shown.
    return UNPRINTABLE.sub(_printable, encoded).replace('<', '\\u003c')


def _printable(found: Match[str]) -> str:
    """Returns an escape of JSON, with '?' for that of a character that cannot be printed."""
    code = found.group(1)
    is_shown = code is None or not BIDIRECTIONAL.match(code)
    return found.group() if is_shown else '?'


def tables(contents: Contents) -> List[Json]:
    """Returns the tables of a page, column by column.

    Columns of texts have no values beside their texts.
    """
    found = [_table('runs', 'Runs', contents.run_sheet, run_notes(contents.runs))]
    if contents.group_sheet:
        note = 'Each row is a group of runs that differ only in their seed.'
        found.append(_table('groups', 'Groups', contents.group_sheet, [note]))
    return found


def run_notes(found: Sequence[Run]) -> List[str]:
    """Returns sentences that explain the angles and the states in the table of runs."""
    there = {run.state for run in found}
    meanings = [f'{state}: {meaning}' for state, meaning in STATES.items() if state in there]
    return [note for note in (table.note(found), '; '.join(meanings) + '.') if note]


def _table(name: str, title: str, sheet: Sheet, notes: List[str]) -> Json:
    height = min(sheet.height, MOST_ROWS)
    usual = [column.name for column in sheet.usual]
    columns = sheet.columns
    if name == 'runs' and not sheet.is_chosen:
        usual = list(USUAL)
        columns = sorted(
            columns,
            key=lambda each: usual.index(each.name) if each.name in usual else len(usual),
        )
    return dict(
        name=name,
        title=title,
        notes=notes,
        height=height,
        left=sheet.height - height,
        columns=[
            dict(
                name=column.name,
                title=column.title,
                isText=column.is_text,
                isUsual=column.name in usual and any(text != '-' for text in column.texts),
                texts=column.texts[:height],
                values=[_number(value) for value in column.values[:height]]
                if any(isinstance(value, (int, float)) for value in column.values)
                else None,
            )
            for column in columns
        ],
    )


def _runs(contents: Contents) -> Json:
    """Returns what is shown of chosen runs, in the order of the rows."""
    found = contents.runs[:MOST_ROWS]
    return dict(
        names=[run.exp_id for run in found],
        keys=[f'{run.collection}/{run.exp_id}' for run in found],
        differing=details.differing(found),
        commands=details.commands(found, contents.digests, contents.here),
        remarks=[details.remarks(run) for run in found],
    )


class Drawn(NamedTuple):
    """All curves of a measure in a section, before they are thinned.

    Attributes:
        measure: The measure.
        means: For each group of the section, the mean over its runs.
        seeds: For each group, the curve of each of its runs; [] if there is none but the mean.
        maps: For each group, the values by layer; None of a measure that has none.
    """

    measure: Measure
    means: List[Band]
    seeds: List[List[Points]]
    maps: Optional[List[LayerMap]]


def _drawn(section: Section) -> List[Drawn]:
    """Returns the curves of a section."""
    found = []
    for measure in curves.measures([run for member in section.drawn for run in member.runs]):
        of_runs = [{run.key: measure.of(run) for run in member.runs} for member in section.members]
        means, seeds = [], []
        for member, own in zip(section.members, of_runs):
            means.append(curves.band([own[run.key] for run in member.counted]))
            is_mean = len(member.runs) == 1 and member.counted == member.runs
            seeds.append([] if is_mean else list(own.values()))
        maps = [curves.layer_map(member.counted, measure.key) for member in section.members]
        found.append(Drawn(measure, means, seeds, maps if measure.is_by_layer else None))
    return found


def _section(section: Section, drawn: Sequence[Drawn], grids: Grids, detail: Detail) -> Json:
    return dict(
        title=section.alike.title,
        baselines=list(sections.BASELINES),
        members=[_member(member, grids) for member in section.members],
        compared=_compared(section.members),
        measures=[
            dict(
                name=each.measure.name,
                title=each.measure.title,
                label=each.measure.label,
                isByLayer=each.measure.is_by_layer,
                means=[_mean(band, grids, detail) for band in each.means],
                seeds=[
                    [_curve(points, grids, detail) for points in own] if detail.seeds else []
                    for own in each.seeds
                ],
                maps=each.maps and [_map(found, grids, detail) for found in each.maps],
            )
            for each in drawn
        ],
    )


def _member(member: Member, grids: Grids) -> Json:
    """Returns how a group is named and drawn, and what turns its steps into epochs and images."""
    first = member.group.first
    hours = curves.hours(member.counted)
    kept = curves.evenly(len(hours), 60)
    return dict(
        label=member.label,
        name=member.group.name,
        rule=first.rule,
        colour=member.look.colour,
        symbol=member.look.marker.plotly,
        dash=member.dash.plotly,
        runs=[
            dict(name=run.exp_id, seed=run.seed, state=run.state, isCounted=run in member.counted)
            for run in member.runs
        ],
        complete=len(member.group.counted),
        all=len(member.group.runs),
        stepsPerEpoch=first.steps_per_epoch,
        batchSize=first.batch_size,
        hours=[
            grids.place([hours[place][0] for place in kept]),
            [_rounded(hours[place][1]) for place in kept],
        ],
    )


def _mean(band: Band, grids: Grids, detail: Detail) -> Optional[List[object]]:
    """Returns the mean of a group: its steps, the values, and the standard deviations."""
    if not band.steps:
        return None
    kept = curves.thin(band.mean, detail.points)
    return [
        grids.place([band.steps[place] for place in kept]),
        [_rounded(band.mean[place]) for place in kept],
        [_rounded(band.std[place]) for place in kept] if band.std else None,
        band.n,
    ]


def _curve(points: Points, grids: Grids, detail: Detail) -> Optional[List[object]]:
    if not points:
        return None
    kept = curves.thin([value for _, value in points], detail.points)
    return [
        grids.place([points[place][0] for place in kept]),
        [_rounded(points[place][1]) for place in kept],
    ]


def _map(found: LayerMap, grids: Grids, detail: Detail) -> Optional[List[object]]:
    """Returns the heat map of a measure by layer: layers, steps, and the values of each layer."""
    if not found.steps:
        return None
    kept = curves.evenly(len(found.steps), detail.columns)
    return [
        found.layers,
        grids.place([found.steps[place] for place in kept]),
        [[_rounded(values[place]) for place in kept] for values in found.values],
    ]


def _compared(members: Sequence[Member]) -> List[Json]:
    """Returns the final results: each seed, the mean and its interval, for each measure."""
    found: List[Json] = []
    for name in groups.MEASURES:
        of: List[Json] = []
        for member in members:
            summary = member.group.summary(name)
            of.append(
                dict(
                    values=[_number(value) for value in member.group.values(name)],
                    seeds=[run.seed for run in member.group.counted],
                    mean=_number(summary.mean),
                    low=_number(summary.low),
                    high=_number(summary.high),
                )
            )
        if any(value is not None for each in of for value in each['values']):
            found.append(dict(name=name, of=of))
    return found


def _classes(contents: Contents, room: int) -> Json:
    """Returns the results by class, in the order of the runs.

    Args:
        contents: What the page shows.
        room: The bytes that they may have.
    """
    found = contents.by_class.within(room)
    order = {run.key: place for place, run in enumerate(contents.whole)}
    shown = sorted(found.shown, key=lambda each: order.get(each.run.key, len(order)))
    names: Dict[Tuple[str, ...], int] = {}
    of = [names.setdefault(tuple(each.names), len(names)) for each in shown]
    return dict(
        names=list(names),
        runs=[dict(each.document(), names=place) for each, place in zip(shown, of)],
        first='/'.join(found.shown[0].run.key) if found.shown else None,
        notes=class_notes(found),
    )


def class_notes(found: classes.Found) -> List[str]:
    """Returns sentences about the runs whose results by class are not shown."""
    notes = []
    if found.left and found.shown:
        notes.append(
            'All results by class would be too large for one page. Left out, choose runs with '
            f'--exp_id to see them: {_names(found.left)}.'
        )
    elif found.left:
        notes.append(f'Too large for this page: the results by class of {_names(found.left)}.')
    if found.lacking and (found.shown or found.left):
        notes.append(f'Runs that have recorded no results by class: {_names(found.lacking)}.')
    return notes


def _names(found: Sequence[Run]) -> str:
    """Returns the names of runs; of many, the first ones and how many more there are."""
    more = len(found) - MOST_NAMES
    names = ', '.join(run.exp_id for run in found[:MOST_NAMES])
    return names + (f' and {more:,} more' if more > 0 else '')


def _search(search: Search) -> Json:
    """Returns a search: its trials, and how important each setting is."""
    trials = search.trials
    importance = searches.importance(search)
    return dict(
        title=searches.title(search),
        study=search.study,
        settings=[
            dict(
                name=name,
                importance=_number(importance.get(name)),
                values=[_setting(trial.params.get(name)) for trial in trials],
            )
            for name in searches.settings(search)
        ],
        trials=dict(
            numbers=[trial.number for trial in trials],
            states=[trial.state for trial in trials],
            top1=[_number(trial.value) for trial in trials],
            flags=[searches.flags(trial) for trial in trials],
        ),
    )


def _setting(value: object) -> object:
    """Returns the value of a setting: a number, or a text."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _number(value)
    return None if value is None else str(value)


def _number(value: object) -> Optional[float]:
    """Returns a number that JSON can hold, or None."""
    is_number = isinstance(value, (int, float)) and math.isfinite(value)
    return value if is_number else None  # type: ignore[return-value]


def _rounded(value: object) -> Optional[float]:
    number = _number(value)
    return None if number is None else float(f'{number:.{DIGITS}g}')
