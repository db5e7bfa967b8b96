"""Writes the page: one HTML file that needs no server and no network.

Its content policy allows the scripts of the page alone, by their hashes, and neither others nor
anything from elsewhere. Names that users chose are data for these scripts, and text in HTML.
"""

import base64
import functools
import hashlib
import os
from typing import List, NamedTuple

from reports import sections
from reports.page import data, still
from reports.page.data import Contents
from reports.page.still import safe

FOLDER = os.path.dirname(os.path.abspath(__file__))
PLOTLY = os.path.join('vendor', 'plotly-cartesian.min.js')
# In the order in which they run.
SCRIPTS = (
    PLOTLY,
    *('base.js', 'table.js', 'details.js', 'figures.js', 'curves.js', 'compared.js', 'layers.js'),
    *('classes.js', 'searches.js', 'main.js'),
)
POLICY = (
    "default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; "
    "connect-src {connect}; base-uri 'none'; form-action 'none'"
)
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
{refresh}<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<main id="live"></main>
<main id="still">
{still}</main>
<script type="application/json" id="data">{data}</script>
{scripts}</body>
</html>
"""


class Script(NamedTuple):
    """A script of the page, and its SHA-256 as the content policy names it."""

    text: str
    digest: str


def read(name: str) -> str:
    """Returns the text of one of the files of this folder."""
    with open(os.path.join(FOLDER, name), encoding='utf-8', newline='') as file:
        return file.read()


@functools.lru_cache(maxsize=None)
def scripts() -> List[Script]:
    """Returns the scripts of every page."""
    found = []
    for name in SCRIPTS:
        text = '\n' + read(name)
        digest = base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode()
        found.append(Script(text, f"'sha256-{digest}'"))
    return found


def policy(contents: Contents) -> str:
    """Returns the content policy of a page."""
    return POLICY.format(
        hashes=' '.join(script.digest for script in scripts()),
        connect="'self'" if contents.is_served else "'none'",
    )


def of(contents: Contents) -> str:
    """Returns a page as HTML text."""
    found = sections.of(contents.runs, contents.whole)
    reloads = contents.refresh_s is not None and not contents.is_served
    return PAGE.format(
        policy=policy(contents),
        refresh=f'<meta http-equiv="refresh" content="{contents.refresh_s:d}">\n'
        if reloads
        else '',
        title=safe(contents.title),
        style=read('page.css'),
        still=still.of(contents, found),
        data=data.text(contents, found),
        scripts=''.join(f'<script>{script.text}</script>\n' for script in scripts()),
    )
