"""An exhausted memory and other errors of an operation have a sentence, and only known causes."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tiny
from tiers import at_night
from training import memory
from training.errors import TrainingError
from training.validation import reading

CONFIG = dict(alignment='symmetric', layers_list=(37, 41), train_batch_size=131, eval_batch_size=77)
HUGE = 1 << 46  # bytes: more than a process can address


def sentence(action, **settings):
    with pytest.raises(TrainingError) as caught:
        with memory.told(tiny.config(**dict(CONFIG, **settings))):
            action()
    assert '\n' not in str(caught.value)
    return str(caught.value)


def allocate(*shape):
    """Lets TensorFlow allocate a tensor of this shape."""
    with tf.Graph().as_default(), tf.Session() as session:
        size = tf.placeholder(tf.int32, [len(shape)])
        session.run(tf.reduce_sum(tf.fill(size, 1.0)), {size: shape})


# TensorFlow waits 10 s for memory before it gives up.
@pytest.mark.parametrize(
    'shape, words',
    at_night(
        ((131, HUGE >> 20, 1 << 9), '--train_batch_size=131: choose a smaller one, or compute'),
        ((77, HUGE >> 20, 1 << 9), '--eval_batch_size=77: choose a smaller one'),
        ((HUGE >> 20, 1 << 9, 41), '--layers_list=37,41: choose smaller layers'),
    ),
)
def test_a_tensor_of_tensorflow(shape, words):
    told = sentence(lambda: allocate(*shape))
    assert told.startswith(
        'out of memory: a tensor of shape ' + ' x '.join(f'{n:,}' for n in shape)
    )
    assert 'float32' in told and 'GiB' in told and words in told


@pytest.mark.nightly
def test_a_tensor_of_another_size_gets_no_cause():
    told = sentence(lambda: allocate(3, HUGE >> 20, 1 << 9))
    assert 'Its sizes are' not in told and 'try a smaller --train_batch_size' in told


def test_an_array_of_numpy():
    told = sentence(lambda: np.ones((131, HUGE >> 4), np.float32))
    assert told.startswith('out of memory: ')
    if 'shape' in told:  # NumPy for Python 3.7 does not say which
        assert '--train_batch_size=131' in told and 'a tensor of shape 131 x' in told


@pytest.mark.nightly
def test_a_step_that_runs_out_of_memory_is_named():
    def step():
        with reading('step 7', '--data_dir=x'):
            allocate(131, HUGE >> 20, 1 << 9)

    told = sentence(step)
    assert told.startswith('step 7: out of memory: a tensor of shape 131 x')
    assert '--train_batch_size=131: choose a smaller one, or compute' in told


def test_an_exhausted_disk_is_no_exhausted_memory():
    def fail():
        raise tf.errors.ResourceExhaustedError(None, None, '/x; No space left on device')

    told = sentence(fail)
    assert 'memory' not in told and 'No space left on device' in told


@pytest.mark.parametrize('data_is_damaged', [True, False])
def test_only_an_error_of_the_data_is_about_an_image(data_is_damaged):
    asked = []
    with tf.Graph().as_default(), tf.Session() as session:
        images = tf.data.Dataset.range(3).map(
            lambda number: tf.debugging.check_numerics(
                1.0 / tf.cast(2 - number if data_is_damaged else 1, tf.float32), 'image'
            )
        )
        iterator = tf.data.make_initializable_iterator(images.batch(3))
        image = iterator.get_next()
        label = tf.placeholder(tf.int32, [])
        loss = tf.gather(image, label, name='choose')
        session.run(iterator.initializer)
        with pytest.raises(TrainingError) as caught:
            with reading('step 7', '--data_dir=x', asked.append):
                session.run(loss, {label: 7})
    told = str(caught.value)
    if data_is_damaged:
        assert asked == [False] and 'look for a damaged image' in told
    else:
        assert asked == [] and 'image' not in told
        assert told.startswith('step 7: TensorFlow failed (GatherV2 choose): ') and '7' in told
