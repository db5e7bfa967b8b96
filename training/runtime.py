"""The only module that distinguishes TensorFlow 1.13.2 from TensorFlow 2.x.

Import it before any module that imports TensorFlow.
"""

import contextlib
import functools
import logging
import os
import platform
import re
import tempfile
import warnings
from types import ModuleType
from typing import Callable, Iterator, List, Optional, Sequence, Tuple, TypeVar

Function = TypeVar('Function')

# TensorFlow's C++ code logs notes on optimisations, and no problems that a user could solve.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
if platform.machine() in ('x86_64', 'AMD64'):
    # On CPUs without AVX-512 VNNI, TensorFlow 2.x does not use oneDNN by default. Its other
    # convolutions are 1.5 to 6 times slower (measured on AVX2) and do not support NCHW.
    os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '1')
logging.getLogger('tensorflow').setLevel(logging.ERROR)
warnings.filterwarnings('ignore', module='tensorflow|tensorboard')
warnings.filterwarnings('ignore', message='.*(np_resource|type, as a synonym of type).*')

# TensorFlow 2.21 logs these on some CPUs, whatever its log level is.
NOTICES = re.compile(
    rb'.*(oneDNN custom operations are on|before absl::InitializeLog\(\) is called).*\n?'
)


@contextlib.contextmanager
def _without_notices() -> Iterator[None]:
    """Context manager: holds back standard error to its end, and drops the NOTICES."""
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
            with contextlib.suppress(OSError):  # a full disk, or a reader that has died
                os.write(2, b''.join(line for line in file if not NOTICES.match(line)))


with _without_notices():
    import tensorflow.compat.v1 as tf  # noqa: E402
    from tensorflow.python.util import nest  # noqa: E402, F401 (1.13.2 has no tf.nest)

VERSION: str = tf.__version__
IS_TF2 = not tf.__version__.startswith('1.')

tf.logging.set_verbosity(tf.logging.ERROR)
# Up to this many output positions, a plain convolution is faster; see
# alignment.gradients.Convolution.
FEW_POSITIONS = 0 if IS_TF2 else 16
HAS_BFLOAT16 = IS_TF2  # whether CPUs and GPUs compute in bfloat16
# Whether XLA compiles a loop inside a step inside a loop, and a step with a branch. The first sends
# 1.13.2 into an endless recursion, and the second ends its process.
XLA_NESTS_LOOPS = XLA_BRANCHES = IS_TF2
# Whether the process may crash when another host is lost; see training.devices.watch.
HOSTS_CRASH = not IS_TF2
if IS_TF2:
    tf.disable_v2_behavior()
tf.enable_resource_variables()


def describe() -> str:
    """Returns the runtime, such as 'TensorFlow 2.21.0 on Python 3.11.7'."""
    return f'TensorFlow {tf.__version__} on Python {platform.python_version()}'


def untranslated(function: Function) -> Function:
    """Switches AutoGraph off for a function that builds a tf.data.Dataset, and returns it.

    TensorFlow 2.x would translate the source of each Python function inside, for control flow that
    ours do not have. That takes most of the time to build a graph. 1.13.2 translates nothing.
    """
    return tf.autograph.experimental.do_not_convert(function) if IS_TF2 else function


def gpu_names() -> Tuple[str, ...]:
    """Returns TensorFlow's description of each GPU that this process can see."""
    return _gpu_names(os.environ.get('CUDA_VISIBLE_DEVICES'))


@functools.lru_cache(maxsize=None)
def _gpu_names(visible: Optional[str]) -> Tuple[str, ...]:
    """Returns `gpu_names`, which is looked up once for each value of CUDA_VISIBLE_DEVICES."""
    del visible
    from tensorflow.python.client import device_lib

    return tuple(
        device.physical_device_desc
        for device in device_lib.list_local_devices(session_config())
        if device.device_type == 'GPU'
    )


def gpu_count() -> int:
    """Returns the number of GPUs that this process can see."""
    return len(gpu_names())


def xla_compile(computation: Callable, inputs: Sequence[tf.Tensor]) -> List[tf.Tensor]:
    """Compiles computation(*inputs) with XLA and returns its tensors.

    Args:
        computation: Function of the inputs that returns a list of tensors, followed by operations.
            All its operations are done before any of its tensors is available.
        inputs: Tensors.
    """
    if IS_TF2:
        return tf.xla.experimental.compile(computation, inputs)
    from tensorflow.contrib.compiler import xla

    return xla.compile(computation, inputs)


def tpu_address(name: str, zone: Optional[str], project: Optional[str]) -> str:
    """Returns the address of a TPU's host for a Session, such as 'grpc://10.0.0.2:8470'.

    The address is '' if the TPU is in this machine.

    Args:
        name: Name of the Cloud TPU, its address, or 'local'.
        zone: Zone in which to look for the name; None for the zone of this machine.
        project: Project in which to look for the name; None for the project of this machine.

    Raises:
        ImportError: A package that the search needs is missing.
        OSError: The TPU cannot be found.
        RuntimeError: The TPU cannot be found.
        ValueError: The TPU cannot be found.
    """
    if IS_TF2:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver
    else:
        from tensorflow.contrib import cluster_resolver

        resolver = cluster_resolver.TPUClusterResolver
    address = tf.compat.as_str(resolver(name, zone=zone, project=project).master())
    return '' if address == 'local' else address


def tpu_start() -> tf.Operation:
    """Returns the operation that initialises the TPU system; run it before any step."""
    return _tpu().initialize_system()


def tpu_stop() -> tf.Operation:
    """Returns the operation that shuts the TPU system down."""
    return _tpu().shutdown_system()


def tpu_replicate(
    computation: Callable, inputs: Sequence[Sequence[tf.Tensor]]
) -> List[List[tf.Tensor]]:
    """Runs a computation on each core of a TPU.

    Args:
        computation: Function of the inputs of a replica that returns a list of tensors. All its
            operations are done before any of these tensors is available.
        inputs: A list of tensors for each replica.

    Returns:
        The list of tensors of each replica.
    """
    return _tpu().replicate(computation, inputs)


def tpu_sum(tensor: tf.Tensor) -> tf.Tensor:
    """Returns the sum of a tensor over the replicas, inside a computation of tpu_replicate."""
    return _tpu().cross_replica_sum(tensor)


def tpu_enqueue(tensors: Sequence[tf.Tensor], core: int) -> tf.Operation:
    """Returns the operation of the host that sends tensors to a core of a TPU.

    Args:
        tensors: Tensors of known shapes.
        core: Number of the core.
    """
    enqueue = tf.raw_ops.InfeedEnqueueTuple if IS_TF2 else _tpu().infeed_enqueue_tuple
    return enqueue(inputs=tensors, shapes=[tensor.shape for tensor in tensors], device_ordinal=core)


def tpu_dequeue(dtypes: Sequence[tf.DType], shapes: Sequence[tf.TensorShape]) -> List[tf.Tensor]:
    """Returns the next tensors that the host has sent to this core, inside a computation."""
    dequeue = tf.raw_ops.InfeedDequeueTuple if IS_TF2 else _tpu().infeed_dequeue_tuple
    with tf.device(_tpu().core(0)):
        return dequeue(dtypes=dtypes, shapes=shapes)


def _tpu() -> ModuleType:
    if IS_TF2:
        return tf.tpu
    from tensorflow.contrib import tpu

    return tpu


def all_sum(tensor: tf.Tensor, group: int, size: int, key: int) -> tf.Tensor:
    """Returns the sum of a tensor over all devices that make this call, on each of them.

    It is one of TensorFlow's collective operations.

    Args:
        tensor: The tensor of this device.
        group: Number that identifies the devices that sum together.
        size: How many devices sum together.
        key: Number that identifies this sum: the same on all devices, and different for each sum.
    """
    from tensorflow.python.ops import collective_ops

    return collective_ops.all_reduce(tensor, size, group, key, 'Add', 'Id', subdiv_offsets=(0,))


def session_config(cpu_devices: Optional[int] = None) -> tf.ConfigProto:
    """Returns the options of every Session.

    GPU memory is allocated as needed, and operations without a GPU implementation run on the CPU.
    The environment variables TF_NUM_INTRAOP_THREADS and TF_NUM_INTEROP_THREADS limit the threads of
    one operation, and the operations at a time; TensorFlow 1.13.2 does not read them by itself.

    Args:
        cpu_devices: Number of devices to split the CPU into; None does not split it.
    """
    config = tf.ConfigProto(
        allow_soft_placement=True,
        device_count={'CPU': cpu_devices} if cpu_devices else {},
        intra_op_parallelism_threads=_threads('TF_NUM_INTRAOP_THREADS'),
        inter_op_parallelism_threads=_operations_at_a_time(),
    )
    config.gpu_options.allow_growth = True
    return config


def _operations_at_a_time() -> int:
    """Returns how many operations may run at a time; 0 for TensorFlow's default, the CPU cores.

    On TensorFlow 1.13.2, at least two: an operation that starts an iterator again waits for the one
    that reads the next images for it, and would wait forever if it had the only thread.
    """
    asked = _threads('TF_NUM_INTEROP_THREADS')
    usable = getattr(os, 'sched_getaffinity', lambda _: range(os.cpu_count() or 1))
    return asked if IS_TF2 or (asked or len(usable(0))) > 1 else 2


def _threads(variable: str) -> int:
    """Returns the number in an environment variable; 0, which sets no limit, without a number."""
    text = os.environ.get(variable, '')
    return int(text) if text.isdecimal() else 0
