"""Writes, verifies and strictly restores checkpoints on disk.

A checkpoint is a set of Saver V2 files: `checkpoint-<step>.index` and `checkpoint-<step>.data-*`.
"""

import contextlib
import glob
import os
import re
import tempfile
from typing import (
    Callable,
    Dict,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Pattern,
    Sequence,
    Set,
    Tuple,
    Union,
)

import numpy as np
import tensorflow.compat.v1 as tf

from database import private
from database.types import Array
from models.roles import Role
from training import optimizers
from training.errors import CheckpointError
from training.trainable import Trainable
from training.types import Values

PATTERN = re.compile(r'[\[\]*?\\]')
MOST_NAMED = 5  # variables in one sentence
# Bytes of variables in one call of a session; the limit for a session of another machine is 2 GiB.
AT_A_TIME = 1 << 27

Shapes = Dict[str, List[int]]  # of variables, by name
Names = Union[List[str], Tuple[str, ...], Pattern[str], None]  # None: all


def save(session: tf.Session, experiment: Trainable, folder: str, step: int) -> str:
    """Writes all variables into a local folder and returns the prefix `<folder>/checkpoint-<step>`.

    Raises:
        OSError: The folder cannot be created.
        OpError: The files cannot be written.
    """
    private.make_folders(folder)
    path = os.path.join(folder, 'checkpoint')
    if session.sess_str:  # another machine runs the session and would write to its own disk
        return _write(
            session.run({variable.op.name: variable for variable in experiment.variables}),
            path,
            step,
        )
    return _save(experiment.saver, session, path, step)


def _save(saver: tf.train.Saver, session: tf.Session, path: str, step: int) -> str:
    prefix: str = saver.save(
        session, path, global_step=step, write_meta_graph=False, write_state=False
    )
    for each in glob.glob(glob.escape(prefix) + '.*'):
        private.protect(each)
    return prefix


def _write(values: Values, path: str, step: int) -> str:
    """Writes {name: array} as a checkpoint, by a session of this machine."""
    with tf.Graph().as_default(), tf.device('/cpu:0'), tf.Session() as session:
        variables = [
            tf.get_variable(name, value.shape, value.dtype, tf.zeros_initializer())
            for name, value in values.items()
        ]
        assign(session, dict(zip(variables, values.values())))
        return _save(tf.train.Saver(variables), session, path, step)


def values(prefix: str) -> Values:
    """Returns {variable name: array} of a checkpoint.

    Raises:
        CheckpointError: There is no checkpoint, or it is damaged.
    """
    with _reading(prefix) as reader:
        return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def contents(prefix: str) -> Shapes:
    """Returns {variable name: shape} of a checkpoint.

    Raises:
        CheckpointError: There is no checkpoint, or it is damaged.
    """
    with _reading(prefix) as reader:
        return reader.get_variable_to_shape_map()


def verify(prefix: str, step: Optional[int] = None) -> None:
    """Reads every value of a checkpoint once, which compares the value with its checksum.

    Args:
        prefix: Path of the checkpoint without .index.
        step: The step that it must hold, if it holds one; None for any.

    Raises:
        CheckpointError: There is no checkpoint, it is damaged, it is of another step, or it holds a
            value that is not finite.
    """
    with _reading(prefix) as reader:
        for name in sorted(reader.get_variable_to_shape_map()):
            value = np.asarray(reader.get_tensor(name))
            if value.dtype.kind == 'f' and not np.all(np.isfinite(value)):
                raise CheckpointError(
                    f'{prefix}: NaN or infinite numbers in {name}; the training had diverged, so '
                    'use a checkpoint of an earlier step'
                )
            if name == 'global_step' and step is not None and int(value) != step:
                raise CheckpointError(
                    f'{prefix}: this is a checkpoint of step {int(value):,}, not of step {step:,}; '
                    'use another one'
                )


@contextlib.contextmanager
def _reading(prefix: str) -> Iterator[tf.train.NewCheckpointReader]:
    """Context manager: opens a checkpoint, and turns TensorFlow's errors into CheckpointError."""
    path = prefix
    try:
        # TensorFlow would mistake such a file for a checkpoint of the old format.
        if re.search(r'\.(index|data-[0-9]+-of-[0-9]+)$', prefix):
            raise ValueError('this is only one of the files of a checkpoint')
        with _plain(prefix) as path:
            yield tf.train.load_checkpoint(path)
    except (tf.errors.OpError, OSError, ValueError, RuntimeError, IndexError) as error:
        reason = str(error).split('\n')[0].replace(path, prefix)
        if isinstance(error, tf.errors.DataLossError) or 'Checksum does not match' in reason:
            raise CheckpointError(
                f'{prefix}: this checkpoint is damaged ({reason}); use another one'
            )
        raise CheckpointError(
            f'{prefix}: no checkpoint can be read there ({reason}); give the path of its files '
            'without .index or .data-*'
        )


@contextlib.contextmanager
def _plain(prefix: str) -> Iterator[str]:
    """Yields a path of the same checkpoint that has no glob characters.

    TensorFlow's reader first looks for files that match its path as a pattern, and then opens the
    literal path, so escaping does not help. If a path contains glob characters, the checkpoint is
    read through symbolic links or, from a remote file system, through copies.
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


def step_of(prefix: str) -> int:
    """Returns the global step that a checkpoint holds, or 0 if it holds none.

    Raises:
        CheckpointError: There is no checkpoint, or it is damaged.
    """
    with _reading(prefix) as reader:
        return int(reader.get_tensor('global_step')) if reader.has_tensor('global_step') else 0


def restore(
    session: tf.Session,
    experiment: Trainable,
    prefix: str,
    with_optimizers: bool = True,
    network_only: bool = False,
) -> List[str]:
    """Restores a checkpoint into the experiment's variables, and requires that it fits the network.

    The checkpoint must hold every variable of the network in its shape. Beyond that it may hold
    only slots of optimisers, a loss scale and, if the rule here has no backward kernels as
    variables (or there is no rule), backward kernels. Slots of SWATS may have the original's
    layout; slots of an unknown layout count as missing.

    Args:
        session: Session with initialised variables.
        experiment: Experiment whose variables are restored.
        prefix: Path of the checkpoint without .index.
        with_optimizers: Whether the slots must be there as well. If False, missing slots keep
            their initial values. A missing loss scale always does.
        network_only: Whether to restore only the network, so that all slots, the loss scale and
            the step counter keep their initial values.

    Returns:
        The sorted names of the variables that keep their initial values.

    Raises:
        CheckpointError: The checkpoint cannot be read, does not fit, or holds a value that is not
            finite.
    """
    wanted = {v.op.name: v for v in experiment.variables}
    network = {name for name in wanted if experiment.roles[name].is_of_network}
    needed = (
        {name for name in wanted if experiment.roles[name] is not Role.LOSS_SCALE}
        if with_optimizers
        else network
    )
    with _stored(prefix, experiment) as stored:
        problems = _problems(stored, wanted, needed, network)
        if problems:
            advice = _other_classes(experiment, stored.shapes) if len(problems) == 1 else None
            advice = advice or 'Check --model, --use_resnet_v2, --alignment and the optimisers.'
            raise CheckpointError(
                f'{prefix} does not fit this model. {"; ".join(problems)}. {advice}'
            )
        chosen = [name for name in (network if network_only else wanted) if name in stored.shapes]
        values = {name: stored.read(name) for name in chosen}
    _check_finite(prefix, experiment, values)
    load(session, experiment, values)
    return sorted(set(wanted) - set(values))


def _problems(
    stored: '_Stored', wanted: Dict[str, tf.Variable], needed: Set[str], network: Set[str]
) -> List[str]:
    """Lists why a checkpoint does not fit, in a few words each.

    Args:
        stored: Contents of the checkpoint.
        wanted: All variables of the experiment, by name.
        needed: Names of the variables that the checkpoint must hold.
        network: Names of the variables of the network.
    """
    shapes = stored.shapes
    misshaped = [
        _misshaped(name, shapes[name], wanted[name])
        for name in sorted(set(wanted) & set(shapes))
        if shapes[name] != wanted[name].shape.as_list()
    ]
    found = (
        ('missing', sorted(needed - set(shapes) - stored.unknown)),
        (
            'extra',
            sorted(n for n in shapes if n not in wanted and not _is_optional(n, network)),
        ),
        ('mis-shaped', misshaped),
        ('slots of an unknown layout', sorted(needed & stored.unknown)),
    )
    return [f'{what}: {_listed(names)}' for what, names in found if names]


def _misshaped(name: str, there: List[int], here: tf.Variable) -> str:
    return f'{name} ({there} in the checkpoint, {here.shape.as_list()} here)'


def _other_classes(experiment: Trainable, shapes: Shapes) -> Optional[str]:
    """Explains a checkpoint that differs only in the number of classes; None for any other."""
    classes = experiment.classes
    there: Set[int] = set()
    for variable in experiment.variables:
        here, stored = variable.shape.as_list(), shapes.get(variable.op.name)
        if stored is None or stored == here:
            continue
        differing = [(old, new) for old, new in zip(stored, here) if old != new]
        if len(stored) != len(here) or [new for _, new in differing] != [classes]:
            return None
        there.update(old for old, _ in differing)
    if len(there) != 1 or classes is None:
        return None
    return (
        f'Its network has {there.pop():,} classes, but the images have {classes:,}. Train on '
        'images with the same number of classes (--dataset, --data_dir).'
    )


def restore_some(
    session: tf.Session,
    experiment: Trainable,
    prefix: str,
    names: Names = None,
    renamed: Optional[Dict[str, str]] = None,
    with_step: bool = True,
) -> List[str]:
    """Restores those of the experiment's variables that a checkpoint holds, as tfutils does.

    Args:
        session: Session with initialised variables.
        experiment: Experiment whose variables are restored.
        prefix: Path of the checkpoint without .index.
        names: Restore only these variables: a list of names, or a compiled regular expression.
        renamed: Restore only these variables: {name in the checkpoint: name here}.
        with_step: Whether to restore the step counter as well.

    Returns:
        The sorted names of the variables that are not restored.

    Raises:
        CheckpointError: The checkpoint cannot be read, or it holds none of the variables, or one
            of another shape, or a value that is not finite; or `renamed` names a variable that the
            experiment does not have.
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
    with _stored(prefix, experiment, as_named=bool(renamed)) as stored:
        shapes = stored.shapes
        chosen = {
            here: there
            for here, there in pairs.items()
            if there in shapes and _is_chosen(here, names) and (with_step or here != 'global_step')
        }
        misshaped = [
            _misshaped(here, shapes[there], wanted[here])
            for here, there in sorted(chosen.items())
            if shapes[there] != wanted[here].shape.as_list()
        ]
        if misshaped or not chosen:
            problem = (
                'mis-shaped: ' + _listed(misshaped)
                if misshaped
                else 'it has none of the variables to restore'
            )
            raise CheckpointError(f'{prefix} does not fit this model: {problem}')
        values = {here: stored.read(there) for here, there in chosen.items()}
    _check_finite(prefix, experiment, values)
    load(session, experiment, values)
    return sorted(set(wanted) - set(chosen) - ({'global_step'} if not with_step else set()))


class _Stored(NamedTuple):
    """The contents of a checkpoint under the names of an experiment.

    Attributes:
        shapes: {name: shape}.
        unknown: Names of slots here that the checkpoint holds in an unknown layout.
        read: Returns the value of a variable by its name, an array.
    """

    shapes: Shapes
    unknown: Set[str]
    read: Callable[[str], Array]


@contextlib.contextmanager
def _stored(prefix: str, experiment: Trainable, as_named: bool = False) -> Iterator[_Stored]:
    """Yields the _Stored of a checkpoint; `as_named`: without converting slots of the original."""
    with _reading(prefix) as reader:
        shapes = reader.get_variable_to_shape_map()
        slots, unknown = (
            ({}, set())
            if as_named
            else optimizers.stored_slots(experiment.variables, shapes, reader.get_tensor)
        )
        shapes = {name: shape for name, shape in shapes.items() if name not in unknown}
        shapes.update({name: list(value.shape) for name, value in slots.items()})
        yield _Stored(
            shapes,
            unknown,
            lambda name: slots[name] if name in slots else reader.get_tensor(name),
        )


def not_finite(variables: Sequence[tf.Variable], values: Values) -> str:
    """Names the first few variables that hold a number that is not finite; '' if none does.

    Args:
        variables: The variables to check.
        values: {name: array}; variables that are missing in it are not checked.
    """
    floating = [
        v.op.name for v in variables if v.dtype.base_dtype.is_floating and v.op.name in values
    ]
    names = sorted(name for name in floating if not np.all(np.isfinite(values[name])))
    more = f' and {len(names) - MOST_NAMED} more' if names[MOST_NAMED:] else ''
    return ', '.join(names[:MOST_NAMED]) + more


def _check_finite(prefix: str, experiment: Trainable, values: Values) -> None:
    names = not_finite(experiment.variables, values)
    if names:
        raise CheckpointError(
            f'{prefix}: NaN or infinite numbers in {names}; the training had diverged, so use '
            'a checkpoint of an earlier step'
        )


def _is_chosen(name: str, names: Names) -> bool:
    if not names:
        return True
    return name in names if isinstance(names, (list, tuple)) else bool(names.match(name))


def load(session: tf.Session, experiment: Trainable, values: Values) -> None:
    """Assigns values to the experiment's variables by name; other names are ignored."""
    assign(session, {v: values[v.op.name] for v in experiment.variables if v.op.name in values})


def assign(session: tf.Session, values: Dict[tf.Variable, Array]) -> None:
    """Assigns values to variables, {variable: array}, without adding operations to the graph.

    It runs the initialiser of each variable, and feeds the tensor that the initialiser assigns.
    One call of the session assigns several variables, because TensorFlow prepares each new set of
    fetches, which takes much longer than copying the values.
    """
    for group in _groups(values):
        session.run(
            [variable.initializer for variable in group],
            {_initial(variable): value for variable, value in group.items()},
        )


def _groups(values: Dict[tf.Variable, Array]) -> List[Dict[tf.Variable, Array]]:
    """Splits {variable: array} into groups of at most AT_A_TIME bytes, or of one variable.

    No group holds two variables that are initialised from the same tensor, because only one value
    can be fed for it.
    """
    groups: List[Dict[tf.Variable, Array]] = []
    fed: Set[str] = set()  # tensors that the last group feeds
    size = 0  # bytes of the last group
    for variable, value in values.items():
        more = np.asarray(value).nbytes
        if not groups or _initial(variable) in fed or size + more > AT_A_TIME:
            groups.append({})
            fed, size = set(), 0
        groups[-1][variable] = value
        fed.add(_initial(variable))
        size += more
    return groups


def _initial(variable: tf.Variable) -> str:
    """Returns the name of the tensor that a variable's initialiser assigns."""
    return variable.initializer.inputs[1].name


def _is_optional(name: str, network: Set[str]) -> bool:
    """Returns whether a stored variable may be ignored.

    It may if it belongs to an optimiser, or is the step counter, a loss scale, or a backward kernel
    that nothing here uses.
    """
    parts = name.split('/')
    # The name of a slot begins with the name of its variable, so that is one of these.
    scopes = ['/'.join(parts[:end]) for end in range(1, len(parts) + 1)]
    aligned = any(n.endswith('/backward_kernel') for n in network)
    return (
        name.startswith(('beta1_power', 'beta2_power', 'global_step', 'loss_scale'))
        or any(scope in network for scope in scopes)
        or not aligned
        and any(scope.endswith('/backward_kernel') for scope in scopes)
    )


def _listed(names: Sequence[str], most: int = 20) -> str:
    shown = ', '.join(names[:most])
    return shown + (f' and {len(names) - most} more' if len(names) > most else '')
