"""Packs and unpacks archives: .tar files with the `.index` and `.data-*` files of a checkpoint."""

import glob
import hashlib
import os
import re
import shutil
import tarfile
import tempfile
from typing import IO, Collection, Dict, NamedTuple, cast

from database import private
from database.errors import DamagedError, StoreError

MEMBER = re.compile(
    r'(?P<prefix>\w[\w.+=@-]*)\.(?:index|data-(?P<shard>\d{5})-of-(?P<shards>\d{5}))'
)


class Archive(NamedTuple):
    """An archive on disk.

    Attributes:
        path: The path of the file.
        sha256: The SHA-256 of what was packed, in hexadecimal.
    """

    path: str
    sha256: str


class _Summing:
    """A binary file that computes the SHA-256 of what is written to it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._sha256 = file, hashlib.sha256()

    def write(self, data: bytes) -> int:
        self._sha256.update(data)
        return self._file.write(data)

    def tell(self) -> int:
        return self._file.tell()

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()


def pack(prefix: str, tar_path: str) -> str:
    """Calls `packed` and returns only the path of the archive."""
    return packed(prefix, tar_path).path


def packed(prefix: str, tar_path: str) -> Archive:
    """Packs a checkpoint into one uncompressed archive, which is written atomically.

    Packing the same files again gives the same archive.

    Args:
        prefix: The path of the checkpoint, without `.index`.
        tar_path: The path of the archive. An existing file is replaced.

    Returns:
        The archive.

    Raises:
        StoreError: Files of the checkpoint are missing, or its name cannot be stored.
        OSError: The archive cannot be written.
    """
    paths = [prefix + '.index'] + sorted(glob.glob(glob.escape(prefix) + '.data-?????-of-?????'))
    missing = [path for path in paths if not os.path.isfile(path)]
    if missing:
        raise StoreError(
            f'The checkpoint {prefix} has no file {missing[0]}. Save it before packing it.'
        )
    _checked_prefix([os.path.basename(path) for path in paths], prefix)
    half = tar_path + '.half'
    try:
        with private.created(half) as stream:
            summing = _Summing(stream)
            with tarfile.open(
                fileobj=cast(IO[bytes], summing), mode='w', format=tarfile.GNU_FORMAT
            ) as tar:
                for path in paths:
                    tar.add(path, arcname=os.path.basename(path), filter=_anonymous)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(half, tar_path)
    finally:
        if os.path.exists(half):
            os.remove(half)
    return Archive(tar_path, summing.sha256)


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ''
    return member


def unpack(tar_path: str, folder: str) -> str:
    """Unpacks an archive of this program or of tfutils into a folder.

    Existing files of the same name are replaced. The `.index` file is put in place last, so that
    the folder never contains an incomplete checkpoint.

    Args:
        tar_path: The path of the archive.
        folder: The existing folder for the files.

    Returns:
        The path of the checkpoint, without `.index`.

    Raises:
        DamagedError: The archive is damaged, or contains anything but the files of one checkpoint.
        OSError: A file cannot be read or written.
    """
    half = tempfile.mkdtemp(prefix='.unpacking-', dir=folder)
    try:
        with tarfile.open(tar_path, mode='r:') as tar:
            members = _members(tar, tar_path)
            prefix = _checked_prefix(members, tar_path)
            for name, member in members.items():
                content = cast(
                    IO[bytes], tar.extractfile(member)
                )  # never None: _members accepts only regular files
                with private.created(os.path.join(half, name)) as target:
                    shutil.copyfileobj(content, target, 1 << 20)
        for name in sorted(members, key=lambda name: name.endswith('.index')):
            os.replace(os.path.join(half, name), os.path.join(folder, name))
    except (tarfile.TarError, ValueError, OverflowError, EOFError) as error:
        raise DamagedError(
            f'The archive {tar_path} is not a complete .tar file ({error}). Download it again.'
        ) from error
    finally:
        shutil.rmtree(half)
    return os.path.join(folder, prefix)


def prefix_of(tar_path: str) -> str:
    """Returns the name of the checkpoint in an archive, such as checkpoint-100.

    Raises:
        DamagedError: The archive is damaged, or contains anything but the files of one checkpoint.
        OSError: It cannot be read.
    """
    try:
        with tarfile.open(tar_path, mode='r:') as tar:
            return _checked_prefix(_members(tar, tar_path), tar_path)
    except tarfile.TarError as error:
        raise DamagedError(f'{tar_path} is not a complete .tar file ({error}).') from error


def _members(tar: tarfile.TarFile, tar_path: str) -> Dict[str, tarfile.TarInfo]:
    """Returns the regular files of a .tar by base name; refuses paths that leave the folder."""
    members: Dict[str, tarfile.TarInfo] = {}
    promised, there = 0, os.path.getsize(tar_path)
    for member in tar:
        promised += member.size
        if promised > there:  # checked before the reader seeks to the next member, after this one
            raise DamagedError(
                f'The archive {tar_path} has {there:,} bytes, but promises {promised:,} or more. '
                'It was not unpacked.'
            )
        parts = member.name.split('/')
        name = parts[-1]
        if member.isdir() and '..' not in parts:
            continue
        # The holes of a sparse file are not in the archive: 10 kB could unpack to terabytes.
        if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.issparse():
            raise DamagedError(
                f'The archive {tar_path} contains {member.name!r}, which is not a regular file. It '
                'is not a checkpoint of this program or of tfutils, so it was not unpacked.'
            )
        if member.name.startswith('/') or '..' in parts or not MEMBER.fullmatch(name):
            raise DamagedError(
                f'The archive {tar_path} contains {member.name!r}, which is not the name of a '
                'checkpoint file. It was not unpacked.'
            )
        if name in members:
            raise DamagedError(
                f'The archive {tar_path} contains {name} twice. It was not unpacked.'
            )
        members[name] = member
    return members


def _checked_prefix(names: Collection[str], source: str) -> str:
    """Returns the common prefix of the file names of one complete checkpoint.

    Args:
        names: The base names: one `.index` file and every shard of the data.
        source: The archive or checkpoint, for messages.

    Raises:
        StoreError: A name cannot be stored.
        DamagedError: The names are not those of one complete checkpoint.
    """
    matches = [match for match in map(MEMBER.fullmatch, names) if match]
    if len(matches) != len(names):
        raise StoreError(
            f'{source} has a name that cannot be stored. Use letters, digits, "-", "_" and ".".'
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
            f'{source} must contain one complete checkpoint, an .index file and all of its .data-* '
            f'files, but it contains: {", ".join(sorted(names)) or "nothing"}.'
        )
    return prefixes.pop()
