"""Checkpoints on disk: Saver V2 files `checkpoint-<step>.index` and `.data-*`, written, pruned and strictly restored."""
import contextlib
import glob
import os
import re

import numpy as np
import tensorflow.compat.v1 as tf

from training import losses

AT_A_TIME = 1 << 27  # bytes of variables that one call of a session is given; a call to another machine bears 2 GiB


class CheckpointError(Exception):
    """A checkpoint that cannot be restored; the message lists what is missing, extra or mis-shaped."""


def save(session, experiment, folder, step):
    """Write all variables into a folder of this machine; returns the path prefix `<folder>/checkpoint-<step>`."""
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, 'checkpoint')
    if session.sess_str:  # another machine runs it, and would write into a folder of its own
        return _write(session.run({variable.op.name: variable for variable in experiment.variables}), path, step)
    return _save(experiment.saver, session, path, step)


def _save(saver, session, path, step):
    return saver.save(session, path, global_step=step, write_meta_graph=False, write_state=False)


def _write(values, path, step):
    """Write {name: array} by a session of this machine."""
    with tf.Graph().as_default(), tf.device('/cpu:0'), tf.Session() as session:
        variables = [tf.get_variable(name, value.shape, value.dtype, tf.zeros_initializer()) for name, value in values.items()]
        assign(session, dict(zip(variables, values.values())))
        return _save(tf.train.Saver(variables), session, path, step)


def prune(folder, keep):
    """Remove all but the `keep` newest local checkpoints (by step); archives on their way to MongoDB stay."""
    steps = sorted(int(match.group(1)) for match in
                   (re.match(r'checkpoint-(\d+)\.index$', name) for name in os.listdir(folder)) if match)
    for step in steps[:-keep]:
        _remove(folder, step, 'index', 'data-*')


def copy(prefix, folder, keep):
    """Copy a checkpoint into a folder of TensorFlow's file systems, gs:// for example, and keep the newest so many there."""
    tf.gfile.MakeDirs(folder)
    paths = glob.glob(glob.escape(prefix) + '.data-*') + [prefix + '.index']  # the index last: without it there is none
    for path in paths:
        tf.gfile.Copy(path, '{}/{}'.format(folder, os.path.basename(path)), overwrite=True)
    found = [(int(match.group(1)), name) for name in tf.gfile.ListDirectory(folder)
             for match in [re.match(r'checkpoint-(\d+)\.', name)] if match]
    for step, name in found:
        if step in sorted({step for step, _ in found})[:-keep]:
            tf.gfile.Remove('{}/{}'.format(folder, name))


def discard(folder, step):
    """Remove what is there of a checkpoint that could not be saved whole."""
    _remove(folder, step, 'index', 'data-*', 'tar*')


def _remove(folder, step, *endings):
    for ending in endings:
        for path in glob.glob(os.path.join(glob.escape(folder), 'checkpoint-{}.{}'.format(step, ending))):
            os.remove(path)


def contents(prefix):
    """{variable name: shape} of a checkpoint. Raises CheckpointError if there is none or it is damaged."""
    with _readable(prefix):
        if re.search(r'\.(index|data-[0-9]+-of-[0-9]+)$', prefix):  # TensorFlow would take it for one of another format
            raise ValueError('this is one of its files')
        return tf.train.load_checkpoint(prefix).get_variable_to_shape_map()


@contextlib.contextmanager
def _readable(prefix):
    """What TensorFlow raises while it reads a checkpoint becomes a CheckpointError."""
    try:
        yield
    except (tf.errors.OpError, ValueError, RuntimeError, IndexError) as error:
        raise CheckpointError('{}: no checkpoint can be read there ({}); give the path of its files without .index or '
                              '.data-*'.format(prefix, str(error).split('\n')[0]))


def step_of(prefix):
    """The global step that a checkpoint holds, or 0 if it holds none."""
    if 'global_step' not in contents(prefix):
        return 0
    with _readable(prefix):
        return int(tf.train.load_checkpoint(prefix).get_tensor('global_step'))


def restore(session, experiment, prefix, with_optimizers=True, network_only=False):
    """Restore a checkpoint into the experiment's variables; the names of those that are new (not in it) are returned.

    Every variable of the network must be there in its shape, and there must be nothing else but slots of optimisers, a loss
    scale and (under backpropagation and rules that have no variables for them) backward kernels. with_optimizers: the
    optimisers' variables must be there, too; otherwise those that are missing start anew, as a loss scale does in any case.
    network_only: all of them, and the step counter, start anew. Raises CheckpointError.
    """
    stored = contents(prefix)
    wanted = {v.op.name: v for v in experiment.variables}
    slots = {name for name in wanted if experiment.roles[name].startswith('slot')}
    network = set(wanted) - slots - {'global_step'}
    needed = {name for name in wanted if experiment.roles[name] != losses.SCALE_ROLE} if with_optimizers else network
    missing = sorted(needed - set(stored))
    extra = sorted(name for name in stored if name not in wanted and not _is_optional(name, network))
    misshaped = ['{} (there {}, here {})'.format(name, stored[name], wanted[name].shape.as_list())
                 for name in sorted(set(wanted) & set(stored)) if stored[name] != wanted[name].shape.as_list()]
    problems = ['{}: {}'.format(what, _listed(names)) for what, names in
                (('missing', missing), ('extra', extra), ('mis-shaped', misshaped)) if names]
    if problems:
        raise CheckpointError('{} does not fit this model. {}. Check --model, --use_resnet_v2, --alignment and the '
                              'optimisers.'.format(prefix, '; '.join(problems)))
    with _readable(prefix):
        reader = tf.train.load_checkpoint(prefix)
        values = {name: reader.get_tensor(name) for name in (network if network_only else wanted) if name in stored}
    load(session, experiment, values)
    return sorted(set(wanted) - set(values))


def restore_some(session, experiment, prefix, names=None, renamed=None, with_step=True):
    """Restore what a checkpoint has of the experiment's variables, as tfutils does; returns the names of those it has not.

    names: restore these alone, a list or a compiled regular expression. renamed: restore these alone, {name in the
    checkpoint: name here}. with_step: restore the step counter, too.
    Raises CheckpointError if it has none of them, or one in another shape.
    """
    stored, wanted = contents(prefix), {v.op.name: v for v in experiment.variables}
    pairs = {here: there for there, here in renamed.items()} if renamed else {name: name for name in wanted}
    unknown = sorted(set(pairs) - set(wanted))
    if unknown:
        raise CheckpointError('load_param_dict: this model has no {}'.format(_listed(unknown)))
    chosen = {here: there for here, there in pairs.items() if there in stored and _is_chosen(here, names)
              and (with_step or here != 'global_step')}
    misshaped = ['{} (there {}, here {})'.format(here, stored[there], wanted[here].shape.as_list())
                 for here, there in sorted(chosen.items()) if stored[there] != wanted[here].shape.as_list()]
    if misshaped or not chosen:
        raise CheckpointError('{} does not fit this model: {}'.format(
            prefix, 'mis-shaped: ' + _listed(misshaped) if misshaped else 'it has none of the variables to restore'))
    with _readable(prefix):
        reader = tf.train.load_checkpoint(prefix)
        values = {here: reader.get_tensor(there) for here, there in chosen.items()}
    load(session, experiment, values)
    return sorted(set(wanted) - set(chosen) - ({'global_step'} if not with_step else set()))


def _is_chosen(name, names):
    if not names:
        return True
    return name in names if isinstance(names, (list, tuple)) else bool(names.match(name))


def load(session, experiment, values):
    """Give the experiment's variables their values, {name: array}; names of others are left aside."""
    assign(session, {v: values[v.op.name] for v in experiment.variables if v.op.name in values})


def assign(session, values):
    """Give variables their values, {variable: array}, in few calls of the session: each call is planned anew, which takes
    much longer than the copying."""
    groups, size = [], 0  # {name of the tensor that a variable starts with: (its initialiser, value)}; bytes of the last one
    for variable, value in values.items():
        start, more = variable.initializer.inputs[1].name, np.asarray(value).nbytes
        if not groups or start in groups[-1] or size + more > AT_A_TIME:
            groups.append({})
            size = 0
        groups[-1][start] = variable.initializer, value
        size += more
    for group in groups:
        session.run([initializer for initializer, _ in group.values()], {name: value for name, (_, value) in group.items()})


def _is_optional(name, network):
    """Whether a stored variable may be left aside: an optimiser's, the step counter, a kernel that nothing here uses."""
    parts = name.split('/')
    scopes = ['/'.join(parts[:end]) for end in range(1, len(parts) + 1)]  # of a slot: its variable is one of them
    aligned = any(n.endswith('/backward_kernel') for n in network)
    return (name.startswith(('beta1_power', 'beta2_power', 'global_step', 'loss_scale'))
            or any(scope in network for scope in scopes)
            or not aligned and any(scope.endswith('/backward_kernel') for scope in scopes))


def _listed(names, most=20):
    shown = ', '.join(names[:most])
    return shown + (' and {} more'.format(len(names) - most) if len(names) > most else '')
