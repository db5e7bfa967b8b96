"""Where the replicas of a step run. A replica function takes a batch and gives gradients; a device runs it and averages."""
import os

import tensorflow.compat.v1 as tf

from config.schema import ConfigError


class OneDevice:
    """One GPU, or the CPU where there is none.

    gpu: its index, as text; None leaves the choice to the environment.
    minibatches: how many equal parts of a batch are worked through one after the other, their results averaged.
    """
    replicas = 1

    def __init__(self, gpu, minibatches=1):
        if gpu is not None:
            os.environ['CUDA_VISIBLE_DEVICES'] = gpu
        self.minibatches = minibatches

    def mean(self, replica_fn, batch):
        """The mean of replica_fn over the parts of a batch.

        replica_fn(batch) -> (list of tensors, list of update operations). batch: {name: tensor [batch, ...]}.
        Returns (list of tensors, list of operations). Equal to replica_fn(batch) where its tensors are batch means.
        """
        if self.minibatches == 1:
            return replica_fn(batch)
        size = int(next(iter(batch.values())).shape[0]) // self.minibatches

        def part(index):
            return {name: tf.reshape(tensor[index * size:(index + 1) * size], [size] + tensor.shape[1:].as_list())
                    for name, tensor in batch.items()}

        tensors, updates = replica_fn(part(0))  # makes the variables, which no loop may do
        with tf.control_dependencies(updates):
            sums = [tf.identity(tensor) for tensor in tensors]

        def add_part(index, *sums):
            with tf.control_dependencies(sums):  # one part at a time: its activations are gone before the next one's
                next_part = {name: tf.identity(tensor) for name, tensor in part(index).items()}
            tensors, updates = replica_fn(next_part)
            with tf.control_dependencies(updates):
                return [index + 1] + [total + tensor for total, tensor in zip(sums, tensors)]

        sums = tf.while_loop(lambda index, *_: index < self.minibatches, add_part, [tf.constant(1)] + sums,
                             parallel_iterations=1, back_prop=False)[1:]
        return [total / self.minibatches for total in sums], []


def choose(config):
    """The device that a Config asks for. Raises ConfigError where this version has none."""
    if config.tpu_name or config.tpu_zone or config.gcp_project:
        raise ConfigError('--tpu_name, --tpu_zone and --gcp_project: this version does not train on TPUs; leave them out to '
                          'use a GPU or the CPU')
    for name, default in (('num_shards', 8), ('iterations_per_loop', 100)):
        if getattr(config, name) != default:
            raise ConfigError('--{} is for TPUs, on which this version does not train; leave it out'.format(name))
    if not config.gpu.isdigit():
        raise ConfigError('--gpu={}: this version trains on one device; give one index, for example --gpu=0'.format(config.gpu))
    return OneDevice(config.gpu, config.train_batch_size // (config.minibatch_size or config.train_batch_size))
