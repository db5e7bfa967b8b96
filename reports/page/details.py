"""What the page shows of single runs: the settings and environments that differ, and commands."""

from typing import Dict, List, Optional, Sequence

from config.schema import LOADING
from reports import columns, repeat
from reports.digests import Digests
from reports.repeat import Here
from reports.runs import STATES, Run
from reports.types import Json

ENVIRONMENT = ('provenance', 'environment')
NOT_SHOWN = LOADING + ENVIRONMENT + ('digests',)


def differing(found: Sequence[Run]) -> List[Json]:
    """Returns the settings and the facts of the environment in which some of the runs differ.

    Returns:
        For each, its `name`, the `kind` ('setting' or 'environment'), the `texts` that it has, and
        for each run the place of its text in them, in `of`. The text of a missing value is ''.
    """
    facts: Dict[str, Dict[int, str]] = {}
    for place, run in enumerate(found):
        for name, value in _facts(run).items():
            facts.setdefault(name, {})[place] = str(value)
    rows = []
    for name in sorted(facts):
        own = [facts[name].get(place, '') for place in range(len(found))]
        texts = sorted(set(own))
        if len(texts) > 1:
            places = {text: place for place, text in enumerate(texts)}
            kind, _, short = name.partition(' ')
            rows.append(dict(kind=kind, name=short, texts=texts, of=[places[each] for each in own]))
    return rows


def _facts(run: Run) -> Dict[str, object]:
    """Returns {kind and name: value} of a run."""
    found: Dict[str, object] = {}
    for group, values in run.params.items():
        kind = 'environment' if group in ENVIRONMENT else 'setting'
        if kind == 'environment' or group not in NOT_SHOWN:
            own = repeat.facts(run.params, group) if isinstance(values, dict) else {group: values}
            found.update({f'{kind} {name}': value for name, value in own.items()})
    return found


def commands(found: Sequence[Run], digests: Digests, here: Optional[Here]) -> Json:
    """Returns the lines of the scripts that repeat runs, each line once.

    Args:
        found: The runs.
        digests: The digests of their settings, to notice settings that changed on the way.
        here: The database that they are in.

    Returns:
        The `lines`, and for each run the places of its own lines in them, in `of`.
    """
    places: Dict[str, int] = {}
    of = []
    for run in found:
        lines = repeat.command(run.params, digests.get(run.key, ()), run.step, here)
        of.append([places.setdefault(line, len(places)) for line in lines])
    return dict(lines=list(places), of=of)


def remarks(run: Run) -> List[str]:
    """Returns what is known of a run besides its settings: its program, end and validations."""
    made = [str(run.provenance['runtime'])] if run.provenance.get('runtime') else []
    planned = '' if run.steps is None else f' of {run.steps:,}'
    lines = [
        f'{run.state}: {STATES[run.state]}',
        f'step {run.step:,}{planned}; newest record: {run.time:%Y-%m-%d %H:%M:%S} UTC'
        + ''.join(f'; {one}' for one in made),
    ]
    lines += [f'why: {run.why}'] if run.why else []
    if run.waiting:
        lines.append(f'records on this disk that are waiting for MongoDB: {run.waiting:,}')
    if run.remarks.tags:
        lines.append(f'tags: {", ".join(run.remarks.tags)}')
    for check in run.validations:
        top1 = columns.shown(check.result('top1'), '{:.4f}')
        lines.append(f'validation {check.exp_id}: step {check.step:,}, top-1 {top1}')
    return lines + [f'note: {note}' for note in run.remarks.notes]
