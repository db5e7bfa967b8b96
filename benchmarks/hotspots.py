"""Shows the time of a step by kind of operation, for a rule and for backpropagation.

    python -m benchmarks.hotspots --variant 'mirror on noise' [--model resnet50]

The figures are sums over the operations of a traced step in thread milliseconds: if two threads are
busy, a step lasts about half the sum. They are medians over the steps.
"""

from training import runtime  # first: it prepares TensorFlow

import collections
import statistics
import sys
from typing import Counter, Dict

import tensorflow.compat.v1 as tf

from benchmarks import steps, turns


def milliseconds(training: steps.Steps) -> Counter[str]:
    """Traces one step and returns {kind of operation: thread milliseconds}."""
    metadata = tf.RunMetadata()
    training.run(
        options=tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE, output_partition_graphs=True),
        run_metadata=metadata,
    )
    kinds = {node.name: node.op for graph in metadata.partition_graphs for node in graph.node}
    taken: Counter[str] = collections.Counter()
    for device in metadata.step_stats.dev_stats:
        for node in device.node_stats:
            taken[kinds.get(node.node_name.split(':')[0], 'other')] += (
                node.op_end_rel_micros - node.op_start_rel_micros
            ) / 1e3
    return taken


def medians(training: steps.Steps, repeats: int) -> Dict[str, float]:
    """Returns the medians of `milliseconds` over several steps."""
    traced = [milliseconds(training) for _ in range(turns.WARM_UP + repeats)][turns.WARM_UP :]
    kinds = {kind for step in traced for kind in step}
    return {kind: statistics.median(step[kind] for step in traced) for kind in kinds}


def main() -> int:
    """Runs the command and returns its exit code."""
    parser = turns.parser('benchmarks.hotspots', __doc__)
    parser.add_argument(
        '--variant',
        default='mirror on noise',
        choices=list(steps.VARIANTS),
    )
    parser.add_argument('--repeats', type=int, default=9, help='number of measured steps')
    parser.add_argument(
        '--most', type=int, default=12, help='number of kinds of operations to show'
    )
    arguments = parser.parse_args()
    plain, own = [
        medians(
            steps.Steps(
                steps.VARIANTS[name], arguments.model, arguments.image_size, arguments.batch
            ),
            arguments.repeats,
        )
        for name in ('backprop', arguments.variant)
    ]
    print(f'{runtime.describe()}, {arguments.model}')
    print(f'{"thread-ms":32} {"backprop":>10} {arguments.variant:>10}')
    kinds = sorted({*plain, *own}, key=lambda kind: -abs(own.get(kind, 0) - plain.get(kind, 0)))
    for kind in kinds[: arguments.most]:
        print(f'{kind:32} {plain.get(kind, 0):10.1f} {own.get(kind, 0):10.1f}')
    print(f'{"all":32} {sum(plain.values()):10.1f} {sum(own.values()):10.1f}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
