"""The one place that knows TensorFlow 1.13.2 from TensorFlow 2.x. Import it before anything that
imports TensorFlow.
"""

import contextlib
import logging
import os
import platform
import re
import tempfile
import warnings
from types import ModuleType
from typing import Callable, Iterator, List, Optional, Sequence, TypeVar

Function = TypeVar('Function')

# The C++ side speaks of optimisations, not of problems.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
if platform.machine() in ('x86_64', 'AMD64'):
    # TensorFlow 2.x's other convolutions, which it takes by itself on processors without AVX-512
    # VNNI, are slower (measured: 1.5 to 6 times on AVX2) and know no NCHW.
    os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '1')
logging.getLogger('tensorflow').setLevel(logging.ERROR)
warnings.filterwarnings('ignore', module='tensorflow|tensorboard')
warnings.filterwarnings('ignore', message='.*(np_resource|type, as a synonym of type).*')

# What TensorFlow 2.21 says on some processors, whatever the level of its log.
NOTICES = re.compile(
    rb'.*(oneDNN custom operations are on|before absl::InitializeLog\(\) is called).*\n?'
)


@contextlib.contextmanager
def _without_notices() -> Iterator[None]:
    """Nothing that the process writes to standard error meanwhile is shown before its end, and the
    NOTICES never are.
    """
    try:
        stderr = os.dup(2)
    except OSError:  # there is no standard error
        yield
        return
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            file.seek(0)
            os.write(2, b''.join(line for line in file if not NOTICES.match(line)))


with _without_notices():
    import tensorflow.compat.v1 as tf  # noqa: E402
    from tensorflow.python.util import nest  # noqa: E402, F401 (1.13.2 has no tf.nest)

IS_TF2 = not tf.__version__.startswith('1.')

tf.logging.set_verbosity(tf.logging.ERROR)
# Output positions up to which a plain convolution is faster; see alignment.gradients.Convolution.
FEW_POSITIONS = 0 if IS_TF2 else 16
HAS_BFLOAT16 = IS_TF2  # whether CPUs and GPUs compute in bfloat16
# Whether XLA compiles a loop within a step within a loop, and a step with a branch. 1.13.2 recurses
# without end over the first and ends the process at the second.
XLA_NESTS_LOOPS = XLA_BRANCHES = IS_TF2
# Whether the process may crash when another host goes; see training.devices.watch.
HOSTS_CRASH = not IS_TF2
if IS_TF2:
    tf.disable_v2_behavior()
tf.enable_resource_variables()


def describe() -> str:
    """'TensorFlow 2.21.0 on Python 3.11.7'."""
    return f'TensorFlow {tf.__version__} on Python {platform.python_version()}'


def untranslated(function: Function) -> Function:
    """A function that makes a tf.data.Dataset, whose Python functions become graphs as they stand,
    as they do on 1.13.2. TensorFlow 2.x translates the source of each, for control flow that ours
    do not have; it takes most of the time.
    """
    return tf.autograph.experimental.do_not_convert(function) if IS_TF2 else function


def gpu_count() -> int:
    """How many GPUs this process can see."""
    from tensorflow.python.client import device_lib

    return sum(
        device.device_type == 'GPU' for device in device_lib.list_local_devices(session_config())
    )


def xla_compile(computation: Callable, inputs: Sequence[tf.Tensor]) -> List[tf.Tensor]:
    """[tensor]: what computation(*inputs) gives, compiled by XLA; its operations are done before
    any of them is there.

    computation(tensor, ...) -> a list of tensors and, after them, operations.
    """
    if IS_TF2:
        return tf.xla.experimental.compile(computation, inputs)
    from tensorflow.contrib.compiler import xla

    return xla.compile(computation, inputs)


def tpu_address(name: str, zone: Optional[str], project: Optional[str]) -> str:
    """The address of a TPU's host for a Session: 'grpc://10.0.0.2:8470', or '' where the TPU is in
    this machine.

    name: of the Cloud TPU, its address, or 'local'. zone, project: where to look for the name; None
    asks the machine's own.
    Raises ImportError, OSError, RuntimeError or ValueError where there is none to be found.
    """
    if IS_TF2:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver
    else:
        from tensorflow.contrib import cluster_resolver

        resolver = cluster_resolver.TPUClusterResolver
    address = tf.compat.as_str(resolver(name, zone=zone, project=project).master())
    return '' if address == 'local' else address


def tpu_start() -> tf.Operation:
    """The operation that makes the cores of a TPU one system; before any step."""
    return _tpu().initialize_system()


def tpu_stop() -> tf.Operation:
    """The operation that undoes tpu_start."""
    return _tpu().shutdown_system()


def tpu_replicate(
    computation: Callable, inputs: Sequence[Sequence[tf.Tensor]]
) -> List[List[tf.Tensor]]:
    """[[tensor] of each replica]: what computation(*its inputs) -> a list of tensors gives on each
    core of a TPU.

    inputs: a list of tensors a replica. All operations of the computation are done before any of
    its outputs is there.
    """
    return _tpu().replicate(computation, inputs)


def tpu_sum(tensor: tf.Tensor) -> tf.Tensor:
    """Within a computation of tpu_replicate: the sum of a tensor over the replicas."""
    return _tpu().cross_replica_sum(tensor)


def tpu_enqueue(tensors: Sequence[tf.Tensor], core: int) -> tf.Operation:
    """The operation of the host that hands a list of tensors of known shapes to a core, by its
    number.
    """
    enqueue = tf.raw_ops.InfeedEnqueueTuple if IS_TF2 else _tpu().infeed_enqueue_tuple
    return enqueue(inputs=tensors, shapes=[tensor.shape for tensor in tensors], device_ordinal=core)


def tpu_dequeue(dtypes: Sequence[tf.DType], shapes: Sequence[tf.TensorShape]) -> List[tf.Tensor]:
    """Within a computation: the next list of tensors that the host has handed to this core."""
    dequeue = tf.raw_ops.InfeedDequeueTuple if IS_TF2 else _tpu().infeed_dequeue_tuple
    with tf.device(_tpu().core(0)):
        return dequeue(dtypes=dtypes, shapes=shapes)


def _tpu() -> ModuleType:
    if IS_TF2:
        return tf.tpu
    from tensorflow.contrib import tpu

    return tpu


def all_sum(tensor: tf.Tensor, group: int, size: int, key: int) -> tf.Tensor:
    """The sum of a tensor over the devices that make this call: each of them gets it.

    group: an int of their own for the devices that sum together, of which there are `size`. key: an
    int, the same on each of them, and another one for each sum. The operation is one of
    TensorFlow's collectives.
    """
    from tensorflow.python.ops import collective_ops

    return collective_ops.all_reduce(tensor, size, group, key, 'Add', 'Id', subdiv_offsets=(0,))


def session_config(cpu_devices: Optional[int] = None) -> tf.ConfigProto:
    """Options of every Session: memory of a GPU is taken as it is needed; what has no GPU kernel
    runs on the CPU.

    cpu_devices: into how many devices the CPU is split; None leaves it whole.
    """
    config = tf.ConfigProto(
        allow_soft_placement=True, device_count={'CPU': cpu_devices} if cpu_devices else {}
    )
    config.gpu_options.allow_growth = True
    return config
