"""What the tests of this folder share: small data sets, and experiments that are built once.

A session of such an experiment can start from any values.
"""

import zlib

import numpy as np

from training import runtime  # first, because it prepares TensorFlow
import tensorflow.compat.v1 as tf

import data
import small
from alignment.rules import RULES
from config.schema import Config
from data.base import Dataset
from models import NETWORKS
from training import checkpoints, devices, loop
from training.choices import choices
from training.experiment import Experiment

FC = dict(model='fc', layers_list=(5,), dataset='tiny', train_batch_size=12, eval_batch_size=5)
STEPS_PER_EPOCH = 3  # of the 36 training images
EXPERIMENTS = {}  # by Config: a graph is built once, and used by many sessions
REFERENCES = {}  # by settings: reference trainings, kept while pytest runs


def stream(tag):
    """Returns the random numbers of a tag, as tests/golden draws them."""
    return np.random.RandomState(zlib.crc32(tag.encode('ascii')) & 0xFFFFFFFF)


class Fixed(Dataset):
    """Images of a stream; the training data are shuffled if `shuffles` is true."""

    classes, train_images, validation_images, image_shape = 10, 36, 13, (4, 5, 1)
    delivered = None  # real number of validation images, if it differs from the declared one
    shuffles = True
    image_dtype = tf.float32
    scale = 1.0

    def __init__(self, **settings):
        count = max(self.train_images, self.delivered or 0, self.validation_images)
        self.images = (
            stream('images:' + self.name).randn(count, *self.image_shape).astype(np.float32)
        )
        self.labels = stream('labels:' + self.name).randint(0, self.classes, count)

    def records(self, split, seed):
        count = self.train_images if split == 'train' else self.delivered or self.validation_images
        indices = tf.data.Dataset.range(count)
        return indices if seed is None or not self.shuffles else indices.shuffle(count, seed=seed)

    def example(self, record, seed):
        return self.scale * tf.gather(self.images, record), tf.gather(
            self.labels.astype(np.int64), record
        )


def dataset(called, **attributes):
    """Returns a data set class that is not in the registry."""
    return type('Dataset' + called, (Fixed,), dict(attributes, name=called))


DATASETS = {
    cls.name: cls
    for cls in (
        dataset('tiny'),
        dataset('few', classes=3),
        dataset('fc', train_images=8, shuffles=False),
        dataset('broken', scale=np.nan),
        dataset('one_short', validation_images=14, delivered=13),
        dataset('one_more', validation_images=12, delivered=13),
        dataset('batches_short', validation_images=26, delivered=13),
        dataset('batches_more', validation_images=10, delivered=18),
    )
}


SMALL = NETWORKS['resnet18']._replace(build=small.build)  # for models.NETWORKS


def config(**settings):
    """Returns a checked Config of a small fully connected network, with some settings changed."""
    return Config.of(dict(FC, **settings), choices())


def experiment(first_step=0, training=True, validating=True, **settings):
    """Returns the Experiment of `config(**settings)`."""
    key = config(**settings), first_step, training, validating
    if key not in EXPERIMENTS:
        EXPERIMENTS[key] = Experiment(
            key[0], devices.choose(key[0]), first_step, training, validating
        )
    return EXPERIMENTS[key]


def trainer(first_step=0, **settings):
    """Returns the Experiment that only trains; it builds in half the time of a complete one."""
    return experiment(first_step, validating=False, **settings)


def session(exp, start=None):
    """Yields a session with the initial variables, or with the values of {name: array} if given."""
    opened = loop.session(exp, exp.device.session_config(), exp.device.target)
    checkpoints.load(opened, exp, start or {})
    return opened


def values(opened, exp):
    """Returns {checkpoint name: array} of all variables."""
    return opened.run({variable.op.name: variable for variable in exp.variables})


def train(exp, steps=1, start=None):
    """Runs updates from the initial variables or from `start`.

    It returns the variables before and after each update, and the scalars of each step.
    """
    with session(exp, start) as opened:
        opened.run(exp.step.initializer)
        history, scalars = [values(opened, exp)], []
        for _ in range(steps):
            scalars.append(opened.run([exp.step.train_op, exp.step.scalars])[1])
            history.append(values(opened, exp))
    return history, scalars


def calls(exp, counts):
    """Runs calls of these numbers of steps from the initial variables.

    It returns the variables after them, and the scalars of each step.
    """
    with session(exp) as opened:
        opened.run(exp.step.initializer)
        scalars = [step for count in counts for step in exp.run_steps(opened, count)]
        return values(opened, exp), scalars


def reference(steps=1, **settings):
    """Returns `train` of `trainer(**settings)`, which runs only once per settings.

    Callers must not change the result.
    """
    given = config(**settings)
    key = given, data.DATASETS[given.dataset], NETWORKS[given.model], steps
    if key not in REFERENCES:
        REFERENCES[key] = train(trainer(**settings), steps)
    return REFERENCES[key]


def differences(one, other):
    """Returns the largest differences between two runs, as `train` returns them.

    The difference of a scalar is relative to it. The difference of a variable is that of its
    change, relative to the length of the change, minus what float32 rounds.
    """
    (history, scalars), (others, other_scalars) = one, other
    found = {}
    for step, other_step in zip(scalars, other_scalars):
        for name, value in step.items():
            error = abs(float(other_step[name]) - float(value)) / max(abs(float(value)), 1e-6)
            found[name] = np.maximum(found.get(name, 0.0), error)  # NaN stays NaN
    for name in set(history[0]) - {'global_step'}:
        move, another = [
            variables[-1][name].astype(np.float64) - variables[0][name]
            for variables in (history, others)
        ]
        rounding = np.finfo(np.float32).eps * np.linalg.norm(history[-1][name])
        found[name] = np.maximum(np.linalg.norm(another - move) - rounding, 0.0) / max(
            np.linalg.norm(move), 1e-9
        )
    assert moved(history[0], history[-1]) == moved(others[0], others[-1]) != set()
    return found


def beyond(found, limit):
    """Returns those of the differences that are larger than a limit."""
    return {name: error for name, error in found.items() if not error < limit}


def moving_settings(rule):
    """Returns settings with which every variable that a rule (its name) trains changes a lot."""
    sees = {'alignment_rate': 30.0} if rule and RULES[rule].sees else {}
    return dict(sees, alignment=rule, learning_rate=1.0)


def clipped_settings(rule):
    """Returns settings with clipped gradients, and with two optimisers if the rule allows it."""
    second = dict(alignment_optimizer='adam', alignment_learning_rate=0.3)
    return dict(
        moving_settings(rule),
        optimizer='momentum',
        grad_clip=True,
        grad_clipping_value=0.3,
        **(second if rule and RULES[rule].sees else {}),
    )


def moved(before, after):
    """Returns the names of the variables that differ in any bit, except the step counter."""
    return {
        name
        for name in before
        if name != 'global_step' and before[name].tobytes() != after[name].tobytes()
    }


def named(history, ending):
    """Returns the names with this ending."""
    return {name for name in history if name.endswith(ending)}


def logits(variables, images):
    """Returns the network's output in float64: sigmoid(x W + b) by layer; the last is linear."""
    x = images.reshape(len(images), -1).astype(np.float64)
    layers = sorted(name[: -len('/bias')] for name in variables if name.endswith('/bias'))
    for layer in layers:
        x = x @ variables[layer + '/forward_kernel'] + variables[layer + '/bias']
        x = x if layer == 'dense_output' else 1 / (1 + np.exp(-x))
    return x


def cross_entropy(outputs, labels):
    """Returns the cross-entropy of each image, in nats."""
    outputs = outputs - outputs.max(axis=1, keepdims=True)
    return np.log(np.exp(outputs).sum(axis=1)) - outputs[np.arange(len(labels)), labels]


def emulate_cores(monkeypatch):
    """Replaces the cores of a TPU by computations that XLA compiles, and adds up their scalars."""

    def replicate(computation, inputs):
        cores = [runtime.xla_compile(computation, given) for given in inputs]
        return [
            [tf.add_n(parts) if not parts[0].shape.ndims else own for own, parts in both]
            for both in (zip(core, zip(*cores)) for core in cores)
        ]

    monkeypatch.setattr(runtime, 'tpu_replicate', replicate)
    monkeypatch.setattr(runtime, 'tpu_sum', lambda tensor: tensor)
