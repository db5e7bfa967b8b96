"""Renders one self-contained HTML page, which needs no server, network or script."""

import base64
import html
from typing import Optional, Sequence

from config.flags import as_flag
from reports import columns, plots, runs, searches, table
from reports.selection import Sheet

HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
{refresh}<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff;
  max-width: 1240px; margin: 0 auto; padding: 0 16px 48px; }}
h1 {{ font-size: 1.5em; }}
h2 {{ font-size: 1.2em; margin-top: 2em; border-top: 1px solid #ccc; padding-top: .8em; }}
h1, h2, p {{ overflow-wrap: anywhere; }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-size: .9em; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .25em .7em; text-align: left; vertical-align: top; }}
th {{ border-bottom: 2px solid #888; white-space: nowrap; }}
td {{ border-bottom: 1px solid #ddd; min-width: 3.5em; }}
.n {{ text-align: right; white-space: nowrap; }}
.plots {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(min(360px, 100%), 1fr));
  gap: 12px; }}
figure {{ margin: 0; }} img {{ width: 100%; height: auto; display: block; }}
.running {{ color: #06707f; }} .finished {{ color: #1a7f37; }}
.died {{ color: #b3261e; }} .spooled, .stopped {{ color: #8a5a00; }}
.note {{ color: #555; font-size: .9em; }}
</style>
</head>
<body>
"""


def of(
    found: Sequence[runs.Run],
    tables: Sequence[Sheet],
    title: str,
    note: str,
    detailed: int,
    refresh_s: Optional[int] = None,
    searched: Sequence[searches.Search] = (),
) -> str:
    """Renders the page of a list of runs.

    Args:
        found: The runs.
        tables: The tables of these runs and of their groups.
        title: The heading.
        note: A line below the heading.
        detailed: How many of the newest runs get plots. These need all of their records.
        refresh_s: Seconds after which a browser reloads the page, or None.
        searched: The searches of the database.

    Returns:
        The page as HTML text.
    """
    refresh = '' if refresh_s is None else f'<meta http-equiv="refresh" content="{refresh_s:d}">\n'
    parts = [
        HEAD.format(title=_safe(title), refresh=refresh),
        f'<h1>{_safe(title)}</h1>\n<p class="note">{_safe(note)}</p>\n',
    ]
    if not found:
        return ''.join(parts) + '<p>There are no runs yet.</p>\n</body>\n</html>\n'
    parts += [*map(_table, tables), _states(found)]
    newest = sorted(found, key=lambda run: run.time)[-detailed:]
    shown = [run for run in found if run in newest]
    parts += [
        '<h2>Comparison</h2>\n',
        _left_out(found, shown),
        _plots(plots.comparing(shown)),
    ]
    for search in searched:
        parts += [
            f'<h2>{_safe(searches.title(search))}</h2>\n',
            _trials(search),
            _plots(plots.of_search(search)),
        ]
    for run in shown:
        parts += [
            f'<h2>{_safe(run.exp_id)} <small>({_safe(run.collection)})</small></h2>\n',
            _settings(run),
            _plots(plots.of_run(run)),
        ]
    return ''.join(parts) + '</body>\n</html>\n'


def _table(sheet: Sheet) -> str:
    """Renders the rows and columns of a report."""
    shown = sheet.usual
    classes = []
    for column in shown:
        kind = '' if column.is_text else 'n'
        is_state = column.name == 'state'
        classes.append(
            [kind] + [text.partition(' ')[0] if is_state else kind for text in column.texts]
        )
    rows = zip(*[column.texts for column in shown])
    return _rows([column.title for column in shown], list(rows), list(zip(*classes)))


def _trials(search: searches.Search) -> str:
    best = searches.best(search)
    names = [heading for heading, _ in searches.COLUMNS]
    kinds = ['n' if heading in searches.NUMBERS else '' for heading in names]
    rows = [[text(trial) for _, text in searches.COLUMNS] for trial in best]
    return _rows(names, rows, [kinds] * (len(rows) + 1))


def _rows(
    head: Sequence[str], rows: Sequence[Sequence[str]], classes: Sequence[Sequence[str]]
) -> str:
    """Renders a table.

    Args:
        head: The headings.
        rows: The texts of each row.
        classes: The CSS classes of the cells of the head and of each row; '' for none.
    """

    def row(tag: str, texts: Sequence[str], kinds: Sequence[str]) -> str:
        return ''.join(
            f'<{tag} class="{kind}">{_safe(text)}</{tag}>'
            if kind
            else f'<{tag}>{_safe(text)}</{tag}>'
            for text, kind in zip(texts, kinds)
        )

    body = ''.join(
        f'<tr>{row("td", texts, kinds)}</tr>\n' for texts, kinds in zip(rows, classes[1:])
    )
    return (
        f'<div class="wide"><table>\n<thead><tr>{row("th", head, classes[0])}</tr></thead>\n'
        f'<tbody>\n{body}</tbody>\n</table></div>\n'
    )


def _states(found: Sequence[runs.Run]) -> str:
    """Renders a note that explains the angles and the states in the table."""
    there = {run.state for run in found}
    angles = table.note(found)
    meanings = '; '.join(
        f'<b>{state}</b>: {_safe(meaning)}'
        for state, meaning in runs.STATES.items()
        if state in there
    )
    return f'<p class="note">{_safe(angles) + " " if angles else ""}{meanings}.</p>\n'


def _left_out(found: Sequence[runs.Run], shown: Sequence[runs.Run]) -> str:
    if len(shown) == len(found):
        return ''
    newest = f'Only the newest {len(shown):,} of {len(found):,} runs are plotted (--most).'
    return f'<p class="note">{newest}</p>\n'


def _settings(run: runs.Run) -> str:
    made = ', '.join(
        f'{name}: {run.provenance[name]}'
        for name in ('runtime', 'commit')
        if run.provenance.get(name)
    )
    if run.provenance.get('uncommitted'):
        made += ' with uncommitted changes'
    given = ' '.join(as_flag(name, value) for name, value in run.settings.items())
    lines = [f'newest record: {run.time:%Y-%m-%d %H:%M:%S} UTC' + ('; ' + made if made else '')]
    if given:
        lines.append('settings: ' + given)
    if run.why:
        lines.append(f'{run.state}: {run.why}')
    for check in run.validations:
        top1 = columns.shown(check.result('top1'), '{:.4f}')
        lines.append(f'validation {check.exp_id}: step {check.step:,}, top-1 {top1}')
    return f'<p class="note">{"<br>".join(map(_safe, lines))}</p>\n'


def _plots(drawn: Sequence[plots.Plot]) -> str:
    if not drawn:
        return '<p>There is nothing to plot yet.</p>\n'
    return f'<div class="plots">\n{"".join(map(_figure, drawn))}</div>\n'


def _figure(plot: plots.Plot) -> str:
    source = f'data:image/svg+xml;base64,{base64.b64encode(plots.svg(plot)).decode()}'
    return f'<figure><img alt="{_safe(plot.note)}" src="{source}"></figure>\n'


def _safe(text: object) -> str:
    return html.escape(''.join(c if c.isprintable() else '?' for c in str(text)))
