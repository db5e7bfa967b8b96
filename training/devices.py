"""Where steps run: a device calls the function of a step, once or several times a call, and averages over its replicas."""
import collections
import os

import tensorflow.compat.v1 as tf

from config.schema import ConfigError
from training import runtime

# What Session.run does: run train_op and fetch scalars ({name: float32}, of the state before each update). count: the int32
# scalar to feed, how many steps to do; then each of scalars is [count]. None: one step, and each of scalars is a number.
Call = collections.namedtuple('Call', ['train_op', 'scalars', 'count'])


class OneDevice:
    """One GPU, or the CPU where there is none.

    gpu: its index, as text; None leaves the choice to the environment.
    minibatches: how many equal parts of a batch are worked through one after the other, their results averaged.
    steps_per_call: the most steps in one call. compiled: each step is compiled by XLA.
    data_format: of images between layers; by default that of the fastest convolutions, NCHW on a GPU and NHWC on a CPU.
    """
    replicas = 1

    def __init__(self, gpu, minibatches=1, steps_per_call=1, compiled=False, data_format=None):
        if gpu is not None:
            os.environ['CUDA_VISIBLE_DEVICES'] = gpu
        self.data_format = data_format or ('NCHW' if runtime.gpu_count() else 'NHWC')
        self.minibatches = minibatches
        self.steps_per_call = steps_per_call
        self.compiled = compiled
        self._do = _compiled if compiled else _plain

    def call(self, step, next_batch):
        """The Call that does steps.

        step(batch) -> (an operation that updates the variables, {name: float32 scalar}). next_batch() -> {name: tensor
        [batch, ...]}, another one at each step.
        """
        if self.steps_per_call == 1:
            return Call(*self._do(step, next_batch()), count=None)
        count = tf.placeholder(tf.int32, [], name='steps')
        names = []

        def one_more(index, rows):
            with tf.control_dependencies([index]):  # or the batch would be read once, before the loop
                batch = next_batch()
            train_op, scalars = self._do(step, batch)
            names[:] = sorted(scalars)
            with tf.control_dependencies([train_op]):
                return index + 1, rows.write(index, tf.stack([scalars[name] for name in names]))

        rows = tf.while_loop(lambda index, _: index < count, one_more, [tf.constant(0), tf.TensorArray(tf.float32, count)],
                             parallel_iterations=1, back_prop=False)[1].stack()
        return Call(rows.op, {name: rows[:, column] for column, name in enumerate(names)}, count)

    def mean(self, replica_fn, batch):
        """The mean of replica_fn over the parts of a batch.

        replica_fn(batch) -> (list of tensors, list of update operations). batch: {name: tensor [batch, ...]}.
        Returns (list of tensors, list of operations). Equal to replica_fn(batch) where its tensors are batch means.
        """
        if self.minibatches == 1:
            return replica_fn(batch)
        parts = {name: tf.reshape(tensor, [self.minibatches, -1] + tensor.shape[1:].as_list()) for name, tensor in batch.items()}

        def part(index):
            return {name: tf.gather(tensor, index) for name, tensor in parts.items()}

        tensors, updates = replica_fn(part(0))  # the first of the sums that the loop adds to
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
    if config.num_shards != 8:
        raise ConfigError('--num_shards is for TPUs, on which this version does not train; leave it out')
    if not config.gpu.isdigit():
        raise ConfigError('--gpu={}: this version trains on one device; give one index, for example --gpu=0'.format(config.gpu))
    minibatches = config.train_batch_size // (config.minibatch_size or config.train_batch_size)
    steps_per_call = config.iterations_per_loop or 1
    if config.xla and minibatches > 1 and steps_per_call > 1 and not runtime.XLA_NESTS_LOOPS:
        raise ConfigError('--xla, --minibatch_size and --iterations_per_loop do not go together on {}; leave out one of '
                          'them'.format(runtime.describe()))
    if config.xla and config.precision == 'float16' and not runtime.XLA_BRANCHES:
        raise ConfigError('--xla and --precision=float16 do not go together on {}; leave out one of them'.format(
            runtime.describe()))
    if config.precision == 'bfloat16' and not runtime.HAS_BFLOAT16:
        raise ConfigError('--precision=bfloat16: {} does not compute in it; take float16, or TensorFlow 2'.format(
            runtime.describe()))
    return OneDevice(config.gpu, minibatches, steps_per_call, config.xla)


def _plain(step, batch):
    """(train_op, scalars) of a step."""
    return step(batch)


def _compiled(step, batch):
    """The same, compiled by XLA."""
    names, scalars = sorted(batch), []

    def computation(*tensors):
        train_op, found = step(dict(zip(names, tensors)))
        scalars[:] = sorted(found)
        return [found[name] for name in scalars] + [train_op]

    values = runtime.xla_compile(computation, [batch[name] for name in names])
    return tf.group(*values), dict(zip(scalars, values))
