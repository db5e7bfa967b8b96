"""What a record tells of the program that made it."""

import subprocess
from typing import Optional

from config.root import ROOT
from config.schema import ConfigError
from database.types import Document
from training import runtime


def describe() -> Document:
    """{'provenance': {runtime, commit, uncommitted}}; commit is None outside a git checkout."""
    commit = _git('rev-parse', 'HEAD')
    return {
        'provenance': {
            'runtime': runtime.describe(),
            'commit': commit,
            'uncommitted': bool(_git('status', '--porcelain')) if commit else None,
        }
    }


def check_committed() -> None:
    """Raises ConfigError if the source tree has changes that no commit holds."""
    if _git('rev-parse', 'HEAD') is None:
        raise ConfigError(f'--noskip_check: {ROOT} is no git checkout')
    changed = _git('status', '--porcelain')
    if changed:
        raise ConfigError(
            '--noskip_check: uncommitted changes in {}: {}; commit them or leave --noskip_check '
            'out'.format(ROOT, ', '.join(line[3:] for line in changed.split('\n')[:5]))
        )


def _git(*arguments: str) -> Optional[str]:
    """What git prints, or None if it cannot be asked."""
    try:
        return subprocess.run(
            ('git', '-C', ROOT) + arguments,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=True,
            text=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
