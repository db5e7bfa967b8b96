"""The command of a run, from its record, makes the same run again, to the bit."""

import json
import os
import shlex
import shutil
import subprocess
import sys

import commands
import pytest

from reports import repeat
from training import provenance

pytestmark = pytest.mark.slow
# Names of its own in a settings file that no clone has, and flags beside it.
FILE = dict(
    model_params=dict(model='fc', layers_list=[6, 4], activation='relu', alignment='information',
                      input_distribution='normal', alpha=0.0123456789),
    train_params=dict(train_batch_size=97, train_epochs=0.25, seed=3),
    optimizer_params=dict(optimizer='adam', grad_clip=True, grad_clipping_value=0.7),
    learning_rate_params=dict(learning_rate=1 / 3e3),
    save_params=dict(exp_id_suffix="_it's", epochs_per_checkpoint=0.1),
)  # fmt: skip


@pytest.fixture(scope='module')
def first(run, where, home):
    """The run from a settings file in JSON; its seed is that of a flag."""
    path = os.path.join(home, 'mine.json')
    with open(path, 'w') as file:
        json.dump({'_comment': 'of a test', 'params': FILE}, file)
    return commands.succeeded(
        run('train.py', '--load_params_file=' + path, '--seed=5', '--iterations_per_loop=3', *where)
    )


def numbers(found):
    return [
        (record['step'], record.get('train_results'), record.get('validation_results'))
        for record in found
    ]


def script(found, **more):
    """Returns the words of the last line of a run's script."""
    return shlex.split(repeat.command(found[-1]['params'], **more)[-1])


def test_the_same_numbers_come_out(first, run, records):
    found = records("information_it's", collection='fc_6-4')
    words = script(found)
    assert words[:2] == ['python', 'train.py'] and '--seed=5' in words
    assert not any('load_params_file' in word for word in words)
    commands.succeeded(run(*words[1:]))
    again = records("information_it's_repeated", collection='fc_6-4')
    assert numbers(again) == numbers(found) and len(found) == 4
    digests = [record['params']['digests'] for record in found + again]
    assert all(each == digests[0] for each in digests)
    one, other = [each[-1]['params'] for each in (found, again)]
    assert repeat.environment_differences(one, other) == []


@pytest.mark.nightly
def test_a_validation_comes_out_again(trained, run, where, records):
    flags = ['--model=fc', '--layers_list=7,5', '--load_exp_id=symmetric_split']
    commands.succeeded(
        run('test.py', 'validate', *flags, *where, '--load_step=12', '--val_exp_id=val_first')
    )
    (found,) = records('val_first')
    words = script([found], step=found['step'])
    assert words[1:3] == ['test.py', 'validate'] and '--load_step=12' in words
    commands.succeeded(run(*words[1:]))
    (again,) = records('val_first_repeated')
    assert numbers([again]) == numbers([found]) and again['validates'] == found['validates']


@pytest.mark.nightly
def test_a_training_from_another_one_comes_out_again(trained, run, where, records):
    flags = commands.FC + where + ['--exp_id_suffix=_tuned', '--train_epochs=0.2']
    start = ['--load_db', '--load_exp_id=symmetric_split', '--load_step=6', '--reset_step']
    commands.succeeded(run('train.py', *flags, *start))
    found = records('symmetric_tuned')
    lines = repeat.command(found[-1]['params'])
    assert '# It starts from a checkpoint, which must still be there.' in lines
    commands.succeeded(run(*shlex.split(lines[-1])[1:]))
    assert numbers(records('symmetric_tuned_repeated')) == numbers(found)


def test_a_run_whose_settings_changed_on_the_way_says_so(trained, records):
    params = [record['params'] for record in records('symmetric_split')]
    digests = [each['digests']['settings'] for each in params]
    told = repeat.command(params[-1], digests)
    assert [line for line in told if 'settings changed while it trained' in line]
    told = repeat.command(params[0], digests[:1])
    assert not [line for line in told if 'settings changed' in line]


@pytest.mark.nightly
def test_a_fresh_clone_makes_the_same_numbers(records, where, home, tmp_path):
    """A run as that of `make train`, with fewer steps. Its images are in a folder beside it."""
    if not shutil.which('git') or provenance.git_text('rev-parse', 'HEAD') is None:
        pytest.skip('this is no git checkout')
    path = os.path.dirname(sys.executable) + os.pathsep + os.environ['PATH']
    variables = dict(commands.environment(home), PATH=path)

    def call(folder, *words):
        return subprocess.check_output(
            words, cwd=str(tmp_path / folder), env=variables, universal_newlines=True
        )

    for clone in ('here', 'there'):
        call('', 'git', 'clone', '-q', commands.ROOT, clone)
    call('here', 'python', '-m', 'config.recipes', 'quickstart')
    call('here', 'python', '-m', 'data.build_tfrecords', 'mnist', 'local/mnist_tfrecords')
    call('here', 'python', 'train.py', '--load_params_file=config/quickstart.pkl',
         '--data_dir=local/mnist_tfrecords', '--exp_id_suffix=_quick', '--override=train_epochs',
         '--train_epochs=0.1', *where)  # fmt: skip
    script = call('here', 'python', 'runs.py', 'command', 'symmetric_quick', *where)
    call('there', 'sh', '-e', '-c', script)
    found = records('symmetric_quick', collection='resnet18')
    again = records('symmetric_quick_repeated', collection='resnet18')
    assert numbers(again) == numbers(found) and found[-1]['step'] == 8
