"""Tests of results by class: what is read, and what the page and the figures show of it."""

import base64
import json

import pymongo
import pymongo.monitoring
import pytest

from reports import classes, plots, runs, sections
from reports.page import data, still

import byclass
import shown
from byclass import image, record, results
from seeds import identity
from stored import HOSTILE

DBNAME = 'byclass'
COLLECTION = 'fc_7'
NO_IMAGES = (
    b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>',
    b'GIF89a' + bytes(40),
    b'',
    b'\x89PNG\r\n\x1a\n' + bytes(40_000),  # too large
    'data:image/png;base64,AA==',
)


@pytest.fixture(autouse=True, scope='module')
def no_pictures():
    """The pictures for browsers without scripts are tested in test_page.py."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(still, 'MOST_PICTURES', 0)
        yield


def documents():
    """Yields the records of runs: with results by class once, more often, and never."""
    yield record('twice', 30, results(seed=1), seed=1)
    yield record('twice', 15, results(seed=2), seed=1)
    yield record('many', 30, results(101, 3000))
    training = record('checked', 15, stored_without(), seed=2)
    yield training
    yield record('older', 30, stored_without(), seed=3)
    for exp_id, minute, seed in (('check', 5, 4), ('second check', 9, 5)):
        one = record(exp_id, 15, results(seed=seed), validates=training['_id'])
        yield dict(one, _id=identity(minute))
    names = [HOSTILE, '\u202eabc', '</script><script>alert(1)</script>', 'x' * 300, '', '{}', '"']
    pictures = [image(0), *NO_IMAGES]
    yield record(HOSTILE, 30, results(names=names, pictures=pictures), seed=6)
    odd = results()
    odd.update(per_class=[3, {'label': 'one'}], confusion=[1], mistakes='none')
    yield record('odd', 30, odd, seed=7)
    half = dict(results(seed=8), confusion={'matrix': [[1, 2], [3]]}, mistakes=[{}, 4])
    half['per_class'][0].update(images='all', top1=float('nan'), name=None)
    yield record('half', 30, half, seed=8)


def stored_without():
    return {name: value for name, value in results().items() if name not in data_names()}


def data_names():
    return ('per_class', 'confusion', 'mistakes')


@pytest.fixture(scope='module')
def place(mongo_server):
    """(host, port, dbname) of the runs."""
    with pymongo.MongoClient(mongo_server.host, mongo_server.port) as client:
        client.drop_database(DBNAME)
        client[DBNAME][COLLECTION + '.files'].insert_many(list(documents()))
        yield mongo_server.host, mongo_server.port, DBNAME
        client.drop_database(DBNAME)


@pytest.fixture(scope='module')
def found(place):
    return runs.read(*place)[0]


@pytest.fixture(scope='module')
def by_class(place, found):
    return classes.read(*place, found)


@pytest.fixture(scope='module')
def text(found, by_class, no_pictures):
    return shown.page(found, by_class=by_class)


def stored_results(place, **query):
    """Returns the results in one record, by pymongo alone."""
    with pymongo.MongoClient(*place[:2]) as client:
        (found,) = client[DBNAME][COLLECTION + '.files'].find(query)
        return found['validation_results']['topn_val']


def of(text, exp_id):
    """Returns the results by class of a run in the data of a page, and the names of its classes."""
    found = shown.data(text)['classes']
    (run,) = [each for each in found['runs'] if each['name'] == exp_id]
    return run, found['names'][run['names']]


@pytest.mark.parametrize(
    'exp_id, query',
    [
        ('twice', dict(exp_id='twice', step=30)),
        ('many', dict(exp_id='many')),
        ('checked', dict(exp_id='second check')),
    ],
)
def test_the_page_shows_what_the_newest_record_holds(place, text, exp_id, query):
    run, names = of(text, exp_id)
    expected = stored_results(place, **query)
    per_class, confusion = expected['per_class'], expected['confusion']
    assert names == [each['name'] for each in per_class]
    assert run['images'] == [each['images'] for each in per_class]
    assert run['top1'] == [each['top1'] for each in per_class] and None in run['top1']
    assert run['matrix'] == confusion.get('matrix')
    if 'matrix' in confusion:
        counts = {
            (label, answer): images
            for label, row in enumerate(confusion['matrix'])
            for answer, images in enumerate(row)
            if images and label != answer
        }
        assert {(label, answer): images for label, answer, images in run['largest']} == counts
        assert [each[2] for each in run['largest']] == sorted(counts.values(), reverse=True)
    else:
        assert run['largest'] == [
            [each[name] for name in ('label', 'answer', 'images')] for each in confusion['largest']
        ]
    assert len(run['mistakes']) == len(expected['mistakes']) == 5
    for (source, alt, caption), mistake in zip(run['mistakes'], expected['mistakes']):
        kind, _, encoded = source.partition(',')
        assert base64.b64decode(encoded) == mistake['image']
        assert kind == 'data:image/{};base64'.format('png' if mistake['number'] % 2 else 'jpeg')
        label, answer = names[mistake['label']], names[mistake['answer']]
        assert caption.startswith(f'label {label}, answer {answer} (')
        assert float(caption.split('(')[1].split()[0]) == pytest.approx(
            100 * mistake['probability'], abs=0.01
        )
        assert f'image {mistake["number"]}:' in alt and caption in alt
    assert f'top-1 {expected["top1"]:.4f}' in run['told']
    assert ('validation second check' in run['told']) == (exp_id == 'checked')


def test_only_the_newest_results_of_the_drawn_runs_are_read(place, found):
    asked = []

    class Listener(pymongo.monitoring.CommandListener):
        def started(self, event):
            if event.command_name in ('find', 'getMore'):
                asked.append(event.command)

        def succeeded(self, event):
            pass

        def failed(self, event):
            pass

    drawn = [run for run in found if run.exp_id in ('twice', 'older', 'checked')]
    with pymongo.MongoClient(*place[:2], event_listeners=[Listener()]) as client:
        read = classes._read(client[DBNAME], classes.in_turn(drawn))
    assert {each.run.exp_id for each in read.shown} == {'twice', 'checked'}
    assert [run.exp_id for run in read.lacking] == ['older'] and not read.left
    assert len(asked) == 2
    for command in asked:
        assert set(command['filter']) == {'_id'} and command['limit'] == 1
        assert not {'params', 'train_results'} & set(command['projection'])


def test_runs_without_results_by_class_are_named(text):
    notes = ' '.join(shown.data(text)['classes']['notes'])
    assert 'recorded no results by class' in notes
    assert 'older' in notes and 'odd' in notes and 'twice' not in notes
    assert shown.still(text).count('recorded no results by class') == 1


def test_names_of_classes_are_text_and_only_small_pictures_are_images(text):
    run, names = of(text, HOSTILE)
    assert names[0] == HOSTILE and names[3] == 'x' * 100 and names[1] == '?abc'
    assert len(run['mistakes']) == 1 and run['mistakes'][0][0].startswith('data:image/png')
    assert run['notes'] == ['Not shown: 5 recorded images that are no small PNG or JPEG.']
    assert (
        shown.foreign(text) == [] and '<svg xmlns="http://www.w3.org/2000/svg" onload' not in text
    )
    tags = shown.Tags(shown.still(text))
    assert HOSTILE in tags.texts and '</script><script>alert(1)</script>' in tags.texts


def test_results_of_which_a_part_is_unusual(text):
    run, names = of(text, 'half')
    assert names[0] == 'None' and run['images'][0] == 0 and run['top1'][0] is None
    assert run['matrix'] is None and run['largest'] == [] and run['mistakes'] == []
    assert run['top1'][1] is not None


def test_without_scripts_there_are_tables_and_thumbnails(place, text):
    part = shown.still(text)
    tags = shown.Tags(part)
    pictures = [own for tag, own in tags.found if tag == 'img']
    assert len(pictures) > 10 and all('answer' in own['alt'] for own in pictures)
    start = part.index('<h3>Classes of twice</h3>')
    own = part[start : part.index('</ul>', start)]
    for each in stored_results(place, exp_id='twice', step=30)['per_class']:
        top1 = '-' if each['top1'] is None else f'{each["top1"]:.4f}'
        assert (
            f'<td>{each["name"]}</td><td class="n">{each["images"]}</td><td class="n">{top1}</td>'
        ) in own


def test_a_page_without_results_by_class_has_no_word_about_them(found):
    some = [run for run in found if run.exp_id == 'older']
    for by_class in (classes.NONE, classes.Found([], [], some)):
        text = shown.page(some, by_class=by_class)
        assert shown.data(text)['classes']['runs'] == shown.data(text)['classes']['notes'] == []
        assert '<h2>Classes' not in shown.still(text)


def test_results_by_class_are_limited_and_the_page_names_the_runs_left_out(
    place, found, monkeypatch
):
    monkeypatch.setattr(classes, 'LIMIT', 12_000)
    read = classes.read(*place, found)
    assert read.shown and {run.exp_id for run in read.left} >= {'many'}
    assert sum(each.size for each in read.shown) <= 12_000
    text = shown.page(found, by_class=read)
    encoded = json.dumps(shown.data(text)['classes'])
    assert len(encoded) < 13_000
    (note,) = [each for each in shown.data(text)['classes']['notes'] if 'Left out' in each]
    assert all(run.exp_id in note for run in read.left if run.exp_id != HOSTILE)
    monkeypatch.setattr(still, 'MOST_CLASSES', 6_000)
    part = shown.still(shown.page(found, by_class=read))
    assert 0 < part.count('<h3>Classes of') < len(read.shown) and 'more runs need scripts' in part


def test_results_by_class_leave_room_for_the_rest_of_the_page(found, by_class, monkeypatch):
    whole = data.text(shown.contents(found), sections.of(found, found))
    monkeypatch.setattr(data, 'LIMIT', len(whole) + 20_000)
    text = data.text(shown.contents(found, by_class=by_class), sections.of(found, found))
    kept = json.loads(text)['classes']
    assert len(text) <= data.LIMIT and 0 < len(kept['runs']) < len(by_class.shown)
    assert 'Left out' in ' '.join(kept['notes'])


def test_one_run_of_each_group_comes_first(found):
    some = [shown.made(f'{rule}{seed}', rule, seed, 5) for rule in 'ab' for seed in range(3)]
    order = [run.exp_id[0] for run in classes.in_turn(some)]
    assert order == ['a', 'b'] * 3 or order == ['b', 'a'] * 3
    made = [
        classes.of(run, dict(byclass.record(run.exp_id), step=5), run.key)
        for run in classes.in_turn(some)
    ]
    newest = classes.Found(made, [], []).newest
    assert sorted(each.run.rule for each in newest) == ['a', 'b']


def test_the_figures_of_the_results_by_class(found, by_class):
    drawn = {each.run.exp_id: plots.of_classes(each) for each in by_class.shown}
    assert [plot.title for plot in drawn['twice']] == [
        'Top-1 by class of twice',
        'Confusions of twice',
    ]
    assert len(drawn['many']) == 1
    twice = next(each for each in by_class.shown if each.run.exp_id == 'twice')
    bars, matrix = [plots.svg(plot) for plot in drawn['twice']]
    there = [name for name, top1 in zip(twice.names, twice.top1) if top1 is not None]
    assert len(there) == 6 and all(f'>{name}<' in bars for name in there)
    assert '>answer<' in matrix and '>label<' in matrix and '>10 %<' in matrix
    assert sum(map(sum, twice.shares)) == pytest.approx(6)
    hostile = ''.join(map(plots.svg, drawn[HOSTILE]))
    assert '<img' not in hostile and '<script' not in hostile
