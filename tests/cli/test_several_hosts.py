"""Several processes train together like one.

One of them may also be killed, be asked to stop, or have different settings.
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

pytestmark = pytest.mark.slow
RECIPE = [
    '--model=fc',
    '--layers_list=32,16',
    '--alignment=symmetric',
    '--alpha=0.02',
    '--beta=0.04',
    '--optimizer=momentum',
    '--learning_rate=0.1',
    '--train_batch_size=198',
    '--epochs_per_checkpoint=1',
]
GONE = (
    'host {} (task {}) is gone; look for the reason in the output there, then start the same '
    'commands again with --do_restore'
)


class Clusters:
    """Starts trainings of several processes, and kills those that still run at the end."""

    def __init__(self, forks, where, free_address):
        self._forks, self._where, self._free_address = forks, where, free_address
        self._running = []

    def start(self, count, *words, first=(), by_environment=False):
        """Starts a training, and returns its processes in order and their addresses.

        Args:
            count: Number of processes.
            words: Words of the command.
            first: More words for the first process.
            by_environment: Whether TF_CONFIG tells each process which host it is.
        """
        hosts = [self._free_address() for _ in range(count)]
        for index in range(count):
            own = ['--worker_hosts=' + ','.join(hosts), f'--task_index={index}']
            own += [] if index else list(first)
            cluster = dict(cluster=dict(worker=hosts), task=dict(type='worker', index=index))
            more, variables = (
                ([], dict(TF_CONFIG=json.dumps(cluster))) if by_environment else (own, {})
            )
            command = ['train.py', *RECIPE, *self._where, *words, *more]
            self._running.append(self._forks.start(*command, **variables))
        return self._running[-count:], hosts

    def close(self):
        """Kills the processes that still run."""
        for process in self._running:
            if process.poll() is None:
                process.kill()
                process.communicate()


@pytest.fixture(scope='module')
def together(forks, where, free_address):
    """Returns Clusters.start: (count, words, ...) -> the running processes and their addresses."""
    clusters = Clusters(forks, where, free_address)
    yield clusters.start
    clusters.close()


@pytest.fixture(scope='module')
def alone(run, where):
    """The validations of three epochs on a single process: {step: its line}."""
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
    assert 'a batch: 198 images, 99 on each of 2 replicas, 2 hosts' in done[1].out
    stored = records('symmetric_hosts2', collection='fc_32-16')
    assert [record['step'] for record in stored] == [0, 20, 40, 60]
    assert stored[-1]['params']['model_params']['worker_hosts'] == hosts


@pytest.mark.nightly
def test_one_that_is_killed_is_named_and_fewer_go_on(together, alone, records):
    running, hosts = together(3, '--exp_id_suffix=_killed', '--train_epochs=300')
    commands.reach(running[0], 'step 20 of 6,000')
    running[1].send_signal(signal.SIGKILL)
    done = [commands.end(process) for process in running]
    assert done[1].code == -signal.SIGKILL
    for survivor in (done[0], done[2]):
        named, rest = commands.refusal(survivor, 1).split(' gone; ')
        assert f'host {hosts[1]} (task 1)' in named and rest.startswith('look for the reason')
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
        ['stopped by SIGTERM; --do_restore resumes it']
    ] * 2
    stored = records(f'symmetric_asked{asked}', collection='fc_32-16')
    assert (
        sum(len(record.get('train_results', [])) for record in stored) == stored[-1]['step'] >= 20
    )


@pytest.fixture(scope='module')
def elsewhere(photograph_tfrecords, tmp_path_factory):
    """Returns a function: alike -> a folder with the photographs.

    They are copied as they are, or put into different files.
    """

    def copy(alike):
        folder = str(tmp_path_factory.mktemp('elsewhere') / 'data')
        shutil.copytree(photograph_tfrecords, folder)
        if not alike:
            damage.describe(folder)
            for split in ('train', 'validation'):
                paths = sorted(glob.glob(os.path.join(folder, split + '-*')))
                rows = [row for path in paths for row in tf.python_io.tf_record_iterator(path)]
                for index, path in enumerate(paths):
                    with tf.python_io.TFRecordWriter(path) as writer:
                        for row in rows[1 - index :: 2]:
                            writer.write(row)
        return folder

    return copy


@pytest.fixture(scope='module')
def photographs(photograph_tfrecords):
    """The words of a training on the photographs."""
    return [
        '--dataset=imagenet',
        '--image_size=9',
        '--train_batch_size=4',
        '--train_epochs=1',
        '--data_dir=' + photograph_tfrecords,
    ]


@pytest.fixture(scope='module')
def refused(together, alone, photographs, elsewhere):
    """{why: (outputs of the two processes, their addresses)} of trainings that are refused.

    They run at the same time, because they mostly wait for a process that is lost.
    """
    started = {
        'the name is taken': together(2, '--exp_id_suffix=_alone', '--train_epochs=4'),
        'other settings': together(
            2, '--exp_id_suffix=_other', '--train_epochs=3', first=['--learning_rate=0.2']
        ),
        'other images': together(
            2,
            '--exp_id_suffix=_data_other',
            *photographs,
            first=['--data_dir=' + elsewhere(alike=False)],
        ),
    }
    return {
        why: ([commands.end(process) for process in running], hosts)
        for why, (running, hosts) in started.items()
    }


def test_the_fault_of_one_ends_all(refused):
    done, hosts = refused['the name is taken']
    assert 'exp_id symmetric_alone has records up to step 60' in commands.refusal(done[0], 2)
    assert GONE.format(hosts[0], 0) in commands.refusal(done[1], 1)


def test_other_settings_than_those_of_the_first_host_are_refused(refused):
    done, hosts = refused['other settings']
    assert f'of {hosts[1]} differ from {hosts[0]};' in commands.refusal(done[1], 2)
    assert GONE.format(hosts[1], 1) in commands.refusal(done[0], 1)


def test_other_images_than_those_of_the_first_host_are_refused(refused):
    done, hosts = refused['other images']
    sentence = commands.refusal(done[1], 1)
    assert f'the images of {hosts[1]} differ from the images of {hosts[0]} in ' in sentence
    assert GONE.format(hosts[1], 1) in commands.refusal(done[0], 1)


def test_the_same_images_may_lie_elsewhere(together, photographs, elsewhere):
    first = ['--data_dir=' + elsewhere(alike=True)]
    running, _ = together(2, '--exp_id_suffix=_data_alike', *photographs, first=first)
    done = [commands.end(process) for process in running]
    assert [each.code for each in done] == [0, 0], done


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
