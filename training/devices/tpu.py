"""The device for a Cloud TPU."""

import contextlib
from typing import Callable, Dict, Iterator, List, Optional, Sequence

import tensorflow.compat.v1 as tf

from config.schema import ROWS, Config, ConfigError
from training import runtime
from training.devices.device import Batch, Call, Counted, Outcome, Replica, Scalars, Step
from training.devices.nests import Form, Nest, tensors_of, with_tensors
from training.devices.one import OneDevice, by_name, loop
from training.types import Say


class TPU(OneDevice):
    """A Cloud TPU of one host, with a replica of the step on each core.

    All steps of a call run in one loop on the cores. The host reads the batches and sends each core
    its part through the infeed. Losses, gradients and the statistics of batch norm are averaged
    over the cores, so that the variables of all cores stay equal. A validation is also split over
    the cores.

    Args:
        name: The name of the TPU, its address, or 'local'.
        zone: The zone in which the name is looked up. None means the zone of this machine.
        project: The project in which the name is looked up. None means this machine's project.
        replicas: The number of cores.
        minibatches: See OneDevice.
        steps_per_call: See OneDevice.
    """

    answers_within = 300  # seconds to wait for a TPU

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
        """Context manager: finds the TPU and starts its cores, and shuts them down at the end.

        Args:
            say: Prints a line.

        Raises:
            ConfigError: There is no such TPU, or it does not answer.
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
                f'that machine has no TPU that TensorFlow can use, {type(error).__name__}'
            )
        try:
            yield
        finally:
            # The TPU may be gone already; then the error that ended the run must be reported.
            with contextlib.suppress(tf.errors.OpError):
                self._run(runtime.tpu_stop)

    def _missing(self, why: str) -> ConfigError:
        return ConfigError(
            f'--tpu_name={self.name}: cannot use the TPU ({why}); check --tpu_name, '
            '--tpu_zone and --gcp_project, or '
            'leave them out to use a GPU or the CPU'
        )

    def _run(self, operation: Callable[[], tf.Operation]) -> None:
        config = runtime.session_config()
        config.operation_timeout_in_ms = 1000 * self.answers_within
        with tf.Graph().as_default(), tf.Session(self.target, config=config) as session:
            session.run(operation())

    def call(self, step: Step, next_batch: Callable[[], Batch]) -> Call:
        """See Device.call. All cores do the same steps on different parts of the batches."""
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
        """See Device.mean. The mean over the parts of each core's batch is averaged over cores."""
        outcome, updates = super().mean(replica_fn, batch)
        means = [self.over_replicas(tensor) for tensor in tensors_of(outcome)]
        return with_tensors(outcome, means), updates

    def over_replicas(self, tensor: tf.Tensor) -> tf.Tensor:
        """See Device.over_replicas."""
        return runtime.tpu_sum(tensor) / self.replicas

    def once(self, function: Callable[[Batch], Nest], batch: Batch) -> Nest:
        """See Device.once. One core computes it."""
        (found,) = self._replicate(
            function, [{name: _for_core(tensor) for name, tensor in batch.items()}]
        )
        return found

    def total(self, function: Callable[[Batch], Counted], batch: Batch) -> Counted:
        """See Device.total. The host joins the values of each image from all cores."""
        parts = self._parts(batch)

        def count(batch: Batch) -> Counted:
            totals, each = function(batch)
            return Counted({name: runtime.tpu_sum(tensor) for name, tensor in totals.items()}, each)

        found = self._replicate(
            count,
            [{name: cores[core] for name, cores in parts.items()} for core in range(self.replicas)],
        )
        return Counted(
            found[0].totals,
            {name: tf.concat([core.each[name] for core in found], 0) for name in found[0].each},
        )

    def _replicate(self, function: Callable[[Batch], Nest], batches: Sequence[Batch]) -> List[Nest]:
        """Runs function(batch) on each core, with a batch each; returns the result of each."""
        names: List[str] = sorted(batches[0])
        form: Form[Nest] = Form()

        def computation(*tensors: tf.Tensor) -> List[tf.Tensor]:
            return form.flatten(function(dict(zip(names, tensors))))

        outputs = runtime.tpu_replicate(
            computation, [[batch[name] for name in names] for batch in batches]
        )
        return [form.pack(output) for output in outputs]

    def _parts(self, batch: Batch) -> Dict[str, List[tf.Tensor]]:
        """Splits a batch: returns {name: [tensor of each core]}."""
        return {name: tf.split(_for_core(tensor), self.replicas) for name, tensor in batch.items()}


def _for_core(tensor: tf.Tensor) -> tf.Tensor:
    """Casts a tensor to a dtype that the cores support.

    uint8 becomes float32 and int64 becomes int32. Both represent the values of a batch exactly.
    """
    return tf.cast(
        tensor, {tf.uint8: tf.float32, tf.int64: tf.int32}.get(tensor.dtype, tensor.dtype)
    )


def refusals(config: Config) -> List[str]:
    """Returns the reasons why a TPU cannot do what a Config asks for, as one sentence or none."""
    found = [
        (f'--gpu={config.gpu}', config.gpu != ROWS['gpu'].default, 'is for GPUs'),
        (f'--cpu_devices={config.cpu_devices}', config.cpu_devices, 'is for CPUs'),
        (
            f'--worker_hosts={",".join(config.worker_hosts)}',
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
            'is not for TPUs, which support bfloat16',
        ),
    ] + [
        (
            f'--{name}={getattr(config, name)}',
            (getattr(config, name) or 0) % config.num_shards,
            f'is not a multiple of --num_shards={config.num_shards}',
        )
        for name in ('train_batch_size', 'minibatch_size')
    ]
    problems = [f'{flag} {reason}' for flag, wrong, reason in found if wrong]
    if not problems:
        return []
    return [f'--tpu_name={config.tpu_name}: {", and ".join(problems)}; leave it out, or change it']
