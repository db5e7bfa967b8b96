"""Turns an exhausted memory into a sentence with the tensor and the settings that it comes from."""

import contextlib
import re
from typing import Iterator, List, NamedTuple, Optional, Tuple

import tensorflow.compat.v1 as tf

from config.flags import as_flag
from config.schema import Config
from data.base import reason
from training.errors import TrainingError

SHAPE = re.compile(r'shape ?[\[(]([\d, ]+)[\])](?: and (?:data )?type (\w+))?')
MEMORY = re.compile(r'OOM|[Aa]llocat|out of memory')  # TensorFlow also calls a full disk exhausted
# Settings that are a size of tensors, and what to do about them.
ADVICE = {
    'train_batch_size': 'choose a smaller one, or compute a batch in parts by --minibatch_size',
    'minibatch_size': 'choose a smaller one',
    'eval_batch_size': 'choose a smaller one, which changes no result',
    'measure_images': 'choose a smaller one',
    'image_size': 'choose a smaller one',
}


class _Setting(NamedTuple):
    """A setting, the sizes that it gives to tensors, and what to do about it."""

    flag: str
    sizes: List[int]
    advice: str


class OutOfMemory(TrainingError):
    """A tensor or an array cannot be allocated.

    Args:
        what: What was run, such as 'step 7'; '' for the preparation of a run.
        error: TensorFlow's or Python's error.
    """

    def __init__(self, what: str, error: Exception) -> None:
        self.what, self.shape, self.dtype = what, *_tensor(error)
        told = _size(self.shape, self.dtype) if self.shape else reason(error)
        super().__init__(f'{what + ": " if what else ""}out of memory: {told}')

    def sentence(self, config: Config) -> str:
        """Returns the message, and what to do with the settings of the run."""
        found = [each for each in _settings(config) if set(each.sizes) & set(self.shape)]
        if not found:
            return (
                f'{self}; try a smaller --train_batch_size, --minibatch_size, --eval_batch_size, '
                '--measure_images or --image_size, smaller layers, or free memory on this machine'
            )
        settings = '; '.join(f'{each.flag}: {each.advice}' for each in found)
        return f'{self}. Its sizes are those of {settings}'


def is_exhausted(error: Exception) -> bool:
    """Returns whether an error is about the memory, and not, for example, about a disk."""
    if isinstance(error, tf.errors.ResourceExhaustedError):
        return bool(MEMORY.search(error.message))
    return isinstance(error, MemoryError)


@contextlib.contextmanager
def told(config: Config) -> Iterator[None]:
    """Context manager: an exhausted memory within it becomes a sentence that names settings.

    Raises:
        TrainingError: The memory is exhausted.
    """
    try:
        yield
    except OutOfMemory as error:
        raise TrainingError(error.sentence(config)) from error
    except (tf.errors.ResourceExhaustedError, MemoryError) as error:
        if not is_exhausted(error):
            raise TrainingError(f'TensorFlow lacks a resource: {reason(error)}') from error
        raise TrainingError(OutOfMemory('', error).sentence(config)) from error


def _tensor(error: Exception) -> Tuple[Tuple[int, ...], str]:
    """Returns (shape, type) of what could not be allocated; ((), '') if the error has no shape."""
    text = error.message if isinstance(error, tf.errors.OpError) else str(error)
    match = SHAPE.search(text)
    if not match:
        return (), ''
    shape = tuple(int(size) for size in match.group(1).replace(' ', '').split(',') if size)
    return shape, {'float': 'float32', 'half': 'float16'}.get(match.group(2), match.group(2) or '')


def _size(shape: Tuple[int, ...], dtype: str) -> str:
    """Returns a text about a tensor: 'a tensor of 4,096 x 7 (float32, 0.1 GiB) ...'."""
    told = ' x '.join(f'{size:,}' for size in shape)
    count = 1
    for size in shape:
        count *= size
    width = _width(dtype)
    amount = f', {count * width / 2**30:,.2f} GiB' if width else ''
    more = f' ({dtype}{amount})' if dtype else ''
    return f'a tensor of shape {told}{more} cannot be allocated'


def _width(dtype: str) -> Optional[int]:
    """Returns the bytes of a number of a type, or None if the type is unknown."""
    try:
        return int(tf.as_dtype(dtype).size)
    except (TypeError, ValueError):
        return None


def _settings(config: Config) -> List[_Setting]:
    """Returns the settings that give tensors their sizes."""
    found = [
        _Setting(f'--{name}={config[name]}', [int(str(config[name]))], advice)
        for name, advice in ADVICE.items()
        if config[name]
    ]
    units = list(config.layers_list)
    if units:
        flag = as_flag('layers_list', config.layers_list)
        found.append(_Setting(flag, units, 'choose smaller layers'))
    expansion = config.of_rule('expansion') if 'expansion' in config.rule_settings else None
    if isinstance(expansion, int):
        sizes = [expansion * each for each in units]
        found.append(_Setting(f'--expansion={expansion}', sizes, 'choose a smaller one'))
    return found
