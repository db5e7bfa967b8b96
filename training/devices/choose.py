"""Which device a Config asks for, and what no device can do."""

from typing import List

from config.schema import ROWS, Config, ConfigError
from training import gpus, runtime
from training.devices import cluster, tpu
from training.devices.device import Device
from training.devices.hosts import Hosts
from training.devices.one import OneDevice
from training.devices.towers import Towers
from training.devices.tpu import TPU
from training.types import Say


def claim(config: Config, say: Say = print) -> int:
    """Lets this process see those GPUs of --gpu alone; how many of them TensorFlow finds.

    What trains or validates calls it once, before it has a device. say: prints a line. Raises
    ConfigError, and changes nothing, for what no device can do.
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
    """The device that a Config asks for.

    found: how many GPUs there are, as `claim` gave it; without any the CPU is used. Raises
    ConfigError for what the device cannot do.
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
            f'--gpu={config.gpu}: TensorFlow finds {found} of these GPUs; name those that are '
            'there, or split the CPU by --cpu_devices'
        )
    if config.worker_hosts:
        return Hosts(
            config.worker_hosts,
            config.task_index or 0,  # never None: `refusals` has seen to it
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
    """Why no device can do what a Config asks for: a sentence for each reason."""
    if config.tpu_name:
        return tpu.refusals(config)
    return (
        cluster.refusals(config)
        + (_of_gpu(config) or _of_batch(config) + _of_one_device(config))
        + _of_loops(config)
        + precision_refusals(config)
    )


def _check(config: Config) -> None:
    problems = refusals(config)
    if problems:
        raise ConfigError('; '.join(problems))


def _minibatches(config: Config) -> int:
    """Into how many parts a batch is cut that are worked through one after the other."""
    return config.train_batch_size // (config.minibatch_size or config.train_batch_size)


def precision_refusals(config: Config) -> List[str]:
    """Why this TensorFlow does not compute in the precision of a Config: a sentence for each
    reason.
    """
    problems = []
    if config.xla and config.precision == 'float16' and not runtime.XLA_BRANCHES:
        problems.append(
            f'--xla and --precision=float16 do not go together on {runtime.describe()}; leave out '
            'one of them'
        )
    if config.precision == 'bfloat16' and not runtime.HAS_BFLOAT16:
        problems.append(
            f'--precision=bfloat16: {runtime.describe()} does not compute in it; take float16, or '
            'TensorFlow 2'
        )
    return problems


def _of_gpu(config: Config) -> List[str]:
    """What is wrong with the list of devices of --gpu."""
    gpu = config.gpu.split(',')
    if not all(index.isdigit() for index in gpu) or len({int(index) for index in gpu}) < len(gpu):
        return [
            f'--gpu={config.gpu}: give the index of a GPU, or several that differ, for example '
            '--gpu=0,1; for the CPU, leave --gpu out and give --cpu_devices=1'
        ]
    if config.cpu_devices and max(int(index) for index in gpu) >= config.cpu_devices:
        return [
            f'--gpu={config.gpu}: --cpu_devices={config.cpu_devices} makes the devices 0 to '
            f'{config.cpu_devices - 1}; name some of them'
        ]
    return []


def _of_batch(config: Config) -> List[str]:
    """Which batches cannot be split over the devices."""
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
    """What is for one device alone, or for several."""
    several = ',' in config.gpu or bool(config.worker_hosts)
    problems = []
    if config.sync_batch_norm and not several:
        problems.append(
            '--sync_batch_norm has no effect on one device; leave it out, or give several in --gpu'
        )
    if config.xla and (several or config.cpu_devices):
        problems.append(
            '--xla compiles the steps of one whole device; leave it out, or --cpu_devices, '
            f'--worker_hosts and all but one of --gpu={config.gpu}'
        )
    return problems


def _of_loops(config: Config) -> List[str]:
    """Which loops this TensorFlow cannot compile."""
    loops = _minibatches(config) > 1 and (config.iterations_per_loop or 1) > 1
    if config.xla and loops and not runtime.XLA_NESTS_LOOPS:
        return [
            '--xla, --minibatch_size and --iterations_per_loop do not go together on '
            f'{runtime.describe()}; leave out one of them'
        ]
    return []
