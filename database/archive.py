"""The .tar of a checkpoint: the Saver's `.index` and `.data-*` files under their base names."""

import glob
import os
import re
import shutil
import tarfile
import tempfile
from typing import IO, Collection, Dict, cast

from database.errors import DamagedError, StoreError

MEMBER = re.compile(
    r'(?P<prefix>\w[\w.+=@-]*)\.(?:index|data-(?P<shard>\d{5})-of-(?P<shards>\d{5}))'
)


def pack(prefix: str, tar_path: str) -> str:
    """Packs a checkpoint into one uncompressed .tar, which appears at its place whole or not at
    all.

    Args:
        prefix: the Saver's path, without `.index`.
        tar_path: where the .tar goes; an older file of that name is replaced.

    Returns:
        `tar_path`.

    Raises:
        StoreError: files of the checkpoint are missing.
    """
    paths = [prefix + '.index'] + sorted(glob.glob(glob.escape(prefix) + '.data-?????-of-?????'))
    missing = [path for path in paths if not os.path.isfile(path)]
    if missing:
        raise StoreError(
            f'The checkpoint {prefix} has no file {missing[0]}: save it before packing it.'
        )
    _checked_prefix([os.path.basename(path) for path in paths], prefix)
    half = tar_path + '.half'
    try:
        with open(half, 'wb') as stream:
            with tarfile.open(fileobj=stream, mode='w', format=tarfile.GNU_FORMAT) as tar:
                for path in paths:
                    tar.add(path, arcname=os.path.basename(path), filter=_anonymous)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(half, tar_path)
    finally:
        if os.path.exists(half):
            os.remove(half)
    return tar_path


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ''
    return member


def unpack(tar_path: str, folder: str) -> str:
    """Unpacks a checkpoint's .tar, ours or tfutils', into a folder; a file of the same name there
    is replaced.

    The `.index` comes last, so that the folder never shows half a checkpoint.

    Returns:
        The checkpoint's path without `.index`.

    Raises:
        DamagedError: the .tar is broken, or holds anything but the files of one checkpoint.
    """
    half = tempfile.mkdtemp(prefix='.unpacking-', dir=folder)
    try:
        with tarfile.open(tar_path, mode='r:') as tar:
            members = _members(tar, tar_path)
            prefix = _checked_prefix(members, tar_path)
            for name, member in members.items():
                content = cast(IO[bytes], tar.extractfile(member))  # of a regular file, as checked
                with open(os.path.join(half, name), 'xb') as target:
                    shutil.copyfileobj(content, target, 1 << 20)
        for name in sorted(members, key=lambda name: name.endswith('.index')):
            os.replace(os.path.join(half, name), os.path.join(folder, name))
    except tarfile.TarError as error:
        raise DamagedError(
            f'The archive {tar_path} is not a whole .tar ({error}): fetch it again.'
        ) from error
    finally:
        shutil.rmtree(half)
    return os.path.join(folder, prefix)


def _members(tar: tarfile.TarFile, tar_path: str) -> Dict[str, tarfile.TarInfo]:
    """The regular files of a .tar by base name; refuses whatever could reach out of the folder."""
    members: Dict[str, tarfile.TarInfo] = {}
    for member in tar:
        parts = member.name.split('/')
        name = parts[-1]
        if member.isdir() and '..' not in parts:
            continue
        if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
            raise DamagedError(
                f'The archive {tar_path} holds {member.name!r}, which is not a regular file: it '
                "is no checkpoint of ours or tfutils', and was not unpacked."
            )
        if member.name.startswith('/') or '..' in parts or not MEMBER.fullmatch(name):
            raise DamagedError(
                f'The archive {tar_path} holds {member.name!r}, which is not the name of a '
                "checkpoint's file: it was not unpacked."
            )
        if name in members:
            raise DamagedError(f'The archive {tar_path} holds {name} twice: it was not unpacked.')
        members[name] = member
    return members


def _checked_prefix(names: Collection[str], source: str) -> str:
    """The one prefix of a checkpoint's file names, which must be an .index and every shard of the
    data.
    """
    matches = [match for match in map(MEMBER.fullmatch, names) if match]
    if len(matches) != len(names):
        raise StoreError(
            f'{source} has a name that cannot be stored: use letters, digits, "-", "_" and ".".'
        )
    prefixes = {match.group('prefix') for match in matches}
    shards = {match.group('shard') for match in matches if match.group('shard')}
    counts = {int(match.group('shards')) for match in matches if match.group('shards')}
    whole = (
        len(prefixes) == 1
        and len(matches) == len(shards) + 1
        and len(counts) == 1
        and shards == {f'{index:05d}' for index in range(max(counts))}
    )
    if not whole:
        raise DamagedError(
            f'{source} is not one whole checkpoint, an .index and all of its .data-*, but: '
            f'{", ".join(sorted(names)) or "nothing"}.'
        )
    return prefixes.pop()
