"""If our packages are missing, every program says so in one sentence.

If they are installed but broken, Python reports the error itself.
"""

import os
import subprocess
import sys

import commands
import pytest
import web

import missing_packages

PROGRAMS = {  # words: (the first package that is missing, arguments for pip)
    ('train.py',): ('tensorflow', 'cpu'),
    ('test.py', 'validate'): ('tensorflow', 'cpu'),
    ('report.py',): ('rich', 'report'),
    ('runs.py', 'list'): ('bson', 'cpu'),
    ('search.py',): ('tensorflow', 'cpu,search'),
    ('-m', 'config.recipes'): ('bson', 'cpu'),
    ('-m', 'data.build_tfrecords'): ('tensorflow', 'cpu'),
    ('-m', 'database.server', 'status'): ('pymongo', 'cpu'),
    ('-m', 'experiments.mnist_rules'): ('tensorflow', 'cpu'),
}


@pytest.fixture(scope='module')
def python(tmp_path_factory):
    """A Python without any packages except the standard library."""
    folder = str(tmp_path_factory.mktemp('bare'))
    subprocess.run([sys.executable, '-m', 'venv', '--without-pip', folder], check=True)
    return os.path.join(folder, 'bin', 'python')


@pytest.mark.slow
@pytest.mark.parametrize('words', PROGRAMS, ids=' '.join)
def test_a_missing_package_is_told_in_one_sentence(python, words):
    package, extras = PROGRAMS[words]
    done = web.call([python] + list(words), cwd=commands.ROOT)
    assert done.code == 1 and done.out == '' and len(done.err.splitlines()) == 1
    assert done.err.startswith(
        'error: the package {} is not installed in {} (Python {}.{}); run `'.format(
            package, python, *sys.version_info[:2]
        )
    )
    assert (
        f"/bin/activate` first, or install it there with `pip install -e '.[{extras}]'`" in done.err
    )


@pytest.mark.slow
def test_a_package_that_is_broken_is_left_to_python(python, tmp_path):
    (tmp_path / 'tensorflow').mkdir()
    (tmp_path / 'tensorflow' / '__init__.py').write_text(
        'raise ImportError("libnone.so: cannot open shared object file")'
    )
    done = web.call([python, 'train.py'], cwd=commands.ROOT, PYTHONPATH=str(tmp_path))
    assert (
        done.code == 1
        and done.err.splitlines()[-1] == 'ImportError: libnone.so: cannot open shared object file'
    )
    assert 'is not installed' not in done.err


@pytest.mark.slow
@pytest.mark.parametrize('name', ['config.nothing', 'tensorflow.nothing'])
def test_a_mistake_in_an_import_is_left_to_python(tmp_path, name):
    (tmp_path / 'tensorflow').mkdir()
    (tmp_path / 'tensorflow' / '__init__.py').write_text('')
    done = web.call(
        [sys.executable, '-c', 'import missing_packages, ' + name],
        cwd=commands.ROOT,
        PYTHONPATH=str(tmp_path),
    )
    assert (
        done.code == 1
        and done.err.splitlines()[-1] == f"ModuleNotFoundError: No module named '{name}'"
    )


@pytest.mark.parametrize(
    'made, advice',
    [
        (
            [],
            'run `make setup` and `source .venv-{}.{}/bin/activate` first, or '.format(
                *sys.version_info[:2]
            ),
        ),
        (
            ['.venv-3.9', '.venv-3.10', '.venv-peers'],
            'run `source .venv-3.10/bin/activate` first, or ',
        ),
    ],
)
def test_the_sentence_names_the_environment_that_there_is(tmp_path, monkeypatch, made, advice):
    for name in made:
        (tmp_path / name / 'bin').mkdir(parents=True)
        (tmp_path / name / 'bin' / 'activate').write_text('')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(missing_packages, 'ROOT', str(tmp_path))
    assert f'); {advice}install it there with' in missing_packages.sentence('absl')
    if made:  # but not if this environment is the one that lacks the package
        monkeypatch.setattr(sys, 'prefix', str(tmp_path / '.venv-3.9'))
        assert '); install it there with' in missing_packages.sentence('absl')
