"""Models the time of a step on several devices and hosts.

    python -m benchmarks.scaling [--variants backprop,kolen_pollack] [--seconds 0.1] [--check]

In the model, each device does the arithmetic of a step on its own images, and a ring all-reduce
averages the gradients, so the number of images in a step grows with the number of devices. The time
of the arithmetic is measured on this machine, or given. The number of bytes is the size of the
tensors that a step of the real network passes to its device for averaging. The devices of a host
share its link to other hosts. --check compares the model to an all-reduce over loopback.
"""

from training import runtime  # first: it prepares TensorFlow

import argparse
import functools
import math
import socket
import subprocess
import sys
from typing import Dict, NamedTuple, Sequence

import tensorflow.compat.v1 as tf

from benchmarks import steps, turns
from config.root import ROOT
from config.schema import Config
from training import devices
from training.devices.device import Batch, Outcome, Replica
from training.devices.nests import Nest, tensors_of
from training.choices import choices
from training.experiment import Experiment


class Link(NamedTuple):
    """A connection between devices.

    Attributes:
        bandwidth: Bytes per second in each direction.
        latency: Seconds per message.
    """

    bandwidth: float
    latency: float


GBIT = 1e9 / 8  # bytes
SPEEDS = (10, 25, 100, 400)  # Gbit/s
DEVICES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
# The share of the backward pass in a step: input gradient and filter gradient are two of the three
# convolutions of a layer; the third is the forward pass.
BACKWARD = 2.0 / 3.0
# The paper trained on a TPU v2-8 or v3-8 with 8 cores, with 256 images in a step, for 450,360 steps
# (90 epochs of ImageNet).
PAPER_CORES, PAPER_BATCH, PAPER_STEPS = 8, 256, 450360
SMALL = 0.05  # an acceptable overhead
FITTED, CHECKED = (2**12, 2**24), (2**16, 2**20, 2**22, 2**26)  # bytes
REPEATS = 15


def ring(members: int, size: float, link: Link) -> float:
    """Returns the seconds of a ring all-reduce.

    For N members, it sends 2 (N - 1) messages of size / N bytes one after the other.

    Args:
        members: The number of members, N.
        size: The number of bytes to reduce.
        link: The connection between two members.
    """
    return 2 * (members - 1) * (size / members / link.bandwidth + link.latency)


def all_reduce(count: int, per_host: int, size: float, link: Link, local: Link) -> float:
    """Returns the seconds of averaging over devices, first within each host, then between hosts.

    Args:
        count: The number of devices.
        per_host: The number of devices in a host.
        size: The number of bytes to average.
        link: The connection between hosts.
        local: The connection between the devices of a host.
    """
    return ring(min(count, per_host), size, local) + ring(math.ceil(count / per_host), size, link)


def step_time(compute: float, communication: float, overlap: bool) -> float:
    """Returns the seconds of a step.

    Args:
        compute: The seconds of its arithmetic.
        communication: The seconds of averaging.
        overlap: Whether averaging overlaps the backward pass. The result is then the best case, in
            which as much as possible of the communication is hidden.
    """
    return compute + max(0.0, communication - (BACKWARD * compute if overlap else 0.0))


def needed(compute: float, size: float, members: int, latency: float, overlap: bool) -> float:
    """Returns the bandwidth at which averaging lengthens a step by the fraction SMALL.

    Args:
        compute: The seconds of the arithmetic of a step.
        size: The number of bytes to average.
        members: The number of devices.
        latency: Seconds per message.
        overlap: See `step_time`.

    Returns:
        Bytes per second; infinite if no bandwidth is enough.
    """
    left = compute * (SMALL + (BACKWARD if overlap else 0.0)) - 2 * (members - 1) * latency
    return 2 * (members - 1) / members * size / left if left > 0 else math.inf


class _Counting(devices.OneDevice):
    """A device that counts the bytes it has to average."""

    def mean(self, replica_fn: Replica[Nest], batch: Batch) -> Outcome[Nest]:
        """See Device.mean."""
        outcome, updates = super().mean(replica_fn, batch)
        self.exchanged = sum(
            tensor.shape.num_elements() * tensor.dtype.size for tensor in tensors_of(outcome)
        )
        return outcome, updates


def exchanged(variant: str, model: str) -> int:
    """Returns the number of bytes that a step would exchange: all gradients, and three losses.

    It does not depend on the size of the images.

    Args:
        variant: A key of benchmarks.steps.VARIANTS.
        model: The model.
    """
    config = Config.of(
        dict(
            steps.VARIANTS[variant].settings,
            model=model,
            dataset='synthetic',
            image_size=32,
            train_batch_size=2,
            eval_batch_size=2,
            optimizer='momentum',
        ),
        choices(),
    )
    device = _Counting()
    Experiment(config, device, validating=False)
    return device.exchanged


def collective(task: int, hosts: Sequence[str], sizes: Sequence[int]) -> Dict[int, float]:
    """Measures an all-reduce of float32 tensors between processes.

    Every process calls this function.

    Args:
        task: The index of this process.
        hosts: The addresses of all processes, 'host:port' each.
        sizes: The sizes of the tensors in bytes.

    Returns:
        {bytes: median seconds}.
    """
    where = f'/job:worker/replica:0/task:{task}'
    config = runtime.session_config()
    config.experimental.collective_group_leader = '/job:worker/replica:0/task:0'
    server = tf.train.Server(tf.train.ClusterSpec({'worker': hosts}), 'worker', task, config=config)
    with tf.Graph().as_default(), tf.device(where + '/device:CPU:0'):
        tensors = [
            tf.get_variable(f'tensor{size}', initializer=tf.ones([size // 4])).read_value()
            for size in sizes
        ]
        means = [
            runtime.all_sum(tensor, 1, len(hosts), key) / len(hosts)
            for key, tensor in enumerate(tensors, 1)
        ]
        variables = tf.global_variables_initializer()
        with tf.Session(server.target, config=config) as session:
            session.run(variables)
            return {
                size: turns.medians(
                    {size: turns.timed(functools.partial(session.run, mean.op))}, REPEATS
                )[size]
                for size, mean in zip(sizes, means)
            }


def over_loopback(sizes: Sequence[int]) -> Dict[int, float]:
    """Runs `collective` between this process and a second one on this machine."""
    with socket.socket() as one, socket.socket() as other:
        one.bind(('127.0.0.1', 0))
        other.bind(('127.0.0.1', 0))
        hosts = [f'127.0.0.1:{bound.getsockname()[1]}' for bound in (one, other)]
    words = [
        '--task=1',
        '--hosts=' + ','.join(hosts),
        '--sizes=' + ','.join(str(size) for size in sizes),
    ]
    peer = subprocess.Popen(
        [sys.executable, '-m', 'benchmarks.scaling'] + words, cwd=ROOT, stdout=subprocess.DEVNULL
    )
    try:
        return collective(0, hosts, sizes)
    finally:
        peer.kill()  # its server would wait for ever
        peer.wait()


def fit(seconds: Dict[int, float], members: int) -> Link:
    """Returns the Link that explains two measured all-reduces, {bytes: seconds}."""
    (small, fast), (large, slow) = sorted(seconds.items())
    bandwidth = 2 * (members - 1) / members * (large - small) / (slow - fast)
    return Link(bandwidth, max(0.0, fast / (2 * (members - 1)) - small / members / bandwidth))


def check() -> None:
    """Prints the model beside a measured all-reduce over loopback.

    The two parameters of the model are fitted to two of the sizes.
    """
    found = over_loopback(FITTED + CHECKED)
    link = fit({size: found[size] for size in FITTED}, 2)
    small, large = FITTED
    print(
        f'\nall-reduce of two processes over loopback, a link of {link.bandwidth / GBIT:.1f} '
        f'Gbit/s and {1e6 * link.latency:.0f} us by {small} and {large:,} bytes'
    )
    print('| bytes | measured, ms | model, ms |\n|---|---|---|')
    for size in sorted(found):
        modelled = 'fitted' if size in FITTED else f'{1e3 * ring(2, size, link):.2f}'
        print(f'| {size:,} | {1e3 * found[size]:.2f} | {modelled} |')


def table(arguments: argparse.Namespace, variant: str, compute: float, size: int) -> None:
    """Prints the step times of a variant, and the bandwidth that the paper's training would need.

    Args:
        arguments: The command line.
        variant: The name of the variant.
        compute: The seconds of the arithmetic of a step.
        size: The number of bytes to average.
    """
    local, latency = Link(arguments.local_gbit * GBIT, arguments.latency), arguments.latency
    print(
        f'\n{variant}: {1e3 * compute:.1f} ms of arithmetic, {size / 1e6:.1f} MB to average. '
        'Milliseconds per step, without / with overlap:'
    )
    print(
        '| devices | hosts | images | ' + ' | '.join(f'{speed} Gbit/s' for speed in SPEEDS) + ' |'
    )
    print('|---' * (3 + len(SPEEDS)) + '|')
    for count in DEVICES:
        spent = [
            all_reduce(count, arguments.per_host, size, Link(speed * GBIT, latency), local)
            for speed in SPEEDS
        ]
        cells = ' | '.join(
            f'{1e3 * step_time(compute, time, False):.1f} / '
            f'{1e3 * step_time(compute, time, True):.1f}'
            for time in spent
        )
        hosts = math.ceil(count / arguments.per_host)
        print(f'| {count} | {hosts} | {count * arguments.batch:,} | {cells} |')
    share = compute * PAPER_BATCH / PAPER_CORES / arguments.batch
    apart, overlapped = [
        needed(share, size, PAPER_CORES, latency, overlap) / GBIT for overlap in (False, True)
    ]
    print(
        f"The paper's training, {PAPER_CORES} devices with {PAPER_BATCH // PAPER_CORES} images: "
        f'{1e3 * share:.0f} ms of arithmetic, {PAPER_STEPS:,} steps in '
        f'{PAPER_STEPS * share * (1 + SMALL) / 86400:.1f} days; averaging adds at most '
        f'{SMALL:.0%} on links of {apart:.2f} Gbit/s, or of {overlapped:.2f} Gbit/s with overlap'
    )


def main() -> int:
    """Runs the command and returns its exit code."""
    parser = turns.parser('benchmarks.scaling', __doc__)
    parser.set_defaults(model='resnet50')
    parser.add_argument(
        '--variants',
        default='backprop',
        help='comma-separated list of: ' + ', '.join(steps.VARIANTS),
    )
    parser.add_argument(
        '--seconds',
        type=float,
        help='compute time of a step of --batch images on one device; default: measured on this '
        'machine',
    )
    parser.add_argument('--per_host', type=int, default=1, help='devices per host')
    parser.add_argument(
        '--local_gbit',
        type=float,
        default=400.0,
        help='bandwidth between the devices of a host in each direction, in Gbit/s',
    )
    parser.add_argument(
        '--latency', type=float, default=5e-5, help='latency of a message in seconds'
    )
    parser.add_argument(
        '--check', action='store_true', help='also measure the all-reduce over loopback'
    )
    parser.add_argument('--task', type=int, help='run as this process of the all-reduce (internal)')
    parser.add_argument(
        '--hosts', help='comma-separated host:port of the processes of the all-reduce (internal)'
    )
    parser.add_argument(
        '--sizes', help='comma-separated sizes of the all-reduce in bytes (internal)'
    )
    arguments = parser.parse_args()
    if arguments.task is not None:
        collective(
            arguments.task,
            arguments.hosts.split(','),
            [int(size) for size in arguments.sizes.split(',')],
        )
        return 0
    pixels = '' if arguments.seconds else f' of {arguments.image_size} x {arguments.image_size}'
    print(
        f'{runtime.describe()}, {arguments.model}, {arguments.batch} images per device{pixels}, '
        f'{1e6 * arguments.latency:.0f} us per message'
    )
    for variant in arguments.variants.split(','):
        compute = arguments.seconds
        if compute is None:
            timer = steps.Steps(
                steps.VARIANTS[variant], arguments.model, arguments.image_size, arguments.batch
            )
            compute = turns.medians({variant: timer.seconds}, REPEATS)[variant]
        table(arguments, variant, compute, exchanged(variant, arguments.model))
    if arguments.check:
        check()
    return 0


if __name__ == '__main__':
    sys.exit(main())
