"""--save_params_file, then --load_params_file: the same run, at another place."""

import re

import commands
import pytest

from config import params
from config.schema import Config, rows_of
from training.choices import choices

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def loaded(trained, run, where):
    """The first run again, from its settings file; three of the flags do not count."""
    return run(
        'train.py',
        '--load_params_file=' + trained.settings,
        *(
            where
            + [
                '--learning_rate=5',
                '--exp_id_suffix=_loaded',
                '--alignment=mirror',
                '--epochs_per_checkpoint=3',
                '--dbname=loaded',
                '--save_to_gfs=actsq_norm',
            ]
        ),
    )


def test_the_flags_that_do_not_count_are_told_and_recorded(loaded, records):
    names = ['alignment', 'epochs_per_checkpoint', 'learning_rate']
    (warning,) = commands.unexpected(loaded.err)
    assert loaded.code == 0 and re.match(
        r'warning: ignored, because --load_params_file=\S+settings.pkl sets them: ', warning
    )
    assert sorted(re.findall(r'--(\w+)(?:,|;)', warning)) == names and '--override=NAME' in warning
    (told,) = [
        line
        for line in loaded.out.splitlines()
        if line.startswith('flags ignored in favour of the settings file: ')
    ]
    assert sorted(re.findall(r'--(\w+)', told)) == names
    recorded = records('symmetric_split_loaded', 'loaded')
    assert (
        all(
            sorted(record['params']['load_params']['ignored_flags']) == names for record in recorded
        )
        and recorded
    )


def test_a_flag_that_override_names_counts(run, trained, where, records):
    lines = commands.succeeded(
        run(
            'train.py',
            '--load_params_file=' + trained.settings,
            *(
                where
                + [
                    '--train_epochs=0.1',
                    '--seed=3',
                    '--override=train_epochs',
                    '--exp_id_suffix=_overridden',
                ]
            ),
        )
    )
    record = records('symmetric_split_overridden')[-1]
    assert record['step'] == 3 and record['params']['train_params']['seed'] == 3
    assert (
        record['params']['load_params']['override'] == ['train_epochs']
        and 'ignored_flags' not in record['params']['load_params']
    )
    assert not any('do not count' in line for line in lines)


def test_the_file_holds_the_settings_of_the_run(trained, records):
    config = Config.of(params.load(trained.settings)[0], choices())
    recorded = records('symmetric_split')[0]['params']
    document = params.to_params(config)
    assert {
        (group, name): value
        for group in document
        for name, value in document[group].items()
        if recorded[group][name] != value
    } == {}
    assert (
        config.layers_list == (7, 5)
        and config.train_epochs == 0.5
        and config.exp_id == 'symmetric_split'
    )


def test_the_run_is_the_same_and_its_place_another(loaded, trained, records, folder):
    assert (
        commands.differing(
            folder('symmetric_split') + '/checkpoint-15',
            folder('symmetric_split_loaded', 'loaded') + '/checkpoint-15',
        )
        == set()
    )
    first, other = records('symmetric_split')[3], records('symmetric_split_loaded', 'loaded')[-1]
    assert other['step'] == 15 and other['train_results'] == first['train_results']
    assert 'actsq_norm' not in other['validation_results']['topn_val']
    differing = {
        name
        for name, row in rows_of(choices()).items()
        if first['params'][row.group].get(name) != other['params'][row.group].get(name)
    }
    assert differing == {'dbname', 'exp_id_suffix', 'save_to_gfs'}
