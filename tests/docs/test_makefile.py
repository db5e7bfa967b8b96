"""The targets of the Makefile: each has its line in `make help`."""

import os
import re
import subprocess

import pytest

from test_architecture import ROOT


def makefile():
    """The text of the Makefile, its continued lines in one."""
    with open(os.path.join(ROOT, 'Makefile'), encoding='utf-8') as file:
        return file.read().replace('\\\n', ' ')


def targets():
    """The names of the targets that are commands, in the order of the Makefile."""
    return re.findall(r'(?m)^([a-z][a-z_-]*):(?!=)', makefile())


def test_every_target_is_phony_and_has_a_line_of_help():
    (phony,) = re.findall(r'(?m)^\.PHONY:(.*)$', makefile())
    assert sorted(phony.split()) == sorted(targets())
    helped = re.findall(r'(?m)^([a-z][a-z_-]*):.*  ## \S', makefile())
    assert helped == targets()


@pytest.mark.parametrize('python', ['', 'PYTHON=python0'])
def test_make_help_lists_the_targets_without_a_python(python):
    done = subprocess.run(
        ['make', '--no-print-directory', 'help', *filter(None, [python])],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, '')
    lines = re.findall(r'(?m)^  make (\S+) +(\S.*)$', done.stdout)
    assert [name for name, _ in lines] == targets() and len(lines) > 15
    assert [line for line in done.stdout.splitlines() if len(line) > 110] == []


@pytest.mark.slow
def test_every_variable_of_the_makefile_is_defined():
    done = subprocess.run(
        ['make', '--warn-undefined-variables', '--dry-run', *targets()],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert 'undefined variable' not in done.stderr and 'No rule' not in done.stderr
