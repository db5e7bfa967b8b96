"""Which local checkpoints and which copies in a bucket are kept.

The order is the time when they were written, whatever their steps are.
"""

import os
import signal
import subprocess
import sys

import pytest
import tensorflow.compat.v1 as tf
from bson import ObjectId

from database.owner import Owner
from database.place import Place
from training import local, runtime
from training.local import Copies, LocalCheckpoints, has_file_system

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def write(folder, step, written=None, *endings):
    """Writes the files of a checkpoint, `written` seconds after 2001; returns its prefix."""
    prefix = os.path.join(str(folder), f'checkpoint-{step}')
    for ending in ('index', 'data-00000-of-00002', 'data-00001-of-00002') + endings:
        with open(prefix + '.' + ending, 'w') as file:
            file.write(f'weights of {step}')
        if written is not None:
            os.utime(file.name, (1e9 + written, 1e9 + written))
    return prefix


def steps(folder, ending='index'):
    """Returns the steps of the checkpoints in a folder, and checks that each has all its files."""
    names = os.listdir(str(folder))
    found = [
        int(name[len('checkpoint-') : -len('.' + ending)])
        for name in names
        if name.endswith('.' + ending)
    ]
    if ending == 'index':
        assert {name for name in names if '.tar' not in name} == {
            f'checkpoint-{step}.{each}'
            for step in found
            for each in ('index', 'data-00000-of-00002', 'data-00001-of-00002')
        }
    return sorted(found)


def test_the_newest_stay_whatever_their_steps(tmp_path):
    """The clock was set back: files of the earlier run have later times, but count as older."""
    for step, written in ((500, 3), (100, 4e9), (300, 1), (400, 5), (200, 2)):
        write(tmp_path, step, written)
    local = LocalCheckpoints(str(tmp_path), 3)
    for step, left in (
        (20, [20, 100, 400]),
        (40, [20, 40, 100]),
        (10, [10, 20, 40]),
        (60, [10, 40, 60]),
    ):
        local.add(step)
        write(tmp_path, step, 0, 'tar')
        local.prune()
        assert step in steps(tmp_path)
        local.stored(os.path.join(str(tmp_path), f'checkpoint-{step}.tar'))
        assert steps(tmp_path) == left and steps(tmp_path, 'tar') == []


def test_nothing_of_tensorflow_runs_in_the_thread_of_the_writer(tmp_path, monkeypatch):
    """Python may end while the thread is there, and C++ code would then abort the process."""

    class Untouched:
        def __getattr__(self, name):
            pytest.fail(f'tf.gfile.{name} in the thread of the writer')

    monkeypatch.setattr(tf, 'gfile', Untouched())
    local = LocalCheckpoints(str(tmp_path), 1)
    for step in (10, 20):
        local.add(step)
        tar = write(tmp_path, step, step, 'tar') + '.tar'
        local.prune()
        local.stored(tar)
    assert steps(tmp_path) == [20]


# A thread that is inside of TensorFlow when Python ends, and one that is in Python's own functions.
ENDING = """
import os, sys, threading, time
sys.path.insert(0, {root!r})
from training import runtime
import tensorflow.compat.v1 as tf
for number in range(500):
    open(os.path.join({folder!r}, str(number)), 'w').close()
listing = {{'tensorflow': tf.gfile.ListDirectory, 'python': os.listdir}}[sys.argv[1]]
def forever():
    while True:
        listing({folder!r})
for _ in range(2):
    threading.Thread(target=forever, daemon=True).start()
time.sleep(0.2)
"""


@pytest.mark.nightly
def test_python_ends_well_beside_a_thread_in_its_own_functions(tmp_path):
    code = ENDING.format(root=ROOT, folder=str(tmp_path))
    for _ in range(3):
        done = subprocess.run([sys.executable, '-c', code, 'python'], stderr=subprocess.PIPE)
        assert done.returncode == 0 and b'FATAL' not in done.stderr
    if runtime.IS_TF2:  # the fault that this test is about still exists
        done = subprocess.run([sys.executable, '-c', code, 'tensorflow'], stderr=subprocess.PIPE)
        assert done.returncode == -signal.SIGABRT
        assert b'FATAL: exception not rethrown' in done.stderr


def test_what_exists_nowhere_else_stays(tmp_path):
    """While MongoDB is away, a checkpoint without an archive may be the only copy."""
    for step in (70, 80, 90):
        write(tmp_path, step, step, *['tar'] * (step == 80))
    local, tars = LocalCheckpoints(str(tmp_path), 2), {}
    for step in (10, 20, 30, 40):
        local.add(step)
        tars[step] = write(tmp_path, step, None, *['tar'] * (step != 20)) + '.tar'
        local.prune()
    assert steps(tmp_path) == [20, 30, 40, 70, 90] and steps(tmp_path, 'tar') == [10, 30, 40, 80]
    local.stored(tars[10])  # older checkpoints may be removed
    assert steps(tmp_path) == [20, 30, 40] and steps(tmp_path, 'tar') == [30, 40, 80]
    local.stored(tars[40])
    assert steps(tmp_path) == [30, 40]
    local.stored(tars[40])  # it was removed before
    assert steps(tmp_path) == [30, 40] and steps(tmp_path, 'tar') == [30, 80]


def test_only_checkpoints_are_removed(tmp_path):
    others = [
        'checkpoint-1.txt',
        'other-1.index',
        'checkpoint-1.index.tempstate',
        'checkpoint',
        'spool',
    ]
    for name in others:
        (tmp_path / name).write_text('x')
    local = LocalCheckpoints(str(tmp_path), 1)
    for step in (1, 2):
        local.add(step)
        write(tmp_path, step, None, 'tar')
    local.prune()
    left = others + [
        'checkpoint-{}.{}'.format(*each) for each in [(1, 'tar'), (2, 'tar'), (2, 'index')]
    ]
    assert sorted(name for name in os.listdir(str(tmp_path)) if '.data-' not in name) == sorted(
        left
    )
    local.discard(2)
    local.discard(3)
    assert sorted(os.listdir(str(tmp_path))) == sorted(others + ['checkpoint-1.tar'])


def test_a_folder_that_is_not_there_is_no_fault(tmp_path):
    LocalCheckpoints(str(tmp_path / 'none'), 1).prune()


@pytest.mark.parametrize('scheme, name', [('', 'bucket'), ('file://', '[bucket]')])
def test_copies_that_failed_are_made_with_the_next_one(tmp_path, scheme, name):
    local, bucket = tmp_path / 'local', tmp_path / name
    local.mkdir()
    copies = Copies(scheme + str(bucket) + '/a/b', 2)
    assert not copies.holds(1) and copies.failure == ''
    bucket.write_text('a file is no folder')
    for step, missing in ((9, '9'), (1, '1, 9'), (5, '1, 5')):
        assert not copies.copy(write(local, step), step)
        assert copies.failure.startswith(
            f'{copies.folder} has no copy of the checkpoint of step {missing} ('
        )
    bucket.unlink()
    assert copies.copy(write(local, 3), 3) and copies.failure == ''
    assert steps(bucket / 'a' / 'b') == [3, 5] and copies.holds(3) and not copies.holds(1)
    assert copies.copy(write(local, 2), 2) and steps(bucket / 'a' / 'b') == [2, 3]
    with open(str(bucket / 'a' / 'b' / 'checkpoint-2.data-00001-of-00002')) as file:
        assert file.read() == 'weights of 2'


def test_the_newest_copy_stays_beside_those_of_later_steps(tmp_path):
    bucket = tmp_path / 'bucket'
    bucket.mkdir()
    for step in (70, 80, 90):
        write(bucket, step, 90 - step)
    copies = Copies(str(bucket), 2)
    assert copies.copy(write(tmp_path, 10), 10) and steps(bucket) == [10, 70]


def test_a_copy_whose_checkpoint_is_gone_keeps_no_other_from_being_made(tmp_path):
    bucket = tmp_path / 'bucket'
    bucket.write_text('x')
    copies = Copies(str(bucket), 2)
    assert not copies.copy(write(tmp_path, 1), 1)
    bucket.unlink()
    for name in os.listdir(str(tmp_path)):
        os.remove(str(tmp_path / name))
    assert (
        not copies.copy(write(tmp_path, 2), 2)
        and steps(bucket) == [2]
        and 'of step 1 (' in copies.failure
    )
    assert copies.copy(write(tmp_path, 3), 3) and steps(bucket) == [2, 3]


@pytest.mark.parametrize(
    'path, known',
    [
        ('foo://bucket/x', False),
        ('GS://bucket', False),
        ('http://host/x', False),
        ('gs://bucket/folder', True),
        ('gs://', True),
        ('file:///x', True),
        ('/x://y', True),
    ],
)
def test_schemes(path, known):
    assert has_file_system(path) == known


class Claimed:
    """The part of a store that `set_aside` needs."""

    def __init__(self, life, exp_id='symmetric'):
        self.owner = Owner(life, 1)
        self.place = Place('localhost', 1, 'db', 'fc', exp_id)


def test_checkpoints_of_another_life_of_an_experiment_are_moved(tmp_path):
    """The folder of a tfutils script can hold several experiments, whose files stay."""
    first, second, said = ObjectId(), ObjectId(), []
    own = ['checkpoint-9.index', 'checkpoint-9.data-00000-of-00001', 'checkpoint-9.tar']
    for name in own + ['settings.json', 'notes.txt']:
        (tmp_path / name).write_text(name)
    local.set_aside(str(tmp_path), Claimed(first), said.append)
    local.set_aside(str(tmp_path), Claimed(first), said.append)
    local.set_aside(str(tmp_path), Claimed(second, 'mirror'), said.append)
    local.set_aside(str(tmp_path), Claimed(first), said.append)
    assert said == [] and (tmp_path / 'checkpoint-9.index').exists()
    local.set_aside(str(tmp_path), Claimed(second), said.append)
    moved = tmp_path / f'life-{first}'
    assert sorted(os.listdir(str(moved))) == sorted(own + ['settings.json'])
    assert sorted(os.listdir(str(tmp_path))) == ['claim.json', f'life-{first}', 'notes.txt']
    (warning,) = said
    assert warning.startswith('warning: the checkpoints in ') and str(moved) in warning
    (tmp_path / 'claim.json').write_text('{')
    (tmp_path / 'checkpoint-1.index').write_text('new')
    local.set_aside(str(tmp_path), Claimed(first), said.append)
    assert len(said) == 1 and (tmp_path / 'checkpoint-1.index').exists()
