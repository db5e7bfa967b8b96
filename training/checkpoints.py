"""Checkpoints on disk: Saver V2 files `checkpoint-<step>.index` and `.data-*`, written, pruned and strictly restored."""
import glob
import os
import re

import tensorflow.compat.v1 as tf


class CheckpointError(Exception):
    """A checkpoint that cannot be restored; the message lists what is missing, extra or mis-shaped."""


def save(session, experiment, folder, step):
    """Write all variables; returns the path prefix `<folder>/checkpoint-<step>`."""
    os.makedirs(folder, exist_ok=True)
    return experiment.saver.save(session, os.path.join(folder, 'checkpoint'), global_step=step, write_meta_graph=False,
                                 write_state=False)


def prune(folder, keep):
    """Remove all but the `keep` newest local checkpoints (by step)."""
    steps = sorted(int(match.group(1)) for match in
                   (re.match(r'checkpoint-(\d+)\.index$', name) for name in os.listdir(folder)) if match)
    for step in steps[:-keep]:
        for path in glob.glob(os.path.join(glob.escape(folder), 'checkpoint-{}.*'.format(step))):
            os.remove(path)


def contents(prefix):
    """{variable name: shape} of a checkpoint. Raises CheckpointError if there is none or it is damaged."""
    try:
        return tf.train.load_checkpoint(prefix).get_variable_to_shape_map()
    except (tf.errors.OpError, ValueError) as error:
        raise CheckpointError('{}: no checkpoint can be read there ({}); give the path of its files without .index or '
                              '.data-*'.format(prefix, str(error).split('\n')[0]))


def step_of(prefix):
    """The global step that a checkpoint holds, or 0 if it holds none."""
    if 'global_step' not in contents(prefix):
        return 0
    return int(tf.train.load_checkpoint(prefix).get_tensor('global_step'))


def restore(session, experiment, prefix, with_optimizers=True):
    """Restore a checkpoint into the experiment's variables; the names of those that are new (not in it) are returned.

    Every variable of the network must be there in its shape, and there must be nothing else but slots of optimisers and
    (under backpropagation, which has no use for them) backward kernels. with_optimizers: the optimisers' variables must
    be there, too; otherwise those that are missing start anew.
    Raises CheckpointError.
    """
    stored = contents(prefix)
    wanted = {v.op.name: v for v in experiment.variables}
    slots = {name for name in wanted if experiment.roles[name].startswith('slot')}
    network = set(wanted) - slots - {'global_step'}
    missing = sorted((set(wanted) if with_optimizers else network) - set(stored))
    extra = sorted(name for name in stored if name not in wanted and not _is_optional(name, network))
    misshaped = ['{} (there {}, here {})'.format(name, stored[name], wanted[name].shape.as_list())
                 for name in sorted(set(wanted) & set(stored)) if stored[name] != wanted[name].shape.as_list()]
    problems = ['{}: {}'.format(what, _listed(names)) for what, names in
                (('missing', missing), ('extra', extra), ('mis-shaped', misshaped)) if names]
    if problems:
        raise CheckpointError('{} does not fit this model. {}. Check --model, --use_resnet_v2, --alignment and the '
                              'optimisers.'.format(prefix, '; '.join(problems)))
    readable = [v for name, v in wanted.items() if name in stored]
    with experiment.graph.as_default():
        reader = tf.train.load_checkpoint(prefix)
        for variable in readable:
            variable.load(reader.get_tensor(variable.op.name), session)
    return sorted(set(wanted) - set(stored))


def _is_optional(name, network):
    """Whether a stored variable may be left aside: an optimiser's, the step counter, a kernel that backprop has not."""
    scope = name.rpartition('/')[0]
    return (scope in network or name.startswith(('beta1_power', 'beta2_power', 'global_step'))
            or name.endswith('/backward_kernel') and not any(n.endswith('/backward_kernel') for n in network)
            or scope.endswith('/backward_kernel'))


def _listed(names, most=20):
    shown = ', '.join(names[:most])
    return shown + (' and {} more'.format(len(names) - most) if len(names) > most else '')
