"""A Cloud TPU."""

import contextlib
from typing import Callable, Dict, Iterator, List, Optional, Sequence

import tensorflow.compat.v1 as tf

from config.schema import ROWS, Config, ConfigError
from training import runtime
from training.devices.device import Batch, Call, Outcome, Replica, Scalars, Step
from training.devices.nests import Form, Nest, tensors_of, with_tensors
from training.devices.one import OneDevice, by_name, loop
from training.types import Say


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

    def __init__(
        self,
        name: str,
        zone: Optional[str],
        project: Optional[str],
        replicas: int,
        minibatches: int = 1,
        steps_per_call: int = 100,
    ) -> None:
        super().__init__(minibatches, steps_per_call, compiled=True, data_format='NHWC')
        self.name = name
        self.replicas = replicas
        self._place = (name, zone, project)

    @property
    def title(self) -> str:
        """See Device.title."""
        return f'TPU {self.name} with {self.replicas} cores'

    @contextlib.contextmanager
    def ready(self, say: Say = print) -> Iterator[None]:
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

    def _missing(self, why: str) -> ConfigError:
        return ConfigError(
            f'--tpu_name={self.name}: there is no TPU to be used ({why}); check --tpu_name, '
            '--tpu_zone and --gcp_project, or '
            'leave them out to use a GPU or the CPU'
        )

    def _run(self, operation: Callable[[], tf.Operation]) -> None:
        config = runtime.session_config()
        config.operation_timeout_in_ms = 1000 * self.answers_within
        with tf.Graph().as_default(), tf.Session(self.target, config=config) as session:
            session.run(operation())

    def call(self, step: Step, next_batch: Callable[[], Batch]) -> Call:
        """See Device.call. All cores do the same steps, on different parts of the batches."""
        count = tf.placeholder(tf.int32, [], name='steps')
        handed: Form[Batch] = Form()
        form: Form[Scalars] = Form()

        def hand_out(index: tf.Tensor) -> tf.Tensor:
            with tf.control_dependencies([index]):
                parts = self._parts(next_batch())
            with tf.control_dependencies(
                [
                    runtime.tpu_enqueue(
                        handed.flatten({name: cores[core] for name, cores in parts.items()}), core
                    )
                    for core in range(self.replicas)
                ]
            ):
                return index + 1

        def take() -> Batch:
            dtypes, shapes = zip(*[(tensor.dtype, tensor.shape) for tensor in handed.tensors])
            return handed.pack(runtime.tpu_dequeue(dtypes, shapes))

        def steps(count: tf.Tensor, core: tf.Tensor) -> List[tf.Tensor]:
            self._block = core
            return [loop(step, take, count, self.steps_per_call, form)]

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
            by_name(rows, form),
            count,
        )

    def mean(self, replica_fn: Replica[Nest], batch: Batch) -> Outcome[Nest]:
        """See Device.mean. The mean over the parts of this core's batch, and over all cores."""
        outcome, updates = super().mean(replica_fn, batch)
        means = [self.over_replicas(tensor) for tensor in tensors_of(outcome)]
        return with_tensors(outcome, means), updates

    def over_replicas(self, tensor: tf.Tensor) -> tf.Tensor:
        """See Device.over_replicas."""
        return runtime.tpu_sum(tensor) / self.replicas

    def once(self, function: Callable[[Batch], Nest], batch: Batch) -> Nest:
        """See Device.once. Done by one core."""
        return self._replicate(
            function, [{name: _for_core(tensor) for name, tensor in batch.items()}]
        )

    def total(self, function: Callable[[Batch], Scalars], batch: Batch) -> Scalars:
        """See Device.total."""
        parts = self._parts(batch)

        def sums(batch: Batch) -> Scalars:
            return {name: runtime.tpu_sum(tensor) for name, tensor in function(batch).items()}

        return self._replicate(
            sums,
            [{name: cores[core] for name, cores in parts.items()} for core in range(self.replicas)],
        )

    def _replicate(self, function: Callable[[Batch], Nest], batches: Sequence[Batch]) -> Nest:
        """What function(batch) gives on the first core, when each has computed it of its batch."""
        names: List[str] = sorted(batches[0])
        form: Form[Nest] = Form()

        def computation(*tensors: tf.Tensor) -> List[tf.Tensor]:
            return form.flatten(function(dict(zip(names, tensors))))

        outputs = runtime.tpu_replicate(
            computation, [[batch[name] for name in names] for batch in batches]
        )
        return form.pack(outputs[0])

    def _parts(self, batch: Batch) -> Dict[str, List[tf.Tensor]]:
        """{name: [tensor of each core]} of a batch."""
        return {name: tf.split(_for_core(tensor), self.replicas) for name, tensor in batch.items()}


def _for_core(tensor: tf.Tensor) -> tf.Tensor:
    """A tensor of one of the types that every core takes: bytes as float32, int64 as int32; both
    hold them exactly.
    """
    return tf.cast(
        tensor, {tf.uint8: tf.float32, tf.int64: tf.int32}.get(tensor.dtype, tensor.dtype)
    )


def refusals(config: Config) -> List[str]:
    """Why a TPU cannot do what a Config asks for: one sentence, or none."""
    found = [
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
    problems = [f'{flag} {reason}' for flag, wrong, reason in found if wrong]
    if not problems:
        return []
    return [
        f'--tpu_name={config.tpu_name}: {", and ".join(problems)}; leave it out or choose another'
    ]
