"""Describes the program that writes a record: its runtime and its commit."""

import os
import subprocess
from typing import Optional

from config.root import ROOT
from config.schema import ConfigError
from database.types import Document
from training import runtime


def describe() -> Document:
    """Returns {'provenance': {runtime, commit, uncommitted}}.

    Outside a git checkout, commit and uncommitted are None.
    """
    commit = git_text('rev-parse', 'HEAD')
    return {
        'provenance': {
            'runtime': runtime.describe(),
            'commit': commit,
            'uncommitted': bool(git_text('status', '--porcelain')) if commit else None,
        }
    }


def check_committed() -> None:
    """Checks that the source tree has no uncommitted changes.

    Raises:
        ConfigError: It has some, or it is not a git checkout.
    """
    if git_text('rev-parse', 'HEAD') is None:
        raise ConfigError(
            f'--noskip_check: {ROOT} is not a git checkout; leave out --noskip_check, or run the '
            'program from a clone'
        )
    changed = git_text('status', '--porcelain')
    if changed:
        files = ', '.join(line[3:] for line in changed.split('\n')[:5])
        raise ConfigError(
            f'--noskip_check: {ROOT} has uncommitted changes in {files}; commit them, or leave out '
            '--noskip_check'
        )


def git_output(*arguments: str) -> Optional[bytes]:
    """Returns what git prints, or None if git fails, is missing, or this is no checkout."""
    try:
        return subprocess.run(
            ('git', '-C', ROOT) + arguments,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return None


def git_text(*arguments: str) -> Optional[str]:
    """Returns what git prints as text, or None as `git_output` does."""
    printed = git_output(*arguments)
    return None if printed is None else os.fsdecode(printed).strip()
