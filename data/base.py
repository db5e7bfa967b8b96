"""What every dataset gives: endless shuffled training batches, and one exact pass over
validation.
"""

import hashlib
import random
import re
from typing import List, Optional, Sequence, Tuple

import tensorflow.compat.v1 as tf

from data.types import Batch, Decoder, Record, Shape

AUTOTUNE = tf.data.experimental.AUTOTUNE
ENDLESS = tf.int64.max
AT_A_TIME = 16  # images that are decoded, where damaged ones are skipped


class DataError(Exception):
    """A mistake of the user, told in one sentence: what is wrong, where, and what to do."""


def reason(error: tf.errors.OpError) -> str:
    """The sentence within an error of TensorFlow's, whose text tells of the graph before it and
    after it.
    """
    text: str = error.message.split('\nNode: ')[-1]
    text = text.partition('\n')[2] if text != error.message else text
    text = re.sub(r'^.*root error\(s\) found\.\s*\(0\) [A-Z_]*:? ?', '', text, flags=re.DOTALL)
    return re.split(r'\n|\s*\[\[', text)[0].strip() or type(error).__name__


def counted(records: tf.data.Dataset, expected: int) -> tf.data.Dataset:
    """The records, whose reading fails at their end where they are too few, and at the first one
    that is too many.

    Apply it before a shuffle, which reads ahead: so it fails before the last record that was
        expected is given.

    Args:
        records: tf.data.Dataset of strings.
        expected: int.

    Returns:
        tf.data.Dataset of the same strings; reading them raises InvalidArgumentError where there
        are not `expected` of them.
    """
    marked = tf.data.Dataset.zip((records, tf.data.Dataset.from_tensors(False).repeat()))
    marked = marked.concatenate(tf.data.Dataset.from_tensors(('', True)))

    def is_record(marked: Tuple[tf.Tensor, tf.Tensor], number: tf.Tensor) -> tf.Tensor:
        is_end = marked[1]
        right = tf.equal(is_end, tf.equal(number, expected))
        with tf.control_dependencies(
            [tf.Assert(right, [f'the images must be {expected}, but are others: see', number])]
        ):
            return tf.logical_not(is_end)

    numbered = tf.data.Dataset.zip((marked, tf.data.Dataset.range(ENDLESS)))
    return numbered.filter(is_record).map(lambda marked, number: marked[0])


class Dataset:
    """Images and labels in two splits, 'train' and 'validation'.

    To add a dataset, put a file into `data/` with a subclass that has a `name`, sets the attributes
    below in its constructor (which hands on what `data.load` passes) and has the methods `records`
    and `example`.

    Attributes:
        name: str, the value of --dataset.
        classes: int, labels are 0 .. classes - 1.
        train_images, validation_images: int, number of images in each split.
        image_shape: (height, width, channels), ints, in pixels, of the images that a network sees,
        which `normalise` gives.
        stored_shape: the same of the images in the batches, where `normalise` changes it; by
        default image_shape.
        label_names: list of `classes` str, or None where they are not known.
        image_dtype: type of the images in the batches: tf.uint8, or tf.float32 where `example`
        gives that.
        default_size, channels: ints, of image_shape where no size is asked for.
        preprocessings: the values of --preprocessing that it takes.
        preprocessing_advice: what to do where it takes none, for the message.
    """

    name: str
    classes: int
    train_images: int
    validation_images: int
    image_shape: Shape
    stored_shape: Optional[Shape] = None
    label_names: Optional[List[str]] = None
    image_dtype: tf.DType = tf.uint8
    default_size = 224
    channels = 3
    preprocessings: Sequence[str] = ()
    preprocessing_advice = 'leave it out'

    def __init__(
        self,
        data_dir: Optional[str] = None,
        image_size: Optional[int] = None,
        preprocessing: Optional[str] = None,
    ) -> None:
        """Sets image_shape.

        Args:
            data_dir: folder (or gs:// address) of the images, for subclasses that read files.
            image_size: height and width in pixels; None means `default_size`.
            preprocessing: one of `preprocessings`, or None.

        Raises:
            DataError: the preprocessing is none of them.
        """
        if preprocessing is not None and not self.preprocessings:
            raise DataError(
                f'--preprocessing={preprocessing} has no meaning for --dataset={self.name}; '
                f'{self.preprocessing_advice}.'
            )
        if preprocessing is not None and preprocessing not in self.preprocessings:
            raise DataError(
                f'There is no preprocessing {preprocessing!r}; '
                f'--preprocessing is one of {", ".join(self.preprocessings)}.'
            )
        size = self.default_size if image_size is None else image_size
        self.image_shape = (size, size, self.channels)

    def records(self, split: str, seed: Optional[tf.Tensor]) -> tf.data.Dataset:
        """One pass over a split, before any image is decoded.

        Args:
            split: 'train' or 'validation'.
            seed: int64 [] that alone decides the order, or None for the stored order.

        Returns:
            tf.data.Dataset of one tensor (or dict of tensors) a record, which `example` takes.
        """
        raise NotImplementedError(f'{type(self).__name__} does not say where its records come from')

    def example(self, record: Record, seed: Optional[tf.Tensor]) -> Tuple[tf.Tensor, tf.Tensor]:
        """Turns a record into an image, by operations of a graph: Python's `if` and `while` do not
        look into tensors.

        Args:
            record: an element of `records`.
            seed: int64 [2], fresh for every record of every epoch, or None for the validation
                image; all randomness must be drawn from it by stateless operations, because records
                are processed in parallel.

        Returns:
            image_dtype [*stored_shape] image and int64 [] label.
        """
        raise NotImplementedError(
            f'{type(self).__name__} does not say how a record becomes an image'
        )

    def normalise(self, images: tf.Tensor) -> tf.Tensor:
        """What a network sees of a batch; done on the device, because bytes travel there four times
        as fast.

        Args:
            images: image_dtype [batch, *stored_shape], of a batch of `train` or `validation`; zeros
            where it is filled up.

        Returns:
            float32 [batch, *image_shape]; by default the same values.
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
        """Training batches without end; a batch may straddle two epochs, and every epoch holds
        every image once.

        Args:
            batch_size: int, images a batch.
            seed: int; the same seed gives the same batches. None draws one at each call.
            first_step: int, batches to leave out at the start, so that a run resumed at this step
                sees what it would have seen. Whole epochs cost nothing; of the current one the
                records are read, not decoded.
            part: (i, n), ints: the i-th of n equal parts of each batch alone; of the rest, records
            are read, not decoded.
            tolerant: an image that cannot be used is replaced by another one of its batch, instead
            of ending the training.

        Returns:
            tf.data.Dataset of dict(images: image_dtype [batch / n, *stored_shape], labels: int64
            [batch / n]), and, where it is tolerant, skipped: float32 [batch / n], 1 where an image
            was replaced.

        Raises:
            DataError: the batch is larger than the training set, or smaller than 1.
        """
        drawn = random.SystemRandom().randrange(2**31) if seed is None else seed

        def example(record: Record, number: tf.Tensor) -> Batch:
            image, label = self.example(record, _seed(drawn, number))
            return dict(images=image, labels=label)

        numbered = self._numbered(batch_size, drawn, first_step)
        (index, parts), size = part, batch_size // part[1]
        if parts > 1:
            numbered = numbered.filter(
                lambda record, number: tf.equal(number % batch_size // size, index)
            )
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
        """The examples of a tf.data.Dataset in its order, with `skipped`, 1 for one that cannot be
        used: zeros, and `more`.
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
        """tf.data.Dataset of the records of all training batches from a step on, and their number
        since the first step.
        """
        self.steps_per_epoch(batch_size)

        def epoch_records(epoch: tf.Tensor) -> tf.data.Dataset:
            # The graph of this function gets a fixed seed of its own, so that a seed of the whole
            # graph cannot change the order. Not seed + epoch: epoch 1 of seed 0 must not be epoch 0
            # of seed 1.
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
        """tf.data.Dataset of (record, seed) of some training batches, as `example` takes them;
        arguments as for `train`.
        """
        numbered = self._numbered(batch_size, seed, first_step).take(steps * batch_size)
        return numbered.map(lambda record, number: (record, _seed(seed, number)))

    def contents(self) -> List[object]:
        """What tells the images of this set from others of the same number and shape, where they
        are not always the same.

        Returns:
            list of plain values: names and sizes of files, or a checksum of the images.
        """
        return []

    def digest(self) -> str:
        """A checksum of all that must be alike on hosts that train together: counts, classes,
        shape, names, `contents`.

        Returns:
            str of 64 hexadecimal digits.

        Raises:
            DataError: there are no training images.
        """
        facts = [
            self.name,
            self.classes,
            self.train_images,
            self.validation_images,
            list(self.image_shape),
            self.label_names,
            self.contents(),
        ]
        return hashlib.sha256(repr(facts).encode('utf-8', 'backslashreplace')).hexdigest()

    def find_damage(self, split: str, suspects: Optional[tf.data.Dataset] = None) -> Optional[str]:
        """One sentence on what is wrong with the stored images, where, and what to do; None where
        nothing is, or can be.

        Args:
            split: 'train' or 'validation'.
            suspects: tf.data.Dataset, in the default graph, of the records that it may be: of
                (record, seed) for 'train', as `suspects` gives them, else of records; None where
                the files themselves cannot be read.
        """
        return None

    def validation(self, batch_size: int, tolerant: bool = False) -> tf.data.Dataset:
        """Every validation image once, in the stored order; the last batch is filled up with zeros.

        The sum of all masks is the number of images that were really there: compare it with
        `validation_images`.

        Args:
            batch_size: int, images a batch.
            tolerant: an image that cannot be used counts as filling, instead of ending the
            validation.

        Returns:
            finite tf.data.Dataset of dict(images: image_dtype [batch, *stored_shape], labels: int64
            [batch], mask: float32 [batch], 1 for an image and 0 for filling), and, where it is
            tolerant, skipped: float32 [batch], 1 for an image that was there, but could not be
            used.

        Raises:
            DataError: the batch is smaller than 1.
        """
        self.validation_steps(batch_size)
        examples, no = self._validation_examples(tolerant), tf.zeros([])
        # Whatever the number of images, batch_size - 1 fillings complete the last batch and never
        # make one more.
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
        """The first validation images, in the stored order.

        Args:
            count: int, how many; at most `validation_images`.
            tolerant: another one of these images takes the place of one that cannot be used.

        Returns:
            tf.data.Dataset of one batch, dict(images, labels, mask) as `validation` gives it; where
            it is tolerant, mask is 0 for an image that takes the place of another.
        """
        batch = self._validation_examples(tolerant).take(count).batch(count, drop_remainder=True)
        return (
            batch.map(lambda batch: dict(_replace(batch), mask=batch['mask']))
            if tolerant
            else batch
        )

    def _validation_examples(self, tolerant: bool) -> tf.data.Dataset:
        """tf.data.Dataset of what batches of a validation hold, image by image, without filling."""

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
        """Whole training batches an epoch: train_images // batch_size, int.

        Raises:
            DataError: the batch is larger than the training set, or smaller than 1.
        """
        _check_batch_size(batch_size)
        if batch_size > self.train_images:
            raise DataError(
                f'A training batch of {batch_size:,} images is larger than the training set of '
                f'{self.name}, {self.train_images:,} images; choose a smaller --train_batch_size.'
            )
        return self.train_images // batch_size

    def validation_steps(self, batch_size: int) -> int:
        """Batches that cover the validation set: validation_images / batch_size rounded up, int.

        Raises:
            DataError: the batch is smaller than 1.
        """
        _check_batch_size(batch_size)
        return -(-self.validation_images // batch_size)


def _seed(seed: int, number: tf.Tensor) -> tf.Tensor:
    """The seed int64 [2] of a training image. seed: int, of the training. number: int64 [], since
    its first step.
    """
    return tf.stack([tf.constant(seed, tf.int64), number])


def _replace(batch: Batch) -> Batch:
    """A batch with its first usable image, and its label, in place of those that are not; without
    any, reading it fails.
    """
    usable = tf.equal(batch['skipped'], 0)
    with tf.control_dependencies(
        [tf.Assert(tf.reduce_any(usable), ['no image of a batch can be used'])]
    ):
        first = tf.argmax(tf.cast(usable, tf.int32))
    chosen = tf.where(
        usable, tf.range(tf.size(usable, out_type=tf.int64)), tf.fill([tf.size(usable)], first)
    )
    return {
        name: tensor if name == 'skipped' else tf.gather(tensor, chosen)
        for name, tensor in batch.items()
    }


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise DataError(f'A batch must hold at least one image, not {batch_size}.')
