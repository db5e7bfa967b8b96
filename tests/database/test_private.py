"""Files of the cache folder: for one user, and never behind a link that others put there."""

import os
import stat

import bson
import pytest

from database import entries, private
from database.archive import pack, unpack
from database.errors import StoreError
from database.spool import Spool, spool_of
from spooled import stored

NAMES = 'checkpoint-30.index', 'checkpoint-30.data-00000-of-00001'


def mode(path):
    return stat.S_IMODE(os.stat(str(path)).st_mode)


@pytest.fixture
def victim(tmp_path):
    """A file of the user that nobody but the user may read or write."""
    path = tmp_path / 'private.txt'
    path.write_bytes(b'mine')
    return path


@pytest.fixture
def prefix(tmp_path):
    """The path of a checkpoint in a folder into which others may write."""
    (tmp_path / 'cache').mkdir()
    for name in NAMES:
        (tmp_path / 'cache' / name).write_bytes(os.urandom(77))
    return str(tmp_path / 'cache' / 'checkpoint-30')


def test_folders_and_files_that_are_made_are_for_this_user(tmp_path):
    shared = tmp_path / 'shared'
    shared.mkdir()
    os.chmod(str(shared), 0o777)
    private.make_folders(str(shared / 'a' / 'b'))
    assert [mode(path) for path in (shared, shared / 'a', shared / 'a' / 'b')] == [0o777] + [
        0o700
    ] * 2
    private.make_folders(str(shared / 'a' / 'b'))
    with private.created(str(shared / 'file')) as file:
        file.write(b'1')
    assert mode(shared / 'file') == 0o600
    with pytest.raises(OSError):
        private.make_folders(str(shared / 'file'))


def test_the_folder_itself_may_be_a_link(tmp_path):
    (tmp_path / 'disk').mkdir()
    (tmp_path / 'cache').symlink_to(tmp_path / 'disk')
    path = Spool(spool_of(str(tmp_path / 'cache'))).keep({'number': 3})
    assert stored(Spool(str(tmp_path / 'disk' / 'spool')))[0][1] == {'number': 3}
    assert mode(path) == 0o600 and mode(tmp_path / 'disk' / 'spool') == 0o700


@pytest.mark.parametrize('link', [os.symlink, os.link])
def test_packing_overwrites_nothing_that_a_link_points_to(victim, prefix, link):
    link(str(victim), prefix + '.tar.half')
    pack(prefix, prefix + '.tar')
    assert victim.read_bytes() == b'mine'
    assert mode(prefix + '.tar') == 0o600


def test_unpacked_files_are_for_this_user_and_replace_links(victim, prefix, tmp_path):
    tar = pack(prefix, prefix + '.tar')
    (tmp_path / 'to').mkdir()
    (tmp_path / 'to' / NAMES[0]).symlink_to(victim)
    unpack(tar, str(tmp_path / 'to'))
    assert victim.read_bytes() == b'mine'
    assert [mode(tmp_path / 'to' / name) for name in NAMES] == [0o600] * 2


@pytest.mark.parametrize('link', [os.symlink, os.link])
def test_an_entry_overwrites_nothing_that_a_link_points_to(victim, tmp_path, link):
    folder = tmp_path / 'spool'
    folder.mkdir()
    link(str(victim), str(folder / '00000001.bson.half'))
    Spool(str(folder)).keep({'number': 3})
    assert victim.read_bytes() == b'mine'


def test_an_entry_behind_a_link_is_refused(tmp_path):
    (tmp_path / 'elsewhere').write_bytes(bson.encode({'number': 3}))
    (tmp_path / 'spool').mkdir()
    (tmp_path / 'spool' / '00000001.bson').symlink_to(tmp_path / 'elsewhere')
    with pytest.raises(StoreError, match='00000001.bson'):
        stored(Spool(str(tmp_path / 'spool')))


@pytest.mark.parametrize('name', ['checkpoint', 'recent'])
def test_an_entry_only_names_files_beside_its_spool(victim, tmp_path, name):
    spool = Spool(spool_of(str(tmp_path / 'experiment')))
    spool.keep({'record': {'step': 1}, name: '/elsewhere/checkpoint-1.tar', 'remove': True})
    (entry,) = entries.kept(spool).values()
    assert entry.paths == [str(tmp_path / 'experiment' / 'checkpoint-1.tar')]
    spool.keep({'record': {'step': 2}, name: str(victim), 'remove': True})
    with pytest.raises(StoreError, match='private.txt'):
        entries.kept(spool)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(str(tmp_path / 'pipe'))
    with private.opened(str(tmp_path / 'pipe')) as file:
        assert file.read() in (b'', None)
