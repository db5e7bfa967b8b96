"""The table of the subcommands of runs.py. A new command is one class, and one line here."""

from typing import Dict

from manage import notes
from manage.command import Command

COMMANDS: Dict[str, Command] = {
    'tag': notes.Tag(),
    'note': notes.Write(),
}
