"""What the page holds for browsers without scripts: tables, and pictures as SVG."""

import html
from typing import List, Optional, Sequence

from reports import plots, searches
from reports.page.data import Contents, tables
from reports.plots import Plot
from reports.searches import Search
from reports.sections import Section
from reports.types import Json

LONG = 48  # characters of a text that is folded; numbers never are
MOST_GROUPS = 12  # groups in a picture
# Pictures of a page. Those of the first section come first, the most important ones.
MOST_PICTURES = 7


def of(contents: Contents, found: Sequence[Section]) -> str:
    """Returns the part of the page that needs no scripts, as HTML."""
    parts = [f'<h1>{safe(contents.title)}</h1>\n<p class="note">{safe(contents.note)}</p>\n']
    if not contents.runs:
        return ''.join(parts) + '<p>There are no runs yet.</p>\n'
    for table in tables(contents):
        notes = ''.join(f'<p class="note">{safe(note)}</p>\n' for note in table['notes'])
        parts.append(f'<h2>{safe(table["title"])}</h2>\n{_table(table)}{notes}')
    parts.append('<h2>Plots</h2>\n' + _pictures(found))
    for search in contents.searched:
        parts += [
            f'<h2>{safe(searches.title(search))}</h2>\n',
            _trials(search),
            *map(_figure, plots.of_search(search)),
        ]
    return ''.join(parts)


def _pictures(found: Sequence[Section]) -> str:
    """Renders the most important plots of at most MOST_GROUPS groups a section, as pictures."""
    some = [section._replace(members=section.drawn[:MOST_GROUPS]) for section in found]
    drawn = plots.of_sections(some)
    if not drawn:
        return '<p>There is nothing to plot yet.</p>\n'
    left = len(drawn) - MOST_PICTURES
    more = [f'{left:,} more plots need scripts.'] if left > 0 else []
    if any(len(section.drawn) > MOST_GROUPS for section in found):
        more.append(f'The pictures show {MOST_GROUPS} groups of each part.')
    notes = ''.join(f'<p class="note">{safe(note)}</p>\n' for note in more)
    figures = ''.join(map(_figure, drawn[:MOST_PICTURES]))
    return f'{notes}<div class="plots">\n{figures}</div>\n'


def _figure(plot: Plot) -> str:
    drawn = plots.svg(plot)
    label = f'<svg role="img" aria-label="{safe(plot.note)}"'
    return f'<figure>{label}{drawn[len("<svg") :]}</figure>\n'


def _table(table: Json) -> str:
    """Renders the usual columns of a table."""
    shown = [column for column in table['columns'] if column['isUsual']]
    kinds = ['' if column['isText'] else 'n' for column in shown]
    rows = zip(*[column['texts'] for column in shown])
    state = next((place for place, each in enumerate(shown) if each['name'] == 'state'), None)
    return _rows([column['title'] for column in shown], list(rows), kinds, state)


def _trials(search: Search) -> str:
    names = [heading for heading, _ in searches.COLUMNS]
    kinds = ['n' if heading in searches.NUMBERS else '' for heading in names]
    rows = [[text(trial) for _, text in searches.COLUMNS] for trial in searches.best(search)]
    return _rows(names, rows, kinds, names.index('state'))


def _rows(
    head: Sequence[str], rows: Sequence[Sequence[str]], kinds: Sequence[str], state: Optional[int]
) -> str:
    """Renders a table.

    Args:
        head: The headings.
        rows: The texts of each row.
        kinds: The CSS class of each column; '' for none.
        state: The column of the state, whose first word is the class of its cells; or None.
    """
    body: List[str] = []
    for texts in rows:
        own = [kind or ('long' if len(text) > LONG else '') for kind, text in zip(kinds, texts)]
        if state is not None:
            own[state] = texts[state].partition(' ')[0]
        body.append(f'<tr>{_cells("td", texts, own)}</tr>\n')
    return (
        f'<div class="wide"><table>\n<thead><tr>{_cells("th", head, kinds)}</tr></thead>\n'
        f'<tbody>\n{"".join(body)}</tbody>\n</table></div>\n'
    )


def _cells(tag: str, texts: Sequence[str], kinds: Sequence[str]) -> str:
    return ''.join(
        f'<{tag} class="{safe(kind)}">{safe(text)}</{tag}>'
        if kind
        else f'<{tag}>{safe(text)}</{tag}>'
        for text, kind in zip(texts, kinds)
    )


def safe(text: object) -> str:
    """Returns text that HTML shows as it is. Characters that cannot be printed become '?'."""
    return html.escape(''.join(c if c.isprintable() else '?' for c in str(text)))
