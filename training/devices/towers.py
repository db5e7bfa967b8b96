"""The device for several GPUs, or parts of a split CPU, in one process."""

import functools
from typing import Callable, List, Optional, Sequence, Tuple, TypeVar

import tensorflow.compat.v1 as tf

from models.layers import Replicas
from training import runtime
from training.devices.device import Batch, Counted, Outcome, Part, Replica
from training.devices.nests import Nest, tensors_of, with_tensors
from training.devices.one import OneDevice

# Groups of a collective sum: all replicas, the first device of each host, and the CPU of each host.
REPLICAS, HOSTS, HOSTS_CPU = 1, 2, 3

Result = TypeVar('Result')


class Towers(OneDevice, Replicas):
    """Several GPUs, or devices of a split CPU, in one process, with a replica of the step on each.

    The variables are on the first device. Each replica computes an equal part of the batch. Losses
    and gradients are averaged. Batch norm tracks the statistics of the first replica's part.

    Args:
        gpu: The indices of --gpu.
        minibatches: See OneDevice.
        steps_per_call: See OneDevice.
        data_format: See OneDevice.
        cpu_devices: See OneDevice.
        gpus: See OneDevice.
    """

    def __init__(
        self,
        gpu: Sequence[str],
        minibatches: int = 1,
        steps_per_call: int = 1,
        data_format: Optional[str] = None,
        cpu_devices: Optional[int] = None,
        gpus: int = 0,
    ) -> None:
        super().__init__(
            minibatches,
            steps_per_call,
            data_format=data_format,
            cpu_devices=cpu_devices,
            gpu=gpu,
            gpus=gpus,
        )
        self.replicas = len(gpu)
        self._sums = 0  # the number of collective sums built so far
        self._devices = (
            ['/cpu:' + index for index in gpu]
            if cpu_devices
            else [f'/gpu:{place}' for place in range(len(gpu))]
        )

    def mean(self, replica_fn: Replica[Nest], batch: Batch) -> Outcome[Nest]:
        """See Device.mean. Each part of a batch is split over the replicas."""
        return super().mean(functools.partial(self._over_replicas, replica_fn), batch)

    def total(self, function: Callable[[Batch], Counted], batch: Batch) -> Counted:
        """See Device.total."""
        parts = self._each(lambda part, replica: function(part), batch)
        with tf.device(self._devices[0]):
            return Counted(
                {name: tf.add_n([part.totals[name] for part in parts]) for name in parts[0].totals},
                {name: tf.concat([part.each[name] for part in parts], 0) for name in parts[0].each},
            )

    def _each(self, function: Callable[[Batch, int], Result], batch: Batch) -> List[Result]:
        """Returns [function(part of a batch, index of the replica)], each on its device."""
        with tf.device('/cpu:0'):
            parts = {name: tf.split(tensor, len(self._devices)) for name, tensor in batch.items()}
        outcomes, sums = [], self._sums
        for index, device in enumerate(self._devices):
            self._sums = sums  # a sum must have the same number on every replica
            with tf.device(device):
                outcomes.append(
                    function({name: tensors[index] for name, tensors in parts.items()}, index)
                )
        return outcomes

    def _over_replicas(
        self, replica_fn: Replica[Nest], batch: Batch, minibatch: Part
    ) -> Outcome[Nest]:
        first = minibatch * len(self._devices)
        towers = self._each(lambda part, replica: replica_fn(part, first + replica), batch)
        outcome, updates = towers[0]
        with tf.device(self._devices[0]):
            means = [
                tf.add_n(tensors) / len(towers)
                for tensors in zip(*[tensors_of(each) for each, _ in towers])
            ]
        return with_tensors(outcome, means), updates

    def all_mean(self, tensor: tf.Tensor) -> tf.Tensor:
        """Returns the mean of a tensor over the replicas, on each of them.

        Its gradient is the gradient of the mean of the replicas' losses. All replicas must call
        this in the same order, in their replica function.

        Args:
            tensor: float32, of any static shape.
        """
        self._sums += 2
        forward, backward = self._sums - 1, self._sums

        @tf.custom_gradient
        def mean(tensor: tf.Tensor) -> Tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
            return (
                self._all_mean(tensor, forward),
                lambda gradient: self._all_mean(gradient, backward),
            )

        return mean(tensor)

    def _all_mean(self, tensor: tf.Tensor, key: int) -> tf.Tensor:
        return runtime.all_sum(tensor, REPLICAS, self.replicas, key) / self.replicas
