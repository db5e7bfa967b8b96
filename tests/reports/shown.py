"""Pages of the tests: what report.py makes of runs, and the data and tables in a page."""

import datetime
import html.parser
import json
import math
import re

from reports import runs, sections, view
from reports.page import document
from reports.page.data import Contents
from reports.runs import Run
from reports.selection import Selection
from reports.stored import Point

IMAGE = re.compile(r'data:image/(png|jpeg);base64,[A-Za-z0-9+/]+=*')
MOMENT = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)


def contents(found, most=12, searched=(), **more):
    """Returns what a page shows of runs that have all of their records."""
    chosen = sections.chosen(found, most)
    grouped = view.of_groups(found, Selection()).sheet
    return Contents(
        'Runs',
        'of the tests',
        found,
        chosen,
        view.of_runs(found, Selection()).sheet,
        grouped if grouped.height < len(found) else None,
        searched,
        **more,
    )


def page(found, **more):
    """Returns the page of runs that have all of their records."""
    return document.of(contents(found, **more))


def data(text):
    """Returns the data of a page, as a browser reads them."""
    (found,) = re.findall(r'<script type="application/json" id="data">(.*)</script>', text)
    return json.loads(found)


def still(text):
    """Returns the part of a page that is shown without scripts."""
    return re.search(r'(?s)<main id="still">(.*)</main>', text).group(1)


def column(table, name):
    """Returns a column of a table of the data."""
    (found,) = [each for each in table['columns'] if each['name'] == name]
    return found


def foreign(text):
    """Returns the elements of a page that come from elsewhere or could run a script.

    Images whose bytes are in the page are none.
    """
    return [
        (tag, own)
        for tag, own in Tags(text).found
        if tag in ('link', 'iframe', 'object', 'embed', 'image')
        or any(name.startswith('on') for name in own)
        or (tag == 'img' and not IMAGE.fullmatch(own.get('src', '')))
        or (tag != 'img' and 'src' in own)
        or not all(own[name].startswith('#') for name in own if name.endswith('href'))
    ]


class Tags(html.parser.HTMLParser):
    """The elements of a page, as [(name, {attribute: value})], and its texts."""

    def __init__(self, text):
        super().__init__()
        self.found, self.texts = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_data(self, text):
        self.texts.append(text)


def read(address, dbname, cache=None):
    """Returns all runs of a database, with all of their records."""
    return runs.read(address.host, address.port, dbname, cache_dir=cache)[0]


def made(exp_id, rule, seed, count, layers=(), steps=None, **losses):
    """Returns a run with `count` records that have a loss and, if it has layers, a validation."""
    points = []
    for place in range(1, count + 1):
        value = 1.0 / place + 0.01 * seed + 0.001 * math.sin(place)
        results = {'top1': 1.0 - value / 2}
        if layers:
            results['weight_angles'] = {layer: 90.0 * value + i for i, layer in enumerate(layers)}
        points.append(Point(place * 10, {'model_loss': value}, results, 0.5, 10, None, MOMENT))
    params = {
        'model_params': {'alignment': rule, 'model': 'fc', 'image_shape': [9, 9, 1]},
        'train_params': dict(
            num_steps=steps or 10 * count,
            train_batch_size=20,
            steps_per_epoch=40,
            dataset='mnist',
            seed=seed,
        ),
    }
    return Run('fc', exp_id, points, params)
