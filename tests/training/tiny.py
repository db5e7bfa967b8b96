"""What the tests of this folder share: small data sets, experiments that are built once, and
sessions that start anywhere.
"""

import zlib

import numpy as np

from training import runtime  # noqa: F401 (first: it prepares TensorFlow)
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
EXPERIMENTS = {}  # by Config: a graph is built once, and every session starts it anew
REFERENCES = {}  # by settings: trainings that others are compared with, while pytest runs


def stream(tag):
    """The random numbers of a tag, as tests/golden has them."""
    return np.random.RandomState(zlib.crc32(tag.encode('ascii')) & 0xFFFFFFFF)


class Fixed(Dataset):
    """Images of a stream; training shuffles them, where `shuffles`."""

    classes, train_images, validation_images, image_shape = 10, 36, 13, (4, 5, 1)
    delivered = None  # how many validation images there really are, where that is not what is said
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
    """A data set class that the registry does not find by itself."""
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
    """A checked Config of a small fully connected network, and what differs from it."""
    return Config.of(dict(FC, **settings), choices())


def experiment(first_step=0, training=True, validating=True, **settings):
    """The Experiment of `config(**settings)`."""
    key = config(**settings), first_step, training, validating
    if key not in EXPERIMENTS:
        EXPERIMENTS[key] = Experiment(
            key[0], devices.choose(key[0]), first_step, training, validating
        )
    return EXPERIMENTS[key]


def trainer(first_step=0, **settings):
    """The Experiment that trains alone, in half the time that a whole one takes to build."""
    return experiment(first_step, validating=False, **settings)


def session(exp, start=None):
    """A session with the initial variables, or with those of {name: array} where it has them."""
    opened = loop.session(exp, exp.device.session_config(), exp.device.target)
    checkpoints.load(opened, exp, start or {})
    return opened


def values(opened, exp):
    """{checkpoint name: array} of all variables."""
    return opened.run({variable.op.name: variable for variable in exp.variables})


def train(exp, steps=1, start=None):
    """Updates from the initial variables or from `start`: the variables before and after each, and
    each step's scalars.
    """
    with session(exp, start) as opened:
        opened.run(exp.step.initializer)
        history, scalars = [values(opened, exp)], []
        for _ in range(steps):
            scalars.append(opened.run([exp.step.train_op, exp.step.scalars])[1])
            history.append(values(opened, exp))
    return history, scalars


def calls(exp, counts):
    """Calls of so many steps each, from the initial variables: the variables after them, and each
    step's scalars.
    """
    with session(exp) as opened:
        opened.run(exp.step.initializer)
        scalars = [step for count in counts for step in exp.run_steps(opened, count)]
        return values(opened, exp), scalars


def reference(steps=1, **settings):
    """`train` of `trainer(**settings)`, which is done once however many are compared with it.
    Nobody may change what it gives.
    """
    given = config(**settings)
    key = given, data.DATASETS[given.dataset], NETWORKS[given.model], steps
    if key not in REFERENCES:
        REFERENCES[key] = train(trainer(**settings), steps)
    return REFERENCES[key]


def differences(one, other):
    """The largest differences of another run, as `train` gives it, from one: of each scalar,
    relative to it, and of the movement of each variable, relative to its length, beyond what
    float32 rounds of the variable.
    """
    (history, scalars), (others, other_scalars) = one, other
    found = {}
    for step, other_step in zip(scalars, other_scalars):
        for name, value in step.items():
            error = abs(float(other_step[name]) - float(value)) / max(abs(float(value)), 1e-6)
            found[name] = np.maximum(found.get(name, 0.0), error)  # NaN if it is one
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
    """Those of the differences that are larger."""
    return {name: error for name, error in found.items() if not error < limit}


def moving_settings(rule):
    """Settings under which each variable that a rule (its name) moves moves far."""
    sees = {'alignment_rate': 30.0} if rule and RULES[rule].sees else {}
    return dict(sees, alignment=rule, learning_rate=1.0)


def clipped_settings(rule):
    """Those of a clipped step by two optimisers, where the rule allows a second one."""
    second = dict(alignment_optimizer='adam', alignment_learning_rate=0.3)
    return dict(
        moving_settings(rule),
        optimizer='momentum',
        grad_clip=True,
        grad_clipping_value=0.3,
        **(second if rule and RULES[rule].sees else {}),
    )


def moved(before, after):
    """The names of the variables that differ in any bit, the step counter aside."""
    return {
        name
        for name in before
        if name != 'global_step' and before[name].tobytes() != after[name].tobytes()
    }


def named(history, ending):
    """The names with this ending."""
    return {name for name in history if name.endswith(ending)}


def logits(variables, images):
    """The network's output in float64: sigmoid(x W + b), layer by layer, the last one linear."""
    x = images.reshape(len(images), -1).astype(np.float64)
    layers = sorted(name[: -len('/bias')] for name in variables if name.endswith('/bias'))
    for layer in layers:
        x = x @ variables[layer + '/forward_kernel'] + variables[layer + '/bias']
        x = x if layer == 'dense_output' else 1 / (1 + np.exp(-x))
    return x


def cross_entropy(outputs, labels):
    """Per image, in nats."""
    outputs = outputs - outputs.max(axis=1, keepdims=True)
    return np.log(np.exp(outputs).sum(axis=1)) - outputs[np.arange(len(labels)), labels]
