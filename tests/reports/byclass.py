"""Results by class as a validation records them, made from labels and answers by NumPy alone."""

import io

import bson
import numpy as np
from PIL import Image

import stored


def image(place, kind='PNG', size=(9, 7)):
    """Returns the bytes of an image of noise."""
    values = np.random.RandomState(place).randint(0, 256, (size[1], size[0], 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, kind)
    return buffer.getvalue()


def results(count=7, images=131, seed=0, names=None, pictures=None):
    """Returns the results of a validation with those by class, and none of the last class.

    Args:
        count: Number of classes.
        images: Number of validated images.
        seed: Of the labels and answers.
        names: The names of the classes.
        pictures: The bytes of the images that are most surely wrong.
    """
    random = np.random.RandomState(seed)
    labels = random.randint(0, count - 1, images)
    answers = np.where(random.rand(images) < 0.7, labels, random.randint(0, count, images))
    matrix = np.zeros((count, count), int)
    np.add.at(matrix, (labels, answers), 1)
    wrong = [(label, answer) for label, answer in np.ndindex(*matrix.shape) if label != answer]
    wrong.sort(key=lambda pair: (-matrix[pair], pair))
    largest = [
        dict(label=label, answer=answer, images=int(matrix[label, answer]))
        for label, answer in wrong[:1000]
        if matrix[label, answer]
    ]
    if pictures is None:
        pictures = [image(place, 'PNG' if place % 2 else 'JPEG') for place in range(5)]
    per_class = [
        dict(
            label=label,
            name=f'class {label}' if names is None else names[label],
            images=int((labels == label).sum()),
            top1=float((answers == label)[labels == label].mean()) if label in labels else None,
        )
        for label in range(count)
    ]
    return dict(
        stored.results(float((labels == answers).mean()), 11.0)['topn_val'],
        images=images,
        per_class=per_class,
        confusion=dict(matrix=matrix.tolist()) if count <= 100 else dict(largest=largest),
        mistakes=[
            dict(
                number=3 * place,
                label=place % count,
                answer=(place + 1) % count,
                probability=1.0 - 0.01 * place,
                image=picture,
            )
            for place, picture in enumerate(pictures)
        ],
    )


def record(exp_id, step=30, own=None, seed=0, **more):
    """Returns a record with results by class, as pymongo stores it."""
    settings = stored.params()
    settings['train_params']['seed'] = seed
    return dict(
        _id=bson.ObjectId(),
        exp_id=exp_id,
        step=step,
        params=settings,
        duration=0.5,
        saved_filters=False,
        train_results=stored.losses(1.0, 2.0),
        validation_results={'topn_val': results(seed=seed) if own is None else own},
        **more,
    )
