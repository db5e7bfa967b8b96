"""What a run prints can be lost, but never ends it; its progress without a terminal."""

import io
import os
import sys

import pytest

from training import output

LETTERS = 'step 7: top-1 0.5, größer \u2026 \ud800'


@pytest.fixture
def now(monkeypatch):
    """The time in seconds, in a list, that the test sets."""
    times = [0.0]
    monkeypatch.setattr(output.time, 'monotonic', lambda: times[0])
    return times


@pytest.fixture
def streams(monkeypatch):
    """A function that makes a stream standard output and standard error."""

    def use(stream):
        monkeypatch.setattr(sys, 'stdout', stream)
        monkeypatch.setattr(sys, 'stderr', stream)
        return stream

    return use


def test_a_reader_that_dies_ends_nothing(streams):
    reading, writing = os.pipe()
    stream = streams(os.fdopen(writing, 'w'))
    with output.forgiving():
        output.say('first')
        assert os.read(reading, 99) == b'first\n'
        os.close(reading)
        for _ in range(3):
            output.say('second')
            print('third', file=sys.stderr)
            sys.stderr.flush()
    assert sys.stdout is stream
    stream.close()  # Python does so at its end


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='this system has no /dev/full')
def test_a_full_disk_ends_nothing(streams):
    stream = streams(open('/dev/full', 'w'))
    with output.forgiving():
        for _ in range(2000):
            output.say('a line of a log')
    stream.close()


@pytest.mark.parametrize('encoding', ['ascii', 'latin-1', 'utf-8'])
def test_letters_that_a_terminal_lacks_are_escaped(streams, encoding):
    content = io.BytesIO()
    streams(io.TextIOWrapper(content, encoding))
    with output.forgiving():
        output.say(LETTERS)
    assert content.getvalue().startswith(b'step 7: top-1 0.5, gr')
    assert b'\\ud800' in content.getvalue() and content.getvalue().endswith(b'\n')


def test_a_stream_that_is_closed_or_in_use_ends_nothing(streams):
    class InUse(io.StringIO):
        def write(self, text):
            raise RuntimeError('reentrant call inside <_io.BufferedWriter>')

    closed = io.StringIO()
    closed.close()
    for stream in (closed, InUse()):
        streams(stream)
        with output.forgiving():
            output.say('a line')


def test_a_line_does_not_stick_to_a_bar(streams):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = streams(Terminal())
    with output.forgiving(), output.Progress(0, 30, 10, 6, output.say) as bar:
        bar.update(10)
        bar.refresh()
        output.say('step 1: a line')
    before = stream.getvalue().partition('step 1: a line\n')[0]
    assert 'training' in before and before.rpartition('\r')[2].strip() == ''


def test_without_a_terminal_there_is_a_line_a_minute(streams, now):
    stream = streams(io.StringIO())
    with output.Progress(100, 1000, 20, 50, output.say) as bar:
        for step in range(101, 301):
            now[0] += 0.5
            bar.update(20)
            bar.reached(step, 1.23456)
    assert stream.getvalue().splitlines() == [
        'step 220 of 1,000, epoch 4.40: loss 1.235, 40.0 images/s, 6 min left'
    ]


def test_a_training_without_end_or_epochs_has_lines(streams, now):
    stream = streams(io.StringIO())
    with output.Progress(0, None, 3, None, output.say) as bar:
        now[0] += 61
        bar.reached(122, 7.0)
    assert stream.getvalue() == 'step 122: loss 7.000, 6.0 images/s\n'


def test_quiet_leaves_warnings_and_results(streams, now):
    stream = streams(io.StringIO())
    with output.quiet(True):
        for line in ('step 1', 'warning: a', 'settings', 'results: b'):
            output.say(line)
        with output.Progress(0, 10, 3, 5, output.say) as bar:
            now[0] += 61
            bar.reached(5, 1.0)
        assert output.hidden() is True
    output.say('step 2')
    assert stream.getvalue().splitlines() == ['warning: a', 'results: b', 'step 2']
    assert output.hidden() is None
