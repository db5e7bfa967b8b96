"""Devices: where training steps and validations run.

A device calls the function of a step, once or several times a call, and averages its results over
the replicas.
"""

from training.devices.choose import choose, claim, precision_refusals, refusals
from training.devices.device import Call, Device
from training.devices.hosts import Hosts
from training.devices.one import OneDevice
from training.devices.towers import Towers
from training.devices.tpu import TPU

__all__ = [
    'TPU',
    'Call',
    'Device',
    'Hosts',
    'OneDevice',
    'Towers',
    'choose',
    'claim',
    'precision_refusals',
    'refusals',
]
