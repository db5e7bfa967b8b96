"""Checkpoints on disk: Saver V2 files `checkpoint-<step>.index` and `.data-*`, written, checked and
strictly restored.
"""

import contextlib
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

from database.types import Array
from models.roles import Role
from training import optimizers
from training.errors import CheckpointError
from training.trainable import Trainable
from training.types import Values

PATTERN = re.compile(r'[\[\]*?\\]')
MOST_NAMED = 5  # variables in one sentence
AT_A_TIME = 1 << 27  # bytes of variables in one call of a session; another machine bears 2 GiB

Shapes = Dict[str, List[int]]  # of variables, by name
Names = Union[List[str], Tuple[str, ...], Pattern[str], None]  # None: all


def save(session: tf.Session, experiment: Trainable, folder: str, step: int) -> str:
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


def _save(saver: tf.train.Saver, session: tf.Session, path: str, step: int) -> str:
    return saver.save(session, path, global_step=step, write_meta_graph=False, write_state=False)


def _write(values: Values, path: str, step: int) -> str:
    """Write {name: array} by a session of this machine."""
    with tf.Graph().as_default(), tf.device('/cpu:0'), tf.Session() as session:
        variables = [
            tf.get_variable(name, value.shape, value.dtype, tf.zeros_initializer())
            for name, value in values.items()
        ]
        assign(session, dict(zip(variables, values.values())))
        return _save(tf.train.Saver(variables), session, path, step)


def contents(prefix: str) -> Shapes:
    """{variable name: shape} of a checkpoint. Raises CheckpointError if there is none or it is
    damaged.
    """
    with _reading(prefix) as reader:
        return reader.get_variable_to_shape_map()


def verify(prefix: str) -> None:
    """Reads every value of a checkpoint once, which compares it with its checksum. Raises
    CheckpointError as `contents`.
    """
    with _reading(prefix) as reader:
        for name in sorted(reader.get_variable_to_shape_map()):
            reader.get_tensor(name)


@contextlib.contextmanager
def _reading(prefix: str) -> Iterator[tf.train.NewCheckpointReader]:
    """TensorFlow's reader of a checkpoint; what it raises becomes a CheckpointError."""
    path = prefix
    try:
        # TensorFlow would take it for one of another format.
        if re.search(r'\.(index|data-[0-9]+-of-[0-9]+)$', prefix):
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
            'without .index or .data-*'
        )


@contextlib.contextmanager
def _plain(prefix: str) -> Iterator[str]:
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


def step_of(prefix: str) -> int:
    """The global step that a checkpoint holds, or 0 if it holds none."""
    with _reading(prefix) as reader:
        return int(reader.get_tensor('global_step')) if reader.has_tensor('global_step') else 0


def restore(
    session: tf.Session,
    experiment: Trainable,
    prefix: str,
    with_optimizers: bool = True,
    network_only: bool = False,
) -> List[str]:
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
            raise CheckpointError(
                '{} does not fit this model. {}. {}'.format(
                    prefix,
                    '; '.join(problems),
                    advice or 'Check --model, --use_resnet_v2, --alignment and the optimisers.',
                )
            )
        chosen = [name for name in (network if network_only else wanted) if name in stored.shapes]
        values = {name: stored.read(name) for name in chosen}
    _check_finite(prefix, experiment, values)
    load(session, experiment, values)
    return sorted(set(wanted) - set(values))


def _problems(
    stored: '_Stored', wanted: Dict[str, tf.Variable], needed: Set[str], network: Set[str]
) -> List[str]:
    """Why a checkpoint does not fit: a few words each.

    wanted: all variables, by name. needed: names of those that must be there. network: names of
    those that are no optimiser's.
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
    return f'{name} (there {there}, here {here.shape.as_list()})'


def _other_classes(experiment: Trainable, shapes: Shapes) -> Optional[str]:
    """A sentence on the cause where a checkpoint differs in the number of classes alone, else
    None.
    """
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
        f'Its network tells {there.pop():,} classes apart, and the images have {classes:,}: train '
        'on images with as many classes (--dataset, --data_dir).'
    )


def restore_some(
    session: tf.Session,
    experiment: Trainable,
    prefix: str,
    names: Names = None,
    renamed: Optional[Dict[str, str]] = None,
    with_step: bool = True,
) -> List[str]:
    """Restore what a checkpoint has of the experiment's variables, as tfutils does; returns the
    names of those it has not.

    names: restore these alone, a list or a compiled regular expression. renamed: restore these
    alone, {name in the checkpoint: name here}. with_step: restore the step counter, too. Raises
    CheckpointError if it has none of them, or one in another shape, or one that is not finite.
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
            raise CheckpointError(
                '{} does not fit this model: {}'.format(
                    prefix,
                    'mis-shaped: ' + _listed(misshaped)
                    if misshaped
                    else 'it has none of the variables to restore',
                )
            )
        values = {here: stored.read(there) for here, there in chosen.items()}
    _check_finite(prefix, experiment, values)
    load(session, experiment, values)
    return sorted(set(wanted) - set(chosen) - ({'global_step'} if not with_step else set()))


class _Stored(NamedTuple):
    """What a checkpoint holds under the names of an experiment.

    unknown: names of slots there that belong to an unknown layout. read(name) -> array.
    """

    shapes: Shapes
    unknown: Set[str]
    read: Callable[[str], Array]


@contextlib.contextmanager
def _stored(prefix: str, experiment: Trainable, as_named: bool = False) -> Iterator[_Stored]:
    """The _Stored of a checkpoint. as_named: every name means what it says."""
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


def _check_finite(prefix: str, experiment: Trainable, values: Values) -> None:
    names = not_finite(experiment.variables, values)
    if names:
        raise CheckpointError(
            f'{prefix}: NaN or infinite numbers in {names}; this checkpoint is of a training that '
            'was lost, take one of an earlier step'
        )


def _is_chosen(name: str, names: Names) -> bool:
    if not names:
        return True
    return name in names if isinstance(names, (list, tuple)) else bool(names.match(name))


def load(session: tf.Session, experiment: Trainable, values: Values) -> None:
    """Give the experiment's variables their values, by name; names of others are left aside."""
    assign(session, {v: values[v.op.name] for v in experiment.variables if v.op.name in values})


def assign(session: tf.Session, values: Dict[tf.Variable, Array]) -> None:
    """Give variables their values, {variable: array}.

    To run a variable's initialiser, and feed the tensor that it assigns, gives the variable what is
    fed. Several variables go into one call of the session, because TensorFlow plans each new set
    of fetches anew, which takes much longer than the copying.
    """
    for group in _groups(values):
        session.run(
            [variable.initializer for variable in group],
            {_initial(variable): value for variable, value in group.items()},
        )


def _groups(values: Dict[tf.Variable, Array]) -> List[Dict[tf.Variable, Array]]:
    """Values, {variable: array}, in groups of at most AT_A_TIME bytes or one variable, none of
    which holds two variables that start with the same tensor: it can be fed but one value.
    """
    groups: List[Dict[tf.Variable, Array]] = []
    fed: Set[str] = set()  # by the last group
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
    """The name of the tensor that a variable's initialiser assigns."""
    return variable.initializer.inputs[1].name


def _is_optional(name: str, network: Set[str]) -> bool:
    """Whether a stored variable may be left aside: an optimiser's, the step counter, a kernel that
    nothing here uses.
    """
    parts = name.split('/')
    # Of a slot: its variable is one of them.
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
