"""--save_params_file, then --load_params_file: the same run, but for where it goes."""
import re

import commands
import pytest

from config import params
from config.schema import ROWS, Config
from training.experiment import choices


@pytest.fixture(scope='module')
def loaded(trained, run, where):
    """The first run once more, from its file; the flags in between do not count."""
    return run('train.py', '--load_params_file=' + trained.settings, *(where + [
        '--learning_rate=5', '--exp_id_suffix=_loaded', '--alignment=mirror', '--train_batch_size=7', '--dbname=loaded',
        '--save_to_gfs=actsq_norm']))


def test_one_warning_names_the_flags_that_do_not_count(loaded):
    lines = commands.succeeded(loaded)
    warnings = [line for line in lines if line.startswith('warning: ')]
    assert len(warnings) == 1 and re.match(
        r'warning: ignored, because --load_params_file=\S+settings.pkl fixes them: ', warnings[0])
    assert set(re.findall(r'--(\w+)(?:,|$)', warnings[0])) == {'learning_rate', 'alignment', 'train_batch_size'}


def test_the_file_holds_the_settings_of_the_run(trained, records):
    config = Config.of(params.load(trained.settings)[0], choices())
    recorded = records('symmetric_split')[0]['params']
    document = params.to_params(config)
    assert {(group, name): value for group in document for name, value in document[group].items()
            if recorded[group][name] != value} == {}
    assert config.layers_list == (7, 5) and config.train_epochs == 0.5 and config.exp_id == 'symmetric_split'


def test_the_run_is_the_same_and_its_place_another(loaded, trained, records, folder):
    commands.succeeded(loaded)
    assert commands.differing(folder('symmetric_split') + '/checkpoint-15',
                              folder('symmetric_loaded', 'loaded') + '/checkpoint-15') == set()
    first, other = records('symmetric_split')[3], records('symmetric_loaded', 'loaded')[-1]
    assert other['step'] == 15 and other['train_results'] == first['train_results']
    assert 'actsq_norm' not in other['validation_results']['topn_val']
    differing = {name for name, row in ROWS.items()
                 if first['params'][row.group][name] != other['params'][row.group][name]}
    assert differing == {'dbname', 'exp_id_suffix', 'save_to_gfs'}
