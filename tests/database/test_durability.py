"""Tests of what survives a power failure.

A file gets its final name only after its content is on the disk, and an entry stays on the disk
until MongoDB has stored it.
"""

import os
import threading

import pytest

from database.archive import pack
from database.spool import Spool
from database.writer import Writer


@pytest.fixture
def calls(monkeypatch):
    """[('fsync' or 'replace', name of the file or folder)] in the order of the calls."""
    found, fsync, replace = [], os.fsync, os.replace

    def noted_fsync(descriptor):
        found.append(('fsync', os.path.basename(os.readlink(f'/proc/self/fd/{descriptor}'))))
        fsync(descriptor)

    def noted_replace(source, target):
        found.append(('replace', os.path.basename(source)))
        replace(source, target)

    monkeypatch.setattr(os, 'fsync', noted_fsync)
    monkeypatch.setattr(os, 'replace', noted_replace)
    return found


def test_an_entry_of_the_spool_is_on_the_disk_before_it_has_its_name(calls, tmp_path):
    Spool(str(tmp_path / 'spool')).keep({'step': 7})
    assert calls == [
        ('fsync', '00000001.bson.half'),
        ('replace', '00000001.bson.half'),
        ('fsync', 'spool'),
    ]


def test_an_archive_is_on_the_disk_before_it_has_its_name(calls, tmp_path):
    for ending in ('index', 'data-00000-of-00001'):
        tmp_path.joinpath('checkpoint-7.' + ending).write_bytes(os.urandom(1013))
    pack(str(tmp_path / 'checkpoint-7'), str(tmp_path / 'checkpoint-7.tar'))
    assert calls == [('fsync', 'checkpoint-7.tar.half'), ('replace', 'checkpoint-7.tar.half')]


def test_an_entry_stays_on_the_disk_until_it_is_written(tmp_path):
    spool, there, trying, may_end = Spool(str(tmp_path)), [], threading.Event(), threading.Event()
    path = spool.keep({'step': 7})

    def write():
        trying.set()
        assert may_end.wait(60)
        there.append(os.path.exists(path))

    writer = Writer(lambda error: True, str, spool)
    writer.add('the record', write, None, entry={'step': 7}, kept=path)
    assert trying.wait(60)
    there.append(os.path.exists(path))
    may_end.set()
    assert writer.flush(60)
    writer.close(60)
    assert there == [True, True] and not os.path.exists(path) and writer.errors == []
