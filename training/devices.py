"""Where steps run: a device calls the function of a step, once or several times a call, and
averages over its replicas.
"""

import collections
import contextlib
import functools
import signal

import tensorflow.compat.v1 as tf

from config.schema import ROWS, ConfigError
from training import cluster, gpus, runtime
from training.errors import TrainingError

# What Session.run does: run train_op and fetch scalars ({name: float32}, of the state before each
# update). count: the int32 scalar to feed, how many steps to do; then each of scalars is [count].
# None: one step, and each of scalars is a number.
Call = collections.namedtuple('Call', ['train_op', 'scalars', 'count'])

# Those that sum together: all replicas, the first device of each host, and the CPU of each host.
REPLICAS, HOSTS, HOSTS_CPU = 1, 2, 3


class OneDevice:
    """The first GPU that TensorFlow sees (see training/gpus.py), or the CPU where it sees none.

    minibatches: how many equal parts of a batch are worked through one after the other, their
    results averaged.
    steps_per_call: the most steps in one call. compiled: each step is compiled by XLA.
    data_format: of images between layers; by default that of the fastest convolutions, NCHW on a
    GPU and NHWC on a CPU.
    cpu_devices: into how many devices the CPU is split; None leaves it whole.
    """

    replicas = 1
    hosts = 1
    part = (0, 1)  # of each batch that this process reads: (index, how many)
    leads = True  # whether this process validates, saves and records
    target = ''  # of Sessions
    # which of the equal blocks of a step's batch `mean` is given: this host's, or this core's of a
    # TPU
    _block = 0

    def __init__(
        self, minibatches=1, steps_per_call=1, compiled=False, data_format=None, cpu_devices=None
    ):
        self.cpu_devices = cpu_devices
        self.data_format = data_format or ('NCHW' if runtime.gpu_count() else 'NHWC')
        self.minibatches = minibatches
        self.steps_per_call = steps_per_call
        self.compiled = compiled
        self._do = _compiled if compiled else _plain

    def call(self, step, next_batch):
        """The Call that does steps.

        step(batch) -> (an operation that updates the variables, {name: float32 scalar}).
        next_batch() -> {name: tensor [batch, ...]}, another one at each step.
        """
        if self.steps_per_call == 1:
            return Call(*self._do(step, next_batch()), count=None)
        count = tf.placeholder(tf.int32, [], name='steps')
        rows, names = _loop(lambda batch: self._do(step, batch), next_batch, count, count)
        return Call(rows.op, {name: rows[:, column] for column, name in enumerate(names)}, count)

    def session_config(self):
        """The tf.ConfigProto of Sessions on this device."""
        return runtime.session_config(self.cpu_devices)

    @contextlib.contextmanager
    def ready(self, say=print):
        """While the device can be used by Sessions on its `target`. say: prints a line."""
        del say
        yield

    def at_loss(self, function):
        """What to call before the process is ended because another host is gone."""

    def shared(self, numbers):
        """The numbers, a list of int, that the first host gives; every host gives as many. While
        the device is ready.
        """
        return numbers

    def level(self, variables):
        """The operation that gives variables the values that they have on the first host."""
        del variables
        return tf.no_op()

    def asking(self):
        """Of a graph: the function of (session, a signal's number or None) that gives it, or
        SIGTERM where another host has one; every host has to call it as often."""
        return lambda session, number: number

    def once(self, function, batch):
        """function(batch) -> dictionary, or nested ones, of float32 scalars, computed on the
        device.
        """
        return function(batch)

    def total(self, function, batch):
        """The same of sums over the images of a batch, each replica doing its part."""
        return function(batch)

    def over_replicas(self, tensor):
        """Within a step: the mean of a float32 tensor of each replica; what each of them knows
        then.
        """
        return tensor

    def mean(self, replica_fn, batch):
        """The mean of replica_fn over the parts of a batch.

        replica_fn(batch, part) -> (list of tensors, list of update operations). batch: {name:
        tensor [batch, ...]}.
        part: the index of these images among the equal parts that hosts, minibatches and replicas
        cut the step's batch into, in the order of the images; an int or int32 scalar.
        Returns (list of tensors, list of operations). Equal to replica_fn(batch, 0) where its
        tensors are batch means.
        """
        first = self._block * self.minibatches
        if self.minibatches == 1:
            return replica_fn(batch, first)
        parts = {
            name: tf.reshape(tensor, [self.minibatches, -1] + tensor.shape[1:].as_list())
            for name, tensor in batch.items()
        }

        def part(index):
            return {name: tf.gather(tensor, index) for name, tensor in parts.items()}

        tensors, updates = replica_fn(part(0), first)  # the first of the sums that the loop adds to
        with tf.control_dependencies(updates):
            sums = [tf.identity(tensor) for tensor in tensors]
        with tf.control_dependencies(
            sums
        ):  # or the loop would read statistics of batch norm before they are updated
            second = tf.identity(1)

        def add_part(index, *sums):
            with tf.control_dependencies(
                sums
            ):  # one part at a time: its activations are gone before the next one's
                next_part = {name: tf.identity(tensor) for name, tensor in part(index).items()}
            tensors, updates = replica_fn(next_part, first + index)
            with tf.control_dependencies(updates):
                return [index + 1] + [total + tensor for total, tensor in zip(sums, tensors)]

        sums = tf.while_loop(
            lambda index, *_: index < self.minibatches,
            add_part,
            [second] + sums,
            parallel_iterations=1,
            back_prop=False,
        )[1:]
        return [total / self.minibatches for total in sums], []


class Towers(OneDevice):
    """Several GPUs (or devices of a CPU that is split) in one process: a replica of the step on
    each.

    The variables are on the first of them. Each works on an equal part of the batch; losses and
    gradients are averaged, and the batch norms track the statistics of the first replica's part.

    gpu: the indices of --gpu, a list of text. Otherwise as OneDevice. Raises ConfigError where
    there are not as many GPUs.
    """

    def __init__(self, gpu, minibatches=1, steps_per_call=1, data_format=None, cpu_devices=None):
        super().__init__(
            minibatches, steps_per_call, data_format=data_format, cpu_devices=cpu_devices
        )
        if not cpu_devices and runtime.gpu_count() < len(gpu) > 1:
            raise ConfigError(
                '--gpu={}: TensorFlow finds {} of these GPUs; name those that are there, or split '
                'the CPU by '
                '--cpu_devices'.format(','.join(gpu), runtime.gpu_count())
            )
        self.replicas = len(gpu)
        self._sums = 0  # how many have been built
        self._devices = (
            ['/cpu:' + index for index in gpu]
            if cpu_devices
            else ['/gpu:%d' % place for place in range(len(gpu))]
        )

    def mean(self, replica_fn, batch):
        """The mean of replica_fn over the parts of a batch, each of which is split over the
        replicas; see OneDevice.
        """
        return super().mean(functools.partial(self._over_replicas, replica_fn), batch)

    def total(self, function, batch):
        """See OneDevice.total."""
        totals = self._each(lambda part, replica: function(part), batch)
        with tf.device(self._devices[0]):
            return {name: tf.add_n([total[name] for total in totals]) for name in totals[0]}

    def _each(self, function, batch):
        """[function(part of a batch, replica's index)] of all replicas, each on its device."""
        with tf.device('/cpu:0'):
            parts = {name: tf.split(tensor, len(self._devices)) for name, tensor in batch.items()}
        outcomes, sums = [], self._sums
        for index, device in enumerate(self._devices):
            self._sums = sums  # replicas are built alike: the same sum has the same number on each
            with tf.device(device):
                outcomes.append(
                    function({name: tensors[index] for name, tensors in parts.items()}, index)
                )
        return outcomes

    def _over_replicas(self, replica_fn, batch, minibatch):
        first = minibatch * len(self._devices)
        towers = self._each(lambda part, replica: replica_fn(part, first + replica), batch)
        with tf.device(self._devices[0]):
            return [
                tf.add_n(values) / len(towers)
                for values in zip(*[tensors for tensors, _ in towers])
            ], towers[0][1]

    def all_mean(self, tensor):
        """The mean of a tensor over the replicas, on each of them; its gradient is that of the mean
        of the replicas' losses.

        To be called in a replica function, by all replicas in the same order. tensor: float32, of
        any static shape.
        """
        self._sums += 2
        forward, backward = self._sums - 1, self._sums

        @tf.custom_gradient
        def mean(tensor):
            return self._all_mean(tensor, forward), lambda gradient: self._all_mean(
                gradient, backward
            )

        return mean(tensor)

    def _all_mean(self, tensor, key):
        return runtime.all_sum(tensor, REPLICAS, self.replicas, key) / self.replicas


class Hosts(Towers):
    """Several machines, of each of which a process uses a device or several: a replica of the step
    on each.

    Every process has variables of its own, which start as the first one's and stay the same: the
    gradients of all are averaged before each update. Each reads its part of the batches. Batch
    norms normalise as Towers' do, and track the statistics of their own host; those of the first
    one are kept. TensorFlow's servers and collectives carry what is exchanged.

    hosts: ['host:port'] of all. own: the index of this one. Otherwise as Towers.
    """

    answers_within = 600  # seconds, until a host is given up that was never there

    def __init__(
        self, hosts, own, gpu, minibatches=1, steps_per_call=1, data_format=None, cpu_devices=None
    ):
        super().__init__(gpu, minibatches, steps_per_call, data_format, cpu_devices)
        self.hosts = len(hosts)
        self.part = (own, self.hosts)
        self.leads = own == 0
        self._block = own
        self.replicas = self.hosts * len(gpu)
        self._names = list(hosts)
        self._watch = None
        self._before_end = []

    def session_config(self):
        """See OneDevice.session_config. Sessions see the devices of this process alone; the
        collectives reach the others.
        """
        config = super().session_config()
        config.device_filters.append(f'/job:worker/task:{self.part[0]}')
        config.experimental.collective_group_leader = '/job:worker/replica:0/task:0'
        return config

    @contextlib.contextmanager
    def ready(self, say=print):
        """Starts this process's server and waits for the others'. Raises ConfigError where one is
        missing, and TrainingError that names it when one goes; a process that cannot even notice is
        ended.
        """
        own = self._names[self.part[0]]
        cluster.without_proxy(self._names)
        try:
            server = tf.train.Server(
                tf.train.ClusterSpec({'worker': self._names}),
                'worker',
                self.part[0],
                config=self.session_config(),
            )
        except tf.errors.OpError as error:
            raise ConfigError(
                '--worker_hosts: this process, task {}, cannot listen at {} ({}); is the port '
                'taken, or the host '
                'another one?'.format(self.part[0], own, error.message.split('\n')[0])
            )
        self.target = server.target
        watch = cluster.Watch(self._names, self.part[0], self._flush)
        watch.wait(self.answers_within, say)
        with watch:
            try:
                yield
            except (
                tf.errors.UnavailableError,
                tf.errors.AbortedError,
                tf.errors.CancelledError,
                tf.errors.InternalError,
                tf.errors.DeadlineExceededError,
            ) as error:
                gone = watch.gone(cluster.NO_ANSWER * (cluster.SILENT + 1))
                raise TrainingError(
                    cluster.lost(gone)
                    if gone
                    else 'the hosts lost each other ({}); start the same commands '
                    'again with --do_restore'.format(error.message.split('\n')[0])
                )

    def at_loss(self, function):
        """See OneDevice.at_loss."""
        self._before_end.append(function)

    def _flush(self):
        for function in self._before_end:
            function()

    def mean(self, replica_fn, batch):
        """The mean over all hosts of the mean over this one's replicas; see Towers.mean."""
        tensors, updates = super().mean(replica_fn, batch)
        with tf.device(self._devices[0]):  # one exchange of all of them
            return [total / self.hosts for total in self._joined(tensors, HOSTS)], updates

    def shared(self, numbers):
        """See OneDevice.shared."""
        with tf.Graph().as_default(), tf.Session(
            self.target, config=self.session_config()
        ) as session:
            return session.run(self._of_first([tf.constant(numbers, tf.int64)]))[0].tolist()

    def level(self, variables):
        """See OneDevice.level."""
        values = self._of_first([variable.read_value() for variable in variables])
        return tf.group(
            *[
                variable.assign(value, read_value=False)
                for variable, value in zip(variables, values)
            ]
        )

    def asking(self):
        """See OneDevice.asking."""
        with tf.device('/cpu:0'):
            asked = tf.placeholder(tf.int32, [])
            (hosts,) = self._joined([asked], HOSTS_CPU)

        def ask(session, number):
            found = session.run(hosts, {asked: int(number is not None)})
            return number if number is not None or not found else signal.SIGTERM

        return ask

    def _of_first(self, tensors):
        with tf.device('/cpu:0'):
            return self._joined(
                [tensor if self.leads else tf.zeros_like(tensor) for tensor in tensors], HOSTS_CPU
            )

    def _joined(self, tensors, group):
        """The sums of tensors over the hosts, by one exchange for each type."""
        sums = list(tensors)
        for dtype in sorted({tensor.dtype for tensor in tensors}, key=lambda dtype: dtype.name):
            places = [place for place, tensor in enumerate(tensors) if tensor.dtype == dtype]
            self._sums += 1
            total = runtime.all_sum(
                tf.concat([tf.reshape(tensors[place], [-1]) for place in places], 0),
                group,
                self.hosts,
                self._sums,
            )
            sizes = [tensors[place].shape.num_elements() for place in places]
            for place, part in zip(places, tf.split(total, sizes)):
                sums[place] = tf.reshape(part, tensors[place].shape)
        return sums


class TPU(OneDevice):
    """A Cloud TPU of one host: a replica of the step on each core, all steps of a call in one loop
    on the cores.

    The host reads the batches and hands each core its part, by infeed. Losses, gradients and the
    statistics of batch norms are averaged over the cores, so that the variables of all of them stay
    the same. A validation is split over the cores, too.

    name: of the TPU, its address, or 'local'. zone, project: where the name is looked up; None asks
    the machine's own.
    replicas: cores. Otherwise as OneDevice.
    """

    answers_within = 300  # seconds, until a TPU is given up

    def __init__(self, name, zone, project, replicas, minibatches=1, steps_per_call=100):
        super().__init__(minibatches, steps_per_call, compiled=True, data_format='NHWC')
        self.name = name
        self.replicas = replicas
        self._place = (name, zone, project)

    @contextlib.contextmanager
    def ready(self, say=print):
        """Finds the TPU and starts its cores; they are given back in the end. Raises ConfigError
        where there is none.
        """
        del say
        try:
            self.target = runtime.tpu_address(*self._place)
            self._run(runtime.tpu_start)
        except (ImportError, OSError, RuntimeError, ValueError) as error:
            raise self._missing(str(error).split('\n')[0])
        except tf.errors.DeadlineExceededError:
            raise self._missing(f'no answer within {self.answers_within} s')
        except tf.errors.OpError as error:
            raise self._missing(
                f'the machine there has none that TensorFlow can use, {type(error).__name__}'
            )
        try:
            yield
        finally:
            with contextlib.suppress(
                tf.errors.OpError
            ):  # it may be gone already, and then what ended the run is to be told
                self._run(runtime.tpu_stop)

    def _missing(self, why):
        return ConfigError(
            f'--tpu_name={self.name}: there is no TPU to be used ({why}); check --tpu_name, '
            '--tpu_zone and --gcp_project, or '
            'leave them out to use a GPU or the CPU'
        )

    def _run(self, operation):
        config = runtime.session_config()
        config.operation_timeout_in_ms = 1000 * self.answers_within
        with tf.Graph().as_default(), tf.Session(self.target, config=config) as session:
            session.run(operation())

    def call(self, step, next_batch):
        """See OneDevice.call; the rest of the cores do the same steps on other parts of the
        batches.
        """
        count = tf.placeholder(tf.int32, [], name='steps')
        kinds, names = {}, []

        def hand_out(index):
            with tf.control_dependencies([index]):
                parts = self._parts(next_batch())
            kinds.update({name: (cores[0].dtype, cores[0].shape) for name, cores in parts.items()})
            with tf.control_dependencies(
                [
                    runtime.tpu_enqueue([parts[name][core] for name in sorted(parts)], core)
                    for core in range(self.replicas)
                ]
            ):
                return index + 1

        def take():
            ordered = sorted(kinds)
            return dict(zip(ordered, runtime.tpu_dequeue(*zip(*[kinds[name] for name in ordered]))))

        def steps(count, core):
            self._block = core
            rows, names[:] = _loop(step, take, count, self.steps_per_call)
            return [rows]

        fed = tf.while_loop(
            lambda index: index < count,
            hand_out,
            [tf.constant(0)],
            parallel_iterations=1,
            back_prop=False,
        )
        outputs = runtime.tpu_replicate(
            steps, [[count, tf.constant(core)] for core in range(self.replicas)]
        )
        rows = outputs[0][0][:count]
        return Call(
            tf.group(fed, *[output for (output,) in outputs]),
            {name: rows[:, column] for column, name in enumerate(names)},
            count,
        )

    def mean(self, replica_fn, batch):
        """The mean over all cores of the mean over the parts of this core's batch; see
        OneDevice.mean.
        """
        tensors, updates = super().mean(replica_fn, batch)
        return [self.over_replicas(tensor) for tensor in tensors], updates

    def over_replicas(self, tensor):
        """See OneDevice.over_replicas."""
        return runtime.tpu_sum(tensor) / self.replicas

    def once(self, function, batch):
        """See OneDevice.once; done by one core."""
        return self._replicate(
            function, [{name: _for_core(tensor) for name, tensor in batch.items()}]
        )

    def total(self, function, batch):
        """See OneDevice.total."""
        parts = self._parts(batch)

        def sums(batch):
            return {name: runtime.tpu_sum(tensor) for name, tensor in function(batch).items()}

        return self._replicate(
            sums,
            [{name: cores[core] for name, cores in parts.items()} for core in range(self.replicas)],
        )

    def _replicate(self, function, batches):
        """What function(batch) gives on the first core, when each has computed it of its batch."""
        names, form = sorted(batches[0]), []

        def computation(*tensors):
            form[:] = [function(dict(zip(names, tensors)))]
            return runtime.nest.flatten(form[0])

        outputs = runtime.tpu_replicate(
            computation, [[batch[name] for name in names] for batch in batches]
        )
        return runtime.nest.pack_sequence_as(form[0], outputs[0])

    def _parts(self, batch):
        """{name: [tensor of each core]} of a batch."""
        return {name: tf.split(_for_core(tensor), self.replicas) for name, tensor in batch.items()}


def _for_core(tensor):
    """A tensor of one of the types that every core takes: bytes as float32, int64 as int32; both
    hold them exactly.
    """
    return tf.cast(
        tensor, {tf.uint8: tf.float32, tf.int64: tf.int32}.get(tensor.dtype, tensor.dtype)
    )


def choose(config, say=print):
    """The device that a Config asks for; of the GPUs, this process then sees those of --gpu alone.

    say: prints a line. Raises ConfigError for what the device cannot do.
    """
    if config.tpu_name:
        return _tpu(config)
    problem = config.worker_hosts and cluster.problem_of(config)
    if problem:
        raise ConfigError(problem)
    if config.skip_bad_records and config.worker_hosts:
        raise ConfigError(
            '--skip_bad_records and --worker_hosts do not go together; leave out one of them'
        )
    gpu = _indices(config)
    replicas = len(gpu) * (len(config.worker_hosts) or 1)
    minibatches = config.train_batch_size // (config.minibatch_size or config.train_batch_size)
    steps_per_call = config.iterations_per_loop or 1
    if config.xla and minibatches > 1 and steps_per_call > 1 and not runtime.XLA_NESTS_LOOPS:
        raise ConfigError(
            '--xla, --minibatch_size and --iterations_per_loop do not go together on '
            f'{runtime.describe()}; leave out one of '
            'them'
        )
    check_precision(config)
    if config.sync_batch_norm and replicas == 1:
        raise ConfigError(
            '--sync_batch_norm has no effect on one device; leave it out, or give several in --gpu'
        )
    if config.xla and (replicas > 1 or config.cpu_devices):
        raise ConfigError(
            '--xla compiles the steps of one whole device; leave it out, or --cpu_devices, '
            '--worker_hosts and all '
            f'but one of --gpu={config.gpu}'
        )
    gpus.claim(gpu, hide=bool(config.cpu_devices))
    if (
        config.gpu != ROWS['gpu'].default
        and len(gpu) == 1
        and not config.cpu_devices
        and not runtime.gpu_count()
    ):
        say(f'warning: --gpu={config.gpu}: TensorFlow finds no such GPU; the CPU is used')
    if replicas == 1 and not config.cpu_devices:
        return OneDevice(minibatches, steps_per_call, config.xla)
    if config.worker_hosts:
        return Hosts(
            config.worker_hosts,
            config.task_index,
            gpu,
            minibatches,
            steps_per_call,
            cpu_devices=config.cpu_devices,
        )
    return Towers(gpu, minibatches, steps_per_call, cpu_devices=config.cpu_devices)


def check_precision(config):
    """Raises ConfigError where this TensorFlow does not compute in the precision of a Config."""
    if config.xla and config.precision == 'float16' and not runtime.XLA_BRANCHES:
        raise ConfigError(
            f'--xla and --precision=float16 do not go together on {runtime.describe()}; leave out '
            'one of them'
        )
    if config.precision == 'bfloat16' and not runtime.HAS_BFLOAT16:
        raise ConfigError(
            f'--precision=bfloat16: {runtime.describe()} does not compute in it; take float16, or '
            'TensorFlow 2'
        )


def _indices(config):
    """[text] of --gpu. Raises ConfigError for what is no list of devices, or none over which a
    batch can be split.
    """
    gpu = config.gpu.split(',')
    if not all(index.isdigit() for index in gpu) or len({int(index) for index in gpu}) < len(gpu):
        raise ConfigError(
            f'--gpu={config.gpu}: give the index of a GPU, or several that differ, for example '
            '--gpu=0,1; for the CPU, '
            'leave --gpu out and give --cpu_devices=1'
        )
    if config.cpu_devices and max(int(index) for index in gpu) >= config.cpu_devices:
        raise ConfigError(
            f'--gpu={config.gpu}: --cpu_devices={config.cpu_devices} makes the devices 0 to '
            f'{config.cpu_devices - 1}; name some of them'
        )
    hosts = len(config.worker_hosts) or 1
    for name in ('train_batch_size', 'minibatch_size'):
        size = getattr(config, name)
        if size and size % (len(gpu) * hosts):
            raise ConfigError(
                '--{}={} cannot be split evenly over the {} devices of --gpu={}{}; choose a '
                'multiple of {}'.format(
                    name,
                    size,
                    len(gpu),
                    config.gpu,
                    f' on each of {hosts} hosts' if hosts > 1 else '',
                    len(gpu) * hosts,
                )
            )
    return gpu


def _tpu(config):
    """The TPU of a Config. Raises ConfigError for settings that do not go with one."""
    problems = [
        (f'--gpu={config.gpu}', config.gpu != ROWS['gpu'].default, 'is for GPUs'),
        (f'--cpu_devices={config.cpu_devices}', config.cpu_devices, 'is for CPUs'),
        (
            '--worker_hosts={}'.format(','.join(config.worker_hosts)),
            config.worker_hosts,
            'is for GPUs and CPUs',
        ),
        ('--sync_batch_norm', config.sync_batch_norm, 'is for GPUs'),
        (
            f'--skip_bad_records={config.skip_bad_records}',
            config.skip_bad_records,
            'is for GPUs and CPUs',
        ),
        ('--xla', config.xla, 'has no effect: a TPU compiles every step'),
        (
            '--precision=float16',
            config.precision == 'float16',
            'is not for TPUs, which have bfloat16',
        ),
    ] + [
        (
            f'--{name}={getattr(config, name)}',
            (getattr(config, name) or 0) % config.num_shards,
            f'is no multiple of --num_shards={config.num_shards}',
        )
        for name in ('train_batch_size', 'minibatch_size')
    ]
    problems = [f'{flag} {reason}' for flag, wrong, reason in problems if wrong]
    if problems:
        raise ConfigError(
            '--tpu_name={}: {}; leave it out or choose another'.format(
                config.tpu_name, ', and '.join(problems)
            )
        )
    return TPU(
        config.tpu_name,
        config.tpu_zone,
        config.gcp_project,
        config.num_shards,
        config.train_batch_size // (config.minibatch_size or config.train_batch_size),
        config.iterations_per_loop or 100,
    )


def _loop(step, next_batch, count, size):
    """(float32 [size, scalars], their names): `count` steps, one after the other, and the scalars
    of each.

    step, next_batch: as for OneDevice.call. count: int32 scalar, at most `size`; the rows after it
    are undefined.
    """
    names = []

    def one_more(index, rows):
        with tf.control_dependencies([index]):  # or the batch would be read once, before the loop
            batch = next_batch()
        train_op, scalars = step(batch)
        names[:] = sorted(scalars)
        with tf.control_dependencies([train_op]):
            return index + 1, rows.write(index, tf.stack([scalars[name] for name in names]))

    rows = tf.while_loop(
        lambda index, _: index < count,
        one_more,
        [tf.constant(0), tf.TensorArray(tf.float32, size)],
        parallel_iterations=1,
        back_prop=False,
    )[1]
    return tf.reshape(rows.gather(tf.range(size)), [size, len(names)]), names


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
