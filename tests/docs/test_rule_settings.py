"""The coefficient, switch and size of the rule of docs/adding.md are settings like all others.

The tests change one file of a copy of the program. Names that are in use already are refused.
"""

import pickle
import re

import commands
import pymongo
import pytest

import test_adding
import tiers
from config import recipes

pytestmark = pytest.mark.slow

WHAT = ['--alignment=difference', '--model=fc', '--layers_list=16', '--exp_id_suffix=_own']
OWN = ['--delta=0.1', '--delta_stop=0.75', '--bounded', '--every=2']
USED = [0.1, 0.75, True, 2]
HOW = ['--optimizer=momentum', '--learning_rate=0.05', '--train_batch_size=200']


def extend(folder, *changes):
    """Copies the program and adds the rule of the docs. changes: (old text, new text) pairs."""
    test_adding.copy_program(folder)
    ((_, path, code),) = [
        found for found in test_adding.PLACE.findall(test_adding.text()) if 'rules.py' in found[1]
    ]
    for old, new in changes:
        assert old in code
        code = code.replace(old, new)
    file = folder / path
    before, line, after = file.read_text(encoding='utf-8').partition('RULES = ')
    file.write_text(before + code + '\n\n' + line + after, encoding='utf-8')
    return str(folder)


@pytest.fixture(scope='module')
def program(tmp_path_factory):
    """The folder of a program that has the rule."""
    return extend(tmp_path_factory.mktemp('program'))


@pytest.fixture(scope='module')
def run(program, tmp_path_factory):
    """Returns a function that runs a command of that program.

    run(arguments after `python`) returns commands.Done.
    """
    forks = commands.Forks(str(tmp_path_factory.mktemp('home')), program)
    yield forks.run
    forks.close()


@pytest.fixture(scope='module')
def where(mongo_server, tmp_path_factory):
    """The flags for the places of records and checkpoints."""
    folder = tmp_path_factory.mktemp('cache')
    return [f'--port={mongo_server.port}', '--dbname=rule_settings', f'--cache_dir={folder}']


@pytest.fixture(scope='module')
def records(mongo_server):
    """Returns a function that reads the params of each record of an exp_id, by step."""

    def read(exp_id='difference_own'):
        with pymongo.MongoClient(mongo_server.host, mongo_server.port) as client:
            found = client['rule_settings']['fc_16.files'].find({'exp_id': exp_id})
            return [record['params'] for record in found.sort('step', 1)]

    return read


@pytest.fixture(scope='module')
def trained(run, where):
    """The output of the training."""
    return commands.succeeded(run('train.py', *WHAT, *OWN, *HOW, '--train_epochs=2', *where))


def test_the_settings_are_told_and_recorded(trained, records):
    told = dict(line.split() for line in trained if re.match(r'  [a-z_]+ +\S+$', line))
    assert (told['delta'], told['delta_stop'], told['bounded'], told['every']) == (
        '0.1',
        '0.75',
        'True',
        '2',
    )
    model = records()[-1]['model_params']
    assert [model[name] for name in ('delta', 'delta_stop', 'bounded', 'every')] == USED
    assert model['declared'] == dict(delta=1e-3, bounded=False, every=1)
    assert {'alpha', 'expansion', 'use_sparse'}.isdisjoint(model)


def test_a_resumed_training_has_the_settings_of_its_record(trained, run, where, records):
    words = ['train.py', *WHAT, *HOW, '--delta=0.1', '--train_epochs=3', '--do_restore', *where]
    refusal = commands.refusal(run(*words, '--every=3'), 2)
    assert '--every=3 contradicts' in refusal and '--every=2' in refusal
    lines = commands.succeeded(run(*words))
    assert any(line.startswith('restored from') for line in lines)
    (changed,) = [line for line in lines if line.startswith('changed since')]
    assert 'delta_stop 0.75 -> 1.0' in changed and 'train_epochs 2.0 -> 3.0' in changed
    assert ' delta 0.1' not in changed and 'every' not in changed and 'bounded' not in changed
    first, last = records()[0]['model_params'], records()[-1]['model_params']
    assert (last['bounded'], last['every']) == (first['bounded'], first['every']) == (True, 2)


def test_a_validation_has_the_settings_of_its_record(trained, run, where, records):
    commands.succeeded(
        run('test.py', 'validate', '--val_exp_id=own', '--load_step=40', *WHAT, *where)
    )
    model = records('own')[-1]['model_params']
    assert [model[name] for name in ('delta', 'delta_stop', 'bounded', 'every')] == USED


def test_a_settings_file_holds_them(run, where, tmp_path, capsys):
    path = str(tmp_path / 'own.pkl')
    made = commands.succeeded(
        run('train.py', *WHAT, *OWN, '--dry_run', '--save_params_file=' + path, *where)
    )
    read = commands.succeeded(run('train.py', '--load_params_file=' + path, '--dry_run', *where))
    settings = [line for line in made if re.match('  (delta|bounded|every)', line)]
    assert len(settings) == 4 and set(settings) <= set(read)
    with open(path, 'rb') as file:
        model = pickle.load(file)['params']['model_params']
    assert (model['delta'], model['every'], model['delta_start']) == (0.1, 2, 0.0)
    # The file can also be read if the rule is not known.
    assert recipes.main(['show', path]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line for line in shown if line in OWN] == OWN


def test_a_report_of_a_checkout_without_the_rule_shows_them(trained, where, tmp_path):
    page = str(tmp_path / 'page.html')
    report = ['report.py', '--html=' + page, *where]
    done = commands.end(commands.process(report, str(tmp_path)))
    assert done.code == 0 and done.err == '' and 'difference' in done.out
    with open(page, encoding='utf-8') as file:
        text = file.read()
    assert '--delta=0.1 ' in text and '--bounded' in text and '--every=2' in text


def test_the_benchmarks_have_it(run):
    text = ' '.join(run('-m', 'benchmarks.steps', '--help').out.split())
    assert 'difference' in text and 'difference by autodiff' not in text


def test_help_tells_of_them(run):
    text = ' '.join(run('train.py', '--help').out.split())
    assert (
        'difference: weight of the distance between Wx and Bx; default: 0.001 (difference)' in text
    )
    assert '--[no]bounded: difference: apply tanh to each difference' in text
    assert '--every: difference: compare one of this many units (default: 1)' in text
    assert '--delta_schedule_type: how delta changes: linear' in text


def test_they_have_no_effect_with_another_rule(run, where):
    words = ['train.py', '--alignment=symmetric', '--dry_run', *where]
    assert '--delta has no effect: alignment=symmetric has no delta' in commands.refusal(
        run(*words, '--delta=0.1'), 2
    )
    assert '--bounded has no effect with alignment=symmetric' in commands.refusal(
        run(*words, '--bounded'), 2
    )


@pytest.mark.parametrize(
    'old, new, sentence',
    [
        (
            'delta',
            'learning_rate',
            'error: the rule difference declares the coefficient learning_rate, but that name is '
            'taken: choose another',
        ),
        *tiers.at_night(
            (
                'every',
                'step',
                'error: the rule Difference declares the size step, but every rule has an '
                'attribute of that name: choose another',
            ),
            (
                'bounded',
                'gamma',
                'error: gamma is a coefficient of information and a switch of difference: rules '
                'can only share a setting if all declare it as the same part',
            ),
        ),
    ],
)
def test_a_name_that_is_taken_is_refused_by_a_sentence(tmp_path, old, new, sentence):
    folder = tmp_path / 'program'
    folder.mkdir()
    extend(folder, (old, new))
    running = commands.process([str(folder / 'train.py'), '--dry_run'], str(tmp_path))
    done = commands.end(running)
    assert (done.out, done.err, done.code) == ('', sentence + '\n', 1)
