"""The results of an experiment as lines of a CSV file: one line for each run that has ended.

The file is what survives a machine. Several processes may append to it: each line is written and
synced under a lock. A line that was cut off when its process died is recognised and removed.
"""

import csv
import enum
import io
import json
import os
import re
from typing import Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from config.rows import ConfigError, Value
from experiments import files

# A line ends in the digest of its settings, which tells whether the line is complete.
DIGEST = re.compile('[0-9a-f]{16}')


class State(enum.Enum):
    """How a run ended: at its last step, or because it diverged."""

    FINISHED = 'finished'
    LOST = 'lost'


class Key(NamedTuple):
    """What a run is recognised by.

    Attributes:
        digest: The digest of its settings (config.schema.Digests.settings).
        seed: Its seed, which the digest leaves out.
        runtime: The version of TensorFlow that it was trained with.
    """

    digest: str
    seed: int
    runtime: str


class Measured(NamedTuple):
    """What was measured in a run.

    Attributes:
        step: The step of its last validation, or None if there was none.
        top1: The top-1 of its last validation, like all results below up to gradient_angle.
        top5: The top-5.
        loss: The mean cross-entropy, in nats.
        weight_angle: The mean weight angle over the layers, in degrees.
        projection_angle: The mean projection angle, in degrees.
        gradient_angle: The mean gradient angle, in degrees.
        best_step: The step of the validation with the largest top-1, not counting step 0. None if
            some of the records are missing.
        best_top1: The top-1 of this validation.
        best_top5: The top-5 of this validation.
        best_loss: The loss of this validation.
        ties: How many images of the last validation have a label that shares the largest logit.
        images: How many images a validation has.
        seconds: The time that the recorded steps took.
        process_seconds: The time of the whole process, or None if several processes trained it.
    """

    step: Optional[int] = None
    top1: Optional[float] = None
    top5: Optional[float] = None
    loss: Optional[float] = None
    weight_angle: Optional[float] = None
    projection_angle: Optional[float] = None
    gradient_angle: Optional[float] = None
    best_step: Optional[int] = None
    best_top1: Optional[float] = None
    best_top5: Optional[float] = None
    best_loss: Optional[float] = None
    ties: Optional[int] = None
    images: Optional[int] = None
    seconds: Optional[float] = None
    process_seconds: Optional[float] = None


class Source(NamedTuple):
    """Where and how a run was trained.

    Attributes:
        threads: How many threads computed it, or None if this is unknown.
        cpu: The type of the CPU, or '' if this is unknown.
        runtime: The version of TensorFlow, such as 'TensorFlow 2.21.0'.
        commit: The commit of the program, with a '+' if there were uncommitted changes.
        exp_id: The name of the run in the database.
        record: The `_id` of the record of the last validation, or ''.
        settings: The settings that differ from their defaults, without the seed, as JSON.
        digest: The digest of these settings.
    """

    threads: Optional[int]
    cpu: str
    runtime: str
    commit: str
    exp_id: str
    record: str
    settings: str
    digest: str


class Line(NamedTuple):
    """A run that has ended.

    Attributes:
        factors: {name: value as text} of what distinguishes the run from others, without the seed.
        seed: The seed of the run.
        state: How it ended.
        measured: What was measured.
        source: Where and how it was trained.
    """

    factors: Mapping[str, str]
    seed: int
    state: State
    measured: Measured
    source: Source

    @property
    def key(self) -> Key:
        """What the run is recognised by."""
        return Key(self.source.digest, self.seed, self.source.runtime)


# Every column after those of the factors. The digest is the last one.
COLUMNS: Tuple[str, ...] = ('seed', 'state', *Measured._fields, *Source._fields)
WHOLE = ('step', 'best_step', 'ties', 'images')


def text(value: Value) -> str:
    """Returns a value of a setting as on the command line."""
    if isinstance(value, bool):
        return 'true' if value else 'false'
    if isinstance(value, (tuple, list)):
        return ','.join(map(str, value))
    return 'none' if value is None else str(value)


def texts(line: Line) -> Dict[str, str]:
    """Returns a line as {column: text}. Numbers keep all of their digits."""
    values: Dict[str, object] = dict(line.measured._asdict(), **line.source._asdict())
    named = {name: '' if value is None else str(value) for name, value in values.items()}
    return dict(line.factors, seed=str(line.seed), state=line.state.value, **named)


def of_texts(named: Mapping[str, str]) -> Line:
    """Returns the line of {column: text}.

    Raises:
        ValueError: A text is not what its column holds, or a column is missing.
    """
    missing = [name for name in COLUMNS if name not in named]
    if missing:
        raise ValueError(f'the column {missing[0]} is missing')
    json.loads(named['settings'])
    measured = {name: _number(name, named[name]) for name in Measured._fields}
    source = {name: named[name] for name in Source._fields if name != 'threads'}
    if not DIGEST.fullmatch(source['digest']):
        raise ValueError(f'{source["digest"]!r} is not a digest')
    return Line(
        {name: text for name, text in named.items() if name not in COLUMNS},
        int(named['seed']),
        State(named['state']),
        Measured(**measured),  # type: ignore[arg-type]
        Source(threads=int(named['threads']) if named['threads'] else None, **source),
    )


def _number(name: str, text: str) -> Optional[float]:
    kind: Callable[[str], float] = int if name in WHOLE else float
    return kind(text) if text else None


class File:
    """The CSV file of an experiment.

    Args:
        path: Its path. The file and its folder are created with the first line.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def read(self) -> List[Line]:
        """Returns the lines; a last line that is cut off is left out.

        Raises:
            ConfigError: The file cannot be read, or a line is damaged.
        """
        try:
            with open(self.path, 'rb') as file:
                return _parsed(file.read(), self.path).lines
        except FileNotFoundError:
            return []
        except OSError as error:
            raise ConfigError(f'{self.path} cannot be read ({error.strerror})')

    def append(self, line: Line, defaults: Mapping[str, str]) -> bool:
        """Appends a line, unless the file has a line with its key.

        Args:
            line: The line.
            defaults: {factor: value as text} for earlier lines, if the line brings new columns.

        Returns:
            Whether the line was appended.

        Raises:
            ConfigError: The file cannot be read or written, or a line is damaged.
        """
        with files.writing(self.path) as descriptor:
            return self._append(descriptor, line, defaults)

    def prepare(self) -> None:
        """Creates the file if it does not exist, so that no training is started in vain.

        Raises:
            ConfigError: The file cannot be read or written, or a line is damaged.
        """
        with files.writing(self.path):
            self.read()

    def _append(self, descriptor: int, line: Line, defaults: Mapping[str, str]) -> bool:
        with open(self.path, 'rb') as file:
            content = _parsed(file.read(), self.path)
        if line.key in {other.key for other in content.lines}:
            return False
        added = [name for name in line.factors if name not in content.factors]
        factors = content.factors + added
        if content.is_whole and not added:
            os.lseek(descriptor, 0, os.SEEK_END)
            files.write(descriptor, files.encoded([_fields(line, factors, defaults)]))
            return True
        rows = [factors + list(COLUMNS)]
        rows += [_fields(each, factors, defaults) for each in content.lines + [line]]
        files.replace(self.path, files.encoded(rows))
        return True


class _Content(NamedTuple):
    """A file that was read.

    Attributes:
        factors: Its columns before those of COLUMNS.
        lines: Its complete lines.
        is_whole: Whether it has a header and its last line is complete.
    """

    factors: List[str]
    lines: List[Line]
    is_whole: bool


def _parsed(content: bytes, path: str) -> _Content:
    """Returns the content of a file.

    Raises:
        ConfigError: A line is damaged.
    """
    try:
        decoded = content.decode('utf-8')
        rows = list(csv.reader(io.StringIO(decoded, newline='')))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f'{path} is not a CSV file ({error}); restore it or choose another --csv')
    is_whole = decoded.endswith('\n')
    if not is_whole and rows and not _is_complete(rows):
        rows.pop()
    if not rows:
        return _Content([], [], False)
    header = rows[0]
    factors = header[: -len(COLUMNS)]
    if tuple(header[-len(COLUMNS) :]) != COLUMNS:
        raise ConfigError(
            f'{path} does not have the columns of an experiment; choose another --csv'
        )
    found = []
    for number, row in enumerate(rows[1:], 2):
        try:
            if len(row) != len(header):
                raise ValueError(f'it has {len(row)} fields instead of {len(header)}')
            found.append(of_texts(dict(zip(header, row))))
        except ValueError as error:
            raise ConfigError(f'{path}, line {number}: {error}; correct or remove this line')
    return _Content(factors, found, is_whole)


def _is_complete(rows: Sequence[Sequence[str]]) -> bool:
    """Returns whether the last row, which lacks its newline, is complete otherwise."""
    last = rows[-1]
    return len(rows) > 1 and len(last) == len(rows[0]) and bool(DIGEST.fullmatch(last[-1]))


def _fields(line: Line, factors: Sequence[str], defaults: Mapping[str, str]) -> List[str]:
    """Returns the fields of a line. A factor that did not vary is read from its settings."""
    named = texts(line)
    known = {name: text(value) for name, value in json.loads(line.source.settings).items()}
    known = dict(defaults, **dict(known, **line.factors))
    return [known.get(name, '') for name in factors] + [named[name] for name in COLUMNS]
