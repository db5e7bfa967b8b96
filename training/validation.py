"""Validates a network on every image of the validation set once, and measures each layer."""

import contextlib
from typing import TYPE_CHECKING, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import tensorflow.compat.v1 as tf
from tqdm import tqdm

from data.base import reason
from database.layout import ANGLES, MAY_BE_UNDEFINED
from database.types import Document
from training import memory
from training.answers import Answers
from training.errors import TrainingError
from training.output import hidden
from training.types import Results

if TYPE_CHECKING:
    from training.experiment import Experiment

READS = 'IteratorGetNext'  # in every error of the data pipeline: the operation that reads from it
MANY_TIES = 0.01  # fraction of the images above which ties cause a warning
# Errors about the files, and not about single images.
UNREADABLE = (
    tf.errors.DataLossError,
    tf.errors.NotFoundError,
    tf.errors.PermissionDeniedError,
)


@contextlib.contextmanager
def reading(
    what: str, source: str, find_damage: Callable[[bool], Optional[str]] = lambda in_files: None
) -> Iterator[None]:
    """Context manager: turns TensorFlow's errors about a damaged image into a TrainingError.

    An error that an operation of the network raises is not about an image, even if it is of the
    same class. Its sentence names the operation.

    Args:
        what: What is run, for the message.
        source: Where the images come from, for the message.
        find_damage: Gets whether the files themselves cannot be read; returns a sentence about
            what is damaged and what to do, or None.
    """
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        if not memory.is_exhausted(error):
            raise
        raise memory.OutOfMemory(what, error)
    except UNREADABLE + (tf.errors.InvalidArgumentError,) as error:
        if READS not in error.message:
            where = f' ({error.op.type} {error.op.name})' if error.op is not None else ''
            raise TrainingError(f'{what}: TensorFlow failed{where}: {reason(error)}')
        found = find_damage(isinstance(error, UNREADABLE)) or (
            f'{reason(error)}; look for a damaged image or a wrong label in {source}'
        )
        raise TrainingError(f'{what}: {found}')


def validate(
    session: tf.Session,
    experiment: 'Experiment',
    between: Callable[[], None] = lambda: None,
    in_detail: bool = False,
) -> Document:
    """Validates on the whole validation set.

    Args:
        session: Session with the variables of the network.
        experiment: Experiment whose graph has a validation.
        between: Called before each batch; an exception that it raises ends the validation.
        in_detail: Whether the results include layout.DETAILS; see answers.Answers.

    Returns:
        {top1, top5, loss, images, ties, global_step, weight_angles: {layer: degrees}, ...}. top1
        and top5 are fractions, loss is the mean cross-entropy in nats, and ties is the number of
        images whose top-1 was decided by a tie. The measures of each layer are taken on the first
        images only: measured_images is their number. An angle that is undefined is None, and
        undefined_angles is the number of such angles.

    Raises:
        TrainingError: Not every image was read once, or an image cannot be used and
            --skip_bad_records does not allow it.
    """
    validation, source = experiment.built_validation, experiment.plan.source
    find = experiment.find_validation_damage
    answers = Answers(experiment.dataset.classes) if in_detail else None
    sums = _sums(session, experiment, between, answers)
    images, skipped = int(round(sums.pop('images'))), int(round(sums.pop('skipped_records', 0)))
    if images + skipped != experiment.dataset.validation_images:
        raise TrainingError(
            f'the validation read {images + skipped:,} images, but the data set has '
            f'{experiment.dataset.validation_images:,}; check the files in --data_dir and '
            'the counts in its dataset.json'
        )
    if skipped > experiment.plan.skips:
        raise TrainingError(
            f'validation: {skipped:,} images cannot be used, more than '
            f'--skip_bad_records={experiment.plan.skips} allows; {find(False)}'
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
    outcome.update(answers.results(experiment.dataset.label_names) if answers else {})
    return dict(outcome, alignment_coefficients=coefficients) if coefficients else outcome


def _sums(
    session: tf.Session,
    experiment: 'Experiment',
    between: Callable[[], None],
    answers: Optional[Answers],
) -> Dict[str, float]:
    """Reads all images; returns the sums of metrics.totals, and adds to the answers, if given."""
    validation, source = experiment.built_validation, experiment.plan.source
    find = experiment.find_validation_damage
    session.run(validation.initializer)
    sums = dict.fromkeys(validation.totals, 0.0)
    fetches: Document = dict(totals=validation.totals)
    fetches.update(dict(answers=validation.answers) if answers else {})
    with tqdm(
        total=validation.steps, desc='validating', unit='batch', leave=False, disable=hidden()
    ) as bar:
        while True:  # to the end of the files, so that surplus images are noticed
            between()
            try:
                with reading('validation', source, find):
                    batch = session.run(fetches)
            except tf.errors.OutOfRangeError:
                break
            for name, value in batch['totals'].items():
                sums[name] += float(value)
            if answers:
                answers.add(batch['answers'])
            bar.update()
    return sums


def _without_nan(measured: Document) -> Document:
    """Replaces undefined measures (NaN) of alignment.measures by None, and counts the angles."""
    found = dict(
        measured,
        **{
            name: {
                layer: value if np.isfinite(value) else None
                for layer, value in measured[name].items()
            }
            for name in MAY_BE_UNDEFINED
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
    """Moves the named results out of the given dictionaries, for --save_to_gfs.

    Args:
        names: Names of the results to move.
        results: {target: {name: value}} of a validation, or {}.
        train_results: {name: value} of each step.
        known: Names that the steps have.

    Returns:
        ({name: [value of each step]}, {target: {name: value}}).

    Raises:
        TrainingError: Neither the validation nor the steps have a name.
    """
    present = set(known).union(*results.values())
    missing = sorted(set(names) - present) if results else []
    if missing:
        raise TrainingError(
            f'--save_to_gfs: there is no result {", ".join(missing)}; choose from '
            f'{", ".join(sorted(present))}'
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
    """Returns the mean of results[name] over the layers whose angle is defined, in degrees.

    The result is None if no layer has one.
    """
    angles = [float(angle) for angle in results.get(name, {}).values() if angle is not None]
    return sum(angles) / len(angles) if angles else None


def summary(results: Document) -> str:
    """Returns one line: 'top-1 0.9710, top-5 0.9990, mean weight angle 12.3 degrees'.

    Results that --save_to_gfs has moved to GridFS are left out.
    """
    parts = [f'top-{k} {results["top" + k]:.4f}' for k in '15' if 'top' + k in results]
    for name in ('weight_angles', 'gradient_angles'):
        angle = mean_angle(results, name)
        if angle is not None:
            parts.append(f'mean {name[:-1].replace("_", " ")} {angle:.1f} degrees')
    return ', '.join(parts)


def warnings(results: Document, precision: str = 'float32') -> List[str]:
    """Returns warnings about the results of a validation, as sentences.

    Args:
        results: Results of the validation.
        precision: Name of the type that it was computed in.
    """
    ties, images = results.get('ties'), results.get('images')
    # Both are None if --save_to_gfs has moved them to GridFS.
    if ties is None or images is None or ties <= MANY_TIES * images:
        return []
    rounded = (
        ''
        if precision == 'float32'
        else f', or that --precision={precision} rounds close logits to the same number'
    )
    return [
        f'warning: the top-1 of {ties:,} of {images:,} images was decided by a tie: another class '
        'has the same largest logit. These images count as correct, as in the original. So many '
        f'ties usually mean that the network is dead, with all logits equal{rounded}'
    ]
