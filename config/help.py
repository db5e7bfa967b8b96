"""The text of --help: the flags of a command in groups, with the most used ones first.

`train.py --help` prints all flags, `train.py --help=rule` prints one group, and `train.py
--helpshort` prints the most used flags. This module only imports the standard library.
"""

import re
import textwrap
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from config.rows import ConfigError, HelpGroup, Value

WIDTH = 80


class Flag(NamedTuple):
    """A flag.

    Attributes:
        help: What it does.
        default: Its default value; None if it has none.
        is_switch: Whether it is given as --name or --noname.
    """

    help: str
    default: Value
    is_switch: bool


class Page(NamedTuple):
    """The help of one command.

    Attributes:
        about: What the command does.
        groups: {flag: HelpGroup} of all its flags, in the order of the help.
        most_used: The flags to print first, also within their groups.
    """

    about: str
    groups: Mapping[str, HelpGroup]
    most_used: Tuple[str, ...]


class Asked(NamedTuple):
    """What kind of help a command line asks for.

    Attributes:
        short: Whether it asks for the most used flags only.
        group: The name of the group that it asks for; None for all groups.
    """

    short: bool = False
    group: Optional[str] = None


def asked(words: Sequence[str]) -> Optional[Asked]:
    """Returns the help that a command line asks for, or None.

    Args:
        words: The command line, starting with the program.
    """
    for word in words[1:]:
        found = re.match(r'--?(help|helpshort|\?)(?:=(.*))?$', word)
        if found:
            return Asked(found.group(1) == 'helpshort', found.group(2))
        if word == '--':  # the words after it are not flags
            break
    return None


def text(page: Page, flags: Mapping[str, Flag], what: Asked, program: str) -> str:
    """Returns the help of a command, in lines of at most 80 columns.

    Args:
        page: The help of the command.
        flags: {name: Flag} of the flags in the page.
        what: What kind of help.
        program: The name of the command, such as train.py.

    Raises:
        ConfigError: There is no such group.
    """
    groups: Dict[HelpGroup, List[str]] = {
        group: sorted(
            (name for name, other in page.groups.items() if other is group),
            key=lambda name: name not in page.most_used,
        )
        for group in HelpGroup
        if group in page.groups.values()
    }
    named = {group.option: group for group in groups}
    if what.group is not None and what.group not in named:
        raise ConfigError(
            f'--help={what.group}: there is no such group of flags; the groups are '
            f'{", ".join(named)}'
        )
    if what.group is not None:
        return _section(named[what.group], groups[named[what.group]], flags)
    parts = [page.about.rstrip(), _listed('Most used flags:', page.most_used, flags)]
    options = ', '.join(named)
    if what.short:
        parts.append(_wrapped(f'`{program} --help` prints all flags, in these groups: {options}.'))
    else:
        parts.append(
            _wrapped(f'All flags follow in groups: {options}. `{program} --help=GROUP` prints one.')
        )
        parts += [_section(group, names, flags) for group, names in groups.items()]
    return '\n\n'.join(parts)


def _section(group: HelpGroup, names: Sequence[str], flags: Mapping[str, Flag]) -> str:
    """Returns the help of one group."""
    return _listed(f'{group.option}: {group.value}', names, flags)


def _listed(title: str, names: Sequence[str], flags: Mapping[str, Flag]) -> str:
    return '\n'.join([title] + [_described(name, flags[name]) for name in names])


def _described(name: str, flag: Flag) -> str:
    """Returns the help of one flag: its name, what it does and its default."""
    default = _shown(flag.default)
    line = '  --{}{}: {}{}'.format(
        '[no]' if flag.is_switch else '', name, flag.help, f' (default: {default})' * bool(default)
    )
    return _wrapped(line, '      ')


def _shown(default: Value) -> str:
    """Returns a default as people write it; '' if there is none."""
    if isinstance(default, bool):
        return 'on' if default else 'off'
    if isinstance(default, float):
        return f'{default:g}'
    if isinstance(default, (list, tuple)):
        return ','.join(map(str, default))
    return '' if default is None else str(default)


def _wrapped(line: str, indent: str = '') -> str:
    return textwrap.fill(
        line, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
