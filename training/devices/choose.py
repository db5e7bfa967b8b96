"""Chooses the device for a Config, and checks what no device can do."""

from typing import List

from config.schema import ROWS, Config, ConfigError, raise_problems
from training import gpus, runtime
from training.devices import cluster, tpu
from training.devices.device import Device
from training.devices.hosts import Hosts
from training.devices.one import OneDevice
from training.devices.towers import Towers
from training.devices.tpu import TPU
from training.types import Say


def claim(config: Config, say: Say = print) -> int:
    """Makes only the GPUs of --gpu visible to this process.

    It is called once, before a device is chosen for a training or a validation.

    Args:
        config: The settings.
        say: Prints a line.

    Returns:
        The number of these GPUs that TensorFlow finds; 0 for a TPU or a split CPU.

    Raises:
        ConfigError: No device can do what the Config asks for. Nothing is changed.
    """
    _check(config)
    if config.tpu_name:
        return 0
    gpu = config.gpu.split(',')
    found = gpus.claim(gpu, hide=bool(config.cpu_devices))
    if config.gpu != ROWS['gpu'].default and len(gpu) == 1 and not (config.cpu_devices or found):
        say(f'warning: --gpu={config.gpu}: TensorFlow finds no such GPU; the CPU is used')
    return found


def choose(config: Config, found: int = 0) -> Device:
    """Returns the device that a Config asks for.

    Args:
        config: The settings.
        found: The number of GPUs, as returned by `claim`. The CPU is used if it is 0.

    Raises:
        ConfigError: The device cannot do what the Config asks for, or GPUs of --gpu are missing.
    """
    _check(config)
    minibatches = _minibatches(config)
    if config.tpu_name:
        return TPU(
            config.tpu_name,
            config.tpu_zone,
            config.gcp_project,
            replicas=config.num_shards,
            minibatches=minibatches,
            steps_per_call=config.iterations_per_loop or 100,
        )
    steps_per_call = config.iterations_per_loop or 1
    gpu = config.gpu.split(',')
    if not config.cpu_devices and found < len(gpu) > 1:
        raise ConfigError(
            f'--gpu={config.gpu}: TensorFlow finds {found} of these GPUs; name only GPUs that '
            'exist, or split the CPU with --cpu_devices'
        )
    if config.worker_hosts:
        return Hosts(
            config.worker_hosts,
            config.task_index or 0,  # `refusals` has already rejected None
            gpu,
            minibatches,
            steps_per_call,
            cpu_devices=config.cpu_devices,
            gpus=found,
        )
    if len(gpu) > 1 or config.cpu_devices:
        return Towers(gpu, minibatches, steps_per_call, cpu_devices=config.cpu_devices, gpus=found)
    return OneDevice(minibatches, steps_per_call, config.xla, gpu=gpu, gpus=found)


def refusals(config: Config) -> List[str]:
    """Returns the reasons why no device can do what a Config asks for, one sentence each."""
    if config.tpu_name:
        return tpu.refusals(config)
    return (
        cluster.refusals(config)
        + (_of_gpu(config) or _of_batch(config) + _of_one_device(config))
        + _of_loops(config)
        + precision_refusals(config)
    )


def _check(config: Config) -> None:
    raise_problems(refusals(config))


def _minibatches(config: Config) -> int:
    """Returns the number of minibatches in a batch. They are computed one after the other."""
    return config.train_batch_size // (config.minibatch_size or config.train_batch_size)


def precision_refusals(config: Config) -> List[str]:
    """Returns the reasons why this TensorFlow cannot compute in the precision of a Config."""
    problems = []
    if config.xla and config.precision == 'float16' and not runtime.XLA_BRANCHES:
        problems.append(
            f'--xla and --precision=float16 cannot be combined on {runtime.describe()}; leave out '
            'one of them'
        )
    if config.precision == 'bfloat16' and not runtime.HAS_BFLOAT16:
        problems.append(
            f'--precision=bfloat16: {runtime.describe()} does not support it; use float16, or '
            'TensorFlow 2'
        )
    return problems


def _of_gpu(config: Config) -> List[str]:
    """Returns what is wrong with the list of devices in --gpu."""
    gpu = config.gpu.split(',')
    if not all(index.isdigit() for index in gpu) or len({int(index) for index in gpu}) < len(gpu):
        return [
            f'--gpu={config.gpu}: give the index of a GPU, or several different ones, for example '
            '--gpu=0,1; to use the CPU, leave out --gpu and give --cpu_devices=1'
        ]
    if config.cpu_devices and max(int(index) for index in gpu) >= config.cpu_devices:
        return [
            f'--gpu={config.gpu}: --cpu_devices={config.cpu_devices} creates the devices 0 to '
            f'{config.cpu_devices - 1}; give only indices of these'
        ]
    return []


def _of_batch(config: Config) -> List[str]:
    """Returns which batches cannot be split evenly over the devices."""
    devices, hosts = len(config.gpu.split(',')), len(config.worker_hosts) or 1
    where = f' on each of {hosts} hosts' if hosts > 1 else ''
    return [
        f'--{name}={size} cannot be split evenly over the {devices} devices of '
        f'--gpu={config.gpu}{where}; choose a multiple of {devices * hosts}'
        for name, size in (
            ('train_batch_size', config.train_batch_size),
            ('minibatch_size', config.minibatch_size),
        )
        if size and size % (devices * hosts)
    ]


def _of_one_device(config: Config) -> List[str]:
    """Returns which settings need one device or several devices, and do not have them."""
    several = ',' in config.gpu or bool(config.worker_hosts)
    problems = []
    if config.sync_batch_norm and not several:
        problems.append(
            '--sync_batch_norm has no effect on one device; leave it out, or give several in --gpu'
        )
    if config.xla and (several or config.cpu_devices):
        problems.append(
            '--xla can only compile the steps of a single device; leave out --xla, or leave out '
            f'--cpu_devices, --worker_hosts and all but one of --gpu={config.gpu}'
        )
    return problems


def _of_loops(config: Config) -> List[str]:
    """Returns which loops this TensorFlow cannot compile."""
    loops = _minibatches(config) > 1 and (config.iterations_per_loop or 1) > 1
    if config.xla and loops and not runtime.XLA_NESTS_LOOPS:
        return [
            '--xla, --minibatch_size and --iterations_per_loop cannot be combined on '
            f'{runtime.describe()}; leave out one of them'
        ]
    return []
