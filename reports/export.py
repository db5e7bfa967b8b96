"""Writes the rows of a report as CSV, JSON and LaTeX."""

import csv
import datetime
import io
import json
import math
from typing import Dict, Sequence

from reports.columns import Cell
from reports.selection import Sheet
from reports.text import safe

# The columns of a LaTeX table, unless others are asked for.
PAPER = (
    'rule',
    'dataset',
    'model',
    'seed',
    'top1',
    'weight_angle',
    'gradient_angle',
    'n',
    'top1_mean',
    'top1_std',
    'top1_low',
    'top1_high',
)
LATEX: Dict[str, str] = {
    '\\': r'\textbackslash{}',
    '~': r'\textasciitilde{}',
    '^': r'\textasciicircum{}',
    '<': r'\textless{}',
    '>': r'\textgreater{}',
    '|': r'\textbar{}',
    '"': r'\textquotedbl{}',
    '°': r'\textdegree{}',
    **{character: '\\' + character for character in '&%$#_{}'},
}


def as_csv(sheet: Sheet) -> str:
    """Returns rows as CSV, with a line of names.

    Numbers have all of their digits; times are in UTC and ISO 8601. A missing value is empty, and a
    mean over a value that is missing is nan.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator='\n')
    writer.writerow([column.name for column in sheet.columns])
    for row in zip(*[column.values for column in sheet.columns]):
        writer.writerow(map(_in_file, row))
    return buffer.getvalue()


def as_json(sheet: Sheet) -> str:
    """Returns rows as a JSON list of objects, one a line.

    Times are as in CSV. Missing values, and numbers that are not finite, are null.
    """
    rows = [
        {column.name: _in_json(value) for column, value in zip(sheet.columns, row)}
        for row in zip(*[column.values for column in sheet.columns])
    ]
    lines = ',\n'.join(json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows)
    return f'[\n{lines}\n]\n' if rows else '[]\n'


def as_latex(sheet: Sheet, notes: Sequence[str] = ()) -> str:
    """Returns rows as a LaTeX tabular that needs the package booktabs.

    Args:
        sheet: The rows and columns.
        notes: Lines about what the rows do not contain; they become comments.
    """
    shown = sheet.columns
    if not sheet.is_chosen:
        shown = [column for column in shown if column.name in PAPER]
    lines = [
        '% needs \\usepackage{booktabs}',
        *[f'% {safe(note)}' for note in notes],
        f'\\begin{{tabular}}{{{"".join("l" if column.is_text else "r" for column in shown)}}}',
        '\\toprule',
        _latex_row([column.title for column in shown]),
        '\\midrule',
        *[_latex_row(row) for row in zip(*[column.texts for column in shown])],
        '\\bottomrule',
        '\\end{tabular}',
    ]
    return '\n'.join(lines) + '\n'


def _latex_row(cells: Sequence[str]) -> str:
    """Returns a row of a table. A missing value is a dash."""
    return ' & '.join('--' if cell == '-' else escaped(cell) for cell in cells) + r' \\'


def escaped(text: str) -> str:
    """Returns text that LaTeX prints literally. Characters that cannot be printed become '?'."""
    return ''.join(LATEX.get(c, c if c.isprintable() else '?') for c in text)


def _in_file(value: Cell) -> str:
    if value is None:
        return ''
    if isinstance(value, datetime.datetime):
        return f'{value:%Y-%m-%dT%H:%M:%SZ}'
    return repr(value) if isinstance(value, float) else str(value)


def _in_json(value: Cell) -> Cell:
    if isinstance(value, datetime.datetime):
        return _in_file(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
