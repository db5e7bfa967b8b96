"""Folders of TFRecords of photographs: their files, descriptions and record layouts."""

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
DESCRIPTION = 'dataset.json'  # in the folder of the records: counts, classes, label names
UNFINISHED = '.tmp'  # suffix of files that are still being written
# Suffixes of other files in the folder that are named after the records: DALI indices, checksums,
# lists.
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
OF = re.compile(r'-(\d+)-of-(\d+)')  # in a file name: the index and the total number of files
MOST_CLASSES, MOST_IMAGES = 10**7, 10**12  # larger numbers are mistakes
COUNTS = dict(classes=MOST_CLASSES, train_images=MOST_IMAGES, validation_images=MOST_IMAGES)
AROUND = 16  # additional bytes of each record: its length, and checksums of the length and data
LONGEST_RECORD = 2**30  # bytes; a greater length is damaged
# The files that TensorFlow Datasets writes beside its records.
TFDS_DESCRIPTION, TFDS_NAMES = 'dataset_info.json', 'label.labels.txt'
# The names of the kinds of features in messages.
KINDS = dict(bytes_list='bytes', int64_list='int64', float_list='float')


class Layout(NamedTuple):
    """The layout of the records that a program writes.

    Attributes:
        image: The name of the feature of the JPEG bytes.
        label: The name of the feature of the label, int64.
        first: The first label.
        writer: The name of the program.
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
        paths: Paths of the files that are not empty.
        sizes: The size of each file in bytes, by its name.
        layout: The layout of the records.
    """

    paths: List[str]
    sizes: Dict[str, int]
    layout: Layout


class Shard(NamedTuple):
    """The entry of a file in a description: images, size in bytes, and checksum or None."""

    images: int
    bytes: int
    sha256: Optional[str] = None


class Description(NamedTuple):
    """The description of a folder of records.

    Attributes:
        classes: Number of classes.
        train_images: Number of training images.
        validation_images: Number of validation images.
        label_names: One name per class, or None.
        shards: The entry of each file by its name, or None if the files are not listed.
        lengths: The number of images in each file of each split, or None.
        source: Path of the description, or None if there is none, which means ImageNet.
    """

    classes: int
    train_images: int
    validation_images: int
    label_names: Optional[List[str]] = None
    shards: Optional[Dict[str, Shard]] = None
    lengths: Optional[Dict[str, List[int]]] = None
    source: Optional[str] = None

    def images(self, split: str) -> int:
        """Returns the number of images of a split."""
        return self.train_images if split == 'train' else self.validation_images


def scan(path: str) -> Tuple[int, Optional[str]]:
    """Counts the records of a file, up to the first one that cannot be read.

    Returns:
        (the number of records, a sentence without its full stop on the unreadable one, or None).
    """
    number = 0
    try:
        for _ in tf.python_io.tf_record_iterator(path):
            number += 1
    except tf.errors.OpError as error:
        return number, (
            f'record {number} of {path} (from 0) cannot be read ({reason(error)}), nor '
            'can the records after it'
        )
    return number, None


def wrong_count(folder: str, description: Description, split: str, images: int) -> Optional[str]:
    """Compares the number of images of a split with its description.

    Returns:
        A sentence without its full stop if they differ, else None.
    """
    expected = description.images(split)
    if images == expected:
        return None
    kind = dict(train='training').get(split, split)
    held = f'{folder} holds {images:,} {kind} images, but '
    if description.source is None:
        return held + (
            f"ImageNet's {expected:,} are expected because there is no {DESCRIPTION}; "
            "write one with the numbers 'classes', 'train_images' and 'validation_images'"
        )
    return held + (
        f'{description.source} gives {expected:,}; build the folder again, or correct '
        'the number in that file'
    )


# --- the files ------------------------------------------------------------------------------------


def open_split(folder: str, names: Sequence[str], split: str, description: Description) -> Split:
    """Returns a Split of a folder, given the names in it and its description.

    Only the first record is read.

    Raises:
        DataError: Files are missing, duplicate, left over, empty, or not as the description lists
            them; or the first record has an unknown layout.
    """
    mine = names_of(names, split)
    if not mine:
        raise DataError(
            f'--data_dir={folder} holds no file {split}-*. It must be a folder of '
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
                f'{os.path.join(folder, name)} is empty. Copy it again. If it was written '
                f"empty, the 'shards' of {DESCRIPTION} must list every file with its 'images' "
                "and 'bytes'."
            )
    paths = [path for path, name in zip(paths, mine) if sizes[name]]
    if not paths:
        raise DataError(
            f'All {split} files of --data_dir={folder} are empty. Build the folder again.'
        )
    try:
        return Split(paths, sizes, layout_of(paths[0], description.classes))
    except tf.errors.OpError as error:
        raise DataError(f'{paths[0]} cannot be read: {error.message}.')


def names_of(names: Sequence[str], split: str) -> List[str]:
    """Returns those names in a folder that belong to the files of a split."""
    return [
        name
        for name in names
        if (name.startswith(split + '-') or f'-{split}.tfrecord-' in name)
        and not name.lower().endswith(BESIDE)
    ]


def _check_numbers(folder: str, names: Sequence[str], split: str) -> None:
    """Raises DataError if the names that end in -I-of-N are not those of one complete set."""
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
            f'{others[0]}. Keep the files of one set.'
        )
    by_total = {total: name for name, (_, total) in sorted(found.items(), reverse=True)}
    if len(by_total) > 1:
        raise DataError(
            f'{folder} holds {split} files of several sets, such as '
            f'{" and ".join(sorted(by_total.values()))}. Keep the files of one set.'
        )
    (total,) = by_total
    by_index: Dict[int, str] = {}
    for name, (index, _) in sorted(found.items()):
        if index in by_index:
            raise DataError(
                f'{folder} holds the same {split} file twice, {by_index[index]} and '
                f'{name}. Keep one of them.'
            )
        by_index[index] = name
    first = 1 if 0 not in by_index and total in by_index else 0
    beyond = [name for index, name in by_index.items() if index >= first + total]
    if beyond:
        raise DataError(
            f'{folder} holds {beyond[0]}, but the files are numbered from {first} to '
            f'{first + total - 1}. Remove it.'
        )
    if len(by_index) < total:
        missing = next(index for index in itertools.count(first) if index not in by_index)
        like = OF.sub(
            lambda match: f'-{missing:0{len(match.group(1))}d}-of-{match.group(2)}', names[0]
        )
        raise DataError(
            f'{folder} lacks {total - len(by_index):,} of {total:,} {split} files. The first of '
            f'them is {like}. Copy them there, or build the folder again.'
        )


def _images_by_name(
    folder: str, sizes: Dict[str, int], split: str, description: Description
) -> Dict[str, int]:
    """Returns {file name: number of images} for the files that the description lists.

    Raises DataError if these are not the files in sizes.
    """
    source = description.source
    if description.lengths:
        lengths = description.lengths[split]
        if len(lengths) != len(sizes):
            raise DataError(
                f'{folder} holds {len(sizes):,} {split} files, but {source} lists '
                f'{len(lengths):,}. Copy exactly those files there.'
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
                f'{path} is missing, but {source} lists it. Copy it there, or build the folder '
                'again.'
            )
        if name not in expected:
            raise DataError(
                f'{path} is not one of the files that {source} lists. Remove it, or build the '
                'folder again.'
            )
        if sizes[name] != expected[name].bytes:
            raise DataError(
                f'{path} has {sizes[name]:,} bytes, but {source} gives '
                f'{expected[name].bytes:,}. Copy it again, or build the folder again.'
            )
    return {name: shard.images for name, shard in expected.items()}


def _number(name: str) -> Tuple[int, str]:
    """Returns the sort key of a file name among the files of its split."""
    match = OF.search(name)
    return (int(match.group(1)) if match else 0), name


# --- descriptions ---------------------------------------------------------------------------------


def read_description(folder: str, names: Sequence[str]) -> Description:
    """Reads the description of a folder, or returns that of ImageNet if there is none.

    Raises:
        DataError: The description is damaged, has impossible values, or contradicts itself.
    """
    if DESCRIPTION in names:
        return _read_own_description(os.path.join(folder, DESCRIPTION))
    if any(name.endswith(UNFINISHED) for name in names):
        raise DataError(
            f'--data_dir={folder} is half built. Wait for data/build_tfrecords.py, or run it again.'
        )
    if TFDS_DESCRIPTION in names:
        return _read_tfds_description(folder, names)
    return Description(CLASSES, TRAIN_IMAGES, VALIDATION_IMAGES)


def _read_own_description(path: str) -> Description:
    """Reads a dataset.json."""
    again = 'Write it again with data/build_tfrecords.py'
    try:
        said = _json(path)
    except ValueError as error:
        raise DataError(f'{path} is not JSON ({error}). {again}.')
    for key, most in COUNTS.items():
        if not _is_count(said.get(key), 1, most):
            raise DataError(
                f'{path} must give a positive whole number as {key!r}, of at most {most:,}. '
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
            f"classes as 'label_names'. {again}."
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
    """Returns the 'shards' of a dataset.json. again: What to do, for error messages."""
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
            f"its 'shards'. {again}."
        )
    return {
        name: Shard(shard['images'], shard['bytes'], shard.get('sha256'))
        for name, shard in said.items()
    }


def _check_sums(description: Description, again: str) -> None:
    """Raises DataError if the images of the files do not add up to those of their split."""
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
                f"{description.source} gives {description.images(split):,} as '{split}_images', "
                f"but its 'shards' hold {images:,} images. {again}."
            )


def _is_count(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _read_tfds_description(folder: str, names: Sequence[str]) -> Description:
    """Reads the description of a folder that TensorFlow Datasets has written."""
    path = os.path.join(folder, TFDS_DESCRIPTION)
    try:
        lengths = {
            split['name']: [int(length) for length in split['shardLengths']]
            for split in _json(path)['splits']
        }
    except (ValueError, KeyError, TypeError):
        raise DataError(
            f'{path} does not give the number of images in each file of its splits '
            '(shardLengths). It must be as TensorFlow Datasets wrote it.'
        )
    for split in ('train', 'validation'):
        if split not in lengths:
            raise DataError(
                f'{path} has the splits {", ".join(sorted(lengths)) or "none"}, but '
                "'train' and 'validation' are needed. "
                'Write the data set again with splits of these names.'
            )
        if min(lengths[split], default=0) < 0 or not _is_count(sum(lengths[split]), 1, MOST_IMAGES):
            raise DataError(
                f'{path} gives {sum(lengths[split]):,} images for the split {split!r}, which is '
                'impossible. It must be as TensorFlow Datasets wrote it.'
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
    """Reads a JSON object from a file. Returns {} if the file contains another JSON value.

    Raises ValueError if it is not JSON, and DataError if it cannot be read.
    """
    try:
        said = json.loads(files.read(path).decode('utf-8-sig'))
    except RecursionError:
        raise ValueError('it is nested too deeply')
    return said if isinstance(said, dict) else {}


def layout_of(path: str, classes: int) -> Layout:
    """Returns the Layout of the first record of a file.

    This finds unsuitable files before the training does.

    Args:
        path: Path or address of the file.
        classes: Number of classes.

    Raises:
        DataError: The file does not contain TFRecords in one of the LAYOUTS.
    """
    with tf.gfile.Open(path, 'rb') as file:
        header = file.read(12)  # length of the record in bytes (8), checksum (4)
        length = struct.unpack('<Q', header[:8])[0] if len(header) == 12 else 0
        record = file.read(length) if 0 < length < LONGEST_RECORD else b''
    if not record or len(record) < length:
        raise DataError(f'{path} is empty, cut off, or not an (uncompressed) TFRecord file.')
    try:
        features = tf.train.Example.FromString(record).features.feature
    except DecodeError:
        raise DataError(f'{path} is a TFRecord file, but not one of tf.train.Example records.')
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
            f'The records of {path} must have the features {known}, JPEG bytes and an int64, '
            f'but have {found or "none"}.'
        )
    if not features[layout.image].bytes_list.value[0].startswith(JPEG_START):
        raise DataError(
            f'{path} holds images that are not JPEG. Encode them as JPEG, as '
            'data/build_tfrecords.py does.'
        )
    label = features[layout.label].int64_list.value[0]
    if not layout.first <= label < layout.first + classes:
        raise DataError(
            f'{path} holds the label {label}, but labels must be in '
            f'{layout.first}..{layout.first + classes - 1}'
            + (
                '. If the labels count from 0, write the data set with the '
                f"features '{LAYOUTS[0].image}' and '{LAYOUTS[0].label}'."
                if label < layout.first == 1
                else '.'
            )
        )
    return layout
