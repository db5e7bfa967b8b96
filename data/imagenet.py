"""ImageNet, or any other set of photographs in the same TFRecords (see build_tfrecords.py)."""

import functools
from typing import Dict, List, Optional, Tuple

import tensorflow.compat.v1 as tf

from data import files, tfrecords
from data.base import AUTOTUNE, DataError, Dataset, Identity, counted, reason
from data.preprocessing import PREPROCESSINGS, shape_of
from data.types import Record

SHUFFLE_BUFFER = 10000  # records in the shuffle buffer: about 1.1 GB of ImageNet's JPEGs
INTERLEAVED_FILES = 16  # files read at the same time


class Imagenet(Dataset):
    """Photographs in TFRecords `train-*` and `validation-*`.

    The records have the features `images` (JPEG bytes) and `labels` (int64), or another of the
    LAYOUTS of tfrecords.py, which is recognised by the first record. The files of TensorFlow
    Datasets are called `*-train.tfrecord-*`.

    Counts, classes and label names are read from `dataset.json` in the same folder or from the
    description of TensorFlow Datasets. Without either, they are ImageNet's. A validation needs no
    training records.

    Args:
        data_dir: Folder (or gs:// address) of the TFRecords. It must be given.
        image_size: Height and width in pixels. None means the default of the preprocessing.
        preprocessing: A key of `PREPROCESSINGS`. None means resnet.

    Raises:
        DataError: data_dir is missing, half built, or without records of this kind; dataset.json is
            damaged; or the preprocessing is unknown.
    """

    name = 'imagenet'
    preprocessings = tuple(PREPROCESSINGS)

    def __init__(
        self,
        data_dir: Optional[str] = None,
        image_size: Optional[int] = None,
        preprocessing: Optional[str] = None,
    ) -> None:
        super().__init__(data_dir, image_size, preprocessing)
        if not data_dir:
            raise DataError(
                '--dataset=imagenet needs --data_dir, the folder of its TFRecords train-* and '
                'validation-*.'
            )
        chosen = PREPROCESSINGS[preprocessing or 'resnet']
        self._preprocessing = chosen(image_size or chosen.default_size)
        self.image_shape = (self._preprocessing.size, self._preprocessing.size, 3)
        self.stored_shape = (self._preprocessing.stored_size, self._preprocessing.stored_size, 3)
        self.image_dtype = self._preprocessing.dtype
        self._folder, names = files.listed(data_dir, 'the TFRecords train-* and validation-*')
        self._description = description = tfrecords.read_description(self._folder, names)
        self.classes = description.classes
        self.train_images = description.train_images
        self.validation_images = description.validation_images
        self.label_names = description.label_names
        self._splits: Dict[str, tfrecords.Split] = {}
        self._problem: Optional[str] = None
        opened = functools.partial(
            tfrecords.open_split, self._folder, names, description=description
        )
        self._splits['validation'] = opened(split='validation')
        try:
            self._splits['train'] = opened(split='train')
            if self._splits['train'].layout != self._splits['validation'].layout:
                raise DataError(
                    f'--data_dir={data_dir} holds training and validation records of '
                    'different programs. Write both splits with the same program.'
                )
        except DataError as error:  # A validation does not need the training records.
            self._problem = str(error)

    def _split(self, split: str) -> tfrecords.Split:
        """Returns a Split. Raises DataError for unusable training records."""
        if split == 'train' and self._problem:
            raise DataError(self._problem)
        return self._splits[split]

    def train(
        self,
        batch_size: int,
        seed: Optional[int] = None,
        first_step: int = 0,
        part: Tuple[int, int] = (0, 1),
        tolerant: bool = False,
    ) -> tf.data.Dataset:
        """See `Dataset.train`. Also raises DataError for unusable training records."""
        self._split('train')
        return super().train(batch_size, seed, first_step, part, tolerant)

    def contents(self) -> List[object]:
        """Returns the names and sizes of the files of records."""
        return [sorted(self._split(split).sizes.items()) for split in ('train', 'validation')]

    def identity(self) -> Identity:
        """See `Dataset.identity`. A validation needs no training records for it."""
        shards = (self._description.shards or {}).items()
        checksums = [(name, shard.sha256) for name, shard in sorted(shards)]
        if checksums and all(checksum for _, checksum in checksums):
            return Identity(
                self._checksum(checksums),
                f'the SHA-256 of each file as {tfrecords.DESCRIPTION} has it',
            )
        splits = [split for split in ('train', 'validation') if split in self._splits]
        sizes = [sorted(self._splits[split].sizes.items()) for split in splits]
        return Identity(
            self._checksum(sizes), f'the names and sizes of the files of {" and ".join(splits)}'
        )

    def records(self, split: str, seed: Optional[tf.Tensor]) -> tf.data.Dataset:
        """See `Dataset.records`. A record is a serialised tf.train.Example, string []."""
        paths = self._split(split).paths
        found = tf.data.Dataset.from_tensor_slices(paths)
        if seed is not None:
            found = found.shuffle(len(paths), seed=seed)
        records = found.interleave(
            tf.data.TFRecordDataset, cycle_length=INTERLEAVED_FILES, num_parallel_calls=AUTOTUNE
        )
        if seed is not None:
            # One more than there are, so that a small set is counted before its first record is
            # returned.
            buffer = min(SHUFFLE_BUFFER, self.train_images + 1)
            records = counted(records, self.train_images).shuffle(buffer, seed=seed)
        return records

    def example(self, record: Record, seed: Optional[tf.Tensor]) -> Tuple[tf.Tensor, tf.Tensor]:
        """See `Dataset.example`."""
        layout = self._splits['validation'].layout
        features = tf.io.parse_single_example(
            record,
            {
                layout.image: tf.io.FixedLenFeature([], tf.string),
                layout.label: tf.io.FixedLenFeature([], tf.int64),
            },
        )
        image, label = features[layout.image], features[layout.label] - layout.first
        in_range = tf.Assert(
            tf.logical_and(label >= 0, label < self.classes), ['the label is', label]
        )
        shape = shape_of(image)
        pixels = tf.cast(shape[0], tf.int64) * tf.cast(shape[1], tf.int64)
        is_small = tf.Assert(
            pixels <= self.max_pixels, ['more pixels than --max_pixels allows:', pixels]
        )
        with tf.control_dependencies([in_range]):  # On a GPU, the loss would only become NaN.
            label = tf.identity(label)
        with tf.control_dependencies([is_small]):  # before anything is decoded
            image = tf.identity(image)
        if seed is None:
            return self._preprocessing.validation(image), label
        return self._preprocessing.train(image, seed), label

    def find_damage(self, split: str, suspects: Optional[tf.data.Dataset] = None) -> Optional[str]:
        """See `Dataset.find_damage`. In the worst case, this reads all files of the split."""
        if suspects is None:
            return self._find_unreadable(split)
        with tf.device('/cpu:0'), tf.Session(
            config=tf.ConfigProto(device_count={'GPU': 0})
        ) as session:
            following = tf.data.make_one_shot_iterator(suspects).get_next()
            # A training record comes with its seed.
            following = following if split == 'train' else (following,)
            inputs = [tf.placeholder(tensor.dtype, tensor.shape) for tensor in following]
            # The same image as in the training or the validation.
            example = self.example(*(inputs + [None])[:2])
            while True:
                try:
                    values = session.run(following)
                except tf.errors.OpError:  # also the end: the error was in a record read ahead
                    return self._find_unreadable(split)
                try:
                    session.run(example, dict(zip(inputs, values)))
                except tf.errors.OpError as error:
                    return (
                        f'{self._place(split, values[0])} cannot be used ({reason(error)}); build '
                        'this file again'
                    )

    def _find_unreadable(self, split: str) -> Optional[str]:
        """Describes the first unreadable record, or else a wrong number of records.

        Returns:
            A sentence without its full stop, or None.
        """
        images = 0
        for path in self._split(split).paths:
            number, problem = tfrecords.scan(path)
            if problem:
                return problem + '; build this file again'
            images += number
        return tfrecords.wrong_count(self._folder, self._description, split, images)

    def _place(self, split: str, content: bytes) -> str:
        """Returns 'record 5 of PATH (from 0)' for the first record with this content."""
        for path in self._split(split).paths:
            for number, record in enumerate(tf.python_io.tf_record_iterator(path)):
                if record == content:
                    return f'record {number} of {path} (from 0)'
        return f'a record of {self._folder}'

    def normalise(self, images: tf.Tensor) -> tf.Tensor:
        """Normalises images as the preprocessing defines it. See `Dataset.normalise`."""
        return self._preprocessing.normalise(images)
