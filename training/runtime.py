"""The one place that knows TensorFlow 1.13.2 from TensorFlow 2.x. Import it before anything that imports TensorFlow."""
import contextlib
import logging
import os
import platform
import re
import tempfile
import warnings

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')    # the C++ side speaks of optimisations, not of problems
logging.getLogger('tensorflow').setLevel(logging.ERROR)
warnings.filterwarnings('ignore', module='tensorflow|tensorboard')
warnings.filterwarnings('ignore', message='.*(np_resource|type, as a synonym of type).*')

# What TensorFlow 2.21 says on some processors, whatever the level of its log.
NOTICES = re.compile(rb'.*(oneDNN custom operations are on|before absl::InitializeLog\(\) is called).*\n?')


@contextlib.contextmanager
def _without_notices():
    """Nothing that the process writes to standard error meanwhile is shown before its end, and the NOTICES never are."""
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

IS_TF2 = not tf.__version__.startswith('1.')

from alignment import gradients  # noqa: E402

tf.logging.set_verbosity(tf.logging.ERROR)
gradients.FEW_POSITIONS = 0 if IS_TF2 else 16
HAS_BFLOAT16 = IS_TF2     # whether CPUs and GPUs compute in bfloat16
# Whether XLA compiles a loop within a step within a loop, and a step with a branch. 1.13.2 recurses without end over the first
# and ends the process at the second.
XLA_NESTS_LOOPS = XLA_BRANCHES = IS_TF2
if IS_TF2:
    tf.disable_v2_behavior()
tf.enable_resource_variables()


def describe():
    """'TensorFlow 2.21.0 on Python 3.11.7'."""
    return 'TensorFlow {} on Python {}'.format(tf.__version__, platform.python_version())


def gpu_count():
    """How many GPUs this process can see."""
    from tensorflow.python.client import device_lib
    return sum(device.device_type == 'GPU' for device in device_lib.list_local_devices(session_config()))


def xla_compile(computation, inputs):
    """[tensor]: what computation(*inputs) gives, compiled by XLA; its operations are done before any of them is there.

    computation(tensor, ...) -> a list of tensors and, after them, operations. inputs: a list of tensors.
    """
    if IS_TF2:
        return tf.xla.experimental.compile(computation, inputs)
    from tensorflow.contrib.compiler import xla
    return xla.compile(computation, inputs)


def all_reduce_mean(tensor, members, key):
    """The mean of a tensor over `members` devices of a cluster, each of which runs this under the same key.

    tensor: of any float type and known shape. key: an int of this mean's own; the group of devices has key 1.
    """
    from tensorflow.python.ops import collective_ops
    return collective_ops.all_reduce(tensor, members, group_key=1, instance_key=key, merge_op='Add', final_op='Div')


def session_config():
    """Options of every Session: memory of a GPU is taken as it is needed; what has no GPU kernel runs on the CPU."""
    config = tf.ConfigProto(allow_soft_placement=True)
    config.gpu_options.allow_growth = True
    return config
