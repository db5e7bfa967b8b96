"""What the hosts of a training have to agree on: settings, images, and what the first of them
restored.
"""

import json
import zlib
from typing import Optional, Tuple

from config.schema import Config, ConfigError, Scope
from data import DataError
from data.base import Dataset
from training import checkpoints, runtime
from training.devices import Device
from training.restoring import Start

# Settings that differ from host to host.
OF_A_HOST = ('task_index', 'data_dir', 'gpu', 'cpu_devices')


def on_settings(config: Config, device: Device) -> None:
    """Raises ConfigError where a host has other settings than the first."""
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
            f'--worker_hosts: the settings, the number of devices or the TensorFlow of '
            f'{_name(config)} are not those of {config.worker_hosts[0]}; give both the same flags '
            'but --task_index'
        )


def on_start(config: Config, device: Device, start: Optional[Start]) -> Tuple[Config, int]:
    """(Config, first step) of the first host, on every host: only the first one reads what is
    restored.
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
    """Raises DataError where a host has other images than the first, wherever they lie there."""
    if device.hosts == 1:
        return
    own = int(dataset.digest()[:15], 16)
    (first,) = device.shared([own])
    if own != first:
        raise DataError(
            f'--data_dir: the images of {_name(config)} are not those of '
            f'{config.worker_hosts[0]}: their number, classes, shape, or the names and sizes of '
            'their files differ; give both the same data'
        )


def _name(config: Config) -> str:
    """The name of this host among those that train together."""
    return config.worker_hosts[config.task_index or 0]
