"""The shipped recipes: their settings, that they can run, and the files of `config.recipes`.

Also settings files as text.
"""

import os
import pickle

import pytest

from alignment import rules
from config import params, recipes
from config.schema import ROWS, Config, rows_of

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
RULES = ('backprop', *rules.RULES)
AUTHORS = os.path.join(ROOT, 'tests', 'config', 'authors')


def test_the_recipes_are_those_that_are_asked_for():
    """tests/experiments/test_programs.py has those that start with `fashion_`."""
    assert {name for name in recipes.RECIPES if not name.startswith('fashion_')} == {
        frame + rule for frame in ('imagenet_', 'mnist_') for rule in RULES
    } | {'mnist_fc_mirror', 'fc_small', 'quickstart', 'wm'}


@pytest.mark.parametrize('name', sorted(recipes.RECIPES))
def test_a_recipe_is_whole(name, choices):
    from training.choices import check

    recipe = recipes.RECIPES[name]
    assert recipe.source.strip() and recipe.expects.strip()
    assert 'arXiv:' in recipe.source or 'doi:' in recipe.source or 'this project' in recipe.source
    config = Config.of(recipe.settings, choices)
    check(config)
    rows = rows_of(choices)
    settled = {
        key: rows[key].default
        for key in recipe.settings
        if recipe.settings[key] == rows[key].default
    }
    assert settled.keys() <= {
        'train_epochs',
        'train_batch_size',
    }  # a recipe gives only the settings that differ, and its length


@pytest.mark.parametrize('rule', RULES)
def test_a_recipe_has_the_rule_of_its_name_and_the_frame_of_the_released_checkpoints(rule):
    config = Config.of(recipes.RECIPES['imagenet_' + rule].settings, {})
    assert config.alignment == (None if rule == 'backprop' else rule)
    assert (config.dataset, config.optimizer, config.train_epochs, config.train_batch_size) == (
        'imagenet',
        'momentum',
        90,
        256,
    )
    assert config.train_epochs * (1281167 // config.train_batch_size) == 450360
    assert config.rule_settings.differing() == {}  # all settings of the rule have its own defaults


def test_mirror_sees_noise():
    assert Config.of(recipes.RECIPES['imagenet_mirror'].settings, {}).input_distribution == 'normal'


def test_the_command_writes_all_recipes_and_each_loads_back_equal(tmp_path, choices, capsys):
    assert recipes.main(['--folder', str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert err == ''
    by_default = set(recipes.RECIPES) - {'wm'}  # the name of one of the authors' files
    assert {file[:-4] for file in os.listdir(str(tmp_path))} == by_default
    for name in by_default:
        recipe = recipes.RECIPES[name]
        path = str(tmp_path / (name + '.pkl'))
        assert path in out
        assert Config.of(params.load(path)[0], choices) == Config.of(recipe.settings, choices)


def test_the_quickstart_is_mnist_symmetric_with_a_validation_after_each_epoch():
    settings = dict(recipes.RECIPES['quickstart'].settings)
    assert settings.pop('epochs_per_validation') == 1.0
    assert settings == recipes.RECIPES['mnist_symmetric'].settings


def test_the_command_writes_the_recipes_that_are_named(tmp_path, capsys):
    assert recipes.main(['imagenet_mirror', 'quickstart', '--folder', str(tmp_path)]) == 0
    assert sorted(os.listdir(str(tmp_path))) == ['imagenet_mirror.pkl', 'quickstart.pkl']


def test_the_authors_weight_mirror_is_kept_beside_the_recipe_of_its_name(tmp_path, capsys):
    assert recipes.RECIPES['wm'] == recipes.RECIPES['imagenet_mirror']
    path = str(tmp_path / 'wm.pkl')
    with open(os.path.join(AUTHORS, 'wm_tpe_ad_dill0.3.5.1.pkl'), 'rb') as file:
        theirs = file.read()
    with open(path, 'wb') as file:
        file.write(theirs)
    assert recipes.main(['quickstart', 'wm', '--folder', str(tmp_path)]) == 2
    assert f"{path} is a settings file of the authors' program, which is kept" in (
        capsys.readouterr().err
    )
    assert os.listdir(str(tmp_path)) == ['wm.pkl']
    assert recipes.main(['--folder', str(tmp_path)]) == 0
    assert {file[:-4] for file in os.listdir(str(tmp_path))} == set(recipes.RECIPES)
    with open(path, 'rb') as file:
        assert file.read() == theirs


SYMMETRIC = """\
# settings file of the authors' program, a pickle of live objects; only \
--use_resnet_v2 and --image_size decide on its images; the settings that differ from the defaults:
--exp_id_suffix=_tuned
--model=resnet18
--alignment=symmetric
--alpha=0.003
--beta=0.006
--beta_start=0.25
--beta_stop=0.75
--beta_schedule_rate=-0.5
--beta_schedule_type=exponential
--dataset=imagenet
--novalidate_first
--learning_rate=0.125
--rescale_lr
--noconstant_lr
--warmup_epochs=6
--optimizer=momentum
--eval_batch_size=128
"""


def test_a_file_of_the_authors_is_shown(capsys):
    assert recipes.main(['show', os.path.join(AUTHORS, 'symmetric_dill0.3.5.1.pkl')]) == 0
    assert capsys.readouterr() == (SYMMETRIC, '')


def test_what_was_not_understood_is_shown(capsys):
    recipes.main(['show', os.path.join(AUTHORS, 'wm_tpe_ad_dill0.3.5.1.pkl')])
    assert capsys.readouterr().out.splitlines()[-2:] == [
        '# not understood:',
        '# model_params.surprise',
    ]


def test_a_file_of_ours_is_shown(tmp_path, choices, capsys):
    config = Config.of(
        dict(layers_list=(7, 5), exp_id_suffix=" it's\n\x1b[2J", bn_trainable=False, dbname='b c'),
        choices,
    )
    path = str(tmp_path / 'mine.pkl')
    params.save(config, path)
    assert recipes.main(['show', path]) == 0
    shown, err = capsys.readouterr()
    assert shown.splitlines() == [
        '# settings file of this program, plain data; the settings that differ from the defaults:',
        "'--dbname=b c'",
        ascii("'--exp_id_suffix= it'\"'\"'s\n\x1b[2J'"),
        '--layers_list=7,5',
        '--nobn_trainable',
    ]
    assert err == ''


def nested(depth):
    """Returns a list that contains itself so often that its text would not end."""
    value = ['h:1']
    for _ in range(depth):
        value = [value, value]
    return value


@pytest.mark.parametrize(
    'settings, words',
    [
        (dict(train_params=dict(train_epochs=-1)), 'file.pkl: --train_epochs must be at least 0'),
        (dict(train_params=dict(epochs=3)), 'file.pkl holds settings that do not exist here'),
        ([3], 'file.pkl holds list, not a dictionary'),
        (os.getcwd, 'file.pkl: it refers to'),
        (
            {ROWS['worker_hosts'].group: dict(worker_hosts=nested(40))},
            'file.pkl: nested too deeply, or it contains more than 50,000 values',
        ),
        (None, 'file.pkl: damaged, or not a pickle'),
    ],
)
def test_a_bad_file_is_told_in_one_sentence(tmp_path, capsys, settings, words):
    path = tmp_path / 'file.pkl'
    path.write_bytes(
        b'\x80\x02garbage' if settings is None else pickle.dumps(dict(params=settings), protocol=2)
    )
    assert recipes.main(['show', str(path)]) == 2
    out, err = capsys.readouterr()
    assert (
        out == ''
        and len(err.splitlines()) == 1
        and err.startswith('error: ' + str(tmp_path))
        and words in err
    )


@pytest.mark.parametrize('times, code', [(8, 0), (40, 2)])
def test_a_file_whose_text_would_not_end_is_short_or_refused(tmp_path, capsys, times, code):
    path = tmp_path / 'file.pkl'
    path.write_bytes(
        pickle.dumps(
            dict(params={ROWS['worker_hosts'].group: dict(worker_hosts=nested(times))}), protocol=2
        )
    )
    assert recipes.main(['show', str(path)]) == code
    out, err = capsys.readouterr()
    assert len(out) < 1000 and ('more than 50,000 values' in err) == (code == 2)


@pytest.mark.parametrize(
    'arguments, words',
    [
        (['mirror'], 'there is no recipe mirror; choose from imagenet_backprop'),
        (['--folder', '/no/such/folder'], 'No such file'),
        (['show', 'none.pkl'], 'error: none.pkl: No such file'),
        (['show', 'config/mirror.pkl'], 'imagenet_symmetric'),
        (['show', 'README.md'], 'error: README.md must end in .pkl'),
    ],
)
def test_the_command_tells_what_is_wrong(arguments, words, capsys):
    assert recipes.main(arguments) == 2
    err = capsys.readouterr().err
    assert words in err and len(err.splitlines()) == 1
