"""The table of the subcommands of runs.py. A new command is one class, and one line here."""

from typing import Dict

from manage import checking, deleting, exporting, importing, listing, notes, repeating, showing
from manage.command import Command

COMMANDS: Dict[str, Command] = {
    'list': listing.ListAll(),
    'show': showing.Show(),
    'diff': showing.Diff(),
    'command': repeating.Repeat(),
    'check': checking.Check(),
    'tag': notes.Tag(),
    'note': notes.Write(),
    'delete': deleting.Delete(),
    'export': exporting.Export(),
    'import': importing.Import(),
}
