"""What records say of the environment: facts against other sources, and no secret among them."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

import tiny
from config.root import ROOT
from database import layout, records
from training import devices, environment, jobs, provenance, runtime
import tensorflow.compat.v1 as tf

GIT = dict(
    GIT_AUTHOR_NAME='a', GIT_AUTHOR_EMAIL='a', GIT_COMMITTER_NAME='a', GIT_COMMITTER_EMAIL='a'
)


@pytest.fixture(scope='module')
def described():
    exp = tiny.experiment()
    return environment.describe(exp.device, exp.dataset, ['train.py', '--seed=0'])['environment']


def test_it_has_every_fact_of_the_layout(described):
    assert set(described) == set(layout.ENVIRONMENT)
    params = jobs.merged_params(tiny.config(), {'environment': described})
    record = records.build('a', 0, params, 0.5)
    assert record['layout'] == layout.VERSION and layout.faults(record) == []
    assert described['folder'] == os.getcwd()
    del record['params']['environment']['folder']  # as in older records
    assert layout.faults(record) == []


def test_the_versions_are_those_that_are_imported(described):
    packages = {
        name.lower().replace('_', '-'): version for name, version in described['packages'].items()
    }
    assert described['python'] == sys.version.split()[0]
    assert described['tensorflow'] == tf.__version__
    assert described['packages']['numpy'] == np.__version__
    assert packages.get('tensorflow-cpu', packages.get('tensorflow')) == tf.__version__
    assert {'absl-py', 'protobuf', 'pymongo', 'tqdm'} <= set(packages)
    assert 'selenium' not in packages or 'selenium' in sys.modules  # it is installed, and not used


def test_the_machine_is_this_one(described):
    assert described['cpu']['threads'] == os.cpu_count() and described['devices'][0] == 'CPU'
    if os.path.exists('/proc/cpuinfo'):
        with open('/proc/cpuinfo') as file:
            words = file.read().split()
        assert set(described['cpu']['flags'].split()) <= set(words)


def test_a_gpu_is_named_by_its_description(monkeypatch):
    monkeypatch.setattr(runtime, 'gpu_names', lambda: ('name: NVIDIA H200, capability: 9.0',))
    device = devices.OneDevice(gpus=1)
    assert environment.describe(device)['environment']['devices'] == [
        'GPU 0',
        'name: NVIDIA H200, capability: 9.0',
    ]


def test_time_and_memory_go_on(described):
    one = environment.updated({'environment': described, 'other': 1})
    block = np.ones(2**24, np.uint8)  # 16 MiB that were not there before
    two = environment.updated(dict(one))
    assert block.sum() and one['other'] == 1
    first, second = one['environment'], two['environment']
    assert 0 <= first['seconds'] <= second['seconds']
    assert 10**7 < first['peak_memory'] <= second['peak_memory'] < 2**40
    assert {**first, 'seconds': 0, 'peak_memory': 0} == {**second, 'seconds': 0, 'peak_memory': 0}
    assert environment.updated({'model_params': {}}) == {'model_params': {}}


@pytest.mark.skipif(not os.path.exists('/proc/self/statm'), reason='only Linux tells')
def test_peak_memory_is_at_least_what_is_held():
    block = np.ones(2**26, np.uint8)
    with open('/proc/self/statm') as file:
        held = int(file.read().split()[1]) * os.sysconf('SC_PAGE_SIZE')
    assert held <= environment.peak_memory() < 2 * held + 2**30 and block.nbytes < held
    elsewhere = environment._peak_memory_elsewhere()
    assert 0.9 * held < elsewhere


SECRET = 'hunter2'


@pytest.mark.parametrize('words', [
    [f'--host=mongodb://me:{SECRET}@host:27017/?tls=true'],
    [f'mongodb+srv://me:{SECRET}@host'],
    [f'mongodb://me:a@{SECRET}/b@host:1/'],
    [f'mongodb://{SECRET}@host'],
    [f'--db_password={SECRET}'],
    [f'--PassWord={SECRET}'],
    [f'-password={SECRET} with words'],
    ['--password', SECRET],
    ['--api-key', SECRET, '--seed=1'],
    [f'--x_token={SECRET}'],
    [f'--data_dir=https://host/path?a=1&access_token={SECRET}'],
    [f'--client_secret={SECRET}&{SECRET}'],
], ids=lambda words: words[0][:30])  # fmt: skip
def test_no_secret_is_recorded(words):
    masked = environment.masked(['train.py'] + words)
    assert SECRET not in ' '.join(masked) and '***' in ' '.join(masked)
    assert len(masked) == len(words) + 1 and masked[0] == 'train.py'


@pytest.mark.parametrize('word', [
    '--exp_id_suffix=_token_of_love', '--data_dir=gs://bucket/a@b', '--seed=3', '--password',
    '--load_query={"a:b": "c@d"}', '--host=me@host', '--cache_dir=/home/a:b@c/d', '',
])  # fmt: skip
def test_other_words_are_recorded_as_given(word):
    assert environment.masked([word]) == [word]


def test_the_password_of_the_uri_is_nowhere(monkeypatch):
    monkeypatch.setenv('MONGODB_URI', f'mongodb://me:{SECRET}@localhost:1/')
    monkeypatch.setenv('SECRET', SECRET)
    exp = tiny.experiment()
    assert SECRET not in repr(environment.describe(exp.device, exp.dataset))


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A function that runs git in a small checkout, which stands for that of the program."""
    monkeypatch.setattr(provenance, 'ROOT', str(tmp_path))
    monkeypatch.setattr(environment, 'ROOT', str(tmp_path))

    def git(*words):
        return subprocess.check_output(
            ('git', '-C', str(tmp_path)) + words, env=dict(os.environ, **GIT)
        )

    git('init', '-q')
    (tmp_path / 'a.py').write_bytes(b'\xff = 1\n')
    git('add', '.')
    git('commit', '-qm', 'one')
    return git


def test_the_digest_of_a_diff(checkout, tmp_path):
    assert environment.diff() is None
    (tmp_path / 'notes.txt').write_text('git does not know it, and no Python runs it')
    assert environment.diff() is None
    (tmp_path / 'a.py').write_bytes(b'\xff = 2\n')
    printed = checkout('diff', '--binary', '--full-index', 'HEAD')
    assert environment.diff() == hashlib.sha256(printed).hexdigest()
    checkout('config', 'diff.noprefix', 'false')
    checkout('config', 'color.ui', 'always')
    assert environment.diff() == hashlib.sha256(printed).hexdigest()
    (tmp_path / 'new.py').write_text('x = 1\n')
    known = {environment.diff()}
    (tmp_path / 'new.py').write_text('x = 2\n')
    known.add(environment.diff())
    checkout('add', '.')
    known.add(environment.diff())
    assert len(known) == 3
    checkout('commit', '-qm', 'two')
    assert environment.diff() is None


def test_there_may_be_no_checkout(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, 'ROOT', str(tmp_path))
    monkeypatch.setattr(environment, 'ROOT', str(tmp_path))
    monkeypatch.setenv('GIT_CEILING_DIRECTORIES', str(tmp_path.parent))
    assert environment.diff() is None and provenance.describe()['provenance']['commit'] is None


def test_the_digest_of_this_program_is_what_git_says():
    if provenance.describe()['provenance']['commit'] is None:
        pytest.skip('this is no git checkout')
    words = ['git', '-C', ROOT, 'diff', '--binary', '--full-index', 'HEAD']
    printed = subprocess.check_output(words)
    if printed and not subprocess.check_output(['git', '-C', ROOT, 'ls-files', '-o', '*.py']):
        assert environment.diff() == hashlib.sha256(printed).hexdigest()
