"""Texts that several commands print: columns, sizes and counts."""

from typing import List, Sequence


def columns(
    rows: Sequence[Sequence[str]], heading: Sequence[str] = (), right: Sequence[int] = ()
) -> List[str]:
    """Returns one line for each row, with the cells below each other and two spaces between them.

    Args:
        rows: The cells. All rows have the same number of them.
        heading: The cells of a first row; () for none. Without rows there is no heading either.
        right: The numbers of the columns that are right-aligned, from 0.
    """
    if not rows:
        return []
    rows = [heading, *rows] if heading else rows
    widths = [max(map(len, cells)) for cells in zip(*rows)]
    return [
        '  '.join(
            cell.rjust(width) if number in right else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in rows
    ]


def size(count: float) -> str:
    """Returns a number of bytes with a decimal unit, such as '1.2 MB'."""
    for unit in ('B', 'kB', 'MB', 'GB'):
        if count < 999.5:
            break
        count /= 1000.0
    else:
        unit = 'TB'
    return f'{count:.0f} {unit}' if unit == 'B' else f'{count:.1f} {unit}'


def counted(count: int, noun: str) -> str:
    """Returns a number and a noun in the singular or the plural, such as '1,200 records'."""
    return f'{count:,} {noun}{"" if count == 1 else "s"}'
