"""The grid: its values from the command line and from a file, its runs, and mistakes."""

import json

import pytest

from config.recipes import RECIPES
from config.rows import ConfigError
from experiments import grid, program

FEW = ['--recipe=fc_small', '--seed=1,2']


def runs(words):
    """Returns the runs of a command line."""
    parser, rows = grid.parser()
    arguments = parser.parse_args(words)
    return grid.Grid(arguments.name, grid.given(arguments, rows)).runs([])


def test_every_combination_is_a_run_and_seeds_vary_fastest():
    found = runs(FEW + ['--alignment=symmetric,none', '--learning_rate=0.1,0.03'])
    assert [run.name for run in found[:3]] == [
        'alignment=symmetric learning_rate=0.1 seed=1',
        'alignment=symmetric learning_rate=0.1 seed=2',
        'alignment=symmetric learning_rate=0.03 seed=1',
    ]
    expected = {
        (rule, rate, seed)
        for rule in ('symmetric', None)
        for rate in (0.1, 0.03)
        for seed in (1, 2)
    }
    configs = [run.config for run in found]
    assert {(each.alignment, each.learning_rate, each.seed) for each in configs} == expected
    assert len(found) == len(expected) == len({run.key('') for run in found})
    shared = RECIPES['fc_small'].settings
    assert all(each[name] == shared[name] for each in configs for name in shared if (
        name != 'learning_rate'
    ))  # fmt: skip


@pytest.mark.parametrize(
    'words, name, values',
    [
        (['--layers_list=32,16'], 'layers_list', [(32, 16)]),
        (['--layers_list=32,16;64'], 'layers_list', [(32, 16), (64,)]),
        (['--drop_epochs=30,60;45'], 'drop_epochs', [(30, 60), (45,)]),
        (['--save_to_gfs='], 'save_to_gfs', [()]),
        (['--grad_clip'], 'grad_clip', [True]),
        (['--nograd_clip'], 'grad_clip', [False]),
        (['--grad_clip=true,false'], 'grad_clip', [True, False]),
        (['--alignment=none,mirror'], 'alignment', [None, 'mirror']),
        (['--alpha=0.5,none'], 'alpha', [0.5, None]),
        (['--gpu=0,1'], 'gpu', ['0,1']),
        (['--recipe=fc_small,mnist_fc_mirror'], 'recipe', ['fc_small', 'mnist_fc_mirror']),
        (['--measure_images=64;32'], 'measure_images', [64, 32]),
    ],
)
def test_values(words, name, values):
    parser, rows = grid.parser()
    found = grid.given(parser.parse_args(words), rows)
    assert found == {name: values}
    assert list(map(type, found[name])) == list(map(type, values))


def test_a_file_gives_the_same_runs(tmp_path):
    path = tmp_path / 'grid.json'
    values = {'recipe': ['fc_small'], 'seed': [1, 2], 'layers_list': [[32, 16], [64]]}
    path.write_text(json.dumps(values))
    assert runs([f'--grid={path}', '--alpha=0.1', '--alignment=mirror']) == runs(
        FEW + ['--layers_list=32,16;64', '--alpha=0.1', '--alignment=mirror']
    )


@pytest.mark.parametrize(
    'text, told',
    [
        ('{', 'is not JSON'),
        ('[1]', 'must contain'),
        ('{"seed": 1}', 'seed needs a list of values'),
        ('{"seed": []}', 'seed needs a list of values'),
        ('{"sed": [1]}', 'sed is not a setting of a grid'),
        ('{"seed": [1], "load_db": [true]}', 'load_db is not a setting of a grid'),
        ('{"recipe": ["fc_small"], "seed": [1]}', 'both give recipe'),
    ],
)
def test_a_wrong_file_is_told(tmp_path, text, told):
    path = tmp_path / 'grid.json'
    path.write_text(text)
    with pytest.raises(ConfigError, match=told):
        runs([f'--grid={path}', '--recipe=fc_small'])


@pytest.mark.parametrize(
    'words, told',
    [
        ([], 'give the settings to vary'),
        (FEW + ['--learning_rate=0.1,x'], "'x' is not a value of learning_rate"),
        (FEW + ['--learning_rate=-1'], '--learning_rate must be at least 0'),
        (FEW + ['--grad_clip=1'], "'1' is not a value of grad_clip"),
        (FEW + ['--layers_list=32,x;64'], "'x' is not a value of layers_list"),
        (FEW + ['--layers_list=32,16;;64'], "'' is not a value of layers_list"),
        (FEW + ['--layers_list=32,,16'], "'32,,16' is not a value of layers_list"),
        (['--recipe=fc_small', '--seed=1,,2'], "'' is not a value of seed"),
        (
            FEW + ['--alignment=miror,symetric'],
            'error: alignment=miror: --alignment must be one of',
        ),
        (FEW + ['--alignment=feedback,mirror', '--alpha=1'], '2 of 4 runs are impossible'),
        (FEW + ['--alignment=miror'], 'error: --alignment must be one of'),
        (['--recipe=fc_smal'], 'there is no recipe fc_smal'),
        (['--recipe=fc_small', '--seed=1,1'], 'the run seed=1 is declared twice'),
        (FEW + ['--save_to_gfs=top1'], '--save_to_gfs=top1: a grid reads this result'),
        (FEW + ['--figure=x.gif'], '--figure=x.gif must end in'),
        (FEW + ['--metric=top2'], '--metric=top2 is not one of'),
        (FEW + ['--sed=1'], 'unrecognized arguments: --sed=1'),
        (FEW + ['--do_restore'], 'unrecognized arguments: --do_restore'),
        (FEW + ['--workers=0'], 'must be a whole number above 0'),
    ],
)
def test_a_mistake_is_one_sentence_and_trains_nothing(words, told, tmp_path, capsys):
    csv = tmp_path / 'x.csv'
    try:
        code = grid.main(words + [f'--csv={csv}', '--port=1'])
    except SystemExit as ended:
        code = ended.code
    out, err = capsys.readouterr()
    assert (code, out) == (2, '') and told in err and len(err.splitlines()) == 1
    assert not csv.exists()


def test_what_varies_may_not_have_the_name_of_an_option_of_the_program():
    taken = set(vars(program.parser('x', 'x').parse_args([]))) | {'name', 'grid', 'recipe'}
    assert not taken & set(grid.settings())
