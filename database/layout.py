"""The layout of a record, and a function that checks a document against it.

A record is a document of `<collection>.files`. Its layout is that of tfutils: notebooks and
mongo-shell queries written for tfutils rely on these names and types.
"""

import datetime
from typing import List, NamedTuple, Tuple

import bson

from database.types import Document


class Field(NamedTuple):
    """A field of a record.

    Attributes:
        types: The types that the value may have.
        meaning: A description for readers.
        needed: When the field is required: 'always', with 'weights' or 'never'.
    """

    types: Tuple[type, ...]
    meaning: str
    needed: str


NUMBER = (float, int)
# The version of this layout. A change that older programs would misread, or that readers have to
# tell from what was before, gets the next number. Records without the field `layout` are version 1;
# the original program's have it, too.
#   1: the layout of tfutils; fields that were added later can be missing
#   2: `layout` itself, and params.environment
#   3: `claim`, `digest`, `sha256` and `stopped`; every step has one record; DETAILS can be missing
VERSION = 3
FIRST = 1
# fmt: off
FIELDS = {
    '_id': Field((bson.ObjectId,), 'identity', 'always'),
    'layout': Field((int,), 'version of this layout; absent in version 1', 'never'),
    'exp_id': Field((str,), 'experiment', 'always'),
    'step': Field((int,), 'updates done', 'always'),
    'duration': Field((float,), 'seconds per step since the last record; without steps, seconds of '
                                'the validation', 'always'),
    'params': Field((dict,), 'every setting: {group: {name: value}}', 'always'),
    'saved_filters': Field((bool,), 'whether the record holds a checkpoint', 'always'),
    'train_results': Field((list,), 'one dictionary of numbers per step since the last record; '
                                    'absent if there are no steps', 'never'),
    'validation_results': Field((dict,), '{target: {name: number or {layer: number}; DETAILS}}; '
                                         'absent without a validation', 'never'),
    'validates': Field((bson.ObjectId, str), '_id of the record, or path of the checkpoint, that '
                                             'was validated', 'never'),
    'stopped': Field((bool,), 'true if there is a record only because the run stopped here; the '
                              'next record replaces it', 'never'),
    'claim': Field((dict,), '{life, number}: the process that wrote it, see database/owner.py',
                   'never'),
    'digest': Field((str,), 'SHA-256 of the content of the record; see records.digest', 'never'),
    'sha256': Field((str,), 'SHA-256 of the archive in hexadecimal; it stays when the archive is '
                            'removed', 'never'),
    'collname': Field((str,), 'collection; only in databases of recent checkpoints', 'never'),
    'filename': Field((str,), "GridFS: name of the archive, checkpoint-<step>.tar", 'weights'),
    'length': Field((int,), 'GridFS: size in bytes', 'weights'),
    'chunkSize': Field((int,), 'GridFS: bytes per chunk, 261120', 'weights'),
    'md5': Field((str,), 'GridFS: MD5 checksum of the file in hexadecimal', 'weights'),
    'uploadDate': Field((datetime.datetime,), 'GridFS: when it was stored (UTC)', 'weights'),
    '_saver_write_version': Field((int,), "format version of TensorFlow's Saver, 2", 'weights'),
    '_saver_num_data_files': Field((int,), 'number of .data files of the checkpoint', 'weights'),
}
# fmt: on
# The fields that a record has only with a checkpoint.
OF_FILES = tuple(name for name, field in FIELDS.items() if field.needed == 'weights')
GROUPS = (
    'save_params',
    'load_params',
    'model_params',
    'train_params',
    'loss_params',
    'learning_rate_params',
    'optimizer_params',
    'validation_params',
)
# What params.environment holds. A value is None if it is not known.
ENVIRONMENT = {
    'python': (str,),
    'tensorflow': (str,),
    'packages': (dict,),
    'platform': (str,),
    'cpu': (dict,),
    'devices': (list,),
    'diff': (str, type(None)),
    'dataset': (dict, type(None)),
    'argv': (list,),
    'folder': (str, type(None)),
    'started': (datetime.datetime,),
    'seconds': NUMBER,
    'peak_memory': (int, type(None)),
}
SINCE_LATER = ('folder',)  # facts that older records of this layout do not have
# A tfutils script passes its own dictionary, which has no --model.
GROUPS_OF_A_SCRIPT = ('save_params', 'model_params')
STEP = ('loss', 'model_loss', 'reg_loss', 'alignment_loss', 'total_loss', 'learning_rate')
VALIDATION = ('top1', 'top5', 'loss', 'images', 'global_step')
# In records whose settings include --measure_images.
VALIDATION_THAT_MEASURES = ('measured_images', 'undefined_angles', 'ties')
SPLITS = ('validation', 'test')  # the images of a validation: held out, or the test images
VALIDATION_THAT_SKIPS = ('skipped_records',)  # with --skip_bad_records
STEP_OF_A_SCRIPT = ('loss', 'learning_rate')
TARGET = 'topn_val'  # the name of the validation in the records of this program
ANGLES = ('weight_angles', 'projection_angles', 'gradient_angles')
# How kernels and errors compare, and their sizes. Older records do not have these measures.
SIGNALS = (
    'norm_ratios',
    'gradient_norm_ratios',
    'gradient_cosines',
    'gradient_sign_agreements',
    'backprop_gradient_sizes',
    'activity_norms',
    'error_ranks',
)
MAY_BE_UNDEFINED = ANGLES + SIGNALS  # the value of such a layer is null
BY_LAYER = MAY_BE_UNDEFINED + (
    'hebb_angle',
    'weightsq_norm',
    'weightsq_mean',
    'actsq_norm',
    'actsq_mean',
    'alignment_coefficients',
)
# Results by class. A training records them at its last validation only, and test.py at each one,
# because they are much larger than the other results.
DETAILS = ('per_class', 'confusion', 'mistakes')
MOST_WHOLE = 100  # classes up to which the whole matrix of confusions is recorded


def version(document: Document) -> int:
    """Returns the version of the layout of a record. Records without the field are version 1."""
    found = document.get('layout', FIRST)
    return found if _is(found, (int,)) else FIRST


def faults(document: Document) -> List[str]:
    """Returns the deviations of a document from the layout.

    Args:
        document: A record as pymongo reads it from `<collection>.files` (not a named result of
            --save_to_gfs).

    Returns:
        A list of descriptions such as 'step is a float'. It is empty for a correct record.
    """
    if version(document) > VERSION:
        return [f'layout is {version(document)}: a newer version of this program wrote the record']
    found = [f'{name} is not a field of a record' for name in document if name not in FIELDS]
    for name, field in FIELDS.items():
        needed = (
            field.needed == 'always'
            or field.needed == 'weights'
            and document.get('saved_filters') is True
        )
        if name not in document:
            found += [f'{name} is missing'] if needed else []
        elif not _is(document[name], field.types):
            found.append(f'{name} is a {type(document[name]).__name__}')
        elif field.needed == 'weights' and not needed:
            found.append(f'{name} is present without a checkpoint')
    return found or _inside(document)


def _inside(document: Document) -> List[str]:
    """Returns the deviations inside the fields."""
    params, steps, validations = (
        document['params'],
        document.get('train_results', []),
        document.get('validation_results', {}),
    )
    of_script = 'model' not in params.get('model_params', {})
    groups, names = (GROUPS_OF_A_SCRIPT, STEP_OF_A_SCRIPT) if of_script else (GROUPS, STEP)
    found = [
        f'params.{group} is missing' for group in groups if not _is(params.get(group), (dict,))
    ]
    found += _inside_environment(params) if version(document) >= 2 else []
    found += [
        name + ' is empty'
        for name in ('train_results', 'validation_results')
        if not document.get(name, True)
    ]
    for i, step in enumerate(steps):
        found += [f'train_results[{i}].{name} is missing' for name in names if name not in step]
        found += [
            f'train_results[{i}].{name} is not a number'
            for name in step
            if not _is(step[name], NUMBER)
        ]
    for target, results in validations.items():
        found += (
            ([] if _is(results, (dict,)) else [f'validation_results.{target} is not a dictionary'])
            if of_script
            else _inside_validation(f'validation_results.{target}.', results, params)
            + _split_faults(target, params)
        )
    return found


def _inside_environment(params: Document) -> List[str]:
    environment = params.get('environment')
    if not isinstance(environment, dict):
        return ['params.environment is missing']
    return [
        f'params.environment.{name} is not a known fact'
        for name in environment
        if name not in ENVIRONMENT
    ] + [
        f'params.environment.{name} is missing or has another type'
        for name, types in ENVIRONMENT.items()
        if not (_is(environment[name], types) if name in environment else name in SINCE_LATER)
    ]


def _split_faults(target: str, params: Document) -> List[str]:
    """Returns the fault of a record that does not name the images of its validation.

    Records written before the setting --validation_split existed do not name them.
    """
    training, validating = [
        params[group] if _is(params.get(group), (dict,)) else {}
        for group in ('train_params', 'validation_params')
    ]
    if 'validation_split' not in training:
        return []
    asked = validating.get(target)
    split = asked.get('split') if isinstance(asked, dict) else None
    where = f'params.validation_params.{target}.split'
    return [] if split in SPLITS else [f'{where} is not one of {", ".join(SPLITS)}']


def _inside_validation(where: str, results: Document, params: Document) -> List[str]:
    validating, saving = [
        params[group] if _is(params.get(group), (dict,)) else {}
        for group in ('validation_params', 'save_params')
    ]
    in_gridfs = saving.get('save_to_gfs') or ()
    given = VALIDATION + (VALIDATION_THAT_MEASURES if 'measure_images' in validating else ())
    needed = [name for name in given if name not in in_gridfs]
    known = VALIDATION + VALIDATION_THAT_MEASURES + VALIDATION_THAT_SKIPS
    found = [
        where + name + ' is not a number' for name in needed if not _is(results.get(name), NUMBER)
    ]
    found += [
        where + name + ' is not a known result'
        for name in results
        if name not in known + BY_LAYER + DETAILS
    ]
    found += [
        where + name + ' is not a number'
        for name in known
        if name not in needed and not _is(results.get(name, 0), NUMBER)
    ]
    found += [where + fault for fault in _detail_faults(results)]
    for name in set(BY_LAYER).intersection(results):
        layers = results[name] if isinstance(results[name], dict) else {'': None}
        found += [
            where + f'{name}.{layer} is not a number'
            for layer, value in layers.items()
            if not (_is(value, NUMBER) or value is None and name in MAY_BE_UNDEFINED)
        ]
    return found


def _detail_faults(results: Document) -> List[str]:
    """Returns the deviations of results by class, without the name of the target."""
    found = []
    confusion = results.get('confusion', {'matrix': []})
    is_known = _is(confusion, (dict,)) and (
        _are_numbers(confusion.get('largest'), ('label', 'answer', 'images'))
        or _is(confusion.get('matrix'), (list,))
        and all(
            _is(row, (list,)) and all(_is(value, (int,)) for value in row)
            for row in confusion['matrix']
        )
    )
    found += [] if is_known else ['confusion is neither a matrix nor a list of the largest']
    per_class = results.get('per_class', [])
    if not _are_numbers(per_class, ('label', 'images')):
        found.append('per_class is not a list of classes')
    elif not all(_is(each.get('top1'), (float, type(None))) for each in per_class):
        found.append('per_class has a top1 that is not a number')
    mistakes = results.get('mistakes', [])
    if not _are_numbers(mistakes, ('number', 'label', 'answer', 'probability')) or not all(
        _is(each.get('image'), (bytes,)) for each in mistakes
    ):
        found.append('mistakes is not a list of images with their labels and answers')
    return found


def _are_numbers(documents: object, names: Tuple[str, ...]) -> bool:
    """Returns whether this is a list of documents that have numbers with these names."""
    return isinstance(documents, list) and all(
        _is(each, (dict,)) and all(_is(each.get(name), NUMBER) for name in names)
        for each in documents
    )


def _is(value: object, types: Tuple[type, ...]) -> bool:
    return isinstance(value, types) and not (isinstance(value, bool) and bool not in types)
