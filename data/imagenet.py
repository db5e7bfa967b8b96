"""ImageNet, or any other set of photographs in the same TFRecords (see build_tfrecords.py)."""
import collections
import json
import os
import struct

import tensorflow.compat.v1 as tf
from google.protobuf.message import DecodeError

from data.base import AUTOTUNE, DataError, Dataset, reason
from data.preprocessing import PREPROCESSINGS

TRAIN_IMAGES, VALIDATION_IMAGES, CLASSES = 1281167, 50000, 1000
SHUFFLE_BUFFER = 10000  # records mixed at a time: about 1.1 GB of ImageNet's JPEGs
INTERLEAVED_FILES = 16  # read at a time
DESCRIPTION = 'dataset.json'  # beside the records: counts, classes, label names
UNFINISHED = '.tmp'  # ends the names of files that are still being written
LONGEST_RECORD = 2 ** 30  # bytes; a longer one is a damaged length
TFDS_DESCRIPTION, TFDS_NAMES = 'dataset_info.json', 'label.labels.txt'  # beside the records of TensorFlow Datasets
JPEG_START = b'\xff\xd8'

# What records are called by a program that writes them: features of the JPEG bytes and of the label (int64), and the first label.
Layout = collections.namedtuple('Layout', ['image', 'label', 'first', 'writer'])
LAYOUTS = (
    Layout('images', 'labels', 0, 'data/build_tfrecords.py'),
    Layout('image/encoded', 'image/class/label', 1, 'TF-models'),
    Layout('image', 'label', 0, 'TensorFlow Datasets'),
)


class Imagenet(Dataset):
    """TFRecords `train-*` and `validation-*` with the features `images` (JPEG bytes) and `labels` (int64), or in another of the
    LAYOUTS, which is recognised by the first record; TensorFlow Datasets' files are called `*-train.tfrecord-*`.

    Counts, classes and label names come from `dataset.json` beside the records, or from TensorFlow Datasets' description, or
    are ImageNet's where there is neither.
    """
    name = 'imagenet'

    def __init__(self, data_dir=None, image_size=None, preprocessing=None, use_resnet_v2=False):
        """
        Args: as for data.load; data_dir must be given.

        Raises:
            DataError: data_dir is missing, half built, or without records of this kind; dataset.json is damaged; or
                the preprocessing is unknown.
        """
        if preprocessing is None:
            preprocessing = 'inception' if use_resnet_v2 else 'resnet'
        if preprocessing not in PREPROCESSINGS:
            raise DataError(f'There is no preprocessing {preprocessing!r}; '
                            f'--preprocessing is one of {", ".join(PREPROCESSINGS)}.')
        if not data_dir:
            raise DataError('--dataset=imagenet needs --data_dir, the folder of its TFRecords train-* and '
                            'validation-*.')
        self._preprocessing = PREPROCESSINGS[preprocessing](image_size or PREPROCESSINGS[preprocessing].default_size)
        self.image_shape = (self._preprocessing.size, self._preprocessing.size, 3)
        data_dir = os.path.expanduser(data_dir)
        try:
            names = _list(data_dir)
            description = _read_description(data_dir, names)
            self._files = {split: _find_files(data_dir, names, split) for split in ('train', 'validation')}
            layouts = {layout_of(files[0], description['classes']) for files in self._files.values()}
        except tf.errors.OpError as error:
            raise DataError(f'--data_dir={data_dir} cannot be read: {error.message}.')
        if len(layouts) > 1:
            raise DataError(f'--data_dir={data_dir} holds training and validation records of different programs.')
        self._layout, = layouts
        self.classes = description['classes']
        self.train_images = description['train_images']
        self.validation_images = description['validation_images']
        self.label_names = description['label_names']

    def records(self, split, seed):
        files = tf.data.Dataset.from_tensor_slices(self._files[split])
        if seed is not None:
            files = files.shuffle(len(self._files[split]), seed=seed)
        records = files.interleave(tf.data.TFRecordDataset, cycle_length=INTERLEAVED_FILES, num_parallel_calls=AUTOTUNE)
        if seed is not None:
            records = records.shuffle(min(SHUFFLE_BUFFER, self.train_images), seed=seed)
        return records

    def example(self, record, seed):
        layout = self._layout
        features = tf.io.parse_single_example(record, {layout.image: tf.io.FixedLenFeature([], tf.string),
                                                       layout.label: tf.io.FixedLenFeature([], tf.int64)})
        image, label = features[layout.image], features[layout.label] - layout.first
        in_range = tf.Assert(tf.logical_and(label >= 0, label < self.classes), ['the label is', label])
        with tf.control_dependencies([in_range]):  # a GPU would only make the loss a NaN of it
            label = tf.identity(label)
        if seed is None:
            return self._preprocessing.validation(image), label
        return self._preprocessing.train(image, seed), label

    def find_damage(self, split, suspects=None):
        """See Dataset.find_damage; reads, at worst, all files of the split."""
        if suspects is None:
            return next(filter(None, map(_unreadable, self._files[split])), None)
        with tf.device('/cpu:0'), tf.Session(config=tf.ConfigProto(device_count={'GPU': 0})) as session:
            record = tf.placeholder(tf.string, [])
            example = self.example(record, None)
            following = tf.data.make_one_shot_iterator(suspects).get_next()
            while True:
                try:
                    content = session.run(following)
                except tf.errors.OutOfRangeError:
                    return None
                except tf.errors.OpError:
                    return self.find_damage(split)
                try:
                    session.run(example, {record: content})
                except tf.errors.OpError as error:
                    return '{} cannot be used ({})'.format(self._place(split, content), reason(error))

    def _place(self, split, content):
        """'record 5 of PATH (from 0)' of the first record with this content."""
        for path in self._files[split]:
            for number, record in enumerate(tf.python_io.tf_record_iterator(path)):
                if record == content:
                    return f'record {number} of {path} (from 0)'
        return f'a record of {os.path.dirname(self._files[split][0])}'

    def normalise(self, images):
        """images: uint8 [batch, h, w, 3]. Returns float32 [batch, h, w, 3], as the preprocessing says."""
        return self._preprocessing.normalise(images)


def _unreadable(path):
    """One sentence on the first record of a file that cannot be read, or None."""
    number = 0
    try:
        for _ in tf.python_io.tf_record_iterator(path):
            number += 1
    except tf.errors.OpError as error:
        return f'record {number} of {path} (from 0) cannot be read ({reason(error)}), nor what follows it there'
    return None


def _list(data_dir):
    """Sorted names of the files in data_dir."""
    if not tf.gfile.IsDirectory(data_dir):
        raise DataError(f'--data_dir={data_dir} is not a folder; give the one with the TFRecords train-* and '
                        'validation-*.')
    return sorted(tf.gfile.ListDirectory(data_dir))


def _find_files(data_dir, names, split):
    """Paths of the TFRecords of one split, in the order of their names."""
    files = [os.path.join(data_dir, name) for name in names
             if (name.startswith(split + '-') or f'-{split}.tfrecord-' in name) and not name.endswith(UNFINISHED)]
    if not files:
        raise DataError(f'--data_dir={data_dir} holds no file {split}-*; it must be a folder of TFRecords train-* and '
                        'validation-*, as data/build_tfrecords.py writes them.')
    return files


def _read_description(data_dir, names):
    """dict of classes, train_images, validation_images (int) and label_names (list of str, or None)."""
    if DESCRIPTION not in names:
        if any(name.endswith(UNFINISHED) for name in names):
            raise DataError(f'--data_dir={data_dir} is half built; wait for data/build_tfrecords.py, or run it again.')
        if TFDS_DESCRIPTION in names:
            return _read_tfds_description(data_dir, names)
        return dict(classes=CLASSES, train_images=TRAIN_IMAGES, validation_images=VALIDATION_IMAGES, label_names=None)
    path = os.path.join(data_dir, DESCRIPTION)
    try:
        description = _json(path)
    except ValueError as error:
        raise DataError(f'{path} is not JSON ({error}); write it again with data/build_tfrecords.py.')
    for key in ('classes', 'train_images', 'validation_images'):
        count = description.get(key) if isinstance(description, dict) else None
        if not isinstance(count, int) or count < 1:
            raise DataError(f'{path} must give a positive whole number as {key!r}; write it again with '
                            'data/build_tfrecords.py.')
    names = description.setdefault('label_names', None)
    if names is not None and not (isinstance(names, list) and len(names) == description['classes']):
        raise DataError(f"{path} must list one name for each of its {description['classes']} classes as 'label_names'; "
                        'write it again with data/build_tfrecords.py.')
    return description


def _read_tfds_description(data_dir, names):
    """The same of a folder that TensorFlow Datasets has written."""
    path = os.path.join(data_dir, TFDS_DESCRIPTION)
    try:
        images = {split['name']: sum(int(length) for length in split['shardLengths']) for split in _json(path)['splits']}
        counts = {split + '_images': images[split] for split in ('train', 'validation')}
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{path} does not say how many images the splits 'train' and 'validation' hold (shardLengths); it must "
                        'be as TensorFlow Datasets wrote it.')
    label_names = None
    if TFDS_NAMES in names:
        with tf.gfile.Open(os.path.join(data_dir, TFDS_NAMES), 'rb') as file:
            label_names = file.read().decode('utf-8', 'replace').split()
    return dict(counts, classes=len(label_names) if label_names else CLASSES, label_names=label_names)


def _json(path):
    with tf.gfile.Open(path, 'rb') as file:
        return json.loads(file.read().decode('utf-8'))


def layout_of(path, classes):
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
    layout = next((layout for layout in LAYOUTS
                   if features[layout.image].bytes_list.value and features[layout.label].int64_list.value), None)
    if layout is None:
        found = ', '.join(sorted(name for name in features if features[name].WhichOneof('kind'))) or 'none'
        known = ', or '.join(f"'{layout.image}' and '{layout.label}' ({layout.writer})" for layout in LAYOUTS)
        raise DataError(f'{path} must hold the features {known}, JPEG bytes and an int64, but holds {found}.')
    if not features[layout.image].bytes_list.value[0].startswith(JPEG_START):
        raise DataError(f'{path} holds images that are not JPEG; encode them as JPEG, as data/build_tfrecords.py does.')
    label = features[layout.label].int64_list.value[0]
    if not layout.first <= label < layout.first + classes:
        raise DataError(f'{path} holds the label {label}, but labels must lie in {layout.first}..{layout.first + classes - 1}.')
    return layout
