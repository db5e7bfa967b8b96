"""The CSV files of experiments: every line whole, none twice, and none lost that was complete."""

import csv
import json
import os
import threading

import pytest

from config.rows import ConfigError
from experiments import lines
from experiments.lines import Key, Line, Measured, Source, State


def line(seed=1, factors=None, digest='0123456789abcdef', state=State.FINISHED, **more):
    """Returns a line whose numbers have many digits, and whose texts have commas and quotes."""
    measured = Measured(step=80, top1=1 / 3, top5=0.1 + 0.2, ties=0, images=1000, **more)
    source = Source(
        2,
        'CPU "fast", 3 GHz',
        'TensorFlow 0',
        'c' * 12,
        f'x_seed{seed}',
        'f' * 24,
        json.dumps({'alignment': 'mirror', 'layers_list': [32, 16]}),
        digest,
    )
    return Line({'rule': 'mirror'} if factors is None else factors, seed, state, measured, source)


@pytest.fixture
def file(tmp_path):
    """A file in a folder that does not exist yet."""
    return lines.File(str(tmp_path / 'results' / 'x.csv'))


def content(file):
    with open(file.path, 'rb') as opened:
        return opened.read()


def test_lines_come_back_to_the_bit(file):
    written = [line(1), line(2, state=State.LOST), line(3, loss=1e-17)]
    assert file.read() == []
    assert [file.append(each, {}) for each in written] == [True] * 3
    assert file.read() == written
    with open(file.path, newline='') as opened:
        rows = list(csv.DictReader(opened))
    assert [row['seed'] for row in rows] == ['1', '2', '3'] and rows[1]['state'] == 'lost'
    assert float(rows[0]['top1']) == 1 / 3 and float(rows[0]['top5']) == 0.1 + 0.2
    assert list(rows[0])[0] == 'rule' and list(rows[0])[-1] == 'digest'
    assert rows[0]['loss'] == '' and written[0].key == Key('0123456789abcdef', 1, 'TensorFlow 0')


def test_a_line_is_on_disk_before_append_returns(file, monkeypatch):
    """Both a line that is appended and one whose new column makes the file be written again."""
    synced, fsync = [], os.fsync

    def watch(descriptor):
        fsync(descriptor)
        synced.append(os.fstat(descriptor).st_size)

    monkeypatch.setattr(os, 'fsync', watch)
    for number, added in enumerate([line(1), line(2), line(3, dict(rule='mirror', depth='2'))], 1):
        assert file.append(added, {}) and len(synced) == number
        assert synced[-1] == len(content(file))


def test_a_run_has_one_line(file):
    assert file.append(line(1), {}) and not file.append(line(1, state=State.LOST), {})
    assert file.append(line(1, digest='f' * 16), {}) and len(file.read()) == 2


def test_a_line_that_is_cut_off_anywhere_is_removed_and_the_others_stay(file):
    for seed in (1, 2):
        file.append(line(seed), {})
    whole = content(file)
    start = whole[:-1].rindex(b'\n') + 1
    for end in [*range(start, len(whole) - 20, 11), *range(len(whole) - 20, len(whole))]:
        with open(file.path, 'wb') as opened:
            opened.write(whole[:end])
        kept = [line(1), line(2)][: 2 if end == len(whole) - 1 else 1]  # only the newline is gone
        assert file.read() == kept
        assert file.append(line(3), {}) and file.read() == kept + [line(3)]
        assert content(file).endswith(b'\n')


@pytest.mark.parametrize('end', [0, 3, 40])
def test_a_header_that_is_cut_off_is_written_again(file, end):
    file.append(line(1), {})
    whole = content(file)
    with open(file.path, 'wb') as opened:
        opened.write(whole[:end])
    assert file.read() == []
    file.append(line(1), {})
    assert content(file) == whole


def test_a_setting_that_varies_later_is_a_new_column_for_all(file):
    file.append(line(1, factors={}), {})
    defaults = {'learning_rate': '0.001'}
    more = {'alignment': 'symmetric', 'layers_list': '64', 'learning_rate': '0.1'}
    file.append(line(2, factors=more), defaults)
    file.append(line(3, factors={'alignment': 'mirror'}), defaults)
    with open(file.path, newline='') as opened:
        rows = list(csv.DictReader(opened))
    assert [[row[name] for name in more] for row in rows] == [
        ['mirror', '32,16', '0.001'],
        ['symmetric', '64', '0.1'],
        ['mirror', '32,16', '0.001'],
    ]


def test_writers_at_the_same_time_lose_nothing(file):
    def write(first):
        for seed in range(first, 40, 2):
            factors = {'rule': 'mirror', **({'late': 'x'} if seed == 20 else {})}
            lines.File(file.path).append(line(seed, factors=factors), {})
            lines.File(file.path).append(line(seed), {})

    writers = [threading.Thread(target=write, args=(first,)) for first in (0, 1)]
    for each in writers:
        each.start()
    for each in writers:
        each.join()
    assert sorted(each.seed for each in file.read()) == list(range(40))


@pytest.mark.parametrize(
    'old, new, told',
    [
        (b'finished', b'done', 'line 2: '),
        (b',2,finished', b',2', 'line 3: it has 25 fields instead of 26'),
        (b'0123456789abcdef\nm', b'0123\nm', "line 2: '0123' is not a digest"),
        (b'rule,seed,', b'rule,', 'does not have the columns of an experiment'),
        (b'mirror,1', b'\xff,1', 'is not a CSV file'),
    ],
)
def test_a_damaged_file_is_told_and_left_alone(file, old, new, told):
    for seed in (1, 2):
        file.append(line(seed), {})
    damaged = content(file).replace(old, new, 1)
    with open(file.path, 'wb') as opened:
        opened.write(damaged)
    for use in (file.read, file.prepare, lambda: file.append(line(3), {})):
        with pytest.raises(ConfigError) as caught:
            use()
        assert told in str(caught.value) and file.path in str(caught.value)
    assert content(file) == damaged


def test_a_folder_that_cannot_be_is_told(tmp_path):
    (tmp_path / 'x').write_text('')
    with pytest.raises(ConfigError, match='cannot be written .* choose another --csv'):
        lines.File(str(tmp_path / 'x' / 'y.csv')).prepare()
