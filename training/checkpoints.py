"""Checkpoints on disk: Saver V2 files `checkpoint-<step>.index` and `.data-*`, written, checked and
strictly restored.
"""

import contextlib
import os
import re
import tempfile

import numpy as np
import tensorflow.compat.v1 as tf

from training import losses, optimizers
from training.errors import CheckpointError

PATTERN = re.compile(r'[\[\]*?\\]')
MOST_NAMED = 5  # variables in one sentence
AT_A_TIME = (
    1 << 27
)  # bytes of variables that one call of a session is given; a call to another machine bears 2 GiB


def save(session, experiment, folder, step):
    """Write all variables into a folder of this machine; returns the path prefix
    `<folder>/checkpoint-<step>`.
    """
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, 'checkpoint')
    if session.sess_str:  # another machine runs it, and would write into a folder of its own
        return _write(
            session.run({variable.op.name: variable for variable in experiment.variables}),
            path,
            step,
        )
    return _save(experiment.saver, session, path, step)


def _save(saver, session, path, step):
    return saver.save(session, path, global_step=step, write_meta_graph=False, write_state=False)


def _write(values, path, step):
    """Write {name: array} by a session of this machine."""
    with tf.Graph().as_default(), tf.device('/cpu:0'), tf.Session() as session:
        variables = [
            tf.get_variable(name, value.shape, value.dtype, tf.zeros_initializer())
            for name, value in values.items()
        ]
        assign(session, dict(zip(variables, values.values())))
        return _save(tf.train.Saver(variables), session, path, step)


def contents(prefix):
    """{variable name: shape} of a checkpoint. Raises CheckpointError if there is none or it is
    damaged.
    """
    with _reading(prefix) as reader:
        return reader.get_variable_to_shape_map()


def verify(prefix):
    """Reads every value of a checkpoint once, which compares it with its checksum. Raises
    CheckpointError as `contents`.
    """
    with _reading(prefix) as reader:
        for name in sorted(reader.get_variable_to_shape_map()):
            reader.get_tensor(name)


@contextlib.contextmanager
def _reading(prefix):
    """TensorFlow's reader of a checkpoint; what it raises becomes a CheckpointError."""
    path = prefix
    try:
        if re.search(
            r'\.(index|data-[0-9]+-of-[0-9]+)$', prefix
        ):  # TensorFlow would take it for one of another format
            raise ValueError('this is one of its files')
        with _plain(prefix) as path:
            yield tf.train.load_checkpoint(path)
    except (tf.errors.OpError, OSError, ValueError, RuntimeError, IndexError) as error:
        reason = str(error).split('\n')[0].replace(path, prefix)
        if isinstance(error, tf.errors.DataLossError) or 'Checksum does not match' in reason:
            raise CheckpointError(
                f'{prefix}: this checkpoint is damaged ({reason}); take another one'
            )
        raise CheckpointError(
            f'{prefix}: no checkpoint can be read there ({reason}); give the path of its files '
            'without '
            '.index or .data-*'
        )


@contextlib.contextmanager
def _plain(prefix):
    """A path of the same checkpoint without characters that TensorFlow's reader takes for a
    pattern.

    The reader looks for the files that match its path, and then opens the path as it stands, so
    that no character of it can be escaped. A checkpoint whose path holds such characters is read
    through links; from another file system, through copies.
    """
    if not PATTERN.search(prefix):
        yield prefix
        return
    folder, name = os.path.split(prefix)
    place = '/tmp' if PATTERN.search(tempfile.gettempdir()) else None
    with tempfile.TemporaryDirectory(prefix='checkpoint-', dir=place) as plain:
        for each in tf.gfile.ListDirectory(folder or '.'):
            ending = each[len(name) :]
            if each.startswith(name) and re.fullmatch(r'\.(index|data-\d{5}-of-\d{5})', ending):
                there, here = os.path.join(folder, each), os.path.join(plain, 'checkpoint' + ending)
                if '://' in prefix:
                    tf.gfile.Copy(there, here)
                else:
                    os.symlink(os.path.abspath(there), here)
        yield os.path.join(plain, 'checkpoint')


def step_of(prefix):
    """The global step that a checkpoint holds, or 0 if it holds none."""
    with _reading(prefix) as reader:
        return int(reader.get_tensor('global_step')) if reader.has_tensor('global_step') else 0


def restore(session, experiment, prefix, with_optimizers=True, network_only=False):
    """Restore a checkpoint into the experiment's variables; the names of those that are new (not in
    it) are returned.

    Every variable of the network must be there in its shape, and there must be nothing else but
    slots of optimisers, a loss scale and (under backpropagation and rules that have no variables
    for them) backward kernels. with_optimizers: the optimisers' variables must be there, too;
    otherwise those that are missing start anew, as a loss scale does in any case.
    network_only: all of them, and the step counter, start anew. Slots of SWATS may have the
    original's layout; those of an unknown layout count as missing.
    Raises CheckpointError, also where a value is not finite.
    """
    wanted = {v.op.name: v for v in experiment.variables}
    slots = {name for name in wanted if experiment.roles[name].startswith('slot')}
    network = set(wanted) - slots - {'global_step'}
    needed = (
        {name for name in wanted if experiment.roles[name] != losses.SCALE_ROLE}
        if with_optimizers
        else network
    )
    with _stored(prefix, experiment) as (shapes, unknown, read):
        missing = sorted(needed - set(shapes) - unknown)
        extra = sorted(
            name for name in shapes if name not in wanted and not _is_optional(name, network)
        )
        misshaped = [
            f'{name} (there {shapes[name]}, here {wanted[name].shape.as_list()})'
            for name in sorted(set(wanted) & set(shapes))
            if shapes[name] != wanted[name].shape.as_list()
        ]
        problems = [
            f'{what}: {_listed(names)}'
            for what, names in (
                ('missing', missing),
                ('extra', extra),
                ('mis-shaped', misshaped),
                ('slots of an unknown layout', sorted(needed & unknown)),
            )
            if names
        ]
        if problems:
            advice = _other_classes(experiment, shapes) if len(problems) == 1 else None
            raise CheckpointError(
                '{} does not fit this model. {}. {}'.format(
                    prefix,
                    '; '.join(problems),
                    advice or ('Check --model, --use_resnet_v2, --alignment and the optimisers.'),
                )
            )
        values = {
            name: read(name) for name in (network if network_only else wanted) if name in shapes
        }
    _check_finite(prefix, experiment, values)
    load(session, experiment, values)
    return sorted(set(wanted) - set(values))


def _other_classes(experiment, shapes):
    """A sentence on the cause where a checkpoint differs in the number of classes alone, else None."""
    classes = getattr(getattr(experiment, 'dataset', None), 'classes', None)
    there = set()
    for variable in experiment.variables:
        here, stored = variable.shape.as_list(), shapes.get(variable.op.name)
        if stored is None or stored == here:
            continue
        differing = [pair for pair in zip(stored, here) if pair[0] != pair[1]]
        if len(stored) != len(here) or len(differing) != 1 or differing[0][1] != classes:
            return None
        there.add(differing[0][0])
    if len(there) != 1:
        return None
    return (
        f'Its network tells {there.pop():,} classes apart, and the images have {classes:,}: train '
        'on images with as many '
        'classes (--dataset, --data_dir).'
    )


def restore_some(session, experiment, prefix, names=None, renamed=None, with_step=True):
    """Restore what a checkpoint has of the experiment's variables, as tfutils does; returns the
    names of those it has not.

    names: restore these alone, a list or a compiled regular expression. renamed: restore these
    alone, {name in the
    checkpoint: name here}. with_step: restore the step counter, too.
    Raises CheckpointError if it has none of them, or one in another shape, or one that is not
    finite.
    """
    wanted = {v.op.name: v for v in experiment.variables}
    pairs = (
        {here: there for there, here in renamed.items()}
        if renamed
        else {name: name for name in wanted}
    )
    strange = sorted(set(pairs) - set(wanted))
    if strange:
        raise CheckpointError(f'load_param_dict: this model has no {_listed(strange)}')
    with _stored(prefix, experiment, as_named=bool(renamed)) as (shapes, _, read):
        chosen = {
            here: there
            for here, there in pairs.items()
            if there in shapes and _is_chosen(here, names) and (with_step or here != 'global_step')
        }
        misshaped = [
            f'{here} (there {shapes[there]}, here {wanted[here].shape.as_list()})'
            for here, there in sorted(chosen.items())
            if shapes[there] != wanted[here].shape.as_list()
        ]
        if misshaped or not chosen:
            raise CheckpointError(
                '{} does not fit this model: {}'.format(
                    prefix,
                    'mis-shaped: ' + _listed(misshaped)
                    if misshaped
                    else 'it has none of the variables to restore',
                )
            )
        values = {here: read(there) for here, there in chosen.items()}
    _check_finite(prefix, experiment, values)
    load(session, experiment, values)
    return sorted(set(wanted) - set(chosen) - ({'global_step'} if not with_step else set()))


@contextlib.contextmanager
def _stored(prefix, experiment, as_named=False):
    """What a checkpoint holds under the names of an experiment: {name: shape}, names of slots there
    that belong to an unknown layout, and read(name) -> array. as_named: every name means what it
    says.
    """
    with _reading(prefix) as reader:
        shapes = reader.get_variable_to_shape_map()
        slots, unknown = (
            ({}, set())
            if as_named
            else optimizers.stored_slots(experiment.variables, shapes, reader.get_tensor)
        )
        shapes = {name: shape for name, shape in shapes.items() if name not in unknown}
        shapes.update({name: list(value.shape) for name, value in slots.items()})
        yield (
            shapes,
            unknown,
            lambda name: slots[name] if name in slots else reader.get_tensor(name),
        )


def not_finite(variables, values):
    """Names of the variables that hold a number that is not finite, the first few of them; '' where
    none does.

    values: {name: array}.
    """
    floating = [
        v.op.name for v in variables if v.dtype.base_dtype.is_floating and v.op.name in values
    ]
    names = sorted(name for name in floating if not np.all(np.isfinite(values[name])))
    more = f' and {len(names) - MOST_NAMED} more' if names[MOST_NAMED:] else ''
    return ', '.join(names[:MOST_NAMED]) + more


def _check_finite(prefix, experiment, values):
    names = not_finite(experiment.variables, values)
    if names:
        raise CheckpointError(
            f'{prefix}: NaN or infinite numbers in {names}; this checkpoint is of a training that '
            'was lost, '
            'take one of an earlier step'
        )


def _is_chosen(name, names):
    if not names:
        return True
    return name in names if isinstance(names, (list, tuple)) else bool(names.match(name))


def load(session, experiment, values):
    """Give the experiment's variables their values, {name: array}; names of others are left aside."""
    assign(session, {v: values[v.op.name] for v in experiment.variables if v.op.name in values})


def assign(session, values):
    """Give variables their values, {variable: array}, in few calls of the session: each call is
    planned anew, which takes much longer than the copying."""
    groups, size = (
        [],
        0,
        # {name of the tensor that a variable starts with: (its initialiser, value)}; bytes of the
        # last one
    )
    for variable, value in values.items():
        start, more = variable.initializer.inputs[1].name, np.asarray(value).nbytes
        if not groups or start in groups[-1] or size + more > AT_A_TIME:
            groups.append({})
            size = 0
        groups[-1][start] = variable.initializer, value
        size += more
    for group in groups:
        session.run(
            [initializer for initializer, _ in group.values()],
            {name: value for name, (_, value) in group.items()},
        )


def _is_optional(name, network):
    """Whether a stored variable may be left aside: an optimiser's, the step counter, a kernel that
    nothing here uses.
    """
    parts = name.split('/')
    scopes = [
        '/'.join(parts[:end]) for end in range(1, len(parts) + 1)
    ]  # of a slot: its variable is one of them
    aligned = any(n.endswith('/backward_kernel') for n in network)
    return (
        name.startswith(('beta1_power', 'beta2_power', 'global_step', 'loss_scale'))
        or any(scope in network for scope in scopes)
        or not aligned
        and any(scope.endswith('/backward_kernel') for scope in scopes)
    )


def _listed(names, most=20):
    shown = ', '.join(names[:most])
    return shown + (f' and {len(names) - most} more' if len(names) > most else '')
