"""What --help prints, from flags and their groups."""

import pytest

from config import help
from config.help import Asked, Flag, Page
from config.rows import ConfigError, HelpGroup

FLAGS = {
    'seed': Flag('seed of all noise', 0, False),
    'rate': Flag('learning rate', 0.001, False),
    'epochs': Flag('length of the training', 90.0, False),
    'xla': Flag('compile each step', False, True),
    'check': Flag('check the source tree', True, True),
    'units': Flag('units of each layer', [32, 16], False),
    'names': Flag('names; default: all', [], False),
    'gpu': Flag('several words that make a line which is longer than eighty columns', '0', False),
    'step': Flag('step to restore; default: the newest', None, False),
}
GROUPS = dict.fromkeys(FLAGS, HelpGroup.TRAINING)
GROUPS['units'] = HelpGroup.MODEL
PAGE = Page('Does something.\n', GROUPS, ('units', 'epochs'))


def text(*what):
    return help.text(PAGE, FLAGS, Asked(*what), 'some.py')


@pytest.mark.parametrize(
    'words, found',
    [
        (['--port=1', 'validate'], None),
        (['--help'], Asked()),
        (['-help'], Asked()),
        (['-?'], Asked()),
        (['validate', '--port=1', '--help=rule', '--gpu=1'], Asked(group='rule')),
        (['--help='], Asked(group='')),
        (['--helpshort'], Asked(short=True)),
        (['--helpfull'], None),  # absl's
        (['--helper'], None),
        (['help'], None),
        (['--', '--help'], None),
    ],
)
def test_what_is_asked(words, found):
    assert help.asked(['some.py', *words]) == found
    assert help.asked(['--help', *words]) == found  # a program of that name


def test_one_group_has_its_most_used_flags_first_and_defaults_as_people_write_them():
    assert text(False, 'training') == (
        'training: length of the training, batches and seed\n'
        '  --epochs: length of the training (default: 90)\n'
        '  --seed: seed of all noise (default: 0)\n'
        '  --rate: learning rate (default: 0.001)\n'
        '  --[no]xla: compile each step (default: off)\n'
        '  --[no]check: check the source tree (default: on)\n'
        '  --names: names; default: all\n'
        '  --gpu: several words that make a line which is longer than eighty columns\n'
        '      (default: 0)\n'
        '  --step: step to restore; default: the newest'
    )


def test_the_whole_help_has_the_most_used_flags_and_then_all_groups():
    assert text() == '\n\n'.join(
        [
            'Does something.',
            'Most used flags:\n'
            '  --units: units of each layer (default: 32,16)\n'
            '  --epochs: length of the training (default: 90)',
            'All flags follow in groups: model, training. `some.py --help=GROUP` prints one.',
            text(False, 'model'),
            text(False, 'training'),
        ]
    )


def test_the_short_help_has_the_most_used_flags():
    assert text(True).splitlines() == text().splitlines()[:5] + [
        '',
        '`some.py --help` prints all flags, in these groups: model, training.',
    ]


@pytest.mark.parametrize('name', ['', 'rule', 'Model', 'true'])
def test_a_wrong_name_gets_the_names_of_all_groups_that_have_a_flag(name):
    with pytest.raises(ConfigError) as caught:
        text(False, name)
    assert str(caught.value) == (
        f'--help={name}: there is no such group of flags; the groups are model, training'
    )
