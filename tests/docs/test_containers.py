"""The Dockerfile: its form, and its commands in an empty folder; the workflow of the public CI."""

import fnmatch
import os
import re
import shutil
import subprocess
import sys

import pytest
import yaml

from test_architecture import ROOT

INSTRUCTIONS = {'ARG', 'FROM', 'RUN', 'WORKDIR', 'COPY', 'CMD'}
FOLDER = '/credit-alignment'  # of the program in the image


def read(name):
    """The text of a file in the repository."""
    with open(os.path.join(ROOT, name), encoding='utf-8') as file:
        return file.read()


def steps():
    """[(instruction, its words)] of the Dockerfile."""
    text = re.sub(r'(?m)^#.*\n', '', read('Dockerfile')).replace('\\\n', ' ')
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line.strip()]


def ignored():
    """The patterns of .dockerignore."""
    return [line for line in read('.dockerignore').splitlines() if line and line[0] != '#']


def is_ignored(path):
    """Whether a path is left out of the image: the last pattern that fits it counts."""
    parts = path.split('/')
    beginnings = ['/'.join(parts[: end + 1]) for end in range(len(parts))]
    found = False
    for pattern in ignored():
        candidates = parts if '**/' in pattern else beginnings
        kept, bare = pattern.startswith('!'), pattern.lstrip('!').rstrip('/').replace('**/', '')
        if any(fnmatch.fnmatch(each, bare) for each in candidates):
            found = not kept
    return found


def test_the_dockerfile_has_one_argument_and_steps_that_are_known():
    found = steps()
    assert {instruction for instruction, _ in found} == INSTRUCTIONS
    assert [words for instruction, words in found if instruction == 'ARG'] == ['PYTHON=3.11']
    assert found[1] == ('FROM', 'python:${PYTHON}-slim-bookworm')
    assert ('WORKDIR', FOLDER) in found and ('COPY', '. .') in found
    (command,) = [words for instruction, words in found if instruction == 'CMD']
    assert yaml.safe_load(command)[:2] == ['make', 'train']


def test_what_git_ignores_is_not_in_the_image_and_all_else_is():
    for path in (
        '.venv-3.11/bin/python',
        'local/cache/x',
        'config/a.pkl',
        'data/__pycache__/a.pyc',
    ):
        assert is_ignored(path), path
    tracked = subprocess.run(
        ['git', 'ls-files'], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert len(tracked) > 300 and [path for path in tracked if is_ignored(path)] == []


@pytest.mark.nightly
@pytest.mark.skipif(sys.platform != 'linux', reason='the image is of Linux')
def test_the_commands_of_the_dockerfile_work_in_an_empty_folder(tmp_path):
    program = tmp_path / 'program'
    tracked = subprocess.run(
        ['git', 'ls-files'], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for path in tracked:
        (program / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(os.path.join(ROOT, path), str(program / path))
    # `python3` is the image's only Python; here it is the one that runs the tests.
    folder = tmp_path / 'bin'
    folder.mkdir()
    (folder / 'python3').symlink_to(os.path.realpath(sys.executable))
    env = dict(os.environ, PATH=f'{folder}:{os.environ["PATH"]}', HOME=str(tmp_path))
    commands = [words for instruction, words in steps() if instruction == 'RUN']
    done = [words for words in commands if not re.match('apt-get|git config', words)]
    assert len(done) == len(commands) - 2 > 0
    version = '{}.{}'.format(*sys.version_info)
    train = [f'.venv-{version}/bin/python', 'train.py', '--model=fc', '--layers_list=16']
    for words in done + [' '.join(train + ['--dataset=synthetic', '--dry_run'])]:
        ended = subprocess.run(
            words, shell=True, cwd=str(program), capture_output=True, text=True, env=env
        )
        assert ended.returncode == 0, words + '\n' + ended.stdout + ended.stderr
    shutil.rmtree(str(program))  # 2 GB


def test_the_workflow_runs_the_ci_on_both_pythons():
    workflow = yaml.safe_load(read('.github/workflows/ci.yml'))
    pythons = workflow['jobs']['test']['strategy']['matrix']['python']
    assert pythons == ['3.7', '3.11']
    texts = [step.get('run', '') for job in workflow['jobs'].values() for step in job['steps']]
    assert any('.ci/run' in text for text in texts)
    targets = set(re.findall(r'(?m)^([a-z][a-z-]*):', read('Makefile')))
    named = {target for text in texts for target in re.findall(r'make ([a-z-]+)', text)}
    assert named and named <= targets
    assert workflow['permissions'] == {'contents': 'read'}


def test_the_ci_script_takes_the_pythons_of_the_workflow():
    assert '${PYTHONS:-' in read('.ci/run')
    done = subprocess.run(['bash', '-n', '.ci/run'], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, '')
