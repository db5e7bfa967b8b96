"""The base class of all data sets: training and validation batches from stored records."""

import hashlib
import random
import re
from typing import List, NamedTuple, Optional, Sequence, Tuple

import tensorflow.compat.v1 as tf

from data.split import TEST
from data.types import Batch, Decoder, Record, Shape

AUTOTUNE = tf.data.experimental.AUTOTUNE
ENDLESS = tf.int64.max
AHEAD = 4  # batches that are prepared ahead, if a batch is decoded at once
MANY_PIXELS = 100_000_000  # of an image; decoding a larger one needs gigabytes
AT_A_TIME = 16  # images decoded in parallel when damaged images are skipped


class Identity(NamedTuple):
    """What tells the images of a data set from others.

    Attributes:
        digest: A checksum, 64 hexadecimal digits.
        of: What it was computed from.
    """

    digest: str
    of: str


class DataError(Exception):
    """A user error. Its message says what is wrong, where, and what to do."""


def reason(error: Exception) -> str:
    """Returns the sentence in a TensorFlow error, without the surrounding text about the graph.

    Of any other error, it returns the first line.
    """
    if not isinstance(error, tf.errors.OpError):
        return str(error).split('\n')[0] or type(error).__name__
    text: str = error.message.split('\nNode: ')[-1]
    text = text.partition('\n')[2] if text != error.message else text
    text = re.sub(r'^.*root error\(s\) found\.\s*\(0\) [A-Z_]*:? ?', '', text, flags=re.DOTALL)
    return re.split(r'\n|\s*\[\[', text)[0].strip() or type(error).__name__


def counted(records: tf.data.Dataset, expected: int) -> tf.data.Dataset:
    """Returns the records, with a check of their number while they are read.

    Reading fails at the end if there are too few records, and at the first surplus record if there
    are too many. Apply this before a shuffle: a shuffle reads ahead, so reading then fails before
    the last expected record is returned.

    Args:
        records: A tf.data.Dataset of strings.
        expected: Number of records.

    Returns:
        A tf.data.Dataset of the same strings. Reading it raises InvalidArgumentError if their
        number is not `expected`.
    """
    marked = tf.data.Dataset.zip((records, tf.data.Dataset.from_tensors(False).repeat()))
    marked = marked.concatenate(tf.data.Dataset.from_tensors(('', True)))

    def is_record(marked: Tuple[tf.Tensor, tf.Tensor], number: tf.Tensor) -> tf.Tensor:
        is_end = marked[1]
        right = tf.equal(is_end, tf.equal(number, expected))
        with tf.control_dependencies(
            [tf.Assert(right, [f'the number of images is not {expected}: see record', number])]
        ):
            return tf.logical_not(is_end)

    numbered = tf.data.Dataset.zip((marked, tf.data.Dataset.range(ENDLESS)))
    return numbered.filter(is_record).map(lambda marked, number: marked[0])


class Dataset:
    """Images and labels: those of the training, and those that a validation sees.

    The methods call the two 'train' and 'validation'. `validated_split` says whether the latter
    are held out of the training images, or are the test images of the data set.

    To add a data set, put a file with a subclass into `data/`. It has a `name`, sets the attributes
    below in its constructor (which passes the arguments of `data.load` on to this one) and
    implements `records` and `example`. If all images fit into memory, derive it from
    data.memory.InMemory instead.

    Args:
        data_dir: Folder (or gs:// address) of the images, for subclasses that read files.
        image_size: Height and width in pixels. None means `default_size`.
        preprocessing: One of `preprocessings`, or None.

    Raises:
        DataError: The preprocessing is not one of `preprocessings`.

    Attributes:
        name: The value of --dataset.
        classes: Number of classes. The labels are 0 .. classes - 1.
        train_images: Number of training images.
        validation_images: Number of images that a validation sees.
        validated_split: 'validation' if these are held out of the training images; 'test' if they
            are the data set's own test images, or the files validation-* of a folder of TFRecords.
        image_shape: (height, width, channels) in pixels of the input of the network, which
            `normalise` returns.
        stored_shape: (height, width, channels) of the images in the batches, if `normalise`
            changes the shape. None means image_shape.
        label_names: The names of the classes in the order of their labels, or None if unknown.
        image_dtype: Type of the images in the batches: tf.uint8, or tf.float32 if `example`
            returns that.
        default_size: Height and width in pixels if no size is given.
        channels: Number of channels of image_shape.
        preprocessings: The accepted values of --preprocessing.
        decodes_batches: Whether `example` accepts a batch of records as well, and ignores the seed.
            A batch is then decoded at once, which takes much less time than image by image.
        contents_of: What `contents` describes, in a few words.
        max_pixels: The most pixels that a stored image may have, for data sets that decode images.
        preprocessing_advice: What to do if a preprocessing is given although none is accepted. It
            becomes a part of the error message.
    """

    name: str
    classes: int
    train_images: int
    validation_images: int
    validated_split = TEST
    image_shape: Shape
    stored_shape: Optional[Shape] = None
    label_names: Optional[List[str]] = None
    image_dtype: tf.DType = tf.uint8
    default_size = 224
    channels = 3
    preprocessings: Sequence[str] = ()
    decodes_batches = False
    contents_of = 'facts about the images'
    preprocessing_advice = 'Leave it out'
    max_pixels = MANY_PIXELS

    def __init__(
        self,
        data_dir: Optional[str] = None,
        image_size: Optional[int] = None,
        preprocessing: Optional[str] = None,
    ) -> None:
        if preprocessing is not None and not self.preprocessings:
            raise DataError(
                f'--preprocessing={preprocessing} has no meaning for --dataset={self.name}. '
                f'{self.preprocessing_advice}.'
            )
        if preprocessing is not None and preprocessing not in self.preprocessings:
            raise DataError(
                f'There is no preprocessing {preprocessing!r}. '
                f'--preprocessing must be one of {", ".join(self.preprocessings)}.'
            )
        size = self.default_size if image_size is None else image_size
        self.image_shape = (size, size, self.channels)

    def records(self, split: str, seed: Optional[tf.Tensor]) -> tf.data.Dataset:
        """Returns one pass over the records of a split, before any image is decoded.

        Args:
            split: 'train' or 'validation'.
            seed: int64 [] that alone determines the order, or None for the stored order.

        Returns:
            A tf.data.Dataset with one tensor (or dict of tensors) per record, for `example`.
        """
        raise NotImplementedError(f'{type(self).__name__} must implement the method records.')

    def example(self, record: Record, seed: Optional[tf.Tensor]) -> Tuple[tf.Tensor, tf.Tensor]:
        """Turns a record into an image and its label.

        This builds operations of a graph, so Python's `if` and `while` cannot test tensors.

        Args:
            record: An element of `records`.
            seed: int64 [2], different for every record of every epoch, or None for a validation
                image. All randomness must be drawn from it by stateless operations, because
                records are processed in parallel.

        Returns:
            The image, image_dtype [*stored_shape], and the label, int64 [].
        """
        raise NotImplementedError(f'{type(self).__name__} must implement the method example.')

    def normalise(self, images: tf.Tensor) -> tf.Tensor:
        """Turns the images of a batch into the input of the network.

        This runs on the device, because uint8 images are copied there four times as fast.

        Args:
            images: image_dtype [batch, *stored_shape], from a batch of `train` or `validation`.
                Images that only fill up a batch are zeros.

        Returns:
            float32 [batch, *image_shape]. By default the values are unchanged.
        """
        return tf.cast(images, tf.float32)

    def train(
        self,
        batch_size: int,
        seed: Optional[int] = None,
        first_step: int = 0,
        part: Tuple[int, int] = (0, 1),
        tolerant: bool = False,
    ) -> tf.data.Dataset:
        """Returns training batches without end.

        Every epoch contains every image once. A batch may contain images of two epochs.

        Args:
            batch_size: Images per batch.
            seed: The same seed gives the same batches. None draws a new seed at each call.
            first_step: Number of batches to skip at the start, so that a run resumed at this step
                gets the batches that it would have got. Skipping whole epochs is free; the skipped
                records of the current epoch are read, but not decoded.
            part: (i, n): return only the i-th of n equal parts of each batch, counted from 0. The
                other records are read, but not decoded.
            tolerant: Whether an image that cannot be used is replaced by another one of its batch
                instead of ending the training.

        Returns:
            A tf.data.Dataset of dict(images: image_dtype [batch / n, *stored_shape], labels: int64
            [batch / n]). If tolerant, the dict also has skipped: float32 [batch / n], 1 where an
            image was replaced and 0 elsewhere.

        Raises:
            DataError: The batch is larger than the training set, or smaller than 1.
        """
        drawn = random.SystemRandom().randrange(2**31) if seed is None else seed

        def example(record: Record, number: tf.Tensor) -> Batch:
            seed = None if self.decodes_batches else _seed(drawn, number)
            image, label = self.example(record, seed)
            return dict(images=image, labels=label)

        numbered = self._numbered(batch_size, drawn, first_step)
        (index, parts), size = part, batch_size // part[1]
        if parts > 1:
            numbered = numbered.filter(
                lambda record, number: tf.equal(number % batch_size // size, index)
            )
        if self.decodes_batches and not tolerant:
            return numbered.batch(size, drop_remainder=True).map(example).prefetch(AHEAD)
        if tolerant:
            examples = (
                self._tolerant(numbered, example, {}).batch(size, drop_remainder=True).map(_replace)
            )
        else:
            examples = numbered.map(example, num_parallel_calls=AUTOTUNE).batch(
                size, drop_remainder=True
            )
        return examples.prefetch(AUTOTUNE)

    def _tolerant(self, inputs: tf.data.Dataset, example: Decoder, more: Batch) -> tf.data.Dataset:
        """Returns the examples of a tf.data.Dataset in its order, with an additional `skipped`.

        For a record that cannot be used, `skipped` is 1, the image and the label are zeros, and
        the entries of `more` are added.
        """
        unusable = tf.data.Dataset.from_tensors(
            dict(images=self._blank(), labels=tf.zeros([], tf.int64), skipped=tf.ones([]), **more)
        )

        def one(*values: Record) -> tf.data.Dataset:
            usable = tf.data.Dataset.from_tensors(values).map(
                lambda *values: dict(example(*values), skipped=tf.zeros([]))
            )
            return usable.apply(tf.data.experimental.ignore_errors()).concatenate(unusable).take(1)

        return inputs.interleave(one, cycle_length=AT_A_TIME, num_parallel_calls=AUTOTUNE)

    def _blank(self) -> tf.Tensor:
        return tf.zeros(self.stored_shape or self.image_shape, self.image_dtype)

    def _numbered(self, batch_size: int, seed: int, first_step: int) -> tf.data.Dataset:
        """Returns a tf.data.Dataset of (record, number) of all training batches from a step on.

        The number counts the records since step 0.
        """
        self.steps_per_epoch(batch_size)

        def epoch_records(epoch: tf.Tensor) -> tf.data.Dataset:
            # The graph of this function gets a separate, fixed seed, so that the seed of the whole
            # graph cannot change the order. The seed is not seed + epoch, because epoch 1 of seed 0
            # must differ from epoch 0 of seed 1.
            tf.set_random_seed(1)
            epoch_seed = tf.random.stateless_uniform(
                [], [seed, epoch], maxval=2**31 - 1, dtype=tf.int64
            )
            return self.records('train', epoch_seed)

        first_epoch, used = divmod(first_step * batch_size, self.train_images)
        records = tf.data.Dataset.range(first_epoch, ENDLESS).flat_map(epoch_records).skip(used)
        numbers = tf.data.Dataset.range(first_step * batch_size, ENDLESS)
        return tf.data.Dataset.zip((records, numbers))

    def suspects(self, batch_size: int, seed: int, first_step: int, steps: int) -> tf.data.Dataset:
        """Returns a tf.data.Dataset of the arguments of `example`: (record, seed).

        Args:
            batch_size: See `train`.
            seed: See `train`.
            first_step: See `train`.
            steps: Number of batches whose records are returned.
        """
        numbered = self._numbered(batch_size, seed, first_step).take(steps * batch_size)
        return numbered.map(lambda record, number: (record, _seed(seed, number)))

    def contents(self) -> List[object]:
        """Returns plain values that identify the images, such as file sizes or a checksum.

        They distinguish these images from others of the same number and shape. The list is empty
        for a data set that always has the same images.
        """
        return []

    def digest(self) -> str:
        """Returns a checksum of all facts that must be equal on hosts that train together.

        These are the name, counts, classes, image shape, label names and `contents`.

        Returns:
            64 hexadecimal digits.

        Raises:
            DataError: The training images cannot be used.
        """
        return self._checksum(list(self.image_shape), self.contents())

    def identity(self) -> Identity:
        """Returns a checksum of the stored images, for records.

        Unlike `digest` it does not depend on the size at which the network sees them. No image is
        read for it that is not in memory.
        """
        contents = self.contents()
        return Identity(self._checksum(contents), self.contents_of if contents else 'the counts')

    def _checksum(self, *facts: object) -> str:
        """Returns a checksum of the name, the counts, the classes and more facts."""
        named = [self.name, self.classes, self.train_images, self.validation_images]
        text = repr(named + [self.label_names, *facts])
        return hashlib.sha256(text.encode('utf-8', 'backslashreplace')).hexdigest()

    def find_damage(self, split: str, suspects: Optional[tf.data.Dataset] = None) -> Optional[str]:
        """Looks for damaged stored images.

        Args:
            split: 'train' or 'validation'.
            suspects: A tf.data.Dataset, in the default graph, of the records to check: of
                (record, seed) for 'train', as the method `suspects` returns them, and of records
                for 'validation'. None if the files themselves cannot be read.

        Returns:
            A sentence without its full stop on what is damaged, where, and what to do. None if no
            damage was found, or if there can be none.
        """
        return None

    def validation(self, batch_size: int, tolerant: bool = False) -> tf.data.Dataset:
        """Returns every validation image once, in the stored order.

        The last batch is filled up with zeros. The sum of all masks is the number of images that
        were read: compare it with `validation_images`.

        Args:
            batch_size: Images per batch.
            tolerant: Whether an image that cannot be used is masked instead of ending the
                validation.

        Returns:
            A finite tf.data.Dataset of dict(images: image_dtype [batch, *stored_shape], labels:
            int64 [batch], mask: float32 [batch], 1 for an image and 0 for filling). If tolerant,
            the dict also has skipped: float32 [batch], 1 for an image that could not be used and 0
            elsewhere.

        Raises:
            DataError: The batch is smaller than 1.
        """
        self.validation_steps(batch_size)
        if self.decodes_batches and not tolerant:
            batches = self._validation_batches(self.records('validation', None), batch_size)
            return batches.map(lambda batch: _filled(batch, batch_size)).prefetch(AHEAD)
        examples, no = self._validation_examples(tolerant), tf.zeros([])
        # For any number of images, batch_size - 1 fillings complete the last batch, and never add
        # another batch.
        filling = tf.data.Dataset.from_tensors(
            dict(
                images=self._blank(),
                labels=tf.zeros([], tf.int64),
                mask=no,
                **(dict(skipped=no) if tolerant else {}),
            )
        )
        filled = examples.concatenate(filling.repeat(batch_size - 1))
        return filled.batch(batch_size, drop_remainder=True).prefetch(AUTOTUNE)

    def first(self, count: int, tolerant: bool = False) -> tf.data.Dataset:
        """Returns the first validation images, in the stored order.

        Args:
            count: Number of images, at most `validation_images`.
            tolerant: Whether an image that cannot be used is replaced by another one of these
                images.

        Returns:
            A tf.data.Dataset of one batch, in the form that `validation` returns. If tolerant,
            mask is 0 for a replaced image.
        """
        if self.decodes_batches and not tolerant:
            records = self.records('validation', None).take(count)
            return self._validation_batches(records, count).map(lambda batch: _filled(batch, count))
        batch = self._validation_examples(tolerant).take(count).batch(count, drop_remainder=True)
        return (
            batch.map(lambda batch: dict(_replace(batch), mask=batch['mask']))
            if tolerant
            else batch
        )

    def _validation_batches(self, records: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
        """Returns validation examples that are decoded a batch at a time, without padding."""

        def decode(batch: Record) -> Batch:
            images, labels = self.example(batch, None)
            return dict(images=images, labels=labels, mask=tf.ones_like(labels, tf.float32))

        return records.batch(batch_size).map(decode)

    def _validation_examples(self, tolerant: bool) -> tf.data.Dataset:
        """Returns a tf.data.Dataset of the single validation examples, without filling."""

        def example(record: Record) -> Batch:
            image, label = self.example(record, None)
            return dict(images=image, labels=label, mask=tf.ones([]))

        records = self.records('validation', None)
        return (
            self._tolerant(records, example, dict(mask=tf.zeros([])))
            if tolerant
            else records.map(example, num_parallel_calls=AUTOTUNE)
        )

    def steps_per_epoch(self, batch_size: int) -> int:
        """Returns the number of whole training batches per epoch: train_images // batch_size.

        Raises:
            DataError: The batch is larger than the training set, or smaller than 1.
        """
        _check_batch_size(batch_size)
        if batch_size > self.train_images:
            raise DataError(
                f'A training batch of {batch_size:,} images is larger than the training set of '
                f'{self.name}, {self.train_images:,} images. Choose a smaller --train_batch_size.'
            )
        return self.train_images // batch_size

    def validation_steps(self, batch_size: int) -> int:
        """Returns the number of validation batches: validation_images / batch_size, rounded up.

        Raises:
            DataError: The batch is smaller than 1.
        """
        _check_batch_size(batch_size)
        return -(-self.validation_images // batch_size)


def _seed(seed: int, number: tf.Tensor) -> tf.Tensor:
    """Returns the seed, int64 [2], of a training image.

    Args:
        seed: The seed of the training.
        number: int64 [], the number of the record since step 0.
    """
    return tf.stack([tf.constant(seed, tf.int64), number])


def _replace(batch: Batch) -> Batch:
    """Replaces the unusable images of a batch, and their labels, by its first usable one.

    Reading the batch fails if it has no usable image.
    """
    usable = tf.equal(batch['skipped'], 0)
    with tf.control_dependencies(
        [tf.Assert(tf.reduce_any(usable), ['none of the images of a batch can be used'])]
    ):
        first = tf.argmax(tf.cast(usable, tf.int32))
    chosen = tf.where(
        usable, tf.range(tf.size(usable, out_type=tf.int64)), tf.fill([tf.size(usable)], first)
    )
    return {
        name: tensor if name == 'skipped' else tf.gather(tensor, chosen)
        for name, tensor in batch.items()
    }


def _filled(batch: Batch, batch_size: int) -> Batch:
    """Pads a batch with zeros to this size."""
    missing = batch_size - tf.size(batch['labels'])
    found = {}
    for name, tensor in batch.items():
        found[name] = tf.pad(tensor, [[0, missing]] + [[0, 0]] * (tensor.shape.ndims - 1))
        found[name].set_shape([batch_size] + tensor.shape.as_list()[1:])
    return found


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise DataError(f'A batch must hold at least one image, not {batch_size}.')
