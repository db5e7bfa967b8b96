"""Where the time of a step goes: by kind of operation, a rule beside backpropagation.

    python -m benchmarks.hotspots --variant 'mirror on noise' [--model resnet50]

Sums over the operations of a traced step, in milliseconds of a thread: with two threads at work a
step lasts about half the sum. Medians over the steps.
"""

from training import runtime  # first: it prepares TensorFlow

import collections
import statistics
import sys

import tensorflow.compat.v1 as tf

from benchmarks import steps, turns


def milliseconds(training):
    """{kind of operation: milliseconds of a thread} of one step of a benchmarks.steps.Steps."""
    metadata = tf.RunMetadata()
    training.run(
        options=tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE, output_partition_graphs=True),
        run_metadata=metadata,
    )
    kinds = {node.name: node.op for graph in metadata.partition_graphs for node in graph.node}
    taken = collections.Counter()
    for device in metadata.step_stats.dev_stats:
        for node in device.node_stats:
            taken[kinds.get(node.node_name.split(':')[0], 'other')] += (
                node.op_end_rel_micros - node.op_start_rel_micros
            ) / 1e3
    return taken


def medians(training, repeats):
    """The same over several steps."""
    traced = [milliseconds(training) for _ in range(turns.WARM_UP + repeats)][turns.WARM_UP :]
    return {kind: statistics.median(step[kind] for step in traced) for kind in set().union(*traced)}


def main():
    parser = turns.parser('benchmarks.hotspots', __doc__)
    parser.add_argument(
        '--variant',
        default='mirror on noise',
        choices=[name for name in steps.VARIANTS if steps.VARIANTS[name]],
    )
    parser.add_argument('--repeats', type=int, default=9, help='traced steps that count')
    parser.add_argument('--most', type=int, default=12, help='kinds of operations to show')
    arguments = parser.parse_args()
    found = [
        medians(
            steps.Steps(
                steps.VARIANTS[name], arguments.model, arguments.image_size, arguments.batch
            ),
            arguments.repeats,
        )
        for name in ('backprop', arguments.variant)
    ]
    print(
        '{}, {}\n{:32} {:>10} {:>10}'.format(
            runtime.describe(), arguments.model, 'thread-ms', 'backprop', arguments.variant
        )
    )
    kinds = sorted(
        set().union(*found), key=lambda kind: -abs(found[1].get(kind, 0) - found[0].get(kind, 0))
    )
    for kind in kinds[: arguments.most]:
        print(f'{kind:32} {found[0].get(kind, 0):10.1f} {found[1].get(kind, 0):10.1f}')
    print('{:32} {:10.1f} {:10.1f}'.format('all', *[sum(times.values()) for times in found]))
    return 0


if __name__ == '__main__':
    sys.exit(main())
