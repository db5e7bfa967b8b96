"""Which GPUs a process sees, given --gpu and the CUDA_VISIBLE_DEVICES that it starts with.

No test needs a GPU.
"""

import os

import pytest

import tiny
from config.schema import ConfigError
from training import devices, gpus, runtime
from training.tfutils import calls

NAMES = 'GPU-8932f937-d72c, MIG-4f1b9a20,MIG-GPU-77/1/0,12'


@pytest.mark.parametrize(
    'given, gpu, seen',
    [
        (None, '0', '0'),
        (None, '7,2', '7,2'),
        ('3', '0', '3'),
        ('4,5', '0', '4'),
        ('4,5,9', '2,0', '9,4'),
        (' 4 , 5 ', '1', '5'),
        (NAMES, '0', 'GPU-8932f937-d72c'),
        (NAMES, '3,1', '12,MIG-4f1b9a20'),
        (NAMES, '2', 'MIG-GPU-77/1/0'),
        ('', '0', ''),
        ('-1', '0', ''),
        ('NoDevFiles', '0', ''),
        ('', '5', ''),
        ('-1,0', '0', ''),
        ('6,-1,7', '0', '6'),
    ],
)  # CUDA ignores everything after a name that it does not know
def test_gpus_are_counted_within_what_a_scheduler_shows(given, gpu, seen):
    assert gpus.visible(gpu.split(','), given) == seen


@pytest.mark.parametrize(
    'given, gpu, words',
    [
        ('3', '1', '--gpu=1: CUDA_VISIBLE_DEVICES=3 shows 1 GPU, which'),
        ('4,5', '0,2', '--gpu=0,2: CUDA_VISIBLE_DEVICES=4,5 shows 2 GPUs'),
        ('6,-1,7', '1', '--gpu=1: CUDA_VISIBLE_DEVICES=6,-1,7 shows 1 GPU'),
        (NAMES, '4', 'shows 4 GPUs'),
    ],
)
def test_a_gpu_beyond_them_is_refused(given, gpu, words, monkeypatch):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', given)
    with pytest.raises(ConfigError, match=words):
        devices.claim(tiny.config(gpu=gpu))
    assert os.environ['CUDA_VISIBLE_DEVICES'] == given


@pytest.fixture
def seen(monkeypatch):
    """Returns what a claim leaves in the environment, if all GPUs that it lists exist."""

    def count():
        return (
            len(os.environ['CUDA_VISIBLE_DEVICES'].split(','))
            if os.environ['CUDA_VISIBLE_DEVICES']
            else 0
        )

    def chosen(**settings):
        assert devices.claim(tiny.config(**settings), pytest.fail) == count()
        return os.environ['CUDA_VISIBLE_DEVICES']

    monkeypatch.setattr(runtime, 'gpu_count', count)
    return chosen


def test_claims_do_not_add_up(seen, monkeypatch):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '4,5')
    hosts = dict(worker_hosts=('a:1', 'b:1'), task_index=1)
    for _ in range(2):
        assert [
            seen(),
            seen(gpu='1'),
            seen(gpu='1,0'),
            seen(cpu_devices=3),
            seen(gpu='1', **hosts),
            seen(**hosts),
        ] == ['4', '5', '5,4', '', '5', '4']
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '8')  # set by something else
    assert seen() == '8'
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES')
    assert [seen(gpu='3'), seen(), seen(gpu='2,6')] == ['3', '0', '2,6']


def test_a_script_of_functions_sees_what_it_is_shown(monkeypatch):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '4,5')
    calls._device({'model_params': {}})
    assert os.environ['CUDA_VISIBLE_DEVICES'] == '4,5'


@pytest.mark.parametrize(
    'settings, title',
    [
        ({}, 'GPU 0'),
        (dict(gpu='3'), 'GPU 3'),
        (dict(gpu='1,0'), 'GPU 1,0'),
        (
            dict(gpu='1,0', cpu_devices=2),
            'devices 1,0 of a CPU split into 2',
        ),
        (dict(gpu='1', worker_hosts=('a:1', 'b:1'), task_index=0), 'GPU 1'),
    ],
)
def test_a_device_is_made_of_the_gpus_that_were_found(settings, title, monkeypatch):
    """Building a device neither changes the environment nor looks for GPUs."""
    monkeypatch.setattr(runtime, 'gpu_count', lambda: pytest.fail('it looks for GPUs'))
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '6,7')
    config = tiny.config(**settings)
    assert devices.choose(config, found=0 if config.cpu_devices else 2).title == title
    assert os.environ['CUDA_VISIBLE_DEVICES'] == '6,7'


@pytest.mark.parametrize(
    'settings, warned',
    [
        ({}, False),
        (dict(gpu='7'), True),
        (dict(gpu='7', worker_hosts=('a:1', 'b:1'), task_index=0), True),
        (dict(gpu='1', cpu_devices=2), False),
    ],
)
def test_a_gpu_that_was_asked_for_and_is_not_there_is_told(settings, warned, monkeypatch):
    said = []
    monkeypatch.setattr(runtime, 'gpu_count', lambda: 0)
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES')
    devices.claim(tiny.config(**settings), said.append)
    assert said == (
        ['warning: --gpu=7: TensorFlow finds no such GPU; the CPU is used'] if warned else []
    )
