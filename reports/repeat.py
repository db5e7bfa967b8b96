"""The command that repeats a run, and the differences of the environments of two runs."""

import os
import re
import shlex
from typing import Dict, FrozenSet, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from config.declared import OLDER, inferred
from config.flags import as_flag
from config.rows import Row, Scope, Value
from config.schema import ROWS, in_order
from database.types import Document

SUFFIX = '_repeated'  # follows the name of the run, which its records still have
# Settings of a call that decide what is computed, or where. The others of a call are left out, such
# as --do_restore: a training that was stopped and resumed is the same as one in a single run.
OF_THE_DEVICE = (
    'gpu',
    'cpu_devices',
    'worker_hosts',
    'task_index',
    'tpu_name',
    'tpu_zone',
    'gcp_project',
    'num_shards',
    'iterations_per_loop',
)
OF_A_START = (
    'load_step',
    'load_query',
    'load_db',
    'load_port',
    'load_dbname',
    'load_collname',
    'load_exp_id',
    'load_checkpoint',
    'reset_step',
)
OF_A_VALIDATION = ('override', 'val_exp_id')
FLAG = re.compile(r'--?(\w+)')
PATHS = ('data_dir', 'load_checkpoint')  # settings that name what a run reads
# Facts that differ between any two runs.
SO_FAR = ('started', 'seconds', 'peak_memory', 'argv', 'folder')


class Difference(NamedTuple):
    """A fact in which two runs differ.

    Attributes:
        name: Its name, such as 'packages.numpy'.
        first: Its value in the first run; None if it has none.
        second: Its value in the second run.
    """

    name: str
    first: object
    second: object


class Here(NamedTuple):
    """The database in which the records of a run are. They may have been imported there."""

    host: str
    port: int
    dbname: str


def command(
    params: Document,
    digests: Iterable[object] = (),
    step: Optional[int] = None,
    here: Optional[Here] = None,
) -> List[str]:
    """Returns the lines of a shell script that repeats a run in a clone of this repository.

    The settings come from the record and not from the command as it was given, which may name
    files that a clone does not have. Those that differ from their default are written out, and
    those that the command named, because an older program may have had other defaults. The new run
    has another name, so that it can be stored beside the first one.

    Args:
        params: The params of the newest record of the run.
        digests: `params.digests.settings` of all its records, to notice settings that changed on
            the way.
        step: The step that was validated, in a run of test.py.
        here: The database of the new run; that of the params if None.
    """
    params = _moved(params, here) if here else params
    lines = _environment(params) + _commit(params) + _data(params)
    if 'model' not in _group(params, 'model_params'):
        given = _given(params)
        return lines + (
            [
                '# The run was made by a script with its own functions:',
                _quoted(['python'] + given),
            ]
            if given
            else ['# The run was made by a script, and its command is not recorded.']
        )
    values = _settings(params, step)
    program = ['test.py', 'validate'] if _is_validation(params) else ['train.py']
    words = ['python'] + program + [as_flag(name, value) for name, value in values.items()]
    return lines + _warnings(params, digests, values) + [_quoted(words)]


def environment_differences(first: Document, second: Document) -> List[Difference]:
    """Returns in what two runs differ beside their settings: program, packages, machine, images.

    Args:
        first: The params of a record of the first run.
        second: The params of a record of the second run.
    """
    known = ['environment' in params for params in (first, second)]
    told = ['recorded' if is_known else None for is_known in known]
    if all(known):
        one, other = [facts(params, 'environment') for params in (first, second)]
        found = _differing(one, other)
    else:
        found = [Difference('environment', *told)] if any(known) else []
    return _differing(facts(first, 'provenance'), facts(second, 'provenance')) + found


def _differing(first: Dict[str, object], second: Dict[str, object]) -> List[Difference]:
    pairs = [(name, first.get(name), second.get(name)) for name in sorted({**first, **second})]
    return [
        Difference(name, *(_only(one, other) if name == 'cpu.flags' else (one, other)))
        for name, one, other in pairs
        if one != other
    ]


def _only(first: object, second: object) -> Tuple[str, str]:
    """Returns the words of two texts that the other one lacks."""
    one, other = str(first or '').split(), str(second or '').split()
    return (
        ' '.join(word for word in one if word not in other),
        ' '.join(word for word in other if word not in one),
    )


def facts(params: Document, group: str) -> Dict[str, object]:
    """Returns {dotted name: value} of a group of params, without what every run has for itself."""
    found: Dict[str, object] = {}
    for name, value in _group(params, group).items():
        if name not in SO_FAR:
            inner = value.items() if isinstance(value, dict) else ()
            found.update({f'{name}.{key}': fact for key, fact in inner} or {name: value})
    return found


def _moved(params: Document, here: Here) -> Document:
    """Returns params with another database."""
    found = dict(params)
    for name, value in here._asdict().items():
        group = ROWS[name].group
        found[group] = dict(_group(found, group), **{name: value})
    return found


# --- the settings ---------------------------------------------------------------------------------


def _settings(params: Document, step: Optional[int]) -> Dict[str, Value]:
    """Returns {name: value} of the settings to write out, in the order of the table."""
    own = _group(params, 'model_params').get('declared')
    own = own if isinstance(own, dict) else OLDER
    rows = in_order(inferred(own, own))
    values = {name: _group(params, row.group).get(name, row.default) for name, row in rows.items()}
    named = _named(_given(params))
    is_validation = _is_validation(params)
    exp_id = _group(params, 'save_params').get('exp_id')
    if is_validation:
        values['val_exp_id'] = f'{values["val_exp_id"]}{SUFFIX}'
        if values['load_step'] is None and not values['load_checkpoint']:
            values['load_step'] = step
    else:
        values['exp_id_suffix'] = f'{values["exp_id_suffix"]}{SUFFIX}'
        if values['load_db'] and values['load_exp_id'] is None:  # it was that of the run itself
            values['load_exp_id'] = exp_id
    for name in PATHS:
        values[name] = _absolute(values[name], _group(params, 'environment').get('folder'))
    starts = is_validation or values['load_db'] or values['load_checkpoint']
    of_a_call = OF_THE_DEVICE + (OF_A_START if starts else ())
    of_a_call += OF_A_VALIDATION if is_validation else ()
    return {
        name: value
        for name, value in values.items()
        if (rows[name].scope is not Scope.CALL or name in of_a_call)
        and (_differs(value, rows[name], own) or name in named)
    }


def _absolute(path: Value, folder: object) -> Value:
    """Returns a path of this machine as an absolute one, if it is known to what it is relative."""
    if not _is_relative(path) or not isinstance(path, str) or not isinstance(folder, str):
        return path
    return os.path.normpath(os.path.join(folder, path))


def _is_relative(path: object) -> bool:
    return isinstance(path, str) and not ('://' in path or path.startswith(('/', '~')))


def _differs(value: Value, row: Row, own: Mapping[str, object]) -> bool:
    """Returns whether a value is not the default, which for a coefficient is that of its rule."""
    if row.coefficient == row.name and value == own.get(row.name):
        return False
    return (tuple(value) if isinstance(value, list) else value) != row.default


def _named(argv: Sequence[str]) -> FrozenSet[str]:
    """Returns the names of the flags in a command; of --nowarm, both `nowarm` and `warm`."""
    names = [match.group(1) for match in map(FLAG.match, argv) if match]
    return frozenset(names + [name[2:] for name in names if name.startswith('no')])


def _given(params: Document) -> List[str]:
    """Returns the command of a run as it was given, or [] if it is not recorded."""
    argv = _group(params, 'environment').get('argv')
    return [str(word) for word in argv] if isinstance(argv, list) else []


def _is_validation(params: Document) -> bool:
    return _group(params, 'load_params').get('val_exp_id') is not None


# --- what stands above the command ----------------------------------------------------------------


def _environment(params: Document) -> List[str]:
    found = _group(params, 'environment')
    if not found:
        runtime = _group(params, 'provenance').get('runtime')
        return [f'# It ran with {runtime}.'] if runtime else []
    cpu, packages = _group(found, 'cpu'), _group(found, 'packages')
    devices = found['devices'] if isinstance(found.get('devices'), list) else ['?']
    return [
        f'# It ran with Python {found.get("python")}, TensorFlow {found.get("tensorflow")} and '
        f'NumPy {packages.get("numpy")}, on {", ".join(map(str, devices))}; '
        f'processor: {cpu.get("model")}.'
    ]


def _commit(params: Document) -> List[str]:
    provenance, diff = _group(params, 'provenance'), _group(params, 'environment').get('diff')
    commit = provenance.get('commit')
    if not commit:
        return ['# Its commit is not recorded: the program was not in a git checkout.']
    lines = [f'git checkout --detach {shlex.quote(str(commit))}']
    if diff or provenance.get('uncommitted'):
        told = f'; SHA-256 of its `git diff --binary --full-index HEAD`: {diff}' if diff else ''
        lines.append(f'# WARNING: the program had changes beyond this commit{told}.')
    return lines


def _data(params: Document) -> List[str]:
    """Returns what the images were. Older records have only their numbers."""
    train, validation = [_group(params, name) for name in ('train_params', 'validation_params')]
    data = _group(_group(params, 'environment'), 'dataset')
    counts = dict(
        {
            'train_images': train.get('train_images'),
            'validation_images': _group(validation, 'topn_val').get('validation_images'),
        },
        **data,
    )
    if counts['train_images'] is None:
        return []
    told = [
        f'# Images: {train.get("dataset")}, {_count(counts["train_images"])} for training and '
        f'{_count(counts["validation_images"])} for validation.'
    ]
    if data.get('digest'):
        told.append(
            f'# Digest of {data.get("digest_of")}: {data["digest"]}; --dry_run prints yours.'
        )
    return told


def _count(value: object) -> str:
    return f'{value:,}' if isinstance(value, int) else '?'


def _warnings(params: Document, digests: Iterable[object], values: Dict[str, Value]) -> List[str]:
    """Returns comments on what one command alone cannot repeat."""
    load, lines = _group(params, 'load_params'), []
    several = {digest for digest in digests if isinstance(digest, str)}
    if len(several) > 1 or 'changed_settings' in load and not values.get('load_db'):
        lines.append(
            '# WARNING: settings changed while it trained (params.load_params.changed_settings); '
            'these are the last.'
        )
    for name in PATHS:
        if _is_relative(values.get(name)):
            lines.append(f'# --{name} is relative to the folder in which the command was given.')
    if values.get('worker_hosts'):
        lines.append('# Run it on each of --worker_hosts, with its own --task_index.')
    if values.get('load_checkpoint') or values.get('load_db'):
        lines.append('# It starts from a checkpoint, which must still be there.')
    return lines


def _group(params: Document, name: str) -> Document:
    group = params.get(name)
    return group if isinstance(group, dict) else {}


def _quoted(words: Sequence[str]) -> str:
    return ' '.join(shlex.quote(word) for word in words)
