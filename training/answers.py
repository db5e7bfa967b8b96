"""The answers of a network in a validation: top-1 by class, confusions, and the surest mistakes."""

import io
from typing import Dict, List, NamedTuple, Optional, Sequence

import numpy as np
import tensorflow.compat.v1 as tf
from PIL import Image

from database.layout import MOST_WHOLE
from database.types import Array, Document
from training.devices.device import Batch
from training.metrics import NO_ANSWER

MOST_CONFUSIONS = 1000  # that are recorded of more than MOST_WHOLE classes
MOST_MISTAKES = 16
THUMBNAIL = 64  # pixels of the longer side of a recorded image, at most
LOSSLESS = 32 * 32 * 3  # numbers of an image up to which it is stored as PNG; larger ones as JPEG
QUALITY = 90  # of JPEG
LONGEST_NAME = 100  # characters of the name of a class

Answered = Dict[str, tf.Tensor]  # see `of`


def of(batch: Batch, each: Batch) -> Answered:
    """Returns what `Answers.add` needs of a batch, as tensors.

    Args:
        batch: The batch of a validation, with images, labels and mask.
        each: What metrics.answers returns for it.

    Returns:
        {labels: int64 [batch], mask: float32 [batch], answers: int32 [batch]}, and of the `k`
        images that are most surely wrong: {sureness: float32 [k], places: int32 [k] in the batch,
        images: uint8 [k, height, width, channels], at most THUMBNAIL pixels high and wide}. k is
        MOST_MISTAKES, or the size of a smaller batch. Where fewer images are wrong, the sureness of
        the others is -inf.
    """
    labels, answers = batch['labels'], each['answer']
    with tf.device('/cpu:0'):  # where the images are
        is_wrong = tf.logical_and(
            tf.logical_and(batch['mask'] > 0, tf.not_equal(answers, NO_ANSWER)),
            tf.not_equal(answers, tf.cast(labels, tf.int32)),
        )
        sureness = tf.where(is_wrong, each['sureness'], tf.fill(tf.shape(answers), -np.inf))
        worst, places = tf.nn.top_k(sureness, min(MOST_MISTAKES, int(labels.shape[0])))
        return dict(
            labels=labels,
            mask=batch['mask'],
            answers=answers,
            sureness=worst,
            places=places,
            images=_small(tf.gather(batch['images'], places)),
        )


def _small(images: tf.Tensor) -> tf.Tensor:
    """Returns images as uint8, at most THUMBNAIL pixels high and wide.

    The values of an image of another type are stretched from its least and its greatest to 0..255.
    """
    height, width = images.shape.as_list()[1:3]
    shrinking = min(1.0, THUMBNAIL / max(height, width))
    size = [max(1, int(round(side * shrinking))) for side in (height, width)]
    values = tf.cast(images, tf.float32)
    if shrinking < 1:
        values = tf.image.resize_area(values, size)
    if images.dtype != tf.uint8:
        least, most = [
            reduce(values, axis=[1, 2, 3], keepdims=True)
            for reduce in (tf.reduce_min, tf.reduce_max)
        ]
        values = 255 * (values - least) / tf.maximum(most - least, 1e-30)
    return tf.cast(tf.clip_by_value(tf.round(values), 0, 255), tf.uint8)


class _Mistake(NamedTuple):
    """A wrong answer: the logarithm of its odds, and the image's place in the validation set."""

    sureness: float
    number: int
    label: int
    answer: int
    image: Array

    def document(self) -> Document:
        """Returns the mistake as a document for a record."""
        return dict(
            number=self.number,
            label=self.label,
            answer=self.answer,
            probability=1.0 / (1.0 + float(np.exp(-self.sureness))),
            image=encoded(self.image),
        )


class Answers:
    """Collects the answers of a validation, batch by batch.

    Args:
        classes: Number of classes.
    """

    def __init__(self, classes: int) -> None:
        self._classes = classes
        self._labels: List[Array] = []
        self._answers: List[Array] = []
        self._mistakes: List[_Mistake] = []
        self._seen = 0

    def add(self, found: Dict[str, Array]) -> None:
        """Adds the values of the tensors that `of` returned."""
        counts = found['mask'] > 0
        self._labels.append(found['labels'][counts])
        self._answers.append(found['answers'][counts])
        more = [
            _Mistake(
                float(sureness),
                self._seen + int(place),
                int(found['labels'][place]),
                int(found['answers'][place]),
                image,
            )
            for sureness, place, image in zip(found['sureness'], found['places'], found['images'])
            if sureness > -np.inf
        ]
        surest = sorted(self._mistakes + more, key=lambda each: (-each.sureness, each.number))
        self._mistakes = surest[:MOST_MISTAKES]
        self._seen += len(counts)

    def results(self, names: Optional[Sequence[str]]) -> Document:
        """Returns the results layout.DETAILS of a record.

        Args:
            names: The names of the classes; None if they are unknown.

        Returns:
            {per_class: [{label, name, images, top1}], confusion: {matrix: [[images]]} or {largest:
            [{label, answer, images}]}, mistakes: [{number, label, answer, probability, image}]}.
            top1 is None for a class without images. The matrix has a row for each label and a
            column for each answer. The image is a PNG or a JPEG.
        """
        labels = np.concatenate(self._labels or [np.zeros(0, np.int64)]).astype(np.int64)
        answers = np.concatenate(self._answers or [np.zeros(0, np.int64)]).astype(np.int64)
        images = np.bincount(labels, minlength=self._classes)
        right = np.bincount(labels[labels == answers], minlength=self._classes)
        return dict(
            per_class=[
                dict(
                    label=label,
                    name=_name(names[label]) if names else str(label),
                    images=int(images[label]),
                    top1=float(right[label] / images[label]) if images[label] else None,
                )
                for label in range(self._classes)
            ],
            confusion=self._confusion(labels, answers),
            mistakes=[mistake.document() for mistake in self._mistakes],
        )

    def _confusion(self, labels: Array, answers: Array) -> Document:
        there = answers != NO_ANSWER
        codes, counts = np.unique(
            labels[there] * self._classes + answers[there], return_counts=True
        )
        if self._classes <= MOST_WHOLE:
            matrix = np.zeros(self._classes**2, np.int64)
            matrix[codes] = counts
            return dict(matrix=matrix.reshape(self._classes, self._classes).tolist())
        pairs = [
            (int(count), *divmod(int(code), self._classes)) for code, count in zip(codes, counts)
        ]
        wrong = sorted(
            (-images, label, answer) for images, label, answer in pairs if label != answer
        )
        return dict(
            largest=[
                dict(label=label, answer=answer, images=-images)
                for images, label, answer in wrong[:MOST_CONFUSIONS]
            ]
        )


def _name(name: str) -> str:
    """Returns the name of a class as a record can hold it: valid Unicode of a limited length."""
    return name.encode('utf-8', 'replace').decode('utf-8')[:LONGEST_NAME]


def encoded(image: Array) -> bytes:
    """Returns an image as PNG, or as JPEG if it is large.

    Args:
        image: uint8 [height, width, channels]. Of other numbers of channels than 1 and 3, the first
            three are shown, or the first.
    """
    shown = image[:, :, 0] if image.shape[2] < 3 else np.ascontiguousarray(image[:, :, :3])
    buffer = io.BytesIO()
    picture = Image.fromarray(shown)
    if image.size <= LOSSLESS:
        picture.save(buffer, 'PNG', optimize=True)
    else:
        picture.save(buffer, 'JPEG', quality=QUALITY)
    return buffer.getvalue()
