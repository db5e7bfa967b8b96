"""The shipped recipes: what they are, that they can run, and the files that config/get_configs.sh writes of them."""
import os
import stat
import subprocess
import sys

import pytest

from config import params, recipes
from config.schema import ROWS, Config

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NAMES = ('backprop', 'feedback', 'dfa', 'usf', 'frsf', 'brsf', 'symmetric', 'activation', 'mirror', 'information', 'kolen_pollack', 'pfa',
         'quickstart')
SCRIPT = os.path.join(ROOT, 'config', 'get_configs.sh')


def get_configs(*arguments):
    """What the script prints, its errors and its exit code."""
    return subprocess.run([SCRIPT] + list(arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          universal_newlines=True, env=dict(os.environ, PYTHON=sys.executable))


def test_the_recipes_are_those_that_are_asked_for():
    assert set(NAMES) <= set(recipes.RECIPES)


@pytest.mark.parametrize('name', sorted(recipes.RECIPES))
def test_a_recipe_is_whole(name, choices):
    from training import experiment
    recipe = recipes.RECIPES[name]
    assert recipe.source.strip() and recipe.expects.strip()
    assert 'arXiv:' in recipe.source or 'doi:' in recipe.source or 'this project' in recipe.source
    config = Config.of(recipe.settings, choices)
    experiment.check(config)
    settled = {key: ROWS[key].default for key in recipe.settings if recipe.settings[key] == ROWS[key].default}
    assert settled.keys() <= {'train_epochs', 'train_batch_size'}  # a recipe says only what differs, and its length


@pytest.mark.parametrize('name', [name for name in sorted(NAMES) if name != 'quickstart' and not name.startswith('mnist_')])
def test_a_recipe_has_the_rule_of_its_name_and_the_frame_of_the_released_checkpoints(name):
    config = Config.of(recipes.RECIPES[name].settings, {})
    assert config.alignment == (None if name == 'backprop' else name)
    assert (config.dataset, config.optimizer, config.train_epochs, config.train_batch_size) == ('imagenet', 'momentum', 90, 256)
    assert config.train_epochs * (1281167 // config.train_batch_size) == 450360
    assert (config.alpha, config.beta, config.gamma) == (None, None, None)  # the rule's own


def test_mirror_sees_noise():
    assert Config.of(recipes.RECIPES['mirror'].settings, {}).input_distribution == 'normal'


def test_the_script_writes_all_recipes_and_each_loads_back_equal(tmp_path, choices):
    done = get_configs('--folder', str(tmp_path))
    assert (done.returncode, done.stderr) == (0, '')
    assert {file[:-4] for file in os.listdir(str(tmp_path))} == set(recipes.RECIPES)
    for name, recipe in recipes.RECIPES.items():
        path = str(tmp_path / (name + '.pkl'))
        assert path in done.stdout
        assert Config.of(params.load(path)[0], choices) == Config.of(recipe.settings, choices)


def test_the_script_writes_the_recipes_that_are_named(tmp_path):
    assert get_configs('mirror', 'quickstart', '--folder', str(tmp_path)).returncode == 0
    assert sorted(os.listdir(str(tmp_path))) == ['mirror.pkl', 'quickstart.pkl']


@pytest.mark.parametrize('arguments, words', [
    (['mirrow'], 'there is no recipe mirrow; choose of backprop'), (['--folder', '/no/such/folder'], 'No such file')])
def test_the_script_tells_what_is_wrong(arguments, words):
    done = get_configs(*arguments)
    assert done.returncode == 2 and words in done.stderr and 'Traceback' not in done.stderr


def test_the_script_can_be_run():
    assert os.stat(SCRIPT).st_mode & stat.S_IXUSR
