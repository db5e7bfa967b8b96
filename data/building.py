"""Builds folders of TFRecords from the images of a source, and verifies them."""

import concurrent.futures
import contextlib
import functools
import glob
import hashlib
import json
import multiprocessing
import operator
import os
import random
import signal
import struct
import sys
import threading
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

import tensorflow.compat.v1 as tf
from PIL import Image
from tqdm import tqdm

from data import files, tfrecords
from data.base import MANY_PIXELS, DataError
from data.sources import Jpeg, Source, fingerprint, limit_pixels
from data.tfrecords import DESCRIPTION, UNFINISHED
from data.types import Item, Json, Labelled, Lifeline

SEED = 0  # of the order of the records
SPLITS = ('train', 'validation')


class Written(NamedTuple):
    """The facts about a file that is finished.

    Attributes:
        images: Number of images.
        bytes: Size in bytes.
        sha256: Checksum of the file.
        labels: The labels in the file: a hexadecimal number with one bit for each.
        converted: The number of converted images by their original format.
        left_out: A message for each image that could not be read.
    """

    images: int
    bytes: int
    sha256: str
    labels: str
    converted: Dict[str, int]
    left_out: List[str]


Plan = Dict[str, Labelled]  # the images of each file, by its name


class _Stopped(Exception):
    """This process was asked to stop."""


def build(
    source: Source,
    out: str,
    shards: Optional[int] = None,
    overwrite: bool = False,
    processes: int = 1,
) -> Json:
    """Writes all records, and then dataset.json.

    Until the end, `out` contains the file dataset.json.tmp, so that a half-built folder is never
    mistaken for a complete one. That file records what is built and which files are finished. A
    later build from the same source with the same shards keeps those files.

    Args:
        source: The source of the images.
        out: Folder to write to.
        shards: Number of files per split. None means the default of the source.
        overwrite: Whether to replace records that are already in the folder.
        processes: Number of processes that read images.

    Returns:
        The content of dataset.json.

    Raises:
        DataError: `out` already holds other records, or all images of a split or of a class are
            unreadable.
        KeyboardInterrupt: Ctrl-C was pressed. Finished files are kept.
    """
    plan, identity = _plan(source, shards)
    done = _start(out, identity, overwrite)
    left = {name: examples for name, examples in plan.items() if name not in done}
    with tqdm(
        total=sum(map(len, plan.values())),
        initial=sum(map(len, plan.values())) - sum(map(len, left.values())),
        unit='image',
    ) as bar:
        for name, shard in _write_all(source, out, left, processes, bar):
            done[name] = shard
            for message in shard.left_out:
                bar.write(f'Left out: {message}', file=sys.stderr)
            _save_marker(out, identity, done)
    for path in _records(out):
        if path.endswith(UNFINISHED):
            _remove(path)
    _check(source, out, {name: done[name] for name in plan})
    description = _describe(source, {name: done[name] for name in plan})
    _save(out, description)
    os.replace(os.path.join(out, DESCRIPTION + UNFINISHED), os.path.join(out, DESCRIPTION))
    return description


def verify(out: str) -> List[str]:
    """Verifies the files of a folder.

    Counts the records. If dataset.json has checksums, compares them with those of the files, too.

    Args:
        out: A folder of TFRecords.

    Returns:
        A list of sentences on what is wrong. It is empty if the files are as they were written.

    Raises:
        DataError: `out` is not a folder of records.
    """
    folder, names = files.listed(out, 'the TFRecords train-* and validation-*')
    description = tfrecords.read_description(folder, names)
    shards, counts = description.shards or {}, dict.fromkeys(SPLITS, 0)
    wrong: List[str] = []
    found = [(split, name) for split in SPLITS for name in tfrecords.names_of(names, split)]
    if not found and not shards:
        raise DataError(f'{out} holds no TFRecords train-* and validation-*.')
    for split, name in tqdm(found, unit='file'):
        path, shard = os.path.join(folder, name), shards.get(name)
        if shards and shard is None:
            wrong.append(f'{path} is not one of the files that were written. Remove it.')
            continue
        images, problem = tfrecords.scan(path) if files.size(path) else (0, None)
        counts[split] += images
        sha256 = shard.sha256 if shard else None
        if sha256 is not None and files.size(path) and _sha256(path) != sha256:
            wrong.append(f'{path} is not as it was written. Copy it again, or build it again.')
        elif problem:
            wrong.append(problem + '.')
        elif shard and images != shard.images:
            wrong.append(
                f'{path} holds {images:,} images, but {description.source} gives {shard.images:,}.'
            )
    wrong += [
        f'{os.path.join(folder, name)} is missing.' for name in sorted(shards) if name not in names
    ]
    if not wrong:
        problems = [
            tfrecords.wrong_count(folder, description, split, counts[split]) for split in SPLITS
        ]
        wrong = [problem + '.' for problem in problems if problem]
    return wrong


def _check(source: Source, out: str, shards: Dict[str, Written]) -> None:
    """Raises DataError if a split or a class has no readable image, or a count is wrong."""
    for split in SPLITS:
        items = source.splits[split]
        mine = {name: shard for name, shard in shards.items() if name.startswith(split + '-')}
        if not sum(shard.images for shard in mine.values()):
            raise DataError(
                f'None of the {len(items):,} {split} images could be read, so {out} was left '
                'unfinished. Repair them, then build it again with --overwrite.'
            )
        if split == 'train':
            there = functools.reduce(
                operator.or_, [int(shard.labels, 16) for shard in mine.values()]
            )
            labels = sorted({int(label) for _, label in items})
            lost = [label for label in labels if not there >> label & 1]
            if lost:
                count = sum(label == lost[0] for _, label in items)
                raise DataError(
                    f'None of the {count:,} {split} images of the class '
                    f'{source.label_names[lost[0]]!r} could be read, so {out} was left '
                    'unfinished. Repair them or remove the class, then build it again with '
                    '--overwrite.'
                )
    for name, shard in shards.items():
        path = os.path.join(out, name)
        count = _count(path)
        if count != shard.images:
            raise DataError(
                f'{path} holds {count:,} images, but {shard.images:,} were written. Delete it, and '
                'run the same command again.'
            )


def _count(path: str) -> int:
    """Returns the number of records in a file. Reads only the lengths of the records."""
    number, at, size = 0, 0, os.path.getsize(path)
    with open(path, 'rb', buffering=0) as file:
        while at < size:
            file.seek(at)
            at += tfrecords.AROUND + struct.unpack('<Q', file.read(8).ljust(8, b'\xff'))[0]
            number += at <= size
    return number


def _plan(source: Source, shards: Optional[int]) -> Tuple[Plan, str]:
    """Returns the plan of what to write, and a checksum that identifies the plan."""
    plan: Plan = {}
    digest = hashlib.sha256()
    for split in SPLITS:
        items = source.splits[split]
        shuffled = random.Random(SEED).sample(items, len(items))
        count = min(shards or source.shards[split], len(items))
        plan.update(
            {
                f'{split}-{shard:05d}-of-{count:05d}': shuffled[shard::count]
                for shard in range(count)
            }
        )
    for name, examples in plan.items():
        digest.update(name.encode())
        for item, label in examples:
            digest.update(fingerprint(item) + b'%d' % label)
    return plan, digest.hexdigest()


def _start(out: str, identity: str, overwrite: bool) -> Dict[str, Written]:
    """Makes `out` a folder that is marked as unfinished.

    Returns {file name: facts about it} of the files that are finished.
    """
    if os.path.exists(out) and not os.path.isdir(out):
        raise DataError(f'{out} is a file. Give a folder to write to.')
    description, marker = (
        os.path.join(out, DESCRIPTION),
        os.path.join(out, DESCRIPTION + UNFINISHED),
    )
    records = _records(out)
    if os.path.exists(description) and not overwrite:
        raise DataError(
            f'{out} holds a finished data set. Give another folder, or --overwrite to replace it.'
        )
    if records and not os.path.exists(description) and not os.path.exists(marker):
        raise DataError(
            f'{out} holds TFRecords that this program did not write. Give another folder.'
        )
    done: Dict[str, Written] = {}
    if os.path.exists(marker) and not overwrite:
        found, done = _read_marker(marker)
        if found not in (identity, None):
            raise DataError(
                f'{out} holds an unfinished build of other images or with another number of files. '
                'Run the same command as before to resume it, or give another folder, or '
                '--overwrite to start again.'
            )
        sizes = {
            os.path.basename(path): os.path.getsize(path)
            for path in records
            if not path.endswith(UNFINISHED)
        }
        done = {name: shard for name, shard in done.items() if sizes.get(name) == shard.bytes}
    os.makedirs(out, exist_ok=True)
    _save_marker(out, identity, done)
    for path in [description] * os.path.exists(description) + records:
        if os.path.basename(path) not in done:
            _remove(path)
    return done


def _records(out: str) -> List[str]:
    """Returns the paths of the files of records in a folder, finished or not."""
    return [
        path
        for split in SPLITS
        for path in glob.glob(os.path.join(glob.escape(out), f'{split}-*-of-*'))
    ]


def _remove(path: str) -> None:
    """Removes a file. A process of a build that was killed may have renamed it."""
    with contextlib.suppress(FileNotFoundError):
        os.remove(path)


def _read_marker(marker: str) -> Tuple[Optional[str], Dict[str, Written]]:
    """Returns (identity, {file name: facts about it}) of an unfinished build.

    Returns (None, {}) if the file is damaged.
    """
    try:
        with open(marker, encoding='utf-8') as file:
            state = json.load(file)
        return state['plan'], {
            name: Written(
                int(shard['images']),
                int(shard['bytes']),
                shard['sha256'],
                f'{int(shard["labels"], 16):x}',
                dict(shard['converted']),
                list(shard['left_out']),
            )
            for name, shard in state['shards'].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return None, {}


def _save_marker(out: str, identity: str, done: Dict[str, Written]) -> None:
    """Writes what is built, and which files are finished."""
    shards = {name: shard._asdict() for name, shard in done.items()}
    _save(out, dict(plan=identity, shards=shards))


def _save(out: str, state: Json) -> None:
    """Writes the marker completely or not at all."""
    marker = os.path.join(out, DESCRIPTION + UNFINISHED)
    with open(marker + UNFINISHED, 'w', encoding='utf-8') as file:
        json.dump(state, file, indent=1)
    os.replace(marker + UNFINISHED, marker)


def _describe(source: Source, shards: Dict[str, Written]) -> Json:
    """Returns the content of dataset.json."""
    images = {
        split: sum(shard.images for name, shard in shards.items() if name.startswith(split))
        for split in SPLITS
    }
    converted: Dict[str, int] = {}
    for shard in shards.values():
        for kind, count in shard.converted.items():
            converted[kind] = converted.get(kind, 0) + count
    return dict(
        classes=len(source.label_names),
        label_names=list(source.label_names),
        train_images=images['train'],
        validation_images=images['validation'],
        converted=converted,
        left_out=[message for shard in shards.values() for message in shard.left_out],
        shards={
            name: dict(images=shard.images, bytes=shard.bytes, sha256=shard.sha256)
            for name, shard in shards.items()
        },
    )


# --- the files ------------------------------------------------------------------------------------


def _write_all(
    source: Source, out: str, plan: Plan, processes: int, bar: tqdm
) -> Iterator[Tuple[str, Written]]:
    """Yields (file name, facts about it) for each file when it is finished."""
    if processes == 1 or len(plan) < 2:
        for name, examples in plan.items():
            yield name, _write(source.jpeg, os.path.join(out, name), examples, bar.update)
        return
    start = 'forkserver' if 'forkserver' in multiprocessing.get_all_start_methods() else 'spawn'
    context = multiprocessing.get_context(start)
    if start == 'forkserver':
        # The server imports TensorFlow once for all processes.
        context.set_forkserver_preload(['data.sources'])
    counter, stop = context.Value('Q'), context.Event()
    lifeline, held = context.Pipe(duplex=False)
    pool = concurrent.futures.ProcessPoolExecutor(
        min(processes, len(plan)),
        context,
        _prepare,
        (counter, stop, lifeline, Image.MAX_IMAGE_PIXELS or MANY_PIXELS),
    )
    waiting, shown = {}, 0
    try:
        with _silence():
            waiting.update(
                {
                    pool.submit(_write_here, source.jpeg, os.path.join(out, name), examples): name
                    for name, examples in plan.items()
                }
            )
        while waiting:
            ready, _ = concurrent.futures.wait(
                waiting, timeout=0.2, return_when=concurrent.futures.FIRST_COMPLETED
            )
            done = counter.value
            bar.update(done - shown)
            shown = done
            for future in ready:
                yield waiting.pop(future), future.result()
    except BrokenProcessPool:
        raise DataError(
            'A process that read images was killed (out of memory?). Run the same command again '
            'to resume the build; --processes=1 needs the least memory.'
        )
    finally:
        stop.set()
        for future in waiting:
            future.cancel()
        pool.shutdown()
        held.close()
        lifeline.close()


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Context manager: processes that start within it do not use oneDNN.

    TensorFlow 2.x would print a message about it, and these processes compute nothing with it.
    """
    name = 'TF_ENABLE_ONEDNN_OPTS'
    before = os.environ.get(name)
    os.environ[name] = '0'
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


class _Here:
    """The state of a process that reads images, set when it starts."""

    counter: Synchronized  # the number of images that all processes have finished
    stop: Event  # set to ask all processes to stop


def _prepare(counter: Synchronized, stop: Event, lifeline: Lifeline, max_pixels: int) -> None:
    """Prepares a process that reads images.

    Args:
        counter: See _Here.
        stop: See _Here.
        lifeline: A pipe that only the main process can write to, and never does. It is closed when
            that process ends, even if it is killed.
        max_pixels: The most pixels that an image may have.
    """
    limit_pixels(max_pixels)
    _Here.counter, _Here.stop = counter, stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Only the main process handles Ctrl-C.
    threading.Thread(target=_end_with, args=[lifeline], daemon=True).start()


def _end_with(lifeline: Lifeline) -> None:
    """Ends this process when the main process has ended."""
    with contextlib.suppress(EOFError, OSError):
        lifeline.recv_bytes()
    os._exit(1)


def _write_here(jpeg: Callable[[Item], Jpeg], path: str, examples: Labelled) -> Written:
    def tick() -> None:
        if _Here.stop.is_set():
            raise _Stopped()
        with _Here.counter.get_lock():
            _Here.counter.value += 1

    return _write(jpeg, path, examples, tick)


def _write(
    jpeg: Callable[[Item], Jpeg],
    path: str,
    examples: Labelled,
    tick: Callable[[], object],
) -> Written:
    """Writes one file completely or not at all. Calls tick() after every image."""
    images, labels = 0, 0
    converted: Dict[str, int] = {}
    left_out: List[str] = []
    # A process of a build that was killed may still be writing this file for a moment.
    half = f'{path}.{os.getpid()}{UNFINISHED}'
    with tf.python_io.TFRecordWriter(half) as writer:
        for item, label in examples:
            try:
                content, kind = jpeg(item)
                writer.write(_record(content, label))
                images += 1
                labels |= 1 << int(label)
                if kind:
                    converted[kind] = converted.get(kind, 0) + 1
            except DataError as error:
                left_out.append(str(error))
            tick()
    known = Written(
        images=images,
        bytes=os.path.getsize(half),
        sha256=_sha256(half),
        labels=f'{labels:x}',
        converted=converted,
        left_out=left_out,
    )
    os.replace(half, path)
    return known


def _record(jpeg: bytes, label: int) -> bytes:
    feature = dict(
        images=tf.train.Feature(bytes_list=tf.train.BytesList(value=[jpeg])),
        labels=tf.train.Feature(int64_list=tf.train.Int64List(value=[int(label)])),
    )
    example = tf.train.Example(features=tf.train.Features(feature=feature))
    # Deterministic, so that the same images give the same files.
    record: bytes = example.SerializeToString(deterministic=True)
    return record


def _sha256(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        for block in iter(lambda: file.read(1 << 20), b''):
            digest.update(block)
    return digest.hexdigest()
