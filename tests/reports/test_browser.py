"""Tests of the page in a real browser: what a reader does, and what the page then holds."""

import base64
import re
import shutil
import statistics
import threading

import pymongo
import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.support.ui import Select, WebDriverWait

from database.claim import End
from reports import classes
from reports.page import serving, still

import byclass
import shown
from shown import made
from stored import DBNAME, HOSTILE

pytestmark = pytest.mark.slow

BROWSERS = ('chromium', 'chromium-browser', 'google-chrome')
WIDTHS = (400, 1280, 2560)
NARROWEST = 300  # pixels of a plot
# The traces of a figure, without the bands.
TRACES = """
const figure = document.querySelector(`figure[data-title="${arguments[0]}"] .plot`);
return figure.data.filter((trace) => trace.hoverinfo !== 'skip')
  .map((trace) => [trace.name, Array.from(trace.x), Array.from(trace.y)]);
"""
CELLS = """
return [...document.querySelectorAll('[aria-label=runs] tbody tr')]
  .map((row) => [...row.cells].map((cell) => cell.textContent.trim()));
"""
HEADS = (
    "return [...document.querySelectorAll('[aria-label=runs] th')].map((head) => head.dataset.name)"
)


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
    driving.set_script_timeout(60)
    yield driving
    driving.quit()


@pytest.fixture(autouse=True)
def one_picture(monkeypatch):
    """The pictures for browsers without scripts are tested in test_page.py."""
    monkeypatch.setattr(still, 'MOST_PICTURES', 1)


def resize(browser, width, height=900):
    browser.execute_cdp_cmd(
        'Emulation.setDeviceMetricsOverride',
        dict(width=width, height=height, deviceScaleFactor=1, mobile=False),
    )


def draw(browser):
    """Waits until every figure is drawn, as if a reader had scrolled past all of them."""
    browser.execute_async_script(
        'const done = arguments[0];'
        'for (const figure of Figure.all) { figure.isSeen = true; figure.show(); }'
        'requestAnimationFrame(() => setTimeout(done, 0));'
    )


def show(browser, tmp_path, text, width=1280):
    (tmp_path / 'page.html').write_text(text, encoding='utf-8')
    resize(browser, width)
    browser.get('file://{}'.format(tmp_path / 'page.html'))
    draw(browser)
    return browser


def quiet(browser):
    """Returns whether the page had no complaint and asked for nothing from elsewhere."""
    asked = browser.execute_script('return performance.getEntriesByType("resource").length')
    return browser.get_log('browser') == [] and asked == 0


def traces(browser, title):
    return {name: (x, y) for name, x, y in browser.execute_script(TRACES, title)}


def find(browser, selector):
    return browser.find_element('css selector', selector)


def test_a_reader_hides_a_series_and_switches_axes(browser, tmp_path):
    some = [made(f'{r}{s}', r, s, 40, ['c', 'd']) for r in ('mirror', 'dfa') for s in range(3)]
    show(browser, tmp_path, shown.page(some))
    title = 'Task loss in training'
    before = traces(browser, title)
    assert set(before) == {'mirror', 'dfa'}
    assert before['mirror'][1][7] == pytest.approx(
        statistics.mean(run.curve('model_loss')[7][1] for run in some[:3]), rel=1e-4
    )
    find(browser, 'button[data-label=dfa]').click()
    assert set(traces(browser, title)) == {'mirror'}
    assert set(traces(browser, 'One layer')) == {'mirror'}
    pressed = 'return document.querySelector("button[data-label=dfa]").ariaPressed'
    assert browser.execute_script(pressed) == 'false'
    find(browser, 'input[name=seeds]').click()
    assert set(traces(browser, title)) == {'mirror', 'mirror0', 'mirror1', 'mirror2'}
    for unit, factor in (('epochs', 1 / 40), ('images', 20), ('hours', 0.5 / 3600), ('steps', 1)):
        Select(find(browser, 'select[name=x]')).select_by_value(unit)
        x = traces(browser, title)['mirror'][0]
        assert x == pytest.approx([step * factor for step in before['mirror'][0]], rel=1e-4)
    find(browser, 'input[name=logY]').click()
    kind = f'return document.querySelector(\'figure[data-title="{title}"] .plot\')._fullLayout'
    assert browser.execute_script(kind + '.yaxis.type') == 'log'
    browser.execute_script(
        'const slider = document.querySelector("input[name=smoothing]");'
        'slider.value = 0.9; slider.dispatchEvent(new Event("input"));'
    )
    smooth = traces(browser, title)['mirror'][1]
    assert smooth[0] == before['mirror'][1][0] and smooth[-1] > before['mirror'][1][-1]
    assert quiet(browser)


def test_a_reader_zooms_by_dragging_and_goes_back_by_a_double_click(browser, tmp_path):
    show(browser, tmp_path, shown.page([made('one', 'mirror', 0, 40)]))
    title = 'Task loss in training'
    plot = find(browser, f'figure[data-title="{title}"] .nsewdrag')
    browser.execute_script('arguments[0].scrollIntoView({block: "center"})', plot)
    ends = (
        f'return document.querySelector(\'figure[data-title="{title}"] .plot\').layout.xaxis.range'
    )
    whole = browser.execute_script(ends)
    act = ActionChains(browser, duration=20)
    act.move_to_element_with_offset(plot, -60, -40).click_and_hold()
    act.move_by_offset(100, 60).release().perform()
    near = browser.execute_script(ends)
    assert whole[0] < near[0] < near[1] < whole[1]
    ActionChains(browser, duration=20).move_to_element(plot).double_click().perform()
    assert browser.execute_script(ends) == pytest.approx(whole)
    assert quiet(browser)


def test_a_reader_sorts_filters_and_compares(browser, tmp_path, database):
    address, cache = database
    found = shown.read(address, DBNAME, cache)
    show(browser, tmp_path, shown.page(found))
    heads, rows = browser.execute_script(HEADS), browser.execute_script(CELLS)
    assert [row[0] for row in rows] == [run.exp_id for run in found]
    assert HOSTILE in [row[0] for row in rows]
    with pymongo.MongoClient(address.host, address.port) as client:
        for exp_id in ('symmetric', 'None', HOSTILE):
            (record,) = client[DBNAME]['resnet18.files'].find({'exp_id': exp_id, 'step': 30})
            results = record['validation_results']['topn_val']
            (row,) = [row for row in rows if row[0] == exp_id]
            angles = results['weight_angles'].values()
            assert row[heads.index('top1')] == '{:.4f}'.format(results['top1'])
            assert row[heads.index('weight_angle')] == f'{sum(angles) / len(angles):.1f}'
            assert row[heads.index('images_per_s')] == '{:,.0f}'.format(131 / record['duration'])
    find(browser, 'th[data-name=top1] button').click()
    ascending = [row[heads.index('top1')] for row in browser.execute_script(CELLS)]
    numbers = [float(text) for text in ascending if text != '-']
    assert numbers == sorted(numbers) and ascending == sorted(
        ascending, key=lambda text: text == '-'
    )
    find(browser, 'th[data-name=top1] button').click()
    again = [row[heads.index('top1')] for row in browser.execute_script(CELLS)]
    assert again[: len(numbers)] == ascending[: len(numbers)][::-1]
    box = find(browser, 'input[type=search]')
    box.send_keys('rule=symmetric top1>=0.9')
    assert {row[heads.index('rule')] for row in browser.execute_script(CELLS)} == {'symmetric'}
    box.clear()
    box.send_keys('symmetric')
    for place in range(2):
        browser.find_elements('css selector', 'td input[type=checkbox]')[place].click()
    assert len(browser.find_elements('css selector', 'pre')) == 2
    foreign = '[onerror], iframe, link, object, img, script[src]'
    count = f'return document.querySelectorAll("{foreign}").length'
    assert browser.execute_script(count) == 0
    assert quiet(browser)


def test_every_width_light_and_dark(browser, tmp_path):
    layers = [f'layer{place}' for place in range(155)]
    rules = ('mirror', 'x' * 90)
    some = [made(f'{rule}{seed}', rule, seed, 9, layers) for rule in rules for seed in range(2)]
    show(browser, tmp_path, shown.page(some))
    colour = 'return document.querySelector(".plot")._fullLayout.paper_bgcolor'
    for width in WIDTHS:
        resize(browser, width)
        for mode, paper in (('dark', '#14171c'), ('light', '#fff')):
            features = [{'name': 'prefers-color-scheme', 'value': mode}]
            browser.execute_cdp_cmd('Emulation.setEmulatedMedia', {'features': features})
            draw(browser)
            assert browser.execute_script(colour) == paper
        across, inside = browser.execute_script(
            'return [document.documentElement.scrollWidth, innerWidth]'
        )
        assert across <= inside == width
        sizes = browser.execute_script(
            'return [...document.querySelectorAll("figure .plot")].map((plot) => [plot.clientWidth,'
            'plot.querySelector(".main-svg").clientWidth, plot.ariaLabel.length])'
        )
        assert len(sizes) > 4
        assert all(NARROWEST <= drawn <= own + 1 and told > 20 for own, drawn, told in sizes)
        least = 'return parseFloat(getComputedStyle(document.querySelector("td")).fontSize)'
        assert browser.execute_script(least) >= 14
    assert quiet(browser)


CLASSES = """
const body = document.querySelector(`[aria-label=${arguments[0]}] tbody`);
return [...body.rows].map((row) => [...row.cells].map((cell) => cell.textContent));
"""
HEAT = (
    'return [figure.data[0].customdata.map((row) => row.map((cell) => cell[2])), figure.ariaLabel]'
)
MAP = "const figure = document.querySelector('figure[data-title=Confusions] .plot');"
LOADED = """
return [...document.querySelectorAll('#live .mistakes img')]
  .map((image) => [image.complete && image.naturalWidth, image.alt]);
"""


def test_a_reader_looks_at_the_classes_of_runs(browser, tmp_path):
    some = [made(f'run{seed}', 'mirror', seed, 4) for seed in range(3)]
    names = [HOSTILE, *'bcdefg']
    own = [byclass.results(), byclass.results(seed=2, names=names), byclass.results(101, 2000)]
    answered = [
        classes.of(run, byclass.record(run.exp_id, own=results), run.key)
        for run, results in zip(some, own)
    ]
    show(browser, tmp_path, shown.page(some, by_class=classes.Found(answered, [], [])))
    for run, results in zip(some, own):
        browser.execute_script('chosen.tables.classes.sort = null')
        chooser = Select(find(browser, 'select[name="run of the classes"]'))
        chooser.select_by_visible_text(run.exp_id)
        draw(browser)
        rows = browser.execute_script(CLASSES, 'classes')
        assert [row[0] for row in rows] == [each['name'] for each in results['per_class']]
        assert [row[1] for row in rows] == [str(each['images']) for each in results['per_class']]
        find(browser, '[aria-label=classes] th[data-name=top1] button').click()
        rows = browser.execute_script(CLASSES, 'classes')
        known = [each['top1'] for each in results['per_class'] if each['top1'] is not None]
        assert [row[2] for row in rows[: len(known)]] == [f'{top1:.4f}' for top1 in sorted(known)]
        assert rows[-1][2] == '-'
        find(browser, '[aria-label=classes] th[data-name=class] button').click()
        rows = browser.execute_script(CLASSES, 'classes')
        if run is not some[1]:  # class 2 comes before class 10
            assert [row[0] for row in rows] == [each['name'] for each in results['per_class']]
        pictures = browser.execute_script(LOADED)
        assert [width for width, _ in pictures] == [9] * 5
        assert all('answer' in alt for _, alt in pictures)
        is_hidden = browser.execute_script(MAP + 'return figure.parentNode.hidden')
        assert is_hidden == (run is some[2])
        if not is_hidden:
            counts, told = browser.execute_script(MAP + HEAT)
            assert counts == results['confusion']['matrix'] and 'answered' in told
        largest = max(map(int, [row[2] for row in browser.execute_script(CLASSES, 'confusions')]))
        assert browser.execute_script(CLASSES, 'confusions')[0][2] == str(largest)
    assert quiet(browser)


PRINTED = """
const seen = (selector) => [...document.querySelectorAll(selector)]
  .filter((each) => each.getClientRects().length).length;
const colour = (selector, name) => getComputedStyle(document.querySelector(selector))[name];
return {
  controls: seen('input, button:not(.legend button, th button), details, nav, .bar, .how'),
  ink: [colour('body', 'backgroundColor'), colour('body', 'color'), colour('td', 'color')],
  plots: [...document.querySelectorAll('figure:not([hidden]) .plot')].map((plot) =>
    [plot._fullLayout.paper_bgcolor, plot._fullLayout.font.color, plot._fullLayout.width]),
  rows: seen('[aria-label=runs] tbody tr'),
  tables: [...document.querySelectorAll('.wide')]
    .map((each) => [each.scrollHeight - each.clientHeight, getComputedStyle(each).overflowY]),
};
"""


def test_a_page_is_printed_black_on_white_and_whole(browser, tmp_path):
    some = [made(f'{rule}{seed}', rule, seed, 5) for rule in 'ab' for seed in range(20)]
    answered = classes.of(some[0], byclass.record('a0', own=byclass.results()), some[0].key)
    show(browser, tmp_path, shown.page(some, by_class=classes.Found([answered], [], [])))
    dark = [{'name': 'prefers-color-scheme', 'value': 'dark'}]
    browser.execute_cdp_cmd('Emulation.setEmulatedMedia', {'features': dark})
    browser.execute_script('dispatchEvent(new Event("beforeprint"))')
    browser.execute_cdp_cmd('Emulation.setEmulatedMedia', {'media': 'print', 'features': dark})
    found = browser.execute_script(PRINTED)
    assert found['controls'] == 0 and found['rows'] == 40
    assert found['ink'] == ['rgb(255, 255, 255)', 'rgb(0, 0, 0)', 'rgb(0, 0, 0)']
    assert len(found['plots']) > 4
    assert all(plot[:2] == ['#fff', '#000'] and plot[2] <= 690 for plot in found['plots'])
    assert all(hidden <= 0 and overflow == 'visible' for hidden, overflow in found['tables'])
    browser.execute_cdp_cmd('Emulation.setEmulatedMedia', {'media': '', 'features': dark})
    browser.execute_script(
        'Figure.all.forEach((figure) => { figure.isSeen = true; });'
        'dispatchEvent(new Event("afterprint"));'
    )
    after = browser.execute_script(PRINTED)
    assert all(plot[0] == '#14171c' for plot in after['plots'])
    assert max(plot[2] for plot in after['plots']) > 690
    pdf = base64.b64decode(browser.execute_cdp_cmd('Page.printToPDF', {})['data'])
    assert pdf.startswith(b'%PDF') and len(re.findall(rb'/Type ?/Page\b', pdf)) > 2
    browser.execute_cdp_cmd('Emulation.setEmulatedMedia', {'features': []})
    assert quiet(browser)


def test_a_served_page_shows_new_runs_and_keeps_what_a_reader_chose(browser):
    served = [made(f'mirror{seed}', 'mirror', seed, 9) for seed in range(2)]
    found = list(served)
    looked = []
    waiting = WebDriverWait(browser, 60)

    def look():
        looked.append(len(found))
        return shown.contents(found, refresh_s=1, is_served=True)

    source = serving.Source(look, 0.0)
    with serving.Server(source, 0) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        resize(browser, 1280)
        browser.get(server.url)
        # (Between finding and clicking it, the page may be built again.)
        browser.execute_script('document.querySelector("button[data-label=mirror]").click()')
        browser.execute_script('document.getElementById("live").firstChild.id = "first"')
        # The same data do not build the page again, so that a zoom stays.
        waiting.until(lambda _: len(looked) > 4)
        assert browser.execute_script('return document.getElementById("first") !== null')
        found.append(made('dfa0', 'dfa', 0, 9))
        waiting.until(lambda _: len(browser.execute_script(CELLS)) == 3)
        pressed = 'return document.querySelector("button[data-label=mirror]").ariaPressed'
        assert browser.execute_script(pressed) == 'false'
        server.shutdown()
    told = 'return document.getElementById("status").textContent'
    waiting.until(lambda _: 'does not answer' in browser.execute_script(told))
    browser.get('about:blank')
    browser.get_log('browser')  # what it says of the server that is gone


def test_a_wide_interval_does_not_hide_the_seeds(browser, tmp_path):
    found = [made(f'run{seed}', 'mirror', seed, 40) for seed in range(2)]
    show(browser, tmp_path, shown.page(found))
    title = 'Final results: each seed, the mean and its 95 % interval'
    least, most = browser.execute_script(
        f'return document.querySelector(\'figure[data-title="{title}"] .plot\').layout.xaxis.range'
    )
    values = sorted(run.last('top1') for run in found)
    assert values[0] - 0.01 < least < values[0] < values[1] < most < values[1] + 0.01
    assert quiet(browser)


def test_a_long_reason_does_not_stretch_the_table(browser, tmp_path):
    found = [made(f'run{place}', 'mirror', place, 4, steps=90) for place in range(3)]
    found[1]._end = End(None, 'a long reason ' * 60)
    show(browser, tmp_path, shown.page(found))
    heights = browser.execute_script(
        'return [...document.querySelectorAll("tbody tr")].map((row) => row.offsetHeight)'
    )
    reasons = browser.execute_script(
        'return [...document.querySelectorAll("td.long")].map((cell) => cell.textContent)'
    )
    assert reasons and set(reasons) == {'a long reason ' * 60}
    assert max(heights) < 2.5 * min(height for height in heights if height)  # 0: in a closed part
    assert quiet(browser)
