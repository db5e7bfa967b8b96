"""Runs as pandas data frames, for notebooks."""

import dataclasses
import enum
from typing import Dict, List, Optional, Sequence, Union

import pandas

from config.schema import ROWS
from database.errors import StoreError
from database.layout import MAY_BE_UNDEFINED
from database.types import Document
from reports import missing, runs, view
from reports.stored import LOSSES, Point, finite
from reports.selection import Selection, Sheet

OF_A_RUN = ('exp_id', 'rule', 'dataset', 'model', 'seed')  # columns in front of each step
RENAMED = {'loss': 'training_loss'}  # of the losses, because validations have a loss, too
SINGULAR = {name: name[:-1] for name in MAY_BE_UNDEFINED}


class Per(enum.Enum):
    """What a row of a data frame shows."""

    GROUP = 'group'
    RUN = 'run'
    STEP = 'step'
    LAYER = 'layer'


def frame(
    dbname: str,
    per: Union[Per, str] = Per.RUN,
    *,
    where: str = '',
    sort: Sequence[str] = (),
    columns: Sequence[str] = (),
    exp_ids: Sequence[str] = (),
    collname: Optional[str] = None,
    host: str = str(ROWS['host'].default),
    port: int = int(str(ROWS['port'].default)),
    cache_dir: Optional[str] = None,
) -> pandas.DataFrame:
    """Reads the runs of a database into a data frame.

    With Per.RUN and Per.GROUP, the columns are those of `report.py --csv`, and of `--group=seed`.
    With Per.STEP, there is a row for each record of each run: the means of its losses, and the
    results of its validation, by layer as means over the layers. With Per.LAYER, there is a row for
    each layer of each record with a validation. Both leave out runs whose import or deletion is not
    finished. Missing values are NaN.

    Args:
        dbname: Name of the database.
        per: What a row shows: Per.RUN, Per.STEP, Per.LAYER or Per.GROUP, or its value.
        where: Conditions as for `report.py --where`. With Per.STEP and Per.LAYER, they select runs.
        sort: Names of columns to sort the runs or groups by; with a '-', descending.
        columns: Names of columns of runs or groups, which may be settings, or () for all. With
            Per.STEP and Per.LAYER, they replace the columns in front of the step.
        exp_ids: The experiments to read, or () for all.
        collname: Reads only the runs of this collection, or all if None.
        host: Name or address of the MongoDB server.
        port: TCP port of the server.
        cache_dir: The cache folder, where records may be waiting; ~/.tfutils if None.

    Raises:
        ConfigError: A column does not exist, or a condition cannot be understood.
        StoreError: MongoDB cannot be read, or the database, the collection or an experiment does
            not exist.
        ValueError: `per` is no value of Per.
    """
    per = Per(per)
    curves = per in (Per.STEP, Per.LAYER)
    found, trouble = runs.read(host, port, dbname, exp_ids, collname, cache_dir, curves)
    lost = set(exp_ids) - {run.exp_id for run in found}
    told = missing.message(host, port, dbname, collname, lost) if lost or not found else None
    if trouble or told:
        raise StoreError(trouble or told)
    selection = Selection(where, tuple(sort), tuple(columns))
    if per is Per.GROUP:
        return _of_sheet(view.of_groups(found, selection).sheet)
    if per is Per.RUN:
        return _of_sheet(view.of_runs(found, selection).sheet)
    chosen = view.of_runs(
        found, dataclasses.replace(selection, columns=selection.columns or OF_A_RUN)
    )
    rows_of = _row if per is Per.STEP else _layers
    return pandas.DataFrame(
        [
            dict(own, **row)
            for own, run in zip(_rows(chosen.sheet), chosen.runs)
            if not run.is_in_part
            for point in run.points
            for row in rows_of(point)
        ]
    )


def _of_sheet(sheet: Sheet) -> pandas.DataFrame:
    """Returns a data frame with the rows and columns of a report."""
    return pandas.DataFrame(_rows(sheet) or None, columns=[column.name for column in sheet.columns])


def _rows(sheet: Sheet) -> List[Document]:
    """Returns {name: value} of each row."""
    names = [column.name for column in sheet.columns]
    return [dict(zip(names, row)) for row in zip(*[column.values for column in sheet.columns])]


def _row(point: Point) -> List[Document]:
    """Returns the row of a record, in a list: losses, and results as numbers."""
    losses = {RENAMED.get(name, name): point.losses.get(name) for name in LOSSES}
    results = {SINGULAR.get(name, name): runs.mean(value) for name, value in point.results.items()}
    return [dict(step=point.step, **losses, **results)]


def _layers(point: Point) -> List[Document]:
    """Returns the rows of a record: one for each layer with a result."""
    found: Dict[str, Document] = {}
    for name, values in point.results.items():
        for layer, value in values.items() if isinstance(values, dict) else ():
            own = found.setdefault(layer, dict(step=point.step, layer=layer))
            own[SINGULAR.get(name, name)] = finite(value)
    return list(found.values())
