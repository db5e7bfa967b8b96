"""Several processes train together: like one, also when one of them is killed, asked to stop, or
has other settings.
"""

import glob
import json
import os
import shutil
import signal

import pytest

import commands
import damage
from commands import tf
from test_train import restored_from, validations

RECIPE = [
    '--model=fc',
    '--layers_list=32,16',
    '--alignment=symmetric',
    '--alpha=0.02',
    '--beta=0.04',
    '--optimizer=momentum',
    '--learning_rate=0.1',
    '--train_batch_size=200',
    '--epochs_per_checkpoint=1',
]
GONE = 'host {} (task {}) is gone; look there for the reason, then start the same commands again with --do_restore'


@pytest.fixture
def together(forks, where, free_address):
    """together(count, words, more words of the first, by TF_CONFIG?) -> the running processes, in
    their order, and addresses.
    """
    running = []

    def start(count, *words, first=(), by_environment=False):
        hosts = [free_address() for _ in range(count)]
        for index in range(count):
            own = ['--worker_hosts=' + ','.join(hosts), f'--task_index={index}'] + list(
                first if not index else ()
            )
            cluster = dict(cluster=dict(worker=hosts), task=dict(type='worker', index=index))
            more, variables = (
                ([], dict(TF_CONFIG=json.dumps(cluster))) if by_environment else (own, {})
            )
            running.append(
                forks.start(*(['train.py'] + RECIPE + where + list(words) + more), **variables)
            )
        return running[-count:], hosts

    yield start
    for process in running:
        if process.poll() is None:
            process.kill()
            process.communicate()


@pytest.fixture(scope='module')
def alone(run, where):
    """What one process validates in three epochs: {step: its line}."""
    return validations(
        commands.succeeded(
            run('train.py', *(RECIPE + where + ['--exp_id_suffix=_alone', '--train_epochs=3']))
        )
    )


def test_processes_train_to_the_accuracy_of_one(together, alone, records):
    running, hosts = together(2, '--exp_id_suffix=_hosts2', '--train_epochs=3', by_environment=True)
    done = [commands.end(process) for process in running]
    found = validations(commands.succeeded(done[0]))
    assert list(found) == list(alone) == [0, 20, 40, 60]
    assert {step: float(top1) for step, top1 in found.items()} == pytest.approx(
        {step: float(top1) for step, top1 in alone.items()}, abs=0.002
    )
    assert validations(commands.succeeded(done[1])) == {}
    assert 'a batch: 200 images, 100 on each of 2 replicas, 2 hosts' in done[1].out
    stored = records('symmetric_hosts2', collection='fc_32-16')
    assert [record['step'] for record in stored] == [0, 20, 40, 60]
    assert stored[-1]['params']['model_params']['worker_hosts'] == hosts


def test_one_that_is_killed_is_named_and_fewer_go_on(together, alone, records):
    running, hosts = together(4, '--exp_id_suffix=_killed', '--train_epochs=300')
    commands.reach(running[0], 'step 20 of 6,000')
    running[1].send_signal(signal.SIGKILL)
    done = [commands.end(process) for process in running]
    assert done[1].code == -signal.SIGKILL
    for survivor in (done[0], done[2], done[3]):
        named, rest = commands.refusal(survivor, 1).split(' gone; ')
        assert f'host {hosts[1]} (task 1)' in named and rest.startswith('look there for the reason')
    reached = records('symmetric_killed', collection='fc_32-16')[-1]['step']
    running, _ = together(
        2, '--exp_id_suffix=_killed', f'--train_epochs={max(60, reached + 20) / 20}', '--do_restore'
    )
    lines = commands.succeeded([commands.end(process) for process in running][0])
    (restored,) = restored_from(lines)
    assert 20 <= int(restored.split('-')[1]) <= reached
    validated = {
        record['step']: record['validation_results']['topn_val']['top1']
        for record in records('symmetric_killed', collection='fc_32-16')
        if 'validation_results' in record
    }
    assert validated[60] == pytest.approx(float(alone[60]), abs=0.002)


@pytest.mark.parametrize('asked', [0, 1])
def test_all_stop_and_save_when_one_is_asked_to(together, records, asked):
    running, _ = together(2, f'--exp_id_suffix=_asked{asked}', '--train_epochs=300')
    commands.reach(running[0], 'step 20 of 6,000')
    running[asked].send_signal(signal.SIGTERM)
    done = [commands.end(process) for process in running]
    assert [each.code for each in done] == [143, 143], done
    assert [commands.unexpected(each.err) for each in done] == [
        ['stopped by SIGTERM; --do_restore continues where it was']
    ] * 2
    stored = records(f'symmetric_asked{asked}', collection='fc_32-16')
    assert (
        sum(len(record.get('train_results', [])) for record in stored) == stored[-1]['step'] >= 20
    )


def test_the_fault_of_one_ends_all(together):
    running, hosts = together(2, '--exp_id_suffix=_hosts2', '--train_epochs=4')  # the name is taken
    done = [commands.end(process) for process in running]
    assert 'exp_id symmetric_hosts2 has records up to step 60' in commands.refusal(done[0], 2)
    assert GONE.format(hosts[0], 0) in commands.refusal(done[1], 1)


def test_other_settings_than_those_of_the_first_host_are_refused(together):
    running, hosts = together(
        2, '--exp_id_suffix=_other', '--train_epochs=3', first=['--learning_rate=0.2']
    )
    done = [commands.end(process) for process in running]
    assert f'of {hosts[1]} are not those of {hosts[0]};' in commands.refusal(done[1], 2)
    assert GONE.format(hosts[1], 1) in commands.refusal(done[0], 1)


@pytest.mark.parametrize('alike', [True, False])
def test_other_images_than_those_of_the_first_host_are_refused(
    together, photograph_tfrecords, tmp_path, alike
):
    elsewhere = str(tmp_path / 'elsewhere')
    shutil.copytree(photograph_tfrecords, elsewhere)
    if not alike:  # the same images, in other files
        damage.describe(elsewhere)
        for split in ('train', 'validation'):
            paths = sorted(glob.glob(os.path.join(elsewhere, split + '-*')))
            rows = [row for path in paths for row in tf.python_io.tf_record_iterator(path)]
            for index, path in enumerate(paths):
                with tf.python_io.TFRecordWriter(path) as writer:
                    for row in rows[1 - index :: 2]:
                        writer.write(row)
    running, hosts = together(
        2,
        '--dataset=imagenet',
        '--image_size=9',
        '--train_batch_size=4',
        '--train_epochs=1',
        '--data_dir=' + photograph_tfrecords,
        f'--exp_id_suffix=_data_{alike}',
        first=['--data_dir=' + elsewhere],
    )
    done = [commands.end(process) for process in running]
    if alike:  # wherever they lie
        assert [each.code for each in done] == [0, 0], done
    else:
        assert f'the images of {hosts[1]} are not those of {hosts[0]}:' in commands.refusal(
            done[1], 1
        )
        assert GONE.format(hosts[1], 1) in commands.refusal(done[0], 1)


def test_a_validation_is_for_one_host(run, where):
    done = run(
        'test.py',
        'validate',
        *(
            RECIPE
            + where
            + [
                '--exp_id_suffix=_alone',
                '--val_exp_id=x',
                '--worker_hosts=a:1,b:1',
                '--task_index=0',
            ]
        ),
    )
    assert '--worker_hosts is for train.py' in commands.refusal(done, 2)
