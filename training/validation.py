"""The validation: every image of the validation set once, and what it tells of each layer."""

import contextlib
from typing import TYPE_CHECKING, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import tensorflow.compat.v1 as tf
from tqdm import tqdm

from data.base import reason
from database.layout import ANGLES
from database.types import Document
from training.errors import TrainingError
from training.types import Results

if TYPE_CHECKING:
    from training.experiment import Experiment

MANY_TIES = 0.01  # of the images: more are told
# The files, not the images.
UNREADABLE = (
    tf.errors.DataLossError,
    tf.errors.NotFoundError,
    tf.errors.PermissionDeniedError,
)


@contextlib.contextmanager
def reading(
    what: str, source: str, find_damage: Callable[[bool], Optional[str]] = lambda in_files: None
) -> Iterator[None]:
    """Around a run that reads images: what TensorFlow says of a damaged one becomes a
    TrainingError.

    what: is run. source: where the images come from, for the message. find_damage: whether the
    files themselves cannot be read -> a sentence on what is damaged and what to do, or None.
    """
    try:
        yield
    except UNREADABLE + (tf.errors.InvalidArgumentError,) as error:
        found = find_damage(isinstance(error, UNREADABLE))
        raise TrainingError(
            '{}: {}'.format(
                what,
                found or f'{reason(error)}; look for a damaged image or a wrong label in {source}',
            )
        )


def validate(
    session: tf.Session, experiment: 'Experiment', between: Callable[[], None] = lambda: None
) -> Document:
    """{top1, top5, loss, images, ties, global_step, weight_angles: {layer: degrees}, ...} over the
    whole validation set.

    top1, top5: fractions; loss: mean cross-entropy in nats; ties: int, images whose top-1 was
    decided by one. Of the layers, measured on the first images alone: angles, None where there is
    none; measured_images, undefined_angles: int, how many.
    between: is called before each batch, and what it raises ends this. Raises TrainingError if not
    every image was seen once.
    """
    validation, source = experiment.built_validation, experiment.plan.source
    find = experiment.find_validation_damage
    session.run(validation.initializer)
    sums = dict.fromkeys(validation.totals, 0.0)
    with tqdm(
        total=validation.steps, desc='validating', unit='batch', leave=False, disable=None
    ) as bar:
        while True:  # to the end of the files, so that images too many are seen, too
            between()
            try:
                with reading('validation', source, find):
                    batch = session.run(validation.totals)
            except tf.errors.OutOfRangeError:
                break
            for name, value in batch.items():
                sums[name] += float(value)
            bar.update()
    images, skipped = int(round(sums.pop('images'))), int(round(sums.pop('skipped_records', 0)))
    if images + skipped != experiment.dataset.validation_images:
        raise TrainingError(
            f'the validation saw {images + skipped:,} images, but the dataset has '
            f'{experiment.dataset.validation_images:,}; check the files in --data_dir and '
            'the counts in its dataset.json'
        )
    if skipped > experiment.plan.skips:
        raise TrainingError(
            f'validation: {skipped:,} images cannot be used, and '
            f'--skip_bad_records={experiment.plan.skips} allows no more; {find(False)}'
        )
    with reading('validation', source, find):
        measured, count, coefficients, step = session.run(
            [
                validation.measures,
                validation.measured_images,
                validation.coefficients,
                experiment.global_step,
            ]
        )
    ties = int(round(sums.pop('ties')))
    outcome = dict(
        {name: total / max(images, 1) for name, total in sums.items()},
        images=images,
        ties=ties,
        global_step=int(step),
        measured_images=int(count),
        **_without_nan(measured),
    )
    outcome.update(dict(skipped_records=skipped) if experiment.plan.skips else {})
    return dict(outcome, alignment_coefficients=coefficients) if coefficients else outcome


def _without_nan(measured: Document) -> Document:
    """What alignment.angles.measure gave, with None for an angle that there is not, and
    `undefined_angles`, how many.
    """
    found = dict(
        measured,
        **{
            name: {
                layer: angle if np.isfinite(angle) else None
                for layer, angle in measured[name].items()
            }
            for name in ANGLES
        },
    )
    return dict(
        found,
        undefined_angles=sum(angle is None for name in ANGLES for angle in found[name].values()),
    )


def take(
    names: Sequence[str],
    results: Results,
    train_results: Sequence[Document] = (),
    known: Sequence[str] = (),
) -> Tuple[Dict[str, list], Results]:
    """Move the named results out, for --save_to_gfs: ({name: [value a step]}, {target: {name:
    value}}).

    results: {target: {name: value}} of a validation, or {}. train_results: a list of {name: value},
    one a step.
    known: names that steps have. Raises TrainingError for a name that neither has.
    """
    present = set(known).union(*results.values())
    missing = sorted(set(names) - present) if results else []
    if missing:
        raise TrainingError(
            '--save_to_gfs: a validation has no {}; it has {}'.format(
                ', '.join(missing), ', '.join(sorted(present))
            )
        )
    of_steps = {name: [step.pop(name) for step in train_results if name in step] for name in names}
    of_targets = {
        target: {name: found.pop(name) for name in names if name in found}
        for target, found in results.items()
    }
    return (
        {name: values for name, values in of_steps.items() if values},
        {target: found for target, found in of_targets.items() if found},
    )


def mean_angle(results: Document, name: str) -> Optional[float]:
    """The mean of results[name] over the layers that have an angle, in degrees, or None where no
    layer has one.
    """
    angles = [float(angle) for angle in results.get(name, {}).values() if angle is not None]
    return sum(angles) / len(angles) if angles else None


def summary(results: Document) -> str:
    """One line of a validation: 'top-1 0.9710, top-5 0.9990, weight angle 12.3'; without what
    --save_to_gfs has taken.
    """
    parts = ['top-{} {:.4f}'.format(k, results['top' + k]) for k in '15' if 'top' + k in results]
    for name in ('weight_angles', 'gradient_angles'):
        angle = mean_angle(results, name)
        if angle is not None:
            parts.append('mean {} {:.1f} degrees'.format(name[:-1].replace('_', ' '), angle))
    return ', '.join(parts)


def warnings(results: Document, precision: str = 'float32') -> List[str]:
    """What is odd about a validation, a list of sentences. precision: the name of the type that it
    computed in.
    """
    ties, images = results.get('ties'), results.get('images')
    # --save_to_gfs may have taken them.
    if ties is None or images is None or ties <= MANY_TIES * images:
        return []
    rounded = (
        ''
        if precision == 'float32'
        else f', or come from --precision={precision}, where close logits are equal'
    )
    return [
        f'warning: the top-1 of {ties:,} of {images:,} images was decided by a tie: another class '
        'has the same highest logit. These count as right, as in the original. So many usually '
        f'mean a dead network, whose logits are all equal{rounded}'
    ]
