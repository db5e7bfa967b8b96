"""Merges the settings of a checkpoint with the settings of the command that restores it.

The settings of a checkpoint are in the `params` of its record in MongoDB or, if it is given by
its path, in `settings.json` in its folder. Settings of scope MEANING are restored with the
checkpoint. A training that only starts from another experiment's checkpoint keeps its own settings.
"""

import json
import os
from typing import Dict, FrozenSet, List, Mapping, NamedTuple, Set, Union

from bson import ObjectId
import tensorflow.compat.v1 as tf

from alignment.view import ViewOptions
from config import params
from config.flags import as_flag
from config.rows import Row
from config.schema import ROWS, SEED, Config, ConfigError, Scope, rows_of
from database import private
from database.types import Document
from training.choices import WITH_A_LOSS, choices
from training.errors import CheckpointError

# This file describes the checkpoints of its folder, with an entry for each change of the settings.
DESCRIPTION = 'settings.json'
MOST_NAMED = 8  # settings in one sentence

Rows = Mapping[str, Row]  # of all settings, by name
Source = Union[ObjectId, str]  # the `_id` of a checkpoint's record, or its path


class Start(NamedTuple):
    """A checkpoint to restore.

    Attributes:
        prefix: Path of the checkpoint without .index.
        source: `_id` of its record, or its path; the field `validates` of a validation's record.
        recorded: Params dictionary of its record or description; {} if there is none.
        title: What messages call it.
        is_foreign: Whether it belongs to another experiment, from which this one only starts.
    """

    prefix: str
    source: Source
    recorded: Document
    title: str
    is_foreign: bool = False


class Restored(NamedTuple):
    """The settings of a run that restores a checkpoint.

    Attributes:
        config: The settings.
        notes: How they differ from the checkpoint's, {name: plain value}, for the group
            load_params of its records.
        lines: The same as lines to print.
    """

    config: Config
    notes: Document
    lines: List[str]


def continued(config: Config, explicit: FrozenSet[str], start: Start) -> Restored:
    """Returns the settings of a training that continues from its own checkpoint.

    Settings of scope MEANING are taken from the checkpoint.

    Args:
        config: Settings of the command.
        explicit: Names of the settings that flags or a settings file give.
        start: The checkpoint.

    Raises:
        ConfigError: An explicit setting contradicts the checkpoint, and --override does not name
            it.
    """
    merged = _with_meaning(config, explicit, start)
    changed = _changed(merged.config, start.recorded, {Scope.TRAINING})
    if changed:
        merged.notes['changed_settings'] = changed
        merged.lines.append(f'changed since {start.title}: {_listed(changed)}')
    return merged


def validated(
    config: Config, explicit: FrozenSet[str], start: Start, flags: FrozenSet[str]
) -> Restored:
    """Returns the settings of a validation.

    Settings of scope MEANING are taken from the checkpoint, and so are those of scope TRAINING
    unless a flag gives them.

    Args:
        config: Settings of the command.
        explicit: Names of the settings that flags or a settings file give.
        start: The checkpoint.
        flags: Names of the settings that flags give.

    Raises:
        ConfigError: An explicit setting of scope MEANING contradicts the checkpoint, and --override
            does not name it.
    """
    merged = _with_meaning(config, explicit, start)
    rows, held = config.rows, _held(start.recorded, config.rows)
    left = _of_a_rule(rows) if 'alignment' in merged.notes.get('overridden', {}) else frozenset()
    values = {
        name: value
        for name, value in held.items()
        if rows[name].scope is Scope.TRAINING and name not in flags and name not in left
    }
    return merged._replace(config=merged.config.replaced(values))


def started(config: Config, start: Start) -> Restored:
    """Returns the settings of a training that only starts from a checkpoint.

    They are the settings of the command; differences from the checkpoint are printed and recorded.
    """
    if not _held(start.recorded, config.rows):
        return Restored(
            config, {}, [f'{start.title} does not record its settings, so they may differ']
        )
    changed = _changed(config, start.recorded, {Scope.MEANING, Scope.TRAINING})
    if not changed:
        return Restored(config, {}, [])
    return Restored(
        config,
        {'changed_settings': changed},
        [f'starting from {start.title} with other settings: {_listed(changed)}'],
    )


def _with_meaning(config: Config, explicit: FrozenSet[str], start: Start) -> Restored:
    """Returns a Config with the checkpoint's settings of scope MEANING; see `continued`."""
    held = _held(start.recorded, config.rows)
    meaning = [name for name, row in config.rows.items() if row.scope is Scope.MEANING]
    differing = [name for name in meaning if name in held and held[name] != config[name]]
    contradicting = [name for name in differing if name in explicit]
    refused = [name for name in contradicting if name not in config.override]
    if refused:
        raise ConfigError(
            '; '.join(
                f'{_told(name, config[name])} contradicts {start.title}, which has '
                f'{_told(name, held[name])}'
                for name in refused
            )
            + f'; leave it out, or accept the difference with --override={",".join(refused)}'
        )
    overridden = {
        name: {'recorded': _plain(held[name]), 'used': _plain(config[name])}
        for name in contradicting
    }
    left = _of_a_rule(config.rows) if 'alignment' in overridden else frozenset()
    merged = config.replaced(
        {name: held[name] for name in differing if name not in overridden and name not in left}
    )
    own = {row.name for row in merged.own()}
    missing = [name for name in meaning if name not in held and name in own]
    notes: Document = {}
    lines: List[str] = []
    if overridden:
        notes['overridden'] = overridden
        told = [
            f'{name} is {note["used"]} here and {note["recorded"]}'
            for name, note in overridden.items()
        ]
        lines.append(f'overridden: {", ".join(told)} in {start.title}')
    if missing:
        notes['not_recorded'] = missing
        values = [f'{name}={merged[name]}' for name in missing[:MOST_NAMED]]
        more = f' and {len(missing) - MOST_NAMED} more' if missing[MOST_NAMED:] else ''
        lines.append(
            f'{start.title} does not record {", ".join(values)}{more}: these values come from the '
            'flags, the settings file or the defaults'
        )
    return Restored(merged, notes, lines)


def recorded(params: Document) -> Document:
    """Returns {name: value} of the settings in the params of a record that decide what is trained.

    With them are the folder of the images and the number of CPU devices.
    """
    rows = rows_of(choices())
    places = {
        name: params[rows[name].group][name]
        for name in ('data_dir', 'cpu_devices')
        if name in params.get(rows[name].group, {})
    }
    return dict(_held(params, rows), **places)


def _of_a_rule(rows: Rows) -> FrozenSet[str]:
    """Returns the names of the settings that only some rules have.

    If --override changes the rule, the recorded values of these settings do not fit it.
    """
    own = {name for name, row in rows.items() if row.declared}
    alignment = {name for name in ROWS if name.startswith(('alignment_', 'use_noisy_', 'noisy_'))}
    return frozenset(own | alignment | set(ViewOptions._fields) | set(WITH_A_LOSS))


def _changed(config: Config, recorded: Document, scopes: Set[Scope]) -> Dict[str, Document]:
    """Returns {name: {recorded, used}} of the settings in which a Config differs from a record."""
    rows, held = config.rows, _held(recorded, config.rows)
    own = _without_own_defaults({name: config[name] for name in held}, rows)
    return {
        name: {'recorded': _plain(held[name]), 'used': _plain(config[name])}
        for name in held
        if rows[name].scope in scopes and held[name] != own[name]
    }


def _held(recorded: Document, rows: Rows) -> Document:
    """Returns {name: value} of the settings of scope MEANING and TRAINING in a params dictionary.

    Of the settings that rules declare, only those of the recorded rule are included. A dictionary
    that this program did not write gives {}: records of the original hold other objects under some
    of these names.

    Args:
        recorded: The params dictionary.
        rows: {name: Row} of all settings.
    """
    model = recorded.get('model_params')
    if (
        not isinstance(model, dict)
        or not isinstance(model.get('model'), str)
        or 'alignment' not in model
    ):
        return {}
    groups = {
        name: recorded.get(row.group)
        for name, row in rows.items()
        if row.scope in (Scope.MEANING, Scope.TRAINING)
        and (not row.declared or model['alignment'] in [rule for rule, _ in row.declared])
    }
    held = {
        name: group[name]
        for name, group in groups.items()
        if isinstance(group, dict) and name in group
    }
    held = _without_own_defaults(held, rows)
    return {
        name: tuple(value) if isinstance(value, list) else value for name, value in held.items()
    }


def _without_own_defaults(values: Document, rows: Rows) -> Document:
    """Replaces settings that equal the default of their rule by the default of the table.

    A record holds the coefficients that were used, even if no flag gave them.
    """
    return {
        name: rows[name].default
        if (values.get('alignment'), value) in rows[name].declared
        and rows[name].coefficient in (None, name)
        else value
        for name, value in values.items()
    }


def _told(name: str, value: object) -> str:
    """Returns a setting as a flag, or 'the default of --name' if its value is None."""
    if name == 'alignment':
        return as_flag(name, value or 'none')
    return f'the default of --{name}' if value is None else as_flag(name, value)


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _listed(changed: Dict[str, Document]) -> str:
    named = [
        f'{name} {note["recorded"]} -> {note["used"]}'
        for name, note in list(changed.items())[:MOST_NAMED]
    ]
    return ', '.join(named) + (
        f' and {len(changed) - MOST_NAMED} more' if len(changed) > MOST_NAMED else ''
    )


# --- the description of a folder's checkpoints ----------------------------------------------------


class Description:
    """Writes `settings.json` of a folder of checkpoints.

    The file holds a list of entries, and which of them belongs to each checkpoint. An entry holds
    the digests, the seed and the settings (config.params.to_keep). A new entry is added when they
    change. Nothing is written before `note`.

    Args:
        folder: Local folder of the checkpoints.
        config: Settings of the run that writes them.
    """

    def __init__(self, folder: str, config: Config) -> None:
        self._folder = folder
        self._entry = {
            'digests': config.digests()._asdict(),
            SEED: config.seed,
            'params': params.to_keep(config),
        }

    def note(self, step: int) -> None:
        """Writes that the checkpoint of a step has these settings.

        Raises:
            OSError: The file cannot be written.
        """
        try:
            content = _read(self._folder)
        except CheckpointError:  # a damaged file is replaced
            content = {'settings': [], 'checkpoints': {}}
        _write(self._folder, _with(content, step, self._entry))


def describe_fetched(prefix: str, step: int, recorded: Document) -> None:
    """Writes `settings.json` beside a checkpoint that was downloaded, from its record.

    Args:
        prefix: Path of the checkpoint without .index.
        step: Its step.
        recorded: Params dictionary of its record.

    Raises:
        OSError: The file cannot be written.
    """
    rows = rows_of(choices())
    held = _held(recorded, rows)
    document: Dict[str, Document] = {}
    for name, value in held.items():
        document.setdefault(rows[name].group, {})[name] = _plain(value)
    entry = {'digests': recorded.get('digests'), SEED: held.get(SEED), 'params': document}
    empty: Document = {'settings': [], 'checkpoints': {}}
    _write(os.path.dirname(prefix), _with(empty, step, entry) if held else empty)


def description(prefix: str, step: int) -> Document:
    """Returns the params dictionary of a checkpoint by its path, or {} if its folder has none.

    Args:
        prefix: Path of the checkpoint without .index.
        step: The step that it holds.

    Raises:
        CheckpointError: `settings.json` is damaged.
    """
    content = _read(os.path.dirname(prefix) or '.')
    index = content['checkpoints'].get(str(step))
    return {} if index is None else content['settings'][index]['params']


def _with(content: Document, step: int, entry: Document) -> Document:
    """Adds an entry for the checkpoint of a step to the content of a file, and returns it."""
    entries = content['settings']
    if entry not in entries:
        entries.append(entry)
    content['checkpoints'][str(step)] = entries.index(entry)
    return content


def _write(folder: str, content: Document) -> None:
    path = os.path.join(folder, DESCRIPTION)
    with private.created(path + '.half') as file:
        file.write(json.dumps(content, indent=1, sort_keys=True).encode())
    os.replace(path + '.half', path)


def _read(folder: str) -> Document:
    path = f'{folder}/{DESCRIPTION}'
    try:
        if not tf.gfile.Exists(path):
            return {'settings': [], 'checkpoints': {}}
        with tf.gfile.Open(path, 'rb') as file:
            content = json.loads(file.read().decode('utf-8'))
        entries, checkpoints = content['settings'], content['checkpoints']
        whole = all(isinstance(entry['params'], dict) for entry in entries) and all(
            type(index) is int and 0 <= index < len(entries) for index in checkpoints.values()
        )
        if not whole:
            raise ValueError('an entry is incomplete')
        return {'settings': list(entries), 'checkpoints': dict(checkpoints)}
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
        tf.errors.OpError,
    ) as error:
        raise CheckpointError(
            f'{path} cannot be read ({str(error).splitlines()[0]}); remove it, and give the '
            'settings of the checkpoint by flags'
        )
