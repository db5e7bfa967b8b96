"""Config <-> the tfutils params dictionary (plain data), and its .pkl file.

{'save_params': {'port': 29029, ...}, 'load_params': ..., 'model_params': ..., 'train_params': ...,
 'loss_params': ..., 'learning_rate_params': ..., 'optimizer_params': ..., 'validation_params':
...}: each setting by the name of its flag, in the group where the table in config/schema.py has it.
"""

import os
import pickle
import typing

from config import authors, pickles
from config.flags import given_flags
from config.schema import GROUPS, ROWS, Config, ConfigError, Scope, shown


class Asked(typing.NamedTuple):
    """What a command line and the settings file that it names ask for.

    explicit: names of the settings that the file or a flag that counts gives; the others have their
    defaults.
    flags: names of the settings that flags that count give.
    ignored: names of flags that were given but do not count beside the file.
    unknown: what was not understood in the file, as text.
    """

    config: Config
    explicit: typing.FrozenSet[str] = frozenset()
    flags: typing.FrozenSet[str] = frozenset()
    ignored: typing.Tuple[str, ...] = ()
    unknown: typing.Tuple[str, ...] = ()


def to_params(config):
    """The params dictionary of a Config: {group: {name: plain value}}."""
    return {
        group: {row.name: _plain(getattr(config, row.name)) for row in rows}
        for group, rows in GROUPS.items()
    }


def to_keep(config):
    """The same of the settings that a settings file or a checkpoint's description holds: all but
    those of a single call.
    """
    return {
        group: {
            row.name: _plain(getattr(config, row.name))
            for row in rows
            if row.scope is not Scope.CALL
        }
        for group, rows in GROUPS.items()
    }


def values_of(params, where='the params dictionary'):
    """{name: value} of a params dictionary. Raises ConfigError that names what does not belong
    there.
    """
    if not isinstance(params, dict):
        raise ConfigError(
            '{} holds {}, not a dictionary of {}'.format(
                where, type(params).__name__, ', '.join(GROUPS)
            )
        )
    unknown = [shown(group) for group in params if group not in GROUPS]
    values = {}
    for group in set(GROUPS).intersection(params):
        if not isinstance(params[group], dict):
            raise ConfigError(f'{where}: {group} must be a dictionary')
        for name, value in params[group].items():
            if name in ROWS and ROWS[name].group == group:
                values[name] = value
            else:
                unknown.append(f'{shown(name)} in {group}')
    if unknown:
        raise ConfigError(
            '{} holds settings that do not exist here: {}'.format(where, ', '.join(sorted(unknown)))
        )
    return values


def save(config, path):
    """Write the settings to a .pkl (pickle protocol 2, plain data only). Raises ConfigError if it
    cannot be written.
    """
    _check_name('save_params_file', path)
    temporary = path + '.part'
    try:
        with open(temporary, 'wb') as file:
            pickle.dump({'params': to_keep(config)}, file, protocol=2)
        os.replace(temporary, path)
    except OSError as error:
        raise ConfigError(f'--save_params_file={path}: {error.strerror}')


def load(path):
    """({name: value} of the settings, [what was not understood]) of a .pkl. Nothing in the file is
    executed.

    The list is empty for a file of ours; only the authors' own files (config/authors.py) can hold
    what we have no name for.
    Raises ConfigError if there is no such file, if it is damaged or if it holds anything but plain
    data.
    """
    _check_name('load_params_file', path)
    try:
        with open(path, 'rb') as file:
            content = file.read()
    except OSError as error:
        hint = (
            '; `python -m config.recipes` writes our recipes (imagenet_symmetric, ...), and '
            'config/get_configs.sh downloads '
            "the authors' files (symmetric, ...)"
            if os.path.dirname(path).endswith('config')
            else ''
        )
        raise ConfigError(f'--load_params_file={path}: {error.strerror}{hint}')
    try:
        document = pickles.plain(content)
    except pickles.PickleError as error:
        found = _of_the_authors(content, path)
        if found is None:
            raise ConfigError(f'--load_params_file={path}: {error}')
        return found
    if not isinstance(document, dict) or set(document) != {'params'}:
        raise ConfigError(
            f"--load_params_file={path}: this is no params file (it must hold {{'params': ...}})"
        )
    values = values_of(document['params'], where=path)
    # Files of earlier versions hold what one call did, too: a dry run, a restored checkpoint.
    return {name: value for name, value in values.items() if ROWS[name].scope is not Scope.CALL}, []


def _of_the_authors(content, path):
    """The same of the authors' live objects, or None if the file is not of that kind."""
    try:
        document = pickles.inert(content)
    except pickles.PickleError:
        return None
    if not authors.is_authors(document):
        return None
    try:
        return authors.settings(document)
    except ConfigError as error:
        raise ConfigError(f'--load_params_file={path}: {error}')


def _check_name(flag, path):
    if not path.endswith('.pkl'):
        raise ConfigError(f'--{flag}={path} must end in .pkl')


def _plain(value):
    return list(value) if isinstance(value, tuple) else value


def read(flag_values, choices) -> Asked:
    """What the command line asks for.

    Flags that always count come first, then those that --override names, then the settings file,
    then the defaults; the suffix of the exp_id extends the one of the file.

    flag_values: absl's, parsed. Raises ConfigError.
    """
    given = given_flags(flag_values)
    path = flag_values.load_params_file
    if path is None:
        return _asked(given, given, choices)
    loaded, unknown = load(path)
    counting = {
        name: value
        for name, value in given.items()
        if ROWS[name].always or name in given.get('override', ())
    }
    if counting.get('exp_id_suffix') and isinstance(loaded.get('exp_id_suffix'), str):
        counting['exp_id_suffix'] = loaded['exp_id_suffix'] + counting['exp_id_suffix']
    values = dict(loaded, **counting)
    return _asked(values, counting, choices)._replace(
        ignored=tuple(name for name in given if name not in counting), unknown=tuple(unknown)
    )


def _asked(values, flags, choices):
    config = Config.of(values, choices)
    idle = [name for name in config.override if name not in values]
    if idle:
        raise ConfigError(
            f'--override={",".join(idle)} has no effect without '
            f'{", ".join("--" + name for name in idle)}'
        )
    return Asked(config, frozenset(values), frozenset(flags))
