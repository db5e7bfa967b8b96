"""Converts a Config to and from the tfutils params dictionary (plain data) and its file.

The dictionary has the form {'save_params': {'port': 29029, ...}, 'load_params': ...,
'model_params': ..., 'train_params': ..., 'loss_params': ..., 'learning_rate_params': ...,
'optimizer_params': ..., 'validation_params': ...}. Each setting has the name of its flag and is in
the group in which the table in config/schema.py lists it. A file is a .pkl, or a .json of the same
dictionary (config/text.py).
"""

import contextlib
import difflib
import os
import pickle
from typing import Dict, FrozenSet, Iterable, List, NamedTuple, Optional, Tuple

from config import authors, pickles, text
from config.declared import GROUP
from config.flags import FlagValues, given_flags
from config.rows import ANY, Choices, ConfigError, Row, Scope, Value, problem, shown
from config.schema import GROUPS, ROWS, Config, rows_of

Params = Dict[str, Dict[str, Value]]  # {group: {name: plain value}}
Loaded = Tuple[Dict[str, Value], List[str]]
LARGEST_FILE = 1 << 20  # bytes of a settings file
ENDINGS = PICKLE, JSON = '.pkl', '.json'  # of settings files


class Asked(NamedTuple):
    """The settings that a command line, and the settings file that it names, ask for.

    Attributes:
        config: The settings.
        explicit: Names of the settings given in the file or by a flag that counts. The others have
            their defaults.
        flags: Names of the settings given by flags that count.
        ignored: Names of flags that do not count because the file sets their values.
        unknown: Descriptions of what was not understood in the file.
    """

    config: Config
    explicit: FrozenSet[str] = frozenset()
    flags: FrozenSet[str] = frozenset()
    ignored: Tuple[str, ...] = ()
    unknown: Tuple[str, ...] = ()


def to_params(config: Config) -> Params:
    """Returns the params dictionary of a Config: {group: {name: plain value}}.

    Of the settings that rules declare, it contains those of the Config's own rule.
    """
    return _grouped(config, config.own())


def to_keep(config: Config) -> Params:
    """Returns the params dictionary for a settings file or the description of a checkpoint.

    It contains all settings except those of scope CALL.
    """
    return _grouped(config, [row for row in config.own() if row.scope is not Scope.CALL])


def _grouped(config: Config, rows: List[Row]) -> Params:
    params: Params = {group: {} for group in GROUPS}
    for row in rows:
        params[row.group][row.name] = _plain(config[row.name])
    return params


def values_of(
    params: object, choices: Choices = ANY, where: str = 'the params dictionary'
) -> Dict[str, Value]:
    """Returns the settings in a params dictionary: {name: value}.

    Args:
        params: The params dictionary.
        choices: {registry name: legal values}, as for Config.of.
        where: What messages call the dictionary.

    Raises:
        ConfigError: The dictionary contains anything else. The message lists it.
    """
    if not isinstance(params, dict):
        raise ConfigError(
            '{} holds {}, not a dictionary of {}'.format(
                where, type(params).__name__, ', '.join(GROUPS)
            )
        )
    unknown = [
        shown(group) + _did_you_mean(group, GROUPS) for group in params if group not in GROUPS
    ]
    values = {}
    for group in set(GROUPS).intersection(params):
        if not isinstance(params[group], dict):
            raise ConfigError(f'{where}: {group} must be a dictionary')
        rows = rows_of(choices, params[group] if group == GROUP else {})
        for name, value in params[group].items():
            if name in rows and rows[name].group == group:
                values[name] = value
            else:
                unknown.append(f'{shown(name)} in {group}{_hint(name, rows)}')
    if unknown:
        raise ConfigError(
            '{} holds settings that do not exist here: {}'.format(where, ', '.join(sorted(unknown)))
        )
    return values


def _hint(name: object, rows: Dict[str, Row]) -> str:
    """Returns what is right instead of a name that does not exist in its group, or ''."""
    if name in rows:
        return f' (it belongs to {rows[str(name)].group})'
    return _did_you_mean(name, rows)


def _did_you_mean(name: object, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(str(name), names, 1) if isinstance(name, str) else []
    return f' (did you mean {close[0]}?)' if close else ''


def save(config: Config, path: str) -> None:
    """Writes the settings to a file: a .pkl (pickle protocol 2, plain data only), or a .json.

    Raises:
        ConfigError: The file cannot be written.
    """
    _check_name('save_params_file', path)
    temporary, document = path + '.part', {'params': to_keep(config)}
    try:
        content = text.dumps(document) if path.endswith(JSON) else pickle.dumps(document, 2)
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)
        with open(temporary, 'xb') as file:  # not what a link of this name points to
            file.write(content)
        os.replace(temporary, path)
    except text.TextError as error:
        raise ConfigError(f'--save_params_file={path}: {error}')
    except OSError as error:
        raise ConfigError(f'--save_params_file={path}: {error.strerror}')


def load(path: str, choices: Choices = ANY) -> Loaded:
    """Reads a .pkl or .json file. Nothing in the file is executed.

    Args:
        path: Path of the file, which ends in one of ENDINGS.
        choices: {registry name: legal values}, as for Config.of.

    Returns:
        ({name: value} of the settings, descriptions of what was not understood). The list is empty
        unless the file is an authors' file (config/authors.py).

    Raises:
        ConfigError: The file does not exist, is damaged, holds settings or values that cannot be,
            or is neither plain data nor an authors' file.
    """
    _check_name('load_params_file', path)
    try:
        with open(path, 'rb') as file:
            content = file.read(LARGEST_FILE + 1)
    except OSError as error:
        hint = (
            '; `python -m config.recipes` writes our recipes (imagenet_symmetric, ...), and '
            'config/get_configs.sh downloads '
            "the authors' files (symmetric, ...)"
            if os.path.dirname(path).endswith('config')
            else ''
        )
        raise ConfigError(f'--load_params_file={path}: {error.strerror}{hint}')
    if len(content) > LARGEST_FILE:
        raise ConfigError(
            f'--load_params_file={path}: it is larger than {LARGEST_FILE:,} bytes, so it cannot be '
            'a settings file'
        )
    try:
        document = (text.loads if path.endswith(JSON) else pickles.plain)(content)
    except text.TextError as error:
        raise ConfigError(f'--load_params_file={path}: {error}')
    except pickles.PickleError as error:
        found = _of_the_authors(content, path)
        if found is None:
            raise ConfigError(f'--load_params_file={path}: {error}')
        return found
    if not isinstance(document, dict) or set(document) != {'params'}:
        raise ConfigError(
            f"--load_params_file={path}: not a settings file (it must contain {{'params': ...}})"
        )
    values = values_of(document['params'], choices, where=path)
    # Files of earlier versions also contain the settings of one call, such as dry_run.
    call = {name for name, row in ROWS.items() if row.scope is Scope.CALL}
    kept = {name: value for name, value in values.items() if name not in call}
    if path.endswith(JSON):
        _check_values(kept, choices, path)
    return kept, []


def _check_values(values: Dict[str, Value], choices: Choices, path: str) -> None:
    """Raises ConfigError that names the file for values that cannot be; names may come later."""
    rows = rows_of(choices, values)
    problems = {name: problem(rows[name], value, ANY) for name, value in values.items()}
    wrong = [f'--{name} {told}' for name, told in problems.items() if told]
    if wrong:
        raise ConfigError(f'--load_params_file={path}: {"; ".join(wrong)}')


def _of_the_authors(content: bytes, path: str) -> Optional[Loaded]:
    """Returns what `load` does for an authors' file, or None for another kind of file."""
    try:
        document = pickles.inert(content)
    except pickles.PickleError:
        return None
    if not isinstance(document, dict) or not authors.is_authors(document):
        return None
    try:
        return authors.settings(document)
    except ConfigError as error:
        raise ConfigError(f'--load_params_file={path}: {error}')


def _check_name(flag: str, path: str) -> None:
    if not path.endswith(ENDINGS):
        raise ConfigError(f'--{flag}={path} must end in {" or ".join(ENDINGS)}')


def _plain(value: Value) -> Value:
    return list(value) if isinstance(value, tuple) else value


def read(flag_values: FlagValues, choices: Choices) -> Asked:
    """Returns the settings that the command line asks for.

    Flags that always count and flags that --override names take precedence over the settings file,
    which takes precedence over the defaults. The suffix of the exp_id is appended to the one in the
    file.

    Args:
        flag_values: absl's flags, parsed.
        choices: {registry name: legal values}, as for Config.of.

    Raises:
        ConfigError: The settings are not valid, or the file cannot be used.
    """
    given, rows = given_flags(flag_values, choices), rows_of(choices)
    path = flag_values.load_params_file
    if path is None:
        return _asked(given, given, choices)
    loaded, unknown = load(path, choices)
    override = given.get('override')
    counting = {
        name: value
        for name, value in given.items()
        if rows[name].always or isinstance(override, list) and name in override
    }
    before, after = loaded.get('exp_id_suffix'), counting.get('exp_id_suffix')
    if after and isinstance(before, str):
        counting['exp_id_suffix'] = f'{before}{after}'
    values = dict(loaded, **counting)
    return _asked(values, counting, choices)._replace(
        ignored=tuple(name for name in given if name not in counting), unknown=tuple(unknown)
    )


def _asked(values: Dict[str, Value], flags: Dict[str, Value], choices: Choices) -> Asked:
    config = Config.of(values, choices)
    idle = [name for name in config.override if name not in values]
    if idle:
        raise ConfigError(
            f'--override={",".join(idle)} has no effect without '
            f'{", ".join("--" + name for name in idle)}'
        )
    return Asked(config, frozenset(values), frozenset(flags))
