"""What a checkpoint says of its settings, and how they go together with those of the command that restores it.

A checkpoint is described by the `params` of its record in MongoDB or, where a path names it, by `settings.json` in its
folder. The meaning of what is restored comes with it; a training that only starts from it has its own settings.
"""

import datetime
import json
import os
import re
import typing

import tensorflow.compat.v1 as tf

from alignment.layer import ViewOptions
from alignment.rules import RULES
from config import params
from config.schema import ROWS, SEED, Config, ConfigError, Scope, as_flag
from training.checkpoints import CheckpointError

DESCRIPTION = (
    'settings.json'  # beside the checkpoints of a folder: an entry for each change of the settings
)
COEFFICIENTS = ('alpha', 'beta', 'gamma')
WITH_A_LOSS = (
    'alignment_optimizer',
    'alignment_rate',
    'alternate_step_freq',
    'save_alignment_coefficients',
)
MOST_NAMED = 8  # settings in one sentence


class Start(typing.NamedTuple):
    """A checkpoint to restore.

    prefix: its path without .index. source: the `_id` of its record, or its path, for the field `validates`.
    recorded: the params dictionary of its record or description, {} where there is none. title: what messages call it.
    is_foreign: whether it is of another experiment, so that this one only starts from it.
    """

    prefix: str
    source: typing.Any
    recorded: typing.Dict[str, typing.Any]
    title: str
    is_foreign: bool = False


class Restored(typing.NamedTuple):
    """The settings of a run that restores a checkpoint.

    notes: what its records tell of that, {name: plain value}, for the group load_params. lines: the same for people.
    """

    config: Config
    notes: typing.Dict[str, typing.Any]
    lines: typing.List[str]


def continued(config: Config, explicit: typing.FrozenSet[str], start: Start) -> Restored:
    """The settings of a training that continues its own checkpoint: the meaning is the checkpoint's.

    explicit: names of the settings that flags or a settings file give. Raises ConfigError where these contradict the
    checkpoint, and --override does not name them.
    """
    merged = _with_meaning(config, explicit, start)
    changed = _changed(merged.config, start.recorded, {Scope.TRAINING})
    if changed:
        merged.notes['changed_settings'] = changed
        merged.lines.append(f'changed since {start.title}: {_listed(changed)}')
    return merged


def validated(config: Config, explicit: typing.FrozenSet[str], start: Start) -> Restored:
    """The settings of a validation: those of the checkpoint, but for where and how this call runs.

    What says how the network was trained is the checkpoint's, too, where no flag gives it. Raises as `continued`.
    """
    merged = _with_meaning(config, explicit, start)
    held = _held(start.recorded)
    left = _of_the_rule() if 'alignment' in merged.notes.get('overridden', {}) else frozenset()
    values = {
        name: value
        for name, value in held.items()
        if ROWS[name].scope is Scope.TRAINING and name not in explicit and name not in left
    }
    return merged._replace(config=merged.config.replaced(values))


def started(config: Config, start: Start) -> Restored:
    """The settings of a training that only starts from a checkpoint: its own. What differs is told and recorded."""
    changed = _changed(config, start.recorded, {Scope.MEANING, Scope.TRAINING})
    if not start.recorded:
        return Restored(config, {}, [])
    lines = (
        [f'starts from {start.title} with other settings: {_listed(changed)}'] if changed else []
    )
    return Restored(config, {'changed_settings': changed} if changed else {}, lines)


def _with_meaning(config, explicit, start):
    """The Restored of a Config whose meaning is the checkpoint's."""
    held = _held(start.recorded)
    meaning = [name for name, row in ROWS.items() if row.scope is Scope.MEANING]
    differing = [name for name in meaning if name in held and held[name] != getattr(config, name)]
    contradicting = [name for name in differing if name in explicit]
    refused = [name for name in contradicting if name not in config.override]
    if refused:
        raise ConfigError(
            '; '.join(
                f'{as_flag(name, getattr(config, name))} contradicts {start.title}, which has {as_flag(name, held[name])}'
                for name in refused
            )
            + f'; leave it out, or let it differ by --override={",".join(refused)}'
        )
    overridden = {
        name: {'recorded': _plain(held[name]), 'used': _plain(getattr(config, name))}
        for name in contradicting
    }
    left = _of_the_rule() if 'alignment' in overridden else frozenset()
    merged = config.replaced(
        {name: held[name] for name in differing if name not in overridden and name not in left}
    )
    missing = [name for name in meaning if name not in held]
    notes, lines = {}, []
    if overridden:
        notes['overridden'] = overridden
        lines.append(
            'overridden: '
            + ', '.join(
                f'{name} is {note["used"]} here and {note["recorded"]} in {start.title}'
                for name, note in overridden.items()
            )
        )
    if missing:
        notes['not_recorded'] = missing
        what = (
            'no settings'
            if not held
            else ', '.join(missing[:MOST_NAMED]) + (' and more' if missing[MOST_NAMED:] else '')
        )
        lines.append(
            f'{start.title} holds {what if not held else "nothing of " + what}: the flags, the settings file and '
            'the defaults decide'
        )
    return Restored(merged, notes, lines)


def _of_the_rule():
    """Names of the settings that only some rules have; where the rule is overridden, the recorded ones do not fit it."""
    own = {name for rule in RULES.values() for name in [*rule.switches, *rule.sizes]}
    scheduled = {
        name
        for name in ROWS
        for coefficient in COEFFICIENTS
        if name == coefficient or name.startswith(coefficient + '_')
    }
    alignment = {name for name in ROWS if name.startswith(('alignment_', 'use_noisy_', 'noisy_'))}
    return own | scheduled | alignment | set(ViewOptions._fields) | set(WITH_A_LOSS)


def _changed(config, recorded, scopes):
    """{name: {recorded, used}} of what a Config has otherwise than a checkpoint."""
    held = _held(recorded)
    return {
        name: {'recorded': _plain(held[name]), 'used': _plain(getattr(config, name))}
        for name, row in ROWS.items()
        if row.scope in scopes and name in held and held[name] != getattr(config, name)
    }


def _held(recorded):
    """{name: value} of the settings of meaning and training that a params dictionary of ours holds; {} for another one."""
    model = recorded.get('model_params')
    if (
        not isinstance(model, dict)
        or not isinstance(model.get('model'), str)
        or 'alignment' not in model
    ):
        return {}  # the original's hold objects by these names
    groups = {
        name: recorded.get(row.group)
        for name, row in ROWS.items()
        if row.scope in (Scope.MEANING, Scope.TRAINING)
    }
    held = {
        name: group[name]
        for name, group in groups.items()
        if isinstance(group, dict) and name in group
    }
    rule = RULES.get(held['alignment']) if isinstance(held['alignment'], str) else None
    for name, default in (rule.coefficients if rule else {}).items():
        if (
            held.get(name) == default
        ):  # a record tells the coefficient that was used, also where it was the rule's own
            held[name] = ROWS[name].default
    return {
        name: tuple(value) if isinstance(value, list) else value for name, value in held.items()
    }


def _plain(value):
    return list(value) if isinstance(value, tuple) else value


def _listed(changed):
    named = [
        f'{name} {note["recorded"]} -> {note["used"]}'
        for name, note in list(changed.items())[:MOST_NAMED]
    ]
    return ', '.join(named) + (
        f' and {len(changed) - MOST_NAMED} more' if len(changed) > MOST_NAMED else ''
    )


# --- the description of a folder's checkpoints --------------------------------------------------------------------------


def describe(folder: str, config: Config, first_step: int) -> None:
    """Notes the settings with which the checkpoints of a folder are written from now on.

    folder: of this machine or of TensorFlow's file systems. first_step: updates done before. The file gets an entry
    where the settings are others than those of its last one, or the run began before that one's did.
    Raises OSError or tf.errors.OpError where it cannot be written.
    """
    try:
        entries = _entries(folder)
    except CheckpointError:  # a damaged file describes nothing
        entries = []
    digests = config.digests()
    entry = {
        'first_step': first_step,
        'digests': digests._asdict(),
        SEED: config.seed,
        'params': params.to_keep(config),
        'since': datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='seconds'),
    }
    last = entries[-1] if entries else None
    if (
        last
        and last['first_step'] <= first_step
        and all(last[name] == entry[name] for name in ('digests', SEED))
    ):
        return
    path = f'{folder}/{DESCRIPTION}'
    with tf.gfile.Open(path + '.half', 'w') as file:
        file.write(json.dumps(entries + [entry], indent=1, sort_keys=True))
    tf.gfile.Rename(path + '.half', path, overwrite=True)


def description(prefix: str) -> typing.Dict[str, typing.Any]:
    """The params dictionary of a checkpoint by its path, or {} where its folder describes none.

    Raises CheckpointError where the description is damaged.
    """
    step = re.search(r'-(\d+)$', prefix)
    if not step:
        return {}
    entries = [
        entry
        for entry in _entries(os.path.dirname(prefix) or '.')
        if entry['first_step'] < int(step.group(1))
        or entry['first_step'] == int(step.group(1)) == 0
    ]
    return entries[-1]['params'] if entries else {}


def _entries(folder):
    path = f'{folder}/{DESCRIPTION}'
    try:
        if not tf.gfile.Exists(path):
            return []
        with tf.gfile.Open(path, 'rb') as file:
            entries = json.loads(file.read().decode('utf-8'))
        if not all(
            isinstance(entry['params'], dict)
            and isinstance(entry['first_step'], int)
            and entry['digests']
            and SEED in entry
            for entry in entries
        ):
            raise ValueError('an entry is incomplete')
        return list(entries)
    except (ValueError, KeyError, TypeError, RecursionError, tf.errors.OpError) as error:
        raise CheckpointError(
            f'{path} does not describe its checkpoints ({str(error).splitlines()[0]}); take it away, and '
            'the flags decide on the settings'
        )
