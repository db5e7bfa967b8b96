"""Tests of archives: a round trip, archives of tfutils, and hostile ones."""

import io
import os
import tarfile

import pytest

from database.archive import pack, unpack
from database.errors import DamagedError, StoreError

INDEX, DATA = 'checkpoint-123.index', 'checkpoint-123.data-00000-of-00001'


def write_checkpoint(folder, name='checkpoint-123', shards=1):
    """Writes files like those of the Saver, of odd sizes; returns their prefix."""
    folder.mkdir(exist_ok=True)
    (folder / (name + '.index')).write_bytes(b'index' * 7)
    for shard in range(shards):
        (folder / f'{name}.data-{shard:05d}-of-{shards:05d}').write_bytes(os.urandom(1011 + shard))
    return str(folder / name)


def make_tar(path, *members):
    """Writes a .tar of TarInfos, or of names of files that contain their own name."""
    with tarfile.open(str(path), 'w') as tar:
        for member in members:
            info = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo(member)
            content = info.name.encode() if info.isreg() else b''
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return str(path)


def special(name, kind, target=''):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize('shards', [1, 3])
def test_round_trip(tmp_path, shards):
    prefix = write_checkpoint(tmp_path / 'saved', 'model.ckpt-450360', shards)
    (tmp_path / 'saved' / 'model.ckpt-450360.meta').write_bytes(b'graph')
    tar_path = pack(prefix, str(tmp_path / 'model.ckpt-450360.tar'))
    with tarfile.open(tar_path) as tar:
        assert all('/' not in name and not name.endswith('.meta') for name in tar.getnames())
        assert {member.uid for member in tar} == {0}
    (tmp_path / 'fetched').mkdir()
    assert unpack(tar_path, str(tmp_path / 'fetched')) == str(
        tmp_path / 'fetched' / 'model.ckpt-450360'
    )
    fetched = sorted(path.name for path in (tmp_path / 'fetched').iterdir())
    assert len(fetched) == shards + 1
    for name in fetched:
        assert (tmp_path / 'fetched' / name).read_bytes() == (
            tmp_path / 'saved' / name
        ).read_bytes()


def test_packing_replaces_and_leaves_nothing_else(tmp_path):
    prefix = write_checkpoint(tmp_path / 'saved')
    (tmp_path / 'c.tar').write_bytes(b'older')
    pack(prefix, str(tmp_path / 'c.tar'))
    assert tarfile.is_tarfile(str(tmp_path / 'c.tar'))
    assert sorted(os.listdir(str(tmp_path))) == ['c.tar', 'saved']


@pytest.mark.parametrize('missing', [INDEX, DATA])
def test_packing_half_a_checkpoint_is_refused(tmp_path, missing):
    prefix = write_checkpoint(tmp_path / 'saved')
    (tmp_path / 'saved' / missing).unlink()
    with pytest.raises(StoreError, match='checkpoint-123'):
        pack(prefix, str(tmp_path / 'c.tar'))
    assert not (tmp_path / 'c.tar').exists()


def test_a_pattern_in_the_path_is_no_pattern(tmp_path):
    prefix = write_checkpoint(tmp_path / 'run[0-9]')
    assert os.path.exists(pack(prefix, str(tmp_path / 'c.tar')))


@pytest.mark.parametrize('inside', ['', './', 'root/.tfutils/localhost:29029/db/'])
def test_tars_of_tfutils_come_flat(tmp_path, inside):
    folder = [special(inside, tarfile.DIRTYPE)] if inside else []
    tar_path = make_tar(tmp_path / 'c.tar', *(folder + [inside + INDEX, inside + DATA]))
    (tmp_path / 'to').mkdir()
    assert unpack(tar_path, str(tmp_path / 'to')) == str(tmp_path / 'to' / 'checkpoint-123')
    assert sorted(os.listdir(str(tmp_path / 'to'))) == [DATA, INDEX]


@pytest.mark.parametrize(
    'hostile',
    [
        ['../' + INDEX, DATA],
        ['/tmp/' + INDEX, DATA],
        ['a/../../' + INDEX, DATA],
        ['a/' + INDEX, 'b/' + INDEX, DATA],
        [INDEX, INDEX, DATA],
        [INDEX, DATA, 'other-7.index'],
        [INDEX],
        [DATA],
        [],
        [INDEX, DATA, '.bashrc'],
        [INDEX, DATA, 'checkpoint-123.py'],
        [INDEX, 'checkpoint-123.data-00000-of-00002'],
        ['.index', '.data-00000-of-00001'],
        [INDEX, DATA + '\n'],
        [INDEX, DATA, 'checkpoint-123.data-00001-of-00001'],
        [special(INDEX, tarfile.SYMTYPE, '/etc/passwd'), DATA],
        [special(INDEX, tarfile.LNKTYPE, '/etc/passwd'), DATA],
        [INDEX, special(DATA, tarfile.CHRTYPE)],
        [INDEX, special(DATA, tarfile.BLKTYPE)],
        [INDEX, special(DATA, tarfile.FIFOTYPE)],
        [INDEX, special(DATA, tarfile.GNUTYPE_SPARSE)],
        [special('..', tarfile.DIRTYPE), INDEX, DATA],
    ],
    ids=lambda members: ' '.join(getattr(member, 'name', member) for member in members) or 'none',
)
def test_hostile_tars_leave_no_trace(tmp_path, hostile):
    folder = tmp_path / 'deep' / 'to'
    folder.mkdir(parents=True)
    tar_path = make_tar(tmp_path / 'c.tar', *hostile)
    with pytest.raises(StoreError, match='c.tar'):
        unpack(tar_path, str(folder))
    assert os.listdir(str(folder)) == [] and os.listdir(str(tmp_path / 'deep')) == ['to']


@pytest.mark.parametrize('kept', [0, 100, 700, 1500])
def test_a_cut_tar_is_refused(tmp_path, kept):
    pack(write_checkpoint(tmp_path / 'saved'), str(tmp_path / 'c.tar'))
    whole = (tmp_path / 'c.tar').read_bytes()
    (tmp_path / 'c.tar').write_bytes(whole[:kept])
    (tmp_path / 'to').mkdir()
    with pytest.raises(StoreError, match='c.tar'):
        unpack(str(tmp_path / 'c.tar'), str(tmp_path / 'to'))
    assert os.listdir(str(tmp_path / 'to')) == []


def sparse_tar(path, size):
    """Writes an archive of a few kilobytes whose .data file promises `size` bytes of holes."""
    with tarfile.open(str(path), 'w', format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(special(INDEX, tarfile.REGTYPE))
        member = special(DATA, tarfile.REGTYPE)
        member.pax_headers = {
            'GNU.sparse.major': '1',
            'GNU.sparse.minor': '0',
            'GNU.sparse.name': DATA,
            'GNU.sparse.realsize': str(size),
        }
        content = b'0\n'.ljust(512, b'\0')
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return str(path)


@pytest.mark.parametrize('size', [1 << 31, 1 << 50, 1 << 70])
def test_a_sparse_archive_is_refused_before_it_fills_the_disk(tmp_path, size):
    tar_path = sparse_tar(tmp_path / 'c.tar', size)
    assert os.path.getsize(tar_path) < 20_000
    (tmp_path / 'to').mkdir()
    with pytest.raises(DamagedError, match='c.tar'):
        unpack(tar_path, str(tmp_path / 'to'))
    assert os.listdir(str(tmp_path / 'to')) == []


@pytest.mark.parametrize('size', [1 << 20, 1 << 40, 1 << 62])
def test_an_archive_that_promises_more_than_it_has_is_refused(tmp_path, size):
    tar_path = pack(write_checkpoint(tmp_path / 'saved'), str(tmp_path / 'c.tar'))
    with tarfile.open(tar_path) as tar:
        member = tar.getmember(DATA)
    member.size = size
    content = bytearray((tmp_path / 'c.tar').read_bytes())
    content[member.offset : member.offset + 512] = member.tobuf(tarfile.GNU_FORMAT)
    (tmp_path / 'c.tar').write_bytes(bytes(content))
    (tmp_path / 'to').mkdir()
    with pytest.raises(DamagedError, match='c.tar'):
        unpack(tar_path, str(tmp_path / 'to'))
    assert os.listdir(str(tmp_path / 'to')) == []
