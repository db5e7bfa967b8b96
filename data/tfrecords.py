"""Folders of TFRecords of photographs: which files they are, what describes them, what the records
are called in them."""

import itertools
import json
import os
import re
import struct
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import tensorflow.compat.v1 as tf
from google.protobuf.message import DecodeError

from data import files
from data.base import ENDLESS, DataError, reason
from data.preprocessing import JPEG_START
from data.types import Json

TRAIN_IMAGES, VALIDATION_IMAGES, CLASSES = 1281167, 50000, 1000  # of ImageNet
DESCRIPTION = 'dataset.json'  # beside the records: counts, classes, label names
UNFINISHED = '.tmp'  # ends the names of files that are still being written
# What other files are called that lie beside the records and are named after them: indices of DALI,
# checksums, lists.
BESIDE = (
    UNFINISHED,
    '.idx',
    '.index',
    '.md5',
    '.sha1',
    '.sha256',
    '.crc32',
    '.txt',
    '.json',
    '.csv',
    '.log',
)
OF = re.compile(r'-(\d+)-of-(\d+)')  # in a name: which of how many files it is
MOST_CLASSES, MOST_IMAGES = 10**7, 10**12  # more are a mistake
COUNTS = dict(classes=MOST_CLASSES, train_images=MOST_IMAGES, validation_images=MOST_IMAGES)
AROUND = 16  # bytes beside those of each record: its length, and checksums of both
LONGEST_RECORD = 2**30  # bytes; a longer one is a damaged length
# Beside the records of TensorFlow Datasets:
TFDS_DESCRIPTION, TFDS_NAMES = 'dataset_info.json', 'label.labels.txt'
# Kinds of a feature, as a message names them:
KINDS = dict(bytes_list='bytes', int64_list='int64', float_list='float')


class Layout(NamedTuple):
    """What records are called by a program that writes them.

    Attributes:
        image: the feature of the JPEG bytes.
        label: the feature of the label, int64.
        first: the first label.
        writer: the program.
    """

    image: str
    label: str
    first: int
    writer: str


LAYOUTS = (
    Layout('images', 'labels', 0, 'data/build_tfrecords.py'),
    Layout('image/encoded', 'image/class/label', 1, 'TF-models'),
    Layout('image', 'label', 0, 'TensorFlow Datasets'),
)


class Split(NamedTuple):
    """The records of a split.

    Attributes:
        paths: of the files that are not empty.
        sizes: the bytes of all files, by their names.
        layout: what the records are called.
    """

    paths: List[str]
    sizes: Dict[str, int]
    layout: Layout


class Shard(NamedTuple):
    """What a description says of a file. sha256: its checksum, or None."""

    images: int
    bytes: int
    sha256: Optional[str] = None


class Description(NamedTuple):
    """What is said of a folder of records.

    Attributes:
        classes, train_images, validation_images: counts.
        label_names: one for each class, or None.
        shards: every file by its name, or None where they are not listed.
        lengths: the number of images in each file of each split, or None.
        source: path of what says so, or None where it is so of ImageNet.
    """

    classes: int
    train_images: int
    validation_images: int
    label_names: Optional[List[str]] = None
    shards: Optional[Dict[str, Shard]] = None
    lengths: Optional[Dict[str, List[int]]] = None
    source: Optional[str] = None

    def images(self, split: str) -> int:
        """How many images a split has."""
        return self.train_images if split == 'train' else self.validation_images


def scan(path: str) -> Tuple[int, Optional[str]]:
    """(records in a file up to the first that cannot be read, int; one sentence on that one, or
    None)."""
    number = 0
    try:
        for _ in tf.python_io.tf_record_iterator(path):
            number += 1
    except tf.errors.OpError as error:
        return number, (
            f'record {number} of {path} (from 0) cannot be read ({reason(error)}), nor '
            'what follows it there'
        )
    return number, None


def wrong_count(folder: str, description: Description, split: str, images: int) -> Optional[str]:
    """One sentence where a split does not hold the number of images, an int, that is said; else
    None."""
    expected = description.images(split)
    if images == expected:
        return None
    kind = dict(train='training').get(split, split)
    held = f'{folder} holds {images:,} {kind} images, but '
    if description.source is None:
        return held + (
            f"ImageNet's {expected:,} are expected where there is no {DESCRIPTION}; "
            "write one there, with the numbers 'classes', 'train_images' and "
            "'validation_images'"
        )
    return held + (
        f'{description.source} says {expected:,}; build the folder anew, or correct '
        'the number there'
    )


# --- the files ------------------------------------------------------------------------------------


def open_split(folder: str, names: Sequence[str], split: str, description: Description) -> Split:
    """The Split of a folder, by the names in it and its description. Nothing but the first record
    is read.

    Raises:
        DataError: files are missing, doubled, left over, empty, or not as the description lists
            them; or the first is foreign.
    """
    mine = names_of(names, split)
    if not mine:
        raise DataError(
            f'--data_dir={folder} holds no file {split}-*; it must be a folder of '
            'TFRecords train-* and validation-*, as data/build_tfrecords.py writes '
            'them.'
        )
    _check_numbers(folder, mine, split)
    paths = [os.path.join(folder, name) for name in mine]
    sizes = dict(zip(mine, files.sizes(paths)))
    images = _images_by_name(folder, sizes, split, description)
    for name, length in sizes.items():
        if not length and images.get(name) != 0:
            raise DataError(
                f'{os.path.join(folder, name)} is empty; copy it again. Where it was '
                f"written so, say so in {DESCRIPTION}: 'shards' gives the 'images' of "
                'each file.'
            )
    paths = [path for path, name in zip(paths, mine) if sizes[name]]
    if not paths:
        raise DataError(
            f'All {split} files of --data_dir={folder} are empty; build the folder anew.'
        )
    try:
        return Split(paths, sizes, layout_of(paths[0], description.classes))
    except tf.errors.OpError as error:
        raise DataError(f'{paths[0]} cannot be read: {error.message}.')


def names_of(names: Sequence[str], split: str) -> List[str]:
    """Those of the names in a folder that are of a split's files."""
    return [
        name
        for name in names
        if (name.startswith(split + '-') or f'-{split}.tfrecord-' in name)
        and not name.lower().endswith(BESIDE)
    ]


def _check_numbers(folder: str, names: Sequence[str], split: str) -> None:
    """Raises DataError where names that end in -I-of-N are not those of all files of one set."""
    found = {}
    for name in names:
        match = OF.search(name)
        if match:
            found[name] = (int(match.group(1)), int(match.group(2)))
    if not found:
        return
    others = [name for name in names if name not in found]
    if others:
        raise DataError(
            f'{folder} holds {split} files of two kinds, such as {min(found)} and '
            f'{others[0]}; keep those of one set.'
        )
    by_total = {total: name for name, (_, total) in sorted(found.items(), reverse=True)}
    if len(by_total) > 1:
        raise DataError(
            f'{folder} holds {split} files of several sets, such as '
            f'{" and ".join(sorted(by_total.values()))}; keep those of one set.'
        )
    (total,) = by_total
    by_index: Dict[int, str] = {}
    for name, (index, _) in sorted(found.items()):
        if index in by_index:
            raise DataError(
                f'{folder} holds the same {split} file twice, {by_index[index]} and '
                f'{name}; keep one of them.'
            )
        by_index[index] = name
    first = 1 if 0 not in by_index and total in by_index else 0
    beyond = [name for index, name in by_index.items() if index >= first + total]
    if beyond:
        raise DataError(
            f'{folder} holds {beyond[0]}, but files are numbered {first} to '
            f'{first + total - 1}; take it away.'
        )
    if len(by_index) < total:
        missing = next(index for index in itertools.count(first) if index not in by_index)
        like = OF.sub(
            lambda match: f'-{missing:0{len(match.group(1))}d}-of-{match.group(2)}', names[0]
        )
        raise DataError(
            f'{folder} lacks {total - len(by_index):,} of {total:,} {split} files, the '
            f'first of them {like}; copy them there, or build the folder anew.'
        )


def _images_by_name(
    folder: str, sizes: Dict[str, int], split: str, description: Description
) -> Dict[str, int]:
    """{file name: images}, as far as the description says. Raises DataError where it lists other
    files than sizes has."""
    source = description.source
    if description.lengths:
        lengths = description.lengths[split]
        if len(lengths) != len(sizes):
            raise DataError(
                f'{folder} holds {len(sizes):,} {split} files, but {source} lists '
                f'{len(lengths):,}; copy all of them there, and no others.'
            )
        return dict(zip(sorted(sizes, key=_number), lengths))
    if not description.shards:
        return {}
    expected = {
        name: shard for name, shard in description.shards.items() if name.startswith(split + '-')
    }
    for name in sorted(set(expected) | set(sizes)):
        path = os.path.join(folder, name)
        if name not in sizes:
            raise DataError(
                f'{path} is missing, which {source} lists; copy it there, or build the folder anew.'
            )
        if name not in expected:
            raise DataError(
                f'{path} is not one of the files that {source} lists; take it away, or '
                'build the folder anew.'
            )
        if sizes[name] != expected[name].bytes:
            raise DataError(
                f'{path} has {sizes[name]:,} bytes, but {source} says '
                f'{expected[name].bytes:,}; copy it again, or build the folder anew.'
            )
    return {name: shard.images for name, shard in expected.items()}


def _number(name: str) -> Tuple[int, str]:
    """Of a file's name, what orders it among the files of its split."""
    match = OF.search(name)
    return (int(match.group(1)) if match else 0), name


# --- what describes them --------------------------------------------------------------------------


def read_description(folder: str, names: Sequence[str]) -> Description:
    """What the folder's description says, or what is so of ImageNet where there is none.

    Raises:
        DataError: it is damaged, impossible, or contradicts itself.
    """
    if DESCRIPTION in names:
        return _read_own_description(os.path.join(folder, DESCRIPTION))
    if any(name.endswith(UNFINISHED) for name in names):
        raise DataError(
            f'--data_dir={folder} is half built; wait for data/build_tfrecords.py, or run it again.'
        )
    if TFDS_DESCRIPTION in names:
        return _read_tfds_description(folder, names)
    return Description(CLASSES, TRAIN_IMAGES, VALIDATION_IMAGES)


def _read_own_description(path: str) -> Description:
    """What a dataset.json says."""
    again = 'write it again with data/build_tfrecords.py'
    try:
        said = _json(path)
    except ValueError as error:
        raise DataError(f'{path} is not JSON ({error}); {again}.')
    for key, most in COUNTS.items():
        if not _is_count(said.get(key), 1, most):
            raise DataError(
                f'{path} must give a positive whole number as {key!r}, of at most {most:,}; '
                f'{again}.'
            )
    label_names = said.get('label_names')
    if label_names is not None and not (
        isinstance(label_names, list)
        and len(label_names) == said['classes']
        and all(isinstance(name, str) for name in label_names)
    ):
        raise DataError(
            f'{path} must list one name for each of its {said["classes"]} '
            f"classes as 'label_names'; {again}."
        )
    description = Description(
        **{key: said[key] for key in COUNTS},
        label_names=label_names,
        shards=_shards(path, said.get('shards'), again),
        source=path,
    )
    _check_sums(description, again)
    return description


def _shards(path: str, said: object, again: str) -> Optional[Dict[str, Shard]]:
    """What a dataset.json says of each file. again: what to do about it, for messages."""
    if said is None:
        return None
    if not (
        isinstance(said, dict)
        and all(
            isinstance(shard, dict)
            and _is_count(shard.get('images'), 0, MOST_IMAGES)
            and _is_count(shard.get('bytes'), 0, ENDLESS)
            for shard in said.values()
        )
    ):
        raise DataError(
            f"{path} must give whole numbers 'images' and 'bytes' for each file of "
            f"its 'shards'; {again}."
        )
    return {
        name: Shard(shard['images'], shard['bytes'], shard.get('sha256'))
        for name, shard in said.items()
    }


def _check_sums(description: Description, again: str) -> None:
    """Raises DataError where the files do not hold as many images as their split."""
    if description.shards is None:
        return
    for split in ('train', 'validation'):
        images = sum(
            shard.images
            for name, shard in description.shards.items()
            if name.startswith(split + '-')
        )
        if images != description.images(split):
            raise DataError(
                f"{description.source} says {description.images(split):,} as '{split}_images', "
                f"but its 'shards' hold {images:,} of them; {again}."
            )


def _is_count(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _read_tfds_description(folder: str, names: Sequence[str]) -> Description:
    """The same of a folder that TensorFlow Datasets has written."""
    path = os.path.join(folder, TFDS_DESCRIPTION)
    try:
        lengths = {
            split['name']: [int(length) for length in split['shardLengths']]
            for split in _json(path)['splits']
        }
    except (ValueError, KeyError, TypeError):
        raise DataError(
            f'{path} does not say how many images each file of its splits holds '
            '(shardLengths); it must be as TensorFlow Datasets wrote it.'
        )
    for split in ('train', 'validation'):
        if split not in lengths:
            raise DataError(
                f'{path} has the splits {", ".join(sorted(lengths)) or "none"}, but '
                "'train' and 'validation' are needed: "
                'write the set again with splits of these names.'
            )
        if min(lengths[split], default=0) < 0 or not _is_count(sum(lengths[split]), 1, MOST_IMAGES):
            raise DataError(
                f'{path} says that the split {split!r} holds {sum(lengths[split]):,} '
                'images, which cannot be.'
            )
    label_names = None
    if TFDS_NAMES in names:
        label_names = files.lines(files.read(os.path.join(folder, TFDS_NAMES)))
    return Description(
        len(label_names) if label_names else CLASSES,
        sum(lengths['train']),
        sum(lengths['validation']),
        label_names=label_names,
        lengths=lengths,
        source=path,
    )


def _json(path: str) -> Json:
    """What a file of JSON says by name, {} where it says something else. Raises ValueError where it
    is none, and DataError where it cannot be read."""
    try:
        said = json.loads(files.read(path).decode('utf-8-sig'))
    except RecursionError:
        raise ValueError('it is nested too deeply')
    return said if isinstance(said, dict) else {}


def layout_of(path: str, classes: int) -> Layout:
    """The Layout of the first record of a file.

    It finds foreign files before the training does. classes: int, how many labels there are.

    Raises:
        DataError: the file is not one of TFRecords in a Layout; it says what is foreign about it.
    """
    with tf.gfile.Open(path, 'rb') as file:
        header = file.read(12)  # length of the record in bytes (8), checksum (4)
        length = struct.unpack('<Q', header[:8])[0] if len(header) == 12 else 0
        record = file.read(length) if 0 < length < LONGEST_RECORD else b''
    if not record or len(record) < length:
        raise DataError(f'{path} is empty, cut off or not an (uncompressed) TFRecord file.')
    try:
        features = tf.train.Example.FromString(record).features.feature
    except DecodeError:
        raise DataError(f'{path} is a TFRecord file, but not of tf.train.Example records.')
    found = ', '.join(
        f'{name} ({KINDS.get(features[name].WhichOneof("kind"), "empty")})'
        for name in sorted(features)
    )
    layout = next(
        (
            layout
            for layout in LAYOUTS
            if features[layout.image].bytes_list.value and features[layout.label].int64_list.value
        ),
        None,
    )
    if layout is None:
        known = ', or '.join(
            f"'{layout.image}' and '{layout.label}' ({layout.writer})" for layout in LAYOUTS
        )
        raise DataError(
            f'{path} must hold the features {known}, JPEG bytes and an int64, but '
            f'holds {found or "none"}.'
        )
    if not features[layout.image].bytes_list.value[0].startswith(JPEG_START):
        raise DataError(
            f'{path} holds images that are not JPEG; encode them as JPEG, as '
            'data/build_tfrecords.py does.'
        )
    label = features[layout.label].int64_list.value[0]
    if not layout.first <= label < layout.first + classes:
        raise DataError(
            f'{path} holds the label {label}, but labels must lie in '
            f'{layout.first}..{layout.first + classes - 1}'
            + (
                '. Write a set of this layout whose labels count from 0 with the '
                f"features '{LAYOUTS[0].image}' and '{LAYOUTS[0].label}'."
                if label < layout.first == 1
                else '.'
            )
        )
    return layout
