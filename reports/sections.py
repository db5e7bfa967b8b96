"""What is drawn together: groups of runs with the same data set, network and image size."""

from typing import Dict, List, NamedTuple, Optional, Sequence, Set

from reports import groups, looks
from reports.columns import shown
from reports.groups import Group
from reports.looks import DASHES, Dash, Look
from reports.runs import VALIDATED, Run
from reports.stored import RunKey

BASELINES = ('backprop', 'feedback')  # the rules that others are compared with
MOST_SETTINGS = 3  # how many settings the label of a group names
MOST_CURVES = 120  # the curves of how many runs are read


class Alike(NamedTuple):
    """What runs need in common to be drawn on the same axes."""

    dataset: str
    model: str
    image_size: Optional[int]

    @property
    def title(self) -> str:
        """Its name for readers."""
        size = [] if self.image_size is None else [f'{self.image_size} px']
        return ', '.join([self.dataset, self.model, *size])


class Member(NamedTuple):
    """A group of runs in the plots of a section.

    Attributes:
        group: The group.
        label: Its name, unique in the section: the rule, and what distinguishes it from others.
        look: The look of its rule.
        dash: The kind of its line, which distinguishes the groups of a rule.
        runs: Those of its runs whose curves are drawn, with all of their records.
        counted: Those of `runs` that its mean is of: the complete ones, or all if there are none.
    """

    group: Group
    label: str
    look: Look
    dash: Dash
    runs: List[Run]
    counted: List[Run]


class Section(NamedTuple):
    """Groups of runs that can be compared.

    Attributes:
        alike: What they have in common.
        members: The groups.
    """

    alike: Alike
    members: List[Member]

    @property
    def drawn(self) -> List[Member]:
        """The members with curves."""
        return [member for member in self.members if member.runs]


def chosen(found: Sequence[Run], most: int) -> List[Run]:
    """Returns the runs whose curves are drawn: those of the newest groups.

    Args:
        found: All runs.
        most: How many groups are drawn at most. They share MOST_CURVES evenly; of a group with
            more runs, those that count in its statistics come first, and of these the newest. A
            run of which only a part is in the database is not drawn.
    """
    newest = sorted(
        (group for group in groups.of(found) if group.first.state != VALIDATED),
        key=lambda group: max(run.time for run in group.runs),
        reverse=True,
    )[:most]
    each = MOST_CURVES // max(len(newest), 1) or 1
    kept: Set[RunKey] = set()
    for group in newest:
        counted = {run.key for run in group.counted}
        order = sorted(group.runs, key=lambda run: (run.key in counted, run.time), reverse=True)
        kept.update(run.key for run in order[:each])
    return [run for run in found if run.key in kept and not run.is_in_part]


def of(found: Sequence[Run], whole: Sequence[Run]) -> List[Section]:
    """Returns the sections of some runs.

    Args:
        found: All runs. Validations are left out.
        whole: Those whose curves are drawn, with all of their records.
    """
    by_key = {run.key: run for run in whole}
    of_rule = looks.of({run.rule for run in found})
    together: Dict[Alike, List[Group]] = {}
    for group in groups.of(found):
        run = group.first
        if run.state != VALIDATED:
            alike = Alike(run.dataset, run.collection, run.image_size)
            together.setdefault(alike, []).append(group)
    return [
        Section(alike, _members(together[alike], by_key, of_rule))
        for alike in sorted(together, key=lambda each: (each[:2], each.image_size or 0))
    ]


def _members(
    found: Sequence[Group], whole: Dict[RunKey, Run], of_rule: Dict[str, Look]
) -> List[Member]:
    dashes: Dict[str, int] = {}
    members = []
    order = sorted(zip(found, labels(found)), key=lambda each: (each[0].first.rule, each[1]))
    for group, label in order:
        rule = group.first.rule
        place = dashes[rule] = dashes.get(rule, -1) + 1
        drawn = [whole[run.key] for run in group.runs if run.key in whole]
        keys = {run.key for run in group.counted}
        counted = [run for run in drawn if run.key in keys] or drawn
        dash = DASHES[place % len(DASHES)]
        members.append(Member(group, label, of_rule[rule], dash, drawn, counted))
    return members


def labels(found: Sequence[Group]) -> List[str]:
    """Returns a unique name for each group: its rule, and the settings that differ within it."""
    of_rule: Dict[str, List[Group]] = {}
    for group in found:
        of_rule.setdefault(group.first.rule, []).append(group)
    names: Dict[int, str] = {}
    for rule, own in of_rule.items():
        settings = [group.first.settings if len(own) > 1 else {} for group in own]
        differing = [
            name
            for name in sorted({name for each in settings for name in each})
            if name not in groups.NOT_IN_LABELS
            and any(each.get(name) != settings[0].get(name) for each in settings[1:])
        ]
        told = [
            ', '.join(
                [rule]
                + [
                    f'{name} {_text(group.first.setting(name))}'
                    for name in differing[:MOST_SETTINGS]
                ]
            )
            for group in own
        ]
        for group, label in zip(own, told):
            names[id(group)] = label if told.count(label) == 1 else f'{label} ({group.name})'
    plain = [names[id(group)] for group in found]
    return [
        label if plain.count(label) == 1 else f'{label} {plain[: place + 1].count(label)}'
        for place, label in enumerate(plain)
    ]


def _text(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return ','.join(map(str, value))
    return shown(value, '{:g}') if isinstance(value, (int, float)) else str(value)
