"""The device for several hosts."""

import contextlib
import signal
from typing import Callable, Iterator, List, Optional, Sequence

import tensorflow.compat.v1 as tf

from config.schema import ConfigError
from training import runtime
from training.devices import cluster, watch
from training.devices.device import Asking, Batch, Outcome, Replica
from training.devices.nests import Nest, tensors_of, with_tensors
from training.devices.towers import HOSTS, HOSTS_CPU, Towers
from training.errors import Stopped, TrainingError
from training.types import Say


class Hosts(Towers):
    """Several hosts, one process each, with a replica of the step on each of their devices.

    Every process has a separate copy of the variables. The copies start with the values of the
    first host and stay equal, because gradients are averaged over all hosts before each update.
    Each host reads its part of the batches. Batch norm normalises as in Towers and tracks the
    statistics of its own host; the statistics of the first host are saved. The hosts exchange
    tensors through TensorFlow's servers and collectives.

    Args:
        hosts: The addresses of all hosts, 'host:port' each.
        own: The index of this host.
        gpu: See Towers.
        minibatches: See OneDevice.
        steps_per_call: See OneDevice.
        data_format: See OneDevice.
        cpu_devices: See OneDevice.
        gpus: See OneDevice.
    """

    answers_within = 600  # seconds to wait for a host that has never answered

    def __init__(
        self,
        hosts: Sequence[str],
        own: int,
        gpu: Sequence[str],
        minibatches: int = 1,
        steps_per_call: int = 1,
        data_format: Optional[str] = None,
        cpu_devices: Optional[int] = None,
        gpus: int = 0,
    ) -> None:
        super().__init__(gpu, minibatches, steps_per_call, data_format, cpu_devices, gpus)
        self.hosts = len(hosts)
        self.part = (own, self.hosts)
        self.leads = own == 0
        self._block = own
        self.replicas = self.hosts * len(gpu)
        self._names = list(hosts)
        self._before_end: List[Callable[[], None]] = []

    def session_config(self) -> tf.ConfigProto:
        """See Device.session_config.

        Sessions only see the devices of this process. The collectives reach the others.
        """
        config = super().session_config()
        config.device_filters.append(f'/job:worker/task:{self.part[0]}')
        config.experimental.collective_group_leader = '/job:worker/replica:0/task:0'
        return config

    @contextlib.contextmanager
    def ready(self, say: Say = print) -> Iterator[None]:
        """Context manager: starts the server of this process and waits for the other servers.

        A process that cannot react to a lost host is ended (see watch.Watch).

        Args:
            say: Prints a line.

        Raises:
            ConfigError: This process cannot listen at its address, or a host does not answer.
            TrainingError: A host is lost. The message names it.
        """
        own = self._names[self.part[0]]
        open_to_all = cluster.public(self._names)
        if open_to_all:
            raise ConfigError(
                f'--worker_hosts: {", ".join(open_to_all)} has a public address. TensorFlow asks '
                'for no password, so anyone could read and write files there; use addresses of a '
                'private network (docs/devices.md)'
            )
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
                '--worker_hosts: this process, task {}, cannot listen at {} ({}); check that the '
                'port is free and that the address belongs to this machine'.format(
                    self.part[0], own, error.message.split('\n')[0]
                )
            )
        self.target = server.target
        say(
            f'TensorFlow listens on port {own.rpartition(":")[2]} of every network interface, '
            'without a password: docs/devices.md says what anyone who reaches it can do'
        )
        others = watch.Watch(self._names, self.part[0], self._flush)
        others.wait(self.answers_within, say)
        with others:
            try:
                try:
                    yield
                except Stopped as stopped:
                    self._part(others, stopped.exit_code)
                    raise
                self._part(others, 0)
            except (
                tf.errors.UnavailableError,
                tf.errors.AbortedError,
                tf.errors.CancelledError,
                tf.errors.InternalError,
                tf.errors.DeadlineExceededError,
            ) as error:
                gone = others.gone(watch.NO_ANSWER * (watch.SILENT + 1))
                raise TrainingError(
                    watch.lost(gone)
                    if gone
                    else 'the hosts lost their connection ({}); start the same commands '
                    'again with --do_restore'.format(error.message.split('\n')[0])
                )

    def _part(self, others: watch.Watch, code: int) -> None:
        """Waits until every host has finished its last exchange, which needs the other hosts.

        Without this, a fast host could end while a slow one still receives the result of that
        exchange, and the slow one would report it as lost. An error of TensorFlow is ignored here,
        because the work is done.

        Args:
            others: The watch over the other hosts.
            code: The exit code of this process if it has to be ended.
        """
        others.finish(code)
        with contextlib.suppress(tf.errors.OpError):
            self.shared([0])

    def at_loss(self, function: Callable[[], None]) -> None:
        """See Device.at_loss."""
        self._before_end.append(function)

    def _flush(self) -> None:
        for function in self._before_end:
            function()

    def mean(self, replica_fn: Replica[Nest], batch: Batch) -> Outcome[Nest]:
        """See Device.mean. The means over the replicas of each host are averaged over the hosts."""
        outcome, updates = super().mean(replica_fn, batch)
        with tf.device(self._devices[0]):  # one exchange for all tensors
            sums = self._joined(tensors_of(outcome), HOSTS)
            return with_tensors(outcome, [total / self.hosts for total in sums]), updates

    def shared(self, numbers: List[int]) -> List[int]:
        """See Device.shared."""
        with tf.Graph().as_default(), tf.Session(
            self.target, config=self.session_config()
        ) as session:
            return session.run(self._of_first([tf.constant(numbers, tf.int64)]))[0].tolist()

    def level(self, variables: Sequence[tf.Variable]) -> tf.Operation:
        """See Device.level."""
        values = self._of_first([variable.read_value() for variable in variables])
        return tf.group(
            *[
                variable.assign(value, read_value=False)
                for variable, value in zip(variables, values)
            ]
        )

    def asking(self) -> Asking:
        """See Device.asking."""
        with tf.device('/cpu:0'):
            asked = tf.placeholder(tf.int32, [])
            (hosts,) = self._joined([asked], HOSTS_CPU)

        def ask(session: tf.Session, number: Optional[int]) -> Optional[int]:
            found = session.run(hosts, {asked: int(number is not None)})
            return number if number is not None or not found else signal.SIGTERM

        return ask

    def _of_first(self, tensors: Sequence[tf.Tensor]) -> List[tf.Tensor]:
        with tf.device('/cpu:0'):
            return self._joined(
                [tensor if self.leads else tf.zeros_like(tensor) for tensor in tensors], HOSTS_CPU
            )

    def _joined(self, tensors: Sequence[tf.Tensor], group: int) -> List[tf.Tensor]:
        """Returns the sums of tensors over the hosts, with one exchange for each dtype."""
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
