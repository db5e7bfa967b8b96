"""The lines that make a run again, and the differences of environments, from params alone."""

import copy
import shlex

import pytest

from alignment.rules import declarations
from config import flags, params, recipes
from config.rows import Scope
from config.schema import Config
from reports import repeat

RULES = {'alignment': declarations()}
ENVIRONMENT = {
    'python': '3.11.7',
    'tensorflow': '2.21.0',
    'packages': {'numpy': '2.4.6', 'tqdm': '4.70.1'},
    'platform': 'Linux',
    'cpu': {'model': 'EPYC', 'flags': 'sse avx fma', 'threads': 2},
    'devices': ['GPU 0', 'name: NVIDIA H200'],
    'diff': None,
    'dataset': {'digest': 'ab12', 'digest_of': 'all images and labels', 'classes': 10,
                'train_images': 4000, 'validation_images': 1000},
    'argv': ['train.py'],
    'seconds': 1.5,
    'peak_memory': 10**9,
}  # fmt: skip


def recorded(config, environment=ENVIRONMENT, **provenance):
    """Returns the params of a record of a run with these settings."""
    document = dict(params.to_params(config), digests=config.digests()._asdict())
    document['provenance'] = dict({'runtime': 'TensorFlow', 'commit': 'c0ffee'}, **provenance)
    document['environment'] = copy.deepcopy(environment)
    document['save_params']['exp_id'] = config.exp_id
    rule = dict(RULES['alignment'].get(config.alignment, {}))
    own = {name: default for name, (_, default, _) in rule.items()}
    model = document['model_params']
    for name, default in own.items():  # a record holds what was used
        model[name] = default if model.get(name) is None else model[name]
    model['declared'] = own
    return document


def config_of(line):
    """Returns the Config of a printed command."""
    values = flags.FlagValues()
    flags.define_flags(RULES, values)
    words = values(shlex.split(line)[1:])
    return Config.of(flags.given_flags(values, RULES), RULES), words


@pytest.mark.parametrize('name', sorted(recipes.RECIPES))
def test_the_command_of_a_recipe_has_its_settings(name):
    config = Config.of(recipes.RECIPES[name].settings, RULES)
    again, words = config_of(repeat.command(recorded(config))[-1])
    assert words == ['train.py'] and again == config.replaced({'exp_id_suffix': '_repeated'})


def test_settings_of_every_kind_are_written_out():
    config = Config.of(
        dict(
            alignment='information', alpha=1 / 3, gamma=0.0, layers_list=(7, 5), seed=2**62,
            bn_trainable=False, learning_rate=5e-324, dbname="it's ü $HOME", exp_id_suffix='_a b',
            save_to_gfs=('loss', 'top1'), load_query='{"step": 3}', gpu='1,0', cpu_devices=2,
            iterations_per_loop=4, do_restore=True, load_step=7, skip_check=False,
            data_dir='some/folder',
        ),
        RULES,
    )  # fmt: skip
    lines = repeat.command(recorded(config))
    again, _ = config_of(lines[-1])
    for name, row in config.rows.items():
        if row.scope is not Scope.CALL and name != 'exp_id_suffix':
            assert again[name] == config[name], name
    assert (again.gpu, again.cpu_devices, again.iterations_per_loop) == ('1,0', 2, 4)
    assert not again.do_restore and again.load_step is None and again.load_query is None
    assert again.skip_check and again.exp_id_suffix == '_a b_repeated'
    assert '# --data_dir is relative to the folder in which the command was given.' in lines


@pytest.mark.parametrize(
    'given, printed',
    [
        ('some/../images', '/home/a b/images'),
        ('/elsewhere', '/elsewhere'),
        ('gs://bucket/images', 'gs://bucket/images'),
        ('~/images', '~/images'),
    ],
)
def test_a_path_does_not_depend_on_the_folder_of_the_command(given, printed):
    environment = dict(ENVIRONMENT, folder='/home/a b')
    config = Config.of(dict(data_dir=given, load_checkpoint=given), RULES)
    lines = repeat.command(recorded(config, environment))
    again, _ = config_of(lines[-1])
    assert again.data_dir == again.load_checkpoint == printed
    assert not [line for line in lines if 'is relative' in line]


def test_a_default_that_the_command_named_is_named_again():
    """An older program may have another default."""
    environment = dict(ENVIRONMENT, argv=['train.py', '--activation=sigmoid', '--noxla'])
    line = repeat.command(recorded(Config.of({}, RULES), environment))[-1]
    assert line == 'python train.py --exp_id_suffix=_repeated --activation=sigmoid --noxla'


def test_what_stands_above_the_command():
    lines = repeat.command(recorded(Config.of({}, RULES)))
    assert lines == [
        '# It ran with Python 3.11.7, TensorFlow 2.21.0 and NumPy 2.4.6, on GPU 0, name: NVIDIA '
        'H200; processor: EPYC.',
        'git checkout --detach c0ffee',
        '# Images: mnist, 4,000 for training and 1,000 for validation.',
        '# Digest of all images and labels: ab12; --dry_run prints yours.',
        'python train.py --exp_id_suffix=_repeated',
    ]


@pytest.mark.parametrize('diff, provenance, told', [
    ('d1ff', dict(uncommitted=True), 'HEAD`: d1ff.'),
    (None, dict(uncommitted=True), '# WARNING: the program had changes beyond this commit.'),
    (None, dict(commit=None), 'Its commit is not recorded'),
])  # fmt: skip
def test_a_commit_that_is_not_all_is_told(diff, provenance, told):
    document = recorded(Config.of({}, RULES), dict(ENVIRONMENT, diff=diff), **provenance)
    assert told in '\n'.join(repeat.command(document))


def test_several_hosts_and_changes_are_told():
    hosts = Config.of(dict(worker_hosts=('a:1', 'b:1'), task_index=0), RULES)
    lines = repeat.command(recorded(hosts), ['one', None, 'other'])
    assert '--worker_hosts=a:1,b:1 --task_index=0' in lines[-1]
    assert [line for line in lines if 'with its own --task_index' in line]
    assert [line for line in lines if 'settings changed while it trained' in line]


def test_a_training_from_another_database_keeps_where_that_is():
    config = Config.of(dict(alignment='feedback', load_db=True, load_dbname='other'), RULES)
    line = repeat.command(recorded(config))[-1]
    assert '--load_db --load_dbname=other --load_exp_id=feedback' in line


def test_a_script_has_its_command_and_no_settings():
    document = {
        'model_params': {'func': {'modname': 'm', 'objname': 'f'}},
        'save_params': {},
        'environment': dict(ENVIRONMENT, argv=['my script.py', '3'], dataset=None),
    }
    assert repeat.command(document)[-1] == "python 'my script.py' 3"
    assert 'is not recorded' in repeat.command({})[-1]


@pytest.mark.parametrize('odd', [
    {}, {'environment': 3}, {'environment': {'packages': 1, 'cpu': None, 'devices': 0}},
    {'provenance': [], 'model_params': {'model': 'fc', 'declared': 3}},
    {'environment': {'argv': 'text', 'dataset': {}}, 'digests': 1, 'load_params': None},
])  # fmt: skip
def test_odd_params_give_lines(odd):
    assert all(isinstance(line, str) for line in repeat.command(odd))
    assert isinstance(repeat.environment_differences(odd, recorded(Config.of({}, RULES))), list)


def test_differences_are_named_fact_by_fact():
    first = recorded(Config.of({}, RULES))
    other = copy.deepcopy(ENVIRONMENT)
    other.update(python='3.7.17', seconds=99.0, peak_memory=1, argv=['other.py'], diff='d1ff')
    other['packages'] = {'numpy': '1.16.6', 'six': '1.17.0'}
    other['cpu'] = dict(other['cpu'], flags='fma sse amx_tile')
    second = recorded(Config.of(dict(seed=3), RULES), other, commit='beef')
    assert repeat.environment_differences(first, first) == []
    assert repeat.environment_differences(first, second) == [
        ('commit', 'c0ffee', 'beef'),
        ('cpu.flags', 'avx', 'amx_tile'),
        ('diff', None, 'd1ff'),
        ('packages.numpy', '2.4.6', '1.16.6'),
        ('packages.six', None, '1.17.0'),
        ('packages.tqdm', '4.70.1', None),
        ('python', '3.11.7', '3.7.17'),
    ]


def test_an_older_record_has_no_environment_to_compare():
    first = recorded(Config.of({}, RULES))
    older = {name: group for name, group in first.items() if name != 'environment'}
    assert repeat.environment_differences(first, older) == [('environment', 'recorded', None)]
    assert repeat.environment_differences(older, older) == []
