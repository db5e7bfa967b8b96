"""Tests of the page in a real browser, of the PNG and of the table."""

import base64
import datetime
import html
import io
import re
import shutil
import xml.etree.ElementTree

import pytest
import rich.console
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from reports import page, plots, runs, table, view
from reports.selection import Selection

from stored import DBNAME, HOSTILE

BROWSERS = ('chromium', 'chromium-browser', 'google-chrome')
WIDTHS = (1280, 400)
NARROWEST = 300  # pixels; in a narrower plot, drawn for 400, the text would be illegible


@pytest.fixture(scope='module')
def found(database):
    address, cache = database
    return runs.read(address.host, address.port, DBNAME, cache_dir=cache)[0]


@pytest.fixture(scope='module')
def browser():
    binary = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which('chromedriver')
    if not (binary and driver):
        pytest.skip(
            'no browser: needs chromedriver and one of {}; on Debian, apt-get install '
            'chromium-driver'.format(', '.join(BROWSERS))
        )
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in ('--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'):
        options.add_argument(argument)
    options.set_capability('goog:loggingPrefs', {'browser': 'ALL'})
    driving = webdriver.Chrome(options=options, service=Service(driver))
    yield driving
    driving.quit()


@pytest.fixture
def visit(browser, tmp_path):
    """A function that shows the text of a page in a browser of the given width in pixels."""

    def show(text, width):
        (tmp_path / 'page.html').write_text(text, encoding='utf-8')
        browser.execute_cdp_cmd(
            'Emulation.setDeviceMetricsOverride',
            dict(width=width, height=900, deviceScaleFactor=1, mobile=False),
        )
        browser.get('file://{}'.format(tmp_path / 'page.html'))
        return browser

    return show


def images(browser):
    """Returns [width of the image, width on the screen, alternative text] of each plot."""
    return browser.execute_script(
        'return [...document.images].map(i => [i.naturalWidth, i.clientWidth, i.alt])'
    )


def seen(found, *columns):
    """Returns a view of runs, with the usual columns or those that are named."""
    return view.of_runs(found, Selection(columns=columns))


def rendered(found, **more):
    more = dict(dict(detailed=12), **more)
    return page.of(found, [seen(found).sheet], 'Runs', 'of the tests', **more)


@pytest.fixture(scope='module')
def text(found):
    """The page of all runs."""
    return rendered(found)


@pytest.fixture(scope='module')
def full(found):
    """The page of two runs, which have every plot."""
    return rendered([run for run in found if run.exp_id in ('symmetric', HOSTILE)])


@pytest.fixture(scope='module')
def brief(found):
    """The page of all runs, with plots of only the newest two."""
    return rendered(found, detailed=2)


@pytest.mark.slow
@pytest.mark.parametrize('width', WIDTHS)
def test_a_browser_shows_all_plots_in_any_width_without_a_complaint(visit, found, text, width):
    browser = visit(text, width)
    drawn = images(browser)
    assert (
        len(drawn)
        == len(plots.comparing(found)) + sum(len(plots.of_run(run)) for run in found)
        > 30
    )
    assert all(own > 0 and NARROWEST <= shown <= width and text for own, shown, text in drawn)
    across, inside = browser.execute_script(
        'return [document.documentElement.scrollWidth, innerWidth]'
    )
    assert across <= inside == width
    assert (
        browser.execute_script(
            'return parseFloat(getComputedStyle(document.querySelector("td")).fontSize)'
        )
        >= 14
    )
    assert browser.get_log('browser') == []


@pytest.mark.slow
def test_names_are_text_and_nothing_else(visit, text):
    browser = visit(text, WIDTHS[0])
    assert HOSTILE in browser.execute_script(
        'return [...document.querySelectorAll("td")].map(cell => cell.textContent)'
    )
    assert (
        browser.execute_script(
            'return document.querySelectorAll("[onerror], script, iframe, link, object").length'
        )
        == 0
    )
    assert browser.get_log('browser') == []


@pytest.mark.slow
def test_a_page_holds_all_it_shows(full, brief):
    for text in (full, brief):
        assert set(re.findall(r'(?:src|href)="([^,"]*)', text)) == {'data:image/svg+xml;base64'}
        assert [word for word in ('<script', 'http://', 'https://', 'url(') if word in text] == []


def test_its_plots_are_xml_that_says_what_they_show(full):
    sources = re.findall(r'base64,([^"]*)', full)
    assert len(sources) > 10
    for source in sources:
        plot = ''.join(xml.etree.ElementTree.fromstring(base64.b64decode(source)).itertext())
        assert 'step' in plot or 'Top-1 by rule' in plot


@pytest.mark.slow
@pytest.mark.parametrize('which', [(), ('bare',), ('lost',), ('script', 'wrong types')], ids=str)
def test_a_page_of_little(visit, found, which):
    some = [run for run in found if run.exp_id in which]
    browser = visit(rendered(some), WIDTHS[1])
    told = browser.execute_script('return document.body.textContent')
    assert ('There are no runs yet' in told) == (which == ()) and all(
        exp_id in told for exp_id in which
    )
    assert ('There is nothing to plot yet' in told) == (
        which not in ((), ('lost',)) or which == ('bare',)
    ) and browser.get_log('browser') == []


def test_only_the_newest_are_plotted_and_the_page_says_so(found, brief):
    newest = sorted(found, key=lambda run: run.time)[-2:]
    assert set(re.findall('<h2>(.*) <small>', brief)) == {html.escape(run.exp_id) for run in newest}
    assert brief.count('<h2>') == 1 + 2 and f'the newest 2 of {len(found)} runs' in brief
    assert brief.count('<tr>') == 1 + len(found)


def test_a_page_that_is_watched_is_read_anew(found, brief):
    bare = [run for run in found if run.exp_id == 'bare']
    assert (
        'http-equiv="refresh" content="7"' in rendered(bare, refresh_s=7) and 'refresh' not in brief
    )


@pytest.mark.slow
def test_the_same_runs_give_the_same_page(found, full):
    again = [run for run in found if run.exp_id in ('symmetric', HOSTILE)]
    assert rendered(again) == full


@pytest.mark.slow
@pytest.mark.parametrize(
    'exp_id', ['symmetric', pytest.param(HOSTILE, marks=pytest.mark.slow), 'lost']
)
def test_a_png_shows_each_plot(found, tmp_path, exp_id):
    (run,) = [run for run in found if run.exp_id == exp_id]
    drawn = plots.comparing([run]) + plots.of_run(run)
    plots.png(drawn, str(tmp_path / 'plots.png'))
    with Image.open(str(tmp_path / 'plots.png')) as image:
        rows, columns = -(-len(drawn) // plots.COLUMNS), min(len(drawn), plots.COLUMNS)
        assert image.size == (
            round(columns * plots.INCHES[0] * plots.DPI),
            round(rows * plots.INCHES[1] * plots.DPI),
        )
        assert len(set(image.convert('L').getdata())) > 20


@pytest.mark.slow
def test_plots_of_many_layers_and_many_runs(found):
    by_layer = {f'layer{i}': float(i) for i in range(201)}
    points = [
        runs.Point(step, {}, dict(top1=0.5, weight_angles=by_layer), None, 0, None, found[0].time)
        for step in (0, 30)
    ]
    run = runs.Run('resnet200', 'deep', points, {})
    (drawn,) = [plot for plot in plots.of_run(run) if plot.title == 'Weight angle by layer']
    text = plots.svg(drawn).decode()
    assert 'layer0' in text and 'layer200' in text and text.count('layer') < 3 * plots.MOST_NAMED
    assert len(plots.svg(plots.comparing([run] * 45)[1])) > 0


def printed(found, width):
    console = rich.console.Console(file=io.StringIO(), width=width)
    console.print(table.of(seen(found)))
    return console.file.getvalue()


WIDE = 250


def test_the_table_has_a_row_for_each_run(found):
    lines = printed(found, WIDE).splitlines()
    assert lines[1].split() == [
        *('exp_id', 'rule', 'dataset', 'model', 'seed', 'step', 'top-1', 'top-5', 'loss'),
        *('weight°', 'projection°', 'gradient°', 'images/s', 'duration', 'updated', 'state'),
    ]
    (row,) = [line.split() for line in lines if line.split()[:1] == ['symmetric']]
    assert row[:13] == [
        *('symmetric', 'symmetric', '?', 'resnet18', '-', '30', '0.9000', '1.0000', '0.5000'),
        *('12.0', '12.0', '12.0', '262'),
    ]
    assert row[-1] == 'finished'
    (row,) = [line.split() for line in lines if line.split()[:1] == ['died']]
    assert row[5:8] == ['20', 'of', '30'] and row[-1] == 'died'
    (row,) = [line.split() for line in lines if line.split()[:1] == ['bare']]
    assert row[:5] == ['bare', '?', '?', 'fc_7-5', '-'] and row[5:13] == ['2'] + ['-'] * 7
    assert row[-1] == 'ended' and any(HOSTILE in line for line in lines)


@pytest.mark.parametrize('width', [60, 80, 100, 120, 160, 200, WIDE])
def test_numbers_are_never_folded_and_columns_that_do_not_fit_are_named(found, width):
    lines = printed(found, width).splitlines()
    assert max(map(len, lines)) <= width
    text = ' '.join(lines)
    assert text.count('0.9000') >= 4 and 'exp_id' in lines[1] and 'top-1' in lines[1]
    left_out = [line for line in lines if line.startswith('Not shown in ')]
    assert bool(left_out) == (width < 200) and ('projection°' in lines[1]) == (width >= 160)
    assert ('20 of 30' in text) == ('step' in lines[1])


def test_columns_that_are_asked_for_are_all_there(found):
    console = rich.console.Console(file=io.StringIO(), width=40)
    names = ('exp_id', 'step', 'top1', 'weight_angle', 'images_per_s', 'why', 'alpha')
    console.print(table.of(seen(found, *names)), crop=False)
    lines = console.file.getvalue().splitlines()
    assert lines[1].split() == ['exp_id', 'step', 'top-1', 'weight°', 'images/s', 'why', 'alpha']


MOMENT = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)


def measured(count, angle=30.0, time=MOMENT):
    """Returns a run with `count` measured images, or without that number if `count` is None."""
    results = dict(
        top1=0.5,
        gradient_angles={'conv0': None, 'dense': angle},
        **({} if count is None else {'measured_images': count}),
    )
    return runs.Run('fc', 'a', [runs.Point(7, {}, results, None, 0, None, time)], {})


ON = 'Angles are means over the layers, measured on '


@pytest.mark.parametrize(
    'some, told',
    [
        ([], ''),
        ([measured(64, angle=None)], ''),
        ([measured(None)], ON + 'one batch.'),
        ([measured(64), measured(64)], ON + 'the first 64 validation images.'),
        (
            [measured(64), measured(13), measured(1000), measured(7, angle=None)],
            ON + 'the first 13 to 1,000 validation images.',
        ),
        (
            [measured(64), measured(None)],
            ON + 'the first 64 validation images (on one batch in older records).',
        ),
    ],
)
def test_a_note_says_what_angles_are_measured_on(some, told):
    assert table.note(some) == told
    assert [line for line in printed(some, WIDE).splitlines() if line.startswith('Angles')] == (
        [told] if told else []
    )


def test_the_note_is_on_the_page_and_layers_without_an_angle_are_left_out(found):
    some = [measured(64, time=found[0].time)]
    assert ON + 'the first 64 validation images. ' in rendered(some) and ON not in rendered(
        [measured(64, angle=None, time=found[0].time)]
    )
    assert some[0].curve('gradient_angles') == [(7, 30.0)] and list(
        some[0].layers('gradient_angles')
    ) == ['dense']
    assert seen(some, 'gradient_angle').sheet.columns[0].texts == ['30.0']


def test_an_angle_that_is_gone_is_not_that_of_an_earlier_validation(found):
    points = [
        runs.Point(
            step,
            {},
            dict(top1=top1, gradient_angles={'dense': angle}),
            None,
            0,
            None,
            found[0].time,
        )
        for step, top1, angle in ((0, 0.1, 30.0), (7, float('nan'), None))
    ]
    run = runs.Run('fc', 'dead', points, {})
    assert run.last('gradient_angles') is run.last('top1') is None and run.curve(
        'gradient_angles'
    ) == [(0, 30.0)]


def test_every_state_has_a_meaning_on_the_page(found, brief):
    assert [state for state in {run.state for run in found} if f'<b>{state}</b>' not in brief] == []
