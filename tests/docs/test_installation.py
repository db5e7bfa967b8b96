"""pip installs the program from its checkout alone: by the pip and setuptools of these tests."""

import os
import shutil
import subprocess
import sys

import pytest

from test_architecture import ROOT

pytestmark = pytest.mark.slow
PROGRAM = ('.ci', 'alignment', 'config', 'data', 'database', 'models', 'reports', 'training')
FILES = ('missing_packages.py', 'pyproject.toml', 'setup.py')


@pytest.fixture
def checkout(tmp_path):
    """A copy of what an installation reads."""
    for name in PROGRAM:
        shutil.copytree(os.path.join(ROOT, name), str(tmp_path / 'checkout' / name))
    for name in FILES:
        shutil.copy(os.path.join(ROOT, name), str(tmp_path / 'checkout'))
    return tmp_path / 'checkout'


def pip(checkout, *words):
    """What `pip install` does, without a network and beside this environment."""
    command = [sys.executable, '-m', 'pip', 'install', '--no-index', '--no-deps']
    command += ['--no-build-isolation', '--ignore-installed', *words]
    return subprocess.run(command, cwd=str(checkout), capture_output=True, text=True)


def installed(folder):
    """The files under a folder, but for what pip has compiled."""
    return [
        os.path.join(place, name)
        for place, _, names in os.walk(str(folder))
        for name in names
        if '__pycache__' not in place
    ]


def test_pip_install_without_e_is_refused_by_a_sentence(checkout, tmp_path):
    target = tmp_path / 'installed'
    done = pip(checkout, '.', f'--target={target}')
    assert done.returncode == 1 and installed(target) == []
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines()]
    assert [line for line in lines if 'install it with `pip install -e .`' in line] != []
    assert 'Traceback' not in done.stdout + done.stderr


def test_pip_install_e_works(checkout, tmp_path):
    prefix = tmp_path / 'installed'
    done = pip(checkout, '-e', '.', f'--prefix={prefix}')
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = [path for path in installed(prefix) if path.endswith('METADATA')]
    packages = os.path.dirname(os.path.dirname(found))
    # No package is copied; each is found in the checkout.
    assert not os.path.exists(os.path.join(packages, 'config'))
    code = f'import site; site.addsitedir({packages!r}); from config import root; print(root.ROOT)'
    words = [sys.executable, '-I', '-S', '-c', code]  # -S: without this environment's packages
    done = subprocess.run(words, cwd=str(tmp_path), capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == (str(checkout), '')


@pytest.mark.parametrize('hook', ['build_wheel', 'build_sdist'])
def test_a_build_is_refused_as_well(checkout, hook):
    code = f"import sys; sys.path.insert(0, '.ci'); import editable_only; editable_only.{hook}('.')"
    words = [sys.executable, '-c', code]
    done = subprocess.run(words, cwd=str(checkout), capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith('This program is run from its checkout')
