"""CIFAR-10 and CIFAR-100 from the archives of their binary versions."""

import functools
import io
import os
import tarfile
import zlib
from typing import IO, Callable, Dict, List, Optional, Sequence, Tuple, cast

import numpy as np
import tensorflow.compat.v1 as tf

from data import files
from data.base import DataError
from data.memory import InMemory
from data.preprocessing import random_flip, resize
from data.types import Arrays, Record

Reader = Callable[[str], bytes]  # returns the content of a file, given its name

SIZE, CHANNELS = 32, 3  # pixels; red, green, blue
PAD = 4  # black pixels around a training image, before it is cropped to its original size
SITE = 'https://www.cs.toronto.edu/~kriz/cifar.html'


class _Cifar(InMemory):
    """Small colour photographs, uint8 [32, 32, 3], or float32 if they are resized.

    A training image is padded with 4 black pixels on each side, cropped at random to its original
    size, and mirrored at random.

    Args:
        data_dir: Folder that contains the archive or its unpacked files.
        image_size: Height and width in pixels. Images are resized if it is not 32.
        preprocessing: Must be None.
        validation_split: See `InMemory`.
        split: See `InMemory`.

    Raises:
        DataError: A file is damaged or missing, or a preprocessing is given.

    Attributes:
        archive: The name of the archive.
        folder: The name of the folder in the archive.
        files: The names of the files of each split.
        names: The name of the file of label names.
        label_bytes: Number of bytes before the pixels of each image. The last one is the label.
        images_a_file: Number of images per file of each split.
        mean: The mean of each channel over the training images, in 0..255.
        deviation: The standard deviation of each channel over the training images, in 0..255.
    """

    default_size, channels = SIZE, CHANNELS
    archive: str
    folder: str
    files: Dict[str, List[str]]
    names: str
    label_bytes = 1
    images_a_file: Dict[str, int]
    mean: Sequence[float]
    deviation: Sequence[float]

    @property
    def image_dtype(self) -> tf.DType:
        """See `Dataset`."""
        return tf.uint8 if self.image_shape[0] == SIZE else tf.float32

    def read(self, data_dir: Optional[str], splits: Sequence[str]) -> Dict[str, Arrays]:
        """See `InMemory.read`."""
        read = self._reader(data_dir)
        names = files.lines(read(self.names))
        if len(names) != self.classes:
            raise DataError(
                f'{self.names} of {data_dir} names {len(names)} classes, not {self.classes}. '
                f'Download {self.archive} from {SITE} again.'
            )
        self.label_names = names
        return {split: self._split(read, split) for split in splits}

    def example(self, record: Record, seed: Optional[tf.Tensor]) -> Tuple[tf.Tensor, tf.Tensor]:
        """See `Dataset.example`."""
        image = record['images']
        if seed is not None:
            draws = tf.random.stateless_uniform([3], seed)
            top, left = (
                tf.minimum(tf.cast(draws[i] * (2 * PAD + 1), tf.int32), 2 * PAD) for i in (0, 1)
            )
            padded = tf.pad(image, [[PAD, PAD], [PAD, PAD], [0, 0]])
            image = random_flip(padded[top : top + SIZE, left : left + SIZE], draws[2])
            image.set_shape([SIZE, SIZE, CHANNELS])
        if self.image_shape[0] != SIZE:
            image = resize(image, *self.image_shape[:2])
        return image, tf.cast(record['labels'], tf.int64)

    def normalise(self, images: tf.Tensor) -> tf.Tensor:
        """Subtracts the mean of each channel and divides by its standard deviation.

        Args:
            images: image_dtype [batch, h, w, 3] in 0..255.

        Returns:
            float32 [batch, h, w, 3].
        """
        return (tf.cast(images, tf.float32) - self.mean) / self.deviation

    def _reader(self, data_dir: Optional[str]) -> Reader:
        """Returns a function that returns the content of a file, given its name."""
        needs = f'{self.archive} or its files'
        folder, found = files.listed(data_dir, needs) if data_dir else ('', [])
        inside = os.path.join(folder, self.folder)
        # On gs://, the names of folders end in a slash.
        unpacked = {self.folder, self.folder + '/'} & set(found)
        for place, names in [(folder, found)] + ([files.listed(inside, needs)] if unpacked else []):
            if self.names in names:
                return functools.partial(self._file, place)
        if self.archive not in found:
            raise DataError(
                f'--data_dir={data_dir or ""} contains neither {self.archive} nor its files. '
                f'Download it from {SITE} (the binary version) and set --data_dir to its folder.'
            )
        archive = os.path.join(folder, self.archive)
        try:
            members = _unpacked(self._bytes(archive))
        except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
            why = str(error).split('\n')[0].rstrip(':')
            raise DataError(f'{archive} cannot be unpacked ({why}). Download it from {SITE} again.')

        def read(name: str) -> bytes:
            if name not in members:
                raise DataError(
                    f'{archive} does not contain {name}. Download it from {SITE} again.'
                )
            return members[name]

        return read

    def _file(self, place: str, name: str) -> bytes:
        return self._bytes(os.path.join(place, name))

    def _bytes(self, path: str) -> bytes:
        try:
            return files.read(path)
        except DataError as error:
            raise DataError(f'{str(error)[:-1]}. Download {self.archive} from {SITE} again.')

    def _split(self, read: Reader, split: str) -> Arrays:
        """Returns the images of a split and their labels: (uint8 [n, 32, 32, 3], uint8 [n])."""
        images, labels = [], []
        for name in self.files[split]:
            content, size = read(name), self.label_bytes + CHANNELS * SIZE * SIZE
            if len(content) != size * self.images_a_file[split]:
                raise DataError(
                    f'{name} of {self.archive} has {len(content):,} bytes, not '
                    f'{size * self.images_a_file[split]:,}. Download it from {SITE} again.'
                )
            table = np.frombuffer(content, np.uint8).reshape(-1, size)
            wrong = np.flatnonzero(table[:, self.label_bytes - 1] >= self.classes)
            if len(wrong):
                label = table[wrong[0], self.label_bytes - 1]
                raise DataError(
                    f'The label {label} of image {wrong[0]} (from 0) in {name} of {self.archive} '
                    f'is not one of {self.classes} classes. Download it from {SITE} again.'
                )
            labels.append(table[:, self.label_bytes - 1])
            images.append(
                table[:, self.label_bytes :].reshape(-1, CHANNELS, SIZE, SIZE).transpose(0, 2, 3, 1)
            )
        return np.ascontiguousarray(np.concatenate(images)), np.concatenate(labels)


class Cifar10(_Cifar):
    """CIFAR-10: 50,000 training and 10,000 test images of 10 classes (Krizhevsky 2009)."""

    name = 'cifar10'
    classes = 10
    archive, folder, names = 'cifar-10-binary.tar.gz', 'cifar-10-batches-bin', 'batches.meta.txt'
    files = dict(
        train=[f'data_batch_{number}.bin' for number in range(1, 6)],
        test=['test_batch.bin'],
    )
    images_a_file = dict(train=10000, test=10000)
    mean, deviation = (125.3, 123.0, 113.9), (63.0, 62.1, 66.7)


class Cifar100(_Cifar):
    """CIFAR-100: 50,000 training and 10,000 test images of 100 classes (Krizhevsky 2009).

    The labels are the fine ones.
    """

    name = 'cifar100'
    classes = 100
    archive, folder, names = 'cifar-100-binary.tar.gz', 'cifar-100-binary', 'fine_label_names.txt'
    files = dict(train=['train.bin'], test=['test.bin'])
    label_bytes = 2  # coarse, fine
    images_a_file = dict(train=50000, test=10000)
    mean, deviation = (129.3, 124.1, 112.4), (68.2, 65.4, 70.4)


def _unpacked(archive: bytes) -> Dict[str, bytes]:
    """Returns {base name: content} of the files in a compressed archive.

    Raises:
        TarError: The archive is damaged.
        OSError: The archive is damaged, or its contents are larger than images can be.
        EOFError: The archive is cut off.
        zlib.error: The archive is damaged.
    """
    found, total, most = {}, 0, files.uncompressed(len(archive))
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            total += member.size
            if total > most:
                raise OSError(f'its files have more than {most:,} bytes')
            if member.isfile():
                content = cast(IO[bytes], tar.extractfile(member)).read()
                found[os.path.basename(member.name)] = content
    return found
