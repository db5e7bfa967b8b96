"""What the page holds for browsers without scripts: tables, and pictures as SVG."""

import html
from typing import List, Optional, Sequence

from reports import plots, searches
from reports.classes import Classes
from reports.page.data import Contents, class_notes, tables
from reports.plots import Plot
from reports.searches import Search
from reports.sections import Section
from reports.types import Json

LONG = 48  # characters of a text that is folded; numbers never are
MOST_GROUPS = 12  # groups in a picture
MOST_CLASSES = 100_000  # bytes of JSON of the results by class
MOST_CONFUSIONS = 20  # of a run
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
    parts += ['<h2>Plots</h2>\n', _pictures(found), _classes(contents)]
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


def _classes(contents: Contents) -> str:
    """Renders the results by class of as many runs as MOST_CLASSES bytes can hold."""
    found = contents.by_class.within(MOST_CLASSES)
    more = len(contents.by_class.shown) - len(found.shown)
    notes = [f'The results by class of {more:,} more runs need scripts.'] if more > 0 else []
    notes += class_notes(contents.by_class)
    if not (found.shown or notes):
        return ''
    told = ''.join(f'<p class="note">{safe(note)}</p>\n' for note in notes)
    return '<h2>Classes</h2>\n' + told + ''.join(map(_classes_of, found.shown))


def _classes_of(found: Classes) -> str:
    rows = [
        [name, f'{images:,}', '-' if top1 is None else f'{top1:.4f}']
        for name, images, top1 in zip(found.names, found.images, found.top1)
    ]
    confused = [
        [found.names[each.label], found.names[each.answer], f'{each.images:,}']
        for each in found.largest[:MOST_CONFUSIONS]
    ]
    pictures = ''.join(
        f'<li><img src="{safe(each.source)}" alt="{safe(each.alt)}"><span>{safe(each.caption)}'
        '</span></li>\n'
        for each in found.mistakes
    )
    return (
        f'<h3>Classes of {safe(found.run.exp_id)}</h3>\n<p class="note">{safe(found.told)}</p>\n'
        + _rows(['class', 'images', 'top-1'], rows, ['', 'n', 'n'], None)
        + '<p class="note">The largest confusions:</p>\n'
        + _rows(['label', 'answer', 'images'], confused, ['', '', 'n'], None)
        + '<p class="note">The images that are most surely wrong:</p>\n'
        + f'<ul class="mistakes">\n{pictures}</ul>\n'
        + ''.join(f'<p class="note">{safe(note)}</p>\n' for note in found.notes)
    )


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
