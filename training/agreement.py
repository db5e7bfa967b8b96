"""Checks that the hosts of a training agree on the settings, the images and what is restored."""

import json
import zlib
from typing import Optional, Tuple

from config.schema import Config, ConfigError, Scope
from data import DataError
from data.base import Dataset
from training import checkpoints, runtime
from training.devices import Device
from training.restoring import Start

# Settings that may differ from host to host.
OF_A_HOST = ('task_index', 'data_dir', 'gpu', 'cpu_devices')


def on_settings(config: Config, device: Device) -> None:
    """Checks that this host has the same settings as the first host.

    Raises:
        ConfigError: The settings, the number of devices or the runtime differ.
    """
    own = zlib.crc32(
        repr(
            [runtime.describe(), device.replicas]
            + [
                (name, config[name])
                for name, row in config.rows.items()
                if name not in OF_A_HOST
                and not (row.always and row.group in ('save_params', 'load_params'))
            ]
        ).encode()
    )
    (first,) = device.shared([own])
    if own != first:
        raise ConfigError(
            f'--worker_hosts: the settings, the number of devices or the runtime of '
            f'{_name(config)} differ from {config.worker_hosts[0]}; give both the same flags '
            'except --task_index, and run both on the same TensorFlow and Python'
        )


def on_start(config: Config, device: Device, start: Optional[Start]) -> Tuple[Config, int]:
    """Returns the settings and the first step of the first host, which alone reads a checkpoint.

    Args:
        config: Settings of this host. Those of scope MEANING are replaced by the first host's.
        device: Device that is ready.
        start: What the first host restores, or None; None on the other hosts.

    Returns:
        (config, first_step), the number of steps done before.
    """
    resets = start and start.is_foreign and config.reset_step
    meaning = {
        name: config[name] for name, row in config.rows.items() if row.scope is Scope.MEANING
    }
    content = json.dumps(meaning).encode('ascii')
    first_step, size = device.shared(
        [0 if start is None or resets else checkpoints.step_of(start.prefix), len(content)]
    )
    content = bytes(device.shared(list(content[:size].ljust(size))))
    return config.replaced(json.loads(content.decode('ascii'))), first_step


def on_data(config: Config, device: Device, dataset: Dataset) -> None:
    """Checks that this host has the same images as the first host, in whatever folder.

    Raises:
        DataError: The images differ.
    """
    if device.hosts == 1:
        return
    own = int(dataset.digest()[:15], 16)
    (first,) = device.shared([own])
    if own != first:
        raise DataError(
            f'--data_dir: the images of {_name(config)} differ from the images of '
            f'{config.worker_hosts[0]} in their number, classes or shape, or in the names or sizes '
            'of their files; give both hosts the same data'
        )


def _name(config: Config) -> str:
    """Returns the name of this host in --worker_hosts."""
    return config.worker_hosts[config.task_index or 0]
