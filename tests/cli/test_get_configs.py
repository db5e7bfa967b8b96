"""config/get_configs.sh with a local server, and which of its files `make clean` keeps."""

import os
import re
import shutil
import subprocess
import sys

import commands
import pytest
import web

from config import recipes

pytestmark = pytest.mark.slow
SCRIPT = os.path.join('config', 'get_configs.sh')
# The released settings files in full.
HOST = 'https://neuralalignpkls.s3-us-west-1.amazonaws.com/'
RELEASED = [
    'symmetric.pkl',
    'activation.pkl',
    'wm.pkl',
    'wm_tpe.pkl',
    'wm_tpe_ad.pkl',
    'wm_tpe_ad_ops.pkl',
    'information_tpe.pkl',
]
FILES = {name: name.encode('ascii') * (7 + 100 * index) for index, name in enumerate(RELEASED)}


@pytest.fixture
def get(site, tmp_path):
    """Returns a function: arguments -> the commands.Done of a copy of the script in tmp_path.

    The script finds no Python.
    """
    path = web.copy(SCRIPT, tmp_path)
    tools = tmp_path / 'tools'
    tools.mkdir()
    for name in web.TOOLS + ('curl',):
        (tools / name).symlink_to(shutil.which(name))
    return lambda *arguments, url=site.url: web.call(
        [path] + list(arguments), CONFIGS_URL=url, PATH=str(tools)
    )


def here(tmp_path):
    """Returns {name: content} of the settings files in the script's folder."""
    return {
        path.name: path.read_bytes()
        for path in (tmp_path / 'config').iterdir()
        if path.suffix == '.pkl'
    }


def test_it_asks_for_the_released_files_where_they_are(tmp_path):
    asked = web.asked_by_default(SCRIPT, tmp_path)
    assert asked == [('HEAD', HOST + name) for name in RELEASED] + [
        ('GET', HOST + name) for name in RELEASED
    ]
    assert here(tmp_path) == {name: (HOST + name).encode('ascii') for name in RELEASED}


def test_all_come_whole_under_their_own_names_without_a_python(get, site, tmp_path):
    done = get()
    assert done.code == 0, done.err
    assert here(tmp_path) == FILES
    assert re.search('all, 7 files from ' + site.url, done.out)
    assert get().code == 0 and len(site.asked) == 2 * len(FILES)  # the second call sends no request


def test_some_come_by_name(get, tmp_path):
    assert get('wm', 'information_tpe').code == 0
    assert set(here(tmp_path)) == {'wm.pkl', 'information_tpe.pkl'}


def test_the_first_checksums_are_kept_and_checked(get, tmp_path):
    get()
    (tmp_path / 'config' / 'wm_tpe.pkl').write_bytes(b'x')
    done = get()
    assert done.code == 1 and 'config/wm_tpe.pkl changed after its download' in done.err
    assert here(tmp_path)['wm_tpe.pkl'] == b'x'


def test_without_network_one_sentence_names_what_writes_our_recipes(get, tmp_path):
    done = get(url='http://127.0.0.1:9')
    assert (
        done.code == 1
        and len(done.err.splitlines()) == 1
        and done.err.startswith('error: http://127.0.0.1:9 does not answer')
    )
    assert '`python -m config.recipes` writes our own recipes' in done.err and here(tmp_path) == {}


@pytest.mark.parametrize(
    'arguments', [('quickstart',), ('symmetric', 'mirror'), ('wm wm_tpe',), ('',)]
)
def test_what_was_not_released_is_refused(get, site, arguments):
    done = get(*arguments)
    assert (
        done.code == 2
        and len(done.err.splitlines()) == 1
        and '`python -m config.recipes`' in done.err
    )
    assert site.asked == []


def test_no_recipe_that_is_written_by_default_has_the_name_of_a_released_file():
    named = {name + '.pkl' for name in recipes.OF_THE_AUTHORS}  # written only if they are named
    assert {name + '.pkl' for name in recipes.RECIPES} & set(RELEASED) == named == {'wm.pkl'}


def test_git_ignores_what_they_leave():
    left = [
        'config/symmetric.pkl',
        'config/symmetric.pkl.part',
        'config/symmetric.pkl.part.version',
        'config/checksums.txt',
        'config/.downloading',
        'checkpoints/checksums.txt',
        'checkpoints/.downloading',
        'checkpoints/resnet18/symmetric/a.meta.part',
    ]
    done = subprocess.run(
        ['git', 'check-ignore', '--no-index'] + left,
        cwd=commands.ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert done.stdout.splitlines() == left


def test_make_clean_keeps_what_was_downloaded(tmp_path):
    shutil.copy(os.path.join(commands.ROOT, 'Makefile'), str(tmp_path))
    shutil.copytree(os.path.join(commands.ROOT, '.ci'), str(tmp_path / '.ci'))
    kept = ['config/' + name for name in RELEASED] + [
        'config/mine.pkl',
        'config/checksums.txt',
        'checkpoints/resnet18/mirror/model.ckpt-126250.index',
    ]
    gone = [
        'config/quickstart.pkl',
        'config/mnist_fc_mirror.pkl',
        'local/report.html',
        '.venv-3.7/ready-train',
    ]
    for name in kept + gone:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text('x')
    done = web.call(['make', 'clean', 'PYTHON=' + sys.executable], cwd=str(tmp_path))
    assert done.code == 0, done.err
    assert [name for name in kept + gone if (tmp_path / name).exists()] == kept
    # Everything that is removed from config/ can be downloaded or written again.
    assert {os.path.basename(name)[:-4] for name in gone if name.startswith('config/')} <= set(
        recipes.RECIPES
    )
