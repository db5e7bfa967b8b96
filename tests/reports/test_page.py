"""Tests of the page as a text: its policy, its data, and what it holds without scripts."""

import base64
import datetime
import hashlib
import html
import io
import json
import re
import xml.etree.ElementTree

import numpy as np
import pytest
from PIL import Image

from reports import curves, plots, runs, sections
from reports.page import data, document, still

import shown
from shown import MOMENT, made
from stored import DBNAME, HOSTILE
from tiers import at_night


@pytest.fixture(scope='module')
def found(database):
    address, cache = database
    return shown.read(address, DBNAME, cache)


@pytest.fixture(scope='module')
def text(found):
    """The page of all runs."""
    return shown.page(found)


def test_its_policy_allows_its_own_scripts_alone(text):
    tags = shown.Tags(text)
    (policy,) = [own['content'] for tag, own in tags.found if 'http-equiv' in own]
    scripts = re.findall(r'(?s)<script>(.*?)</script>', text)
    hashes = [base64.b64encode(hashlib.sha256(each.encode()).digest()).decode() for each in scripts]
    rules = dict(rule.strip().split(' ', 1) for rule in policy.split(';'))
    assert rules['default-src'] == rules['connect-src'] == rules['base-uri'] == "'none'"
    assert rules['script-src'].split() == [f"'sha256-{each}'" for each in hashes]
    assert len(hashes) == len(document.SCRIPTS) and 'eval' not in policy


def test_it_holds_all_that_it_shows(text):
    assert shown.foreign(text) == []


@pytest.mark.parametrize(
    'markup',
    [
        '<img src="https://example.com/a.png">',
        '<img src="data:image/svg+xml;base64,PHN2Zz4=">',
        '<img src="data:image/png;base64,AA==" onload="alert(1)">',
        '<svg><image href="#a"/></svg>',
        '<script src="a.js"></script>',
        '<a href="https://example.com/">a</a>',
    ],
)
def test_what_a_page_must_not_hold(markup):
    assert shown.foreign(markup) != []
    assert shown.foreign('<img src="data:image/png;base64,iVBOR+/w0="><a href="#a">a</a>') == []


def test_its_own_scripts_make_no_markup_of_texts():
    for name in document.SCRIPTS:
        if name != document.PLOTLY:
            written = document.read(name)
            assert not re.search(
                r'innerHTML|outerHTML|insertAdjacent|document\.write|eval\(', written
            )
            assert max(map(len, written.splitlines())) <= 120


def test_names_that_users_chose_are_data_and_text(text, found):
    assert HOSTILE not in text and '</script><' not in shown.still(text)
    assert [run.exp_id for run in found] == shown.data(text)['runs']['names']
    assert HOSTILE in shown.Tags(shown.still(text)).texts


@pytest.mark.parametrize(
    'name, kept',
    [
        ('a\u202eb', 'a?b'),
        ('a\\u202eb', 'a\\u202eb'),
        ('a\\\u2066b\x00', 'a\\?b?'),
        ('é\n"<\U0001f600', 'é\n"<\U0001f600'),
    ],
)
def test_what_cannot_be_printed_is_left_out_of_the_data(name, kept):
    encoded = data._encoded({name: [name]})
    assert json.loads(encoded) == {kept: [kept]} and '<' not in encoded


def test_without_scripts_there_are_tables_and_pictures(text, found):
    part = shown.still(text)
    assert part.count('<tr>') >= 1 + len(found)
    drawn = re.findall(r'(?s)<svg.*?</svg>', part)
    assert 4 < len(drawn) <= still.MOST_PICTURES
    for picture in drawn:
        root = xml.etree.ElementTree.fromstring(picture.replace('&quot;', "'"))
        words = ''.join(root.itertext())
        assert ('step' in words or 'top-1' in words) and len(root.get('aria-label')) > 20
    identifiers = re.findall(r' id="([^"]+)"', ''.join(re.findall(r'<clipPath.*?>', part)))
    assert len(identifiers) == len(set(identifiers))


def test_the_same_runs_give_the_same_page(found, monkeypatch):
    monkeypatch.setattr(still, 'MOST_PICTURES', 2)
    again = [run for run in found if run.exp_id in ('symmetric', HOSTILE)]
    assert shown.page(again) == shown.page(again)


@pytest.mark.parametrize('which', [(), ('bare',), ('lost',), ('script', 'wrong types')], ids=str)
def test_a_page_of_little(found, which):
    some = [run for run in found if run.exp_id in which]
    text = shown.page(some)
    part = shown.still(text)
    assert ('There are no runs yet' in part) == (which == ())
    assert all(f'{exp_id}</td>' in part for exp_id in which)
    drawn = [measure for each in shown.data(text)['sections'] for measure in each['measures']]
    assert ('There is nothing to plot yet' in part) == (which == ('bare',))
    assert bool(drawn) == (which not in ((), ('bare',)))


def test_a_page_that_is_watched_is_loaded_again_and_one_that_is_served_asks(found):
    bare = [run for run in found if run.exp_id == 'bare']
    assert 'http-equiv="refresh" content="7"' in shown.page(bare, refresh_s=7)
    served = shown.page(bare, refresh_s=7, is_served=True)
    assert 'http-equiv="refresh"' not in served and "connect-src 'self'" in served
    assert shown.data(served)['served'] == 7 and shown.data(shown.page(bare))['served'] is None


def test_every_state_has_a_meaning_on_the_page(found, text):
    notes = ' '.join(shown.data(text)['tables'][0]['notes'])
    there = {run.state for run in found}
    assert [state for state in there if f'{state}: {runs.STATES[state]}' not in notes] == []
    assert all(html.escape(runs.STATES[state]) in shown.still(text) for state in there)


def test_the_command_and_the_differences_of_runs():
    some = [made('one', 'mirror', 3, 2), made('two', None, 3, 2, steps=70)]
    some[1].params['environment'] = {'python': '3.7.9', 'argv': ['train.py'], 'seconds': 3}
    found = shown.data(shown.page(some))['runs']
    lines = [found['commands']['lines'][line] for line in found['commands']['of'][0]]
    assert lines[-1].startswith('python train.py ') and '--alignment=mirror' in lines[-1]
    assert '--seed=3' in lines[-1] and '--exp_id_suffix=_repeated' in lines[-1]
    told = {
        (fact['kind'], fact['name']): [fact['texts'][place] for place in fact['of']]
        for fact in found['differing']
    }
    assert told == {
        ('setting', 'alignment'): ['mirror', 'None'],
        ('setting', 'num_steps'): ['20', '70'],
        ('environment', 'python'): ['', '3.7.9'],
    }


# --- many and long runs ---------------------------------------------------------------------------


def test_the_data_of_a_page_are_limited_and_keep_the_ends_and_extremes(monkeypatch):
    layers = [f'layer{number}' for number in range(21)]
    some = [made(f'a{seed}', 'a', seed, 300, layers) for seed in range(3)]
    some[0].points[133].losses['model_loss'] = 77.0  # a peak that thinning must not lose
    monkeypatch.setattr(data, 'LIMIT', 40_000)
    text = data.text(shown.contents(some), sections.of(some, some))
    assert 20_000 < len(text) <= data.LIMIT
    found = json.loads(text)
    measures = {measure['name']: measure for measure in found['sections'][0]['measures']}
    grid, values = measures['model_loss']['seeds'][0][0]
    steps = found['grids'][grid]
    assert steps[0] == 10 and steps[-1] == 3000 and len(steps) < 300
    assert values[steps.index(1340)] == 77.0
    drawn, grid, rows = measures['weight_angles']['maps'][0]
    assert drawn == layers and len(rows) == 21 and found['grids'][grid][-1] == 3000


def test_the_mean_of_a_group_is_that_of_its_complete_runs_and_no_other():
    some = [made(f'a{seed}', 'a', seed, 40) for seed in range(3)]
    some.append(made('a9', 'a', 9, 7, steps=400))  # died
    (section,) = shown.data(shown.page(some))['sections']
    (member,) = section['members']
    assert [run['isCounted'] for run in member['runs']] == [True, True, True, False]
    (measure,) = [each for each in section['measures'] if each['name'] == 'model_loss']
    grid, mean, std, n = measure['means'][0]
    expected = np.array([[value for _, value in run.curve('model_loss')] for run in some[:3]])
    assert n == 3 and len(mean) == 40
    np.testing.assert_allclose(mean, expected.mean(0), rtol=1e-4)
    np.testing.assert_allclose(std, expected.std(0, ddof=1), rtol=1e-3)
    assert member['stepsPerEpoch'] == 40 and member['batchSize'] == 20
    hours = member['hours'][1]
    assert hours[-1] == pytest.approx(40 * 10 * 0.5 / 3600, rel=1e-4)


def test_equal_numbers_have_no_spread_and_constants_no_curve():
    found = curves.band([[(0, 0.1), (1, 0.3)]] * 3)
    assert found.mean == [0.1, 0.3] and found.std == [0.0, 0.0]
    run = made('one', 'mirror', 0, 3)
    for point in run.points:
        point.results.update(images=1000, global_step=point.step, hebb_angle={'conv': 0.0}, ties=1)
    names = {measure.name for measure in curves.measures([run])}
    assert names == {'top1', 'model_loss', 'result_ties'}


def test_only_the_newest_groups_have_curves_and_all_are_compared():
    some = [made(f'{rule}{seed}', rule, seed, 5) for rule in 'abcde' for seed in range(2)]
    for place, run in enumerate(some):
        run._span = run._span._replace(newest=MOMENT + datetime.timedelta(hours=place))
    (section,) = shown.data(shown.page(some, most=2))['sections']
    assert [bool(member['runs']) for member in section['members']] == [False] * 3 + [True] * 2
    (top1,) = [each for each in section['compared'] if each['name'] == 'top1']
    assert [len(each['values']) for each in top1['of']] == [2] * 5
    many = [made(f'a{seed}', 'a', seed, 2) for seed in range(3 * sections.MOST_CURVES)]
    assert len(sections.chosen(many, 12)) == sections.MOST_CURVES


@pytest.mark.slow
@pytest.mark.parametrize('exp_id', [*at_night('symmetric'), 'lost'])
def test_a_png_shows_each_plot(found, tmp_path, exp_id):
    some = [run for run in found if run.exp_id == exp_id]
    drawn = plots.of_sections(sections.of(some, some)) + plots.of_run(some[0])
    plots.png(drawn, str(tmp_path / 'plots.png'))
    with Image.open(str(tmp_path / 'plots.png')) as image:
        rows, columns = -(-len(drawn) // plots.COLUMNS), min(len(drawn), plots.COLUMNS)
        height = max(plot.height for plot in drawn)
        assert image.size == (
            pytest.approx(columns * 1.2 * plots.WIDTH * plots.DPI, abs=1),
            pytest.approx(rows * 1.2 * height * plots.DPI, abs=1),
        )
        assert len(set(image.convert('L').tobytes())) > 20


def test_plots_of_many_layers(found):
    run = made('deep', 'a', 0, 2, [f'layer{i}' for i in range(201)])
    (drawn,) = [plot for plot in plots.of_run(run) if plot.title == 'Weight angle by layer']
    text = plots.svg(drawn)
    assert 'layer0' in text and 'layer200' in text and text.count('layer') < 3 * plots.MOST_NAMED
    assert '10 of 201 are named' in text


def test_figures_are_written_at_the_width_of_a_column(tmp_path):
    some = [made(f'a{seed}', HOSTILE, seed, 5, ['conv', 'dense']) for seed in range(2)]
    found = sections.of(some, some)
    drawn = plots.of_sections(found)[:2] + plots.of_layers(found)[:1]
    names = plots.files(drawn, str(tmp_path / 'new'))
    assert len(names) == len(set(names)) == 2 * len(drawn)
    for name in names:
        written = (tmp_path / 'new' / name).read_bytes()
        if name.endswith('.pdf'):
            width = float(re.search(rb'/MediaBox \[ ?0 0 ([\d.]+)', written).group(1))
            assert width == pytest.approx(72 * plots.WIDTH) and b'/FontFile2' in written
        else:
            assert f'width="{72 * plots.WIDTH:.1f}'.encode()[:10] in written
    for name in plots.files(drawn[:1], str(tmp_path / 'again')):
        assert (tmp_path / 'new' / name).read_bytes() == (tmp_path / 'again' / name).read_bytes()


def test_svg_text_is_text(found):
    plot = plots.Plot(HOSTILE, HOSTILE, lambda axes: None)
    drawn = io.StringIO(plots.svg(plot)).read()
    assert html.escape(HOSTILE, quote=False) in drawn.replace('&quot;', '"') and '<img' not in drawn


def test_plotly_is_as_it_was_published():
    """The SHA-256 is that of the file in plotly.js-cartesian-dist-min 4.1.1 on npm."""
    text = document.read(document.PLOTLY)
    digest = hashlib.sha256(text.encode('utf-8')).hexdigest()
    assert digest == '79542150855a52c567260e3137095dbe2b744e6d702a5cabe67da246942fba7a'
    assert '</script' not in text.lower()
