"""Describes where a run runs and from what: params.environment of its records.

params.provenance says which program it is; both together are what is needed to repeat a run.
"""

import datetime
import functools
import hashlib
import os
import platform
import re
import sys
from typing import Dict, List, Optional, Sequence, Set

from config.root import ROOT
from data.base import Dataset
from database.types import Document
from training import machine, runtime
from training.devices import Device
from training.provenance import git_output

if sys.version_info >= (3, 8):
    from importlib import metadata
else:
    import importlib_metadata as metadata

GROUP = 'environment'
MASK = '***'
# `user:password@` of an address. A password may contain an @, so all up to the last one is masked.
IN_ADDRESS = re.compile(r'(?<=://)(?:\S*:\S*|[^/\s]*)@')
SECRET = r'[\w-]*(?:password|passwd|secret|token|credential|api[_-]?key)[\w-]*'
AS_FLAG = re.compile(rf'(?i)(-{{1,2}}{SECRET}=).*', re.DOTALL)  # --db_password=...
IN_QUERY = re.compile(rf'(?i)([?&;]{SECRET}=)[^&;]*')  # https://host/path?token=...
NAME_ALONE = re.compile(rf'(?i)-{{1,2}}{SECRET}$')  # --db_password, before the word to mask
# What decides how a diff looks, so that its digest is the same for every user.
DIFF = ('diff', '--no-ext-diff', '--no-textconv', '--no-color', '--binary', '--full-index', 'HEAD')


def describe(
    device: Device,
    dataset: Optional[Dataset] = None,
    argv: Optional[Sequence[str]] = None,
) -> Document:
    """Returns {'environment': {name: plain value}}; see ENVIRONMENT in database/layout.py.

    Args:
        device: The device.
        dataset: The images; None if only a script knows them.
        argv: The command as given; default: that of this process.
    """
    fixed: Document = {
        'python': platform.python_version(),
        'tensorflow': runtime.VERSION,
        'packages': packages(),
        'platform': platform.platform(),
        'cpu': machine.cpu()._asdict(),
        'devices': [device.title] + (list(runtime.gpu_names()) if device.gpus else []),
        'diff': diff(),
        'dataset': _of_dataset(dataset) if dataset else None,
        'argv': masked(sys.argv if argv is None else argv),
        'folder': _folder(),
        'started': datetime.datetime.now(datetime.timezone.utc),
    }
    return updated({GROUP: fixed})


def updated(params: Document) -> Document:
    """Returns params with the seconds since the run started, and its peak memory so far in bytes.

    Params without an environment are returned as they are.
    """
    if GROUP not in params:
        return params
    since = datetime.datetime.now(datetime.timezone.utc) - params[GROUP]['started']
    so_far = {'seconds': max(since.total_seconds(), 0.0), 'peak_memory': peak_memory()}
    return dict(params, **{GROUP: dict(params[GROUP], **so_far)})


def masked(argv: Sequence[str]) -> List[str]:
    """Returns the words of a command with *** for what looks like a password, a token or a key."""
    words, hide = [], False
    for word in argv:
        words.append(MASK if hide else _masked(word))
        hide = bool(NAME_ALONE.match(word))
    return words


def _masked(word: str) -> str:
    flag = AS_FLAG.match(word)
    if flag:
        return flag.group(1) + MASK
    return IN_ADDRESS.sub(MASK + '@', IN_QUERY.sub(rf'\g<1>{MASK}', word))


@functools.lru_cache(maxsize=None)
def packages() -> Dict[str, str]:
    """Returns {name: version} of the installed packages of which a module has been imported."""
    imported = {name.partition('.')[0] for name in sys.modules}
    found = {}
    for distribution in metadata.distributions():
        if imported.intersection(_modules(distribution)):
            found[distribution.metadata['Name']] = distribution.version
    return dict(sorted(found.items()))


def _modules(distribution: metadata.Distribution) -> Set[str]:
    """Returns the names of the modules and packages at the top level of a distribution."""
    names = distribution.read_text('top_level.txt')
    if names is not None:
        return set(names.split())
    files = (distribution.read_text('RECORD') or '').splitlines()
    return {re.split('[/.,]', file, maxsplit=1)[0] for file in files}


def diff() -> Optional[str]:
    """Returns a checksum of what the program has beyond its commit, or None if that is nothing.

    It is the SHA-256 of `git diff --binary --full-index HEAD`, followed by the name and the content
    of each Python file that git does not know.
    """
    changed = git_output(*DIFF)
    names = (git_output('ls-files', '--others', '--exclude-standard', '-z', '*.py') or b'').split(
        b'\0'
    )
    others = sorted(filter(None, names))
    if not (changed or others):
        return None
    digest = hashlib.sha256(changed or b'')
    for name in others:
        digest.update(name + b'\0')
        try:
            with open(os.path.join(os.fsencode(ROOT), name), 'rb') as file:
                digest.update(file.read())
        except OSError:
            digest.update(b'unreadable')
    return digest.hexdigest()


def _of_dataset(dataset: Dataset) -> Document:
    identity = dataset.identity()
    return {
        'digest': identity.digest,
        'digest_of': identity.of,
        'classes': dataset.classes,
        'train_images': dataset.train_images,
        'validation_images': dataset.validation_images,
    }


def _folder() -> Optional[str]:
    """Returns the folder that this process works in, or None if it was removed."""
    try:
        return os.getcwd()
    except OSError:
        return None


def peak_memory() -> Optional[int]:
    """Returns the most memory that this process has held so far, in bytes, or None if unknown."""
    try:
        with open('/proc/self/status', encoding='utf-8', errors='replace') as file:
            found = re.search(r'^VmHWM:\s*(\d+) kB$', file.read(), re.MULTILINE)
        return 1024 * int(found.group(1)) if found else None
    except OSError:
        return _peak_memory_elsewhere()


def _peak_memory_elsewhere() -> Optional[int]:
    """Returns the same from getrusage, which Linux starts at the memory of the parent process."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) if sys.platform == 'darwin' else 1024 * int(peak)
