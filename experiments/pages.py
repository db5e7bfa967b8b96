"""The tables of experiments in pages of the documentation.

A page has an indented line `make NAME` above the tables that this command prints. A printed table
replaces the table with the same header under the same command.
"""

from typing import Dict, List, Mapping, NamedTuple, Optional

COMMAND = '    make '


class Name(NamedTuple):
    """What a table is recognised by.

    Attributes:
        target: The target of the Makefile that prints it.
        header: Its first line, with single spaces.
    """

    target: str
    header: str


def tables(output: str, target: str) -> Dict[Name, str]:
    """Returns the tables in what an experiment prints.

    Args:
        output: What is printed.
        target: The target of the experiment in the Makefile.
    """
    found: Dict[Name, str] = {}
    for block in _blocks(output):
        if block[0].startswith('|'):
            found[Name(target, _header(block))] = '\n'.join(block)
    return found


def updated(page: str, printed: Mapping[Name, str]) -> str:
    """Returns a page in which the printed tables replace its own.

    Args:
        page: The text of the page.
        printed: The printed tables.
    """
    found: List[str] = []
    target: Optional[str] = None
    for block in _blocks(page):
        for line in block:
            if line.startswith(COMMAND):
                target = line[len(COMMAND) :].split()[0]
        table = None
        if target and block[0].startswith('|'):
            table = printed.get(Name(target, _header(block)))
        found.append(table or '\n'.join(block))
    return '\n'.join(found)


def _header(block: List[str]) -> str:
    return ' '.join(block[0].split())


def _blocks(text: str) -> List[List[str]]:
    """Returns the lines of a text; the lines of each table are together."""
    found: List[List[str]] = []
    for line in text.split('\n'):
        if line.startswith('|') and found and found[-1][0].startswith('|'):
            found[-1].append(line)
        else:
            found.append([line])
    return found
