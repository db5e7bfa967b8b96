"""CIFAR-10 and CIFAR-100 from their archives for C programs, whose files are plain bytes."""

import functools
import io
import os
import tarfile
import zlib
from typing import IO, Callable, Dict, List, Optional, Sequence, Tuple, cast

import numpy as np
import tensorflow.compat.v1 as tf

from data import files, memory
from data.base import DataError, Dataset
from data.preprocessing import random_flip, resize
from data.types import Arrays, Record

Reader = Callable[[str], bytes]  # of a file, by its name

SIZE, CHANNELS = 32, 3  # pixels; red, green, blue
PAD = 4  # pixels around an image, within which a training image of the same size is cut
SITE = 'https://www.cs.toronto.edu/~kriz/cifar.html'


class _Cifar(Dataset):
    """Small colour photographs, uint8 [32, 32, 3], resized ones float32, held in memory and
    shuffled as a whole.

    Training images are cut at random from the image with 4 black pixels around it, and mirrored at
    random.
    """

    default_size, channels = SIZE, CHANNELS
    archive: str  # its name
    folder: str  # name of the folder in it
    files: Dict[str, List[str]]  # of each split, their names
    names: str  # of the file of label names
    label_bytes = 1  # before the pixels of each image; the last one is the label
    images_a_file: Dict[str, int]  # of each split
    mean: Sequence[float]  # of the training images' channels, of 255
    deviation: Sequence[float]

    def __init__(
        self,
        data_dir: Optional[str] = None,
        image_size: Optional[int] = None,
        preprocessing: Optional[str] = None,
    ) -> None:
        """
        Args:
            data_dir: folder that holds the archive or its unpacked files.
            image_size, preprocessing: see Dataset; other sizes than 32 are resized to.

        Raises:
            DataError: a file is damaged or missing, or a preprocessing is given.
        """
        super().__init__(data_dir, image_size, preprocessing)
        self.image_dtype = tf.uint8 if self.image_shape[0] == SIZE else tf.float32
        read = self._reader(data_dir)
        names = files.lines(read(self.names))
        if len(names) != self.classes:
            raise DataError(
                f'{self.names} of {data_dir} names {len(names)} classes, not {self.classes}; '
                f'fetch {self.archive} from {SITE} again.'
            )
        self.label_names = names
        self._splits = {split: self._split(read, split) for split in self.files}
        self.train_images, self.validation_images = (
            len(self._splits[split][1]) for split in ('train', 'validation')
        )

    def contents(self) -> List[object]:
        """A checksum of all images and labels."""
        return memory.checksum(self._splits)

    def records(self, split: str, seed: Optional[tf.Tensor]) -> tf.data.Dataset:
        return memory.records(*self._splits[split], seed=seed)

    def example(self, record: Record, seed: Optional[tf.Tensor]) -> Tuple[tf.Tensor, tf.Tensor]:
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
        """images: image_dtype [batch, h, w, 3] in 0..255. Returns float32 [batch, h, w, 3], mean
        and deviation taken out.
        """
        return (tf.cast(images, tf.float32) - self.mean) / self.deviation

    def _reader(self, data_dir: Optional[str]) -> Reader:
        """The function of a file's name that gives its bytes."""
        needs = f'{self.archive} or its files'
        folder, found = files.listed(data_dir, needs) if data_dir else ('', [])
        inside = os.path.join(folder, self.folder)
        # gs:// ends the names of folders in a slash
        unpacked = {self.folder, self.folder + '/'} & set(found)
        for place, names in [(folder, found)] + ([files.listed(inside, needs)] if unpacked else []):
            if self.names in names:
                return functools.partial(self._file, place)
        if self.archive not in found:
            raise DataError(
                f'There is no {self.archive} in --data_dir={data_dir or ""}, nor its files; fetch '
                f'it from {SITE} (the binary version) and name its folder by --data_dir.'
            )
        archive = os.path.join(folder, self.archive)
        try:
            with tarfile.open(fileobj=io.BytesIO(self._bytes(archive))) as tar:
                members = {
                    os.path.basename(member.name): cast(IO[bytes], tar.extractfile(member)).read()
                    for member in tar
                    if member.isfile()
                }
        except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
            why = str(error).split('\n')[0].rstrip(':')
            raise DataError(f'{archive} cannot be unpacked ({why}); fetch it from {SITE} again.')

        def read(name: str) -> bytes:
            if name not in members:
                raise DataError(f'{archive} holds no {name}; fetch it from {SITE} again.')
            return members[name]

        return read

    def _file(self, place: str, name: str) -> bytes:
        return self._bytes(os.path.join(place, name))

    def _bytes(self, path: str) -> bytes:
        try:
            return files.read(path)
        except DataError as error:
            raise DataError(f'{str(error)[:-1]}; fetch {self.archive} from {SITE} again.')

    def _split(self, read: Reader, split: str) -> Arrays:
        """(uint8 [n, 32, 32, 3], uint8 [n]): the images of a split and their labels."""
        images, labels = [], []
        for name in self.files[split]:
            content, size = read(name), self.label_bytes + CHANNELS * SIZE * SIZE
            if len(content) != size * self.images_a_file[split]:
                raise DataError(
                    f'{name} of {self.archive} has {len(content):,} bytes, not '
                    f'{size * self.images_a_file[split]:,}; fetch it from {SITE} again.'
                )
            table = np.frombuffer(content, np.uint8).reshape(-1, size)
            wrong = np.flatnonzero(table[:, self.label_bytes - 1] >= self.classes)
            if len(wrong):
                label = table[wrong[0], self.label_bytes - 1]
                raise DataError(
                    f'{name} of {self.archive}, image {wrong[0]} (from 0): label {label} is not '
                    f'one of {self.classes} classes; fetch it from {SITE} again.'
                )
            labels.append(table[:, self.label_bytes - 1])
            images.append(
                table[:, self.label_bytes :].reshape(-1, CHANNELS, SIZE, SIZE).transpose(0, 2, 3, 1)
            )
        return np.ascontiguousarray(np.concatenate(images)), np.concatenate(labels)


class Cifar10(_Cifar):
    """50,000 images to train and 10,000 to validate, of 10 classes (Krizhevsky 2009)."""

    name = 'cifar10'
    classes = 10
    archive, folder, names = 'cifar-10-binary.tar.gz', 'cifar-10-batches-bin', 'batches.meta.txt'
    files = dict(
        train=[f'data_batch_{number}.bin' for number in range(1, 6)],
        validation=['test_batch.bin'],
    )
    images_a_file = dict(train=10000, validation=10000)
    mean, deviation = (125.3, 123.0, 113.9), (63.0, 62.1, 66.7)


class Cifar100(_Cifar):
    """50,000 images to train and 10,000 to validate, of 100 classes (Krizhevsky 2009): the fine
    labels.
    """

    name = 'cifar100'
    classes = 100
    archive, folder, names = 'cifar-100-binary.tar.gz', 'cifar-100-binary', 'fine_label_names.txt'
    files = dict(train=['train.bin'], validation=['test.bin'])
    label_bytes = 2  # coarse, fine
    images_a_file = dict(train=50000, validation=10000)
    mean, deviation = (129.3, 124.1, 112.4), (68.2, 65.4, 70.4)
