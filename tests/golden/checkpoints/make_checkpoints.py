"""Trains a tiny network for 20 steps and stores its checkpoint and the results of one more step.

    python tests/golden/checkpoints/make_checkpoints.py

Run it once under TensorFlow 1.13.2 and once under 2.x: each run writes the folder of its version,
tensorflow1 or tensorflow2. tests/cli/test_golden_checkpoints.py restores both under either version.
New checkpoints are needed only if the names or shapes of variables, or the numbers of a step, are
meant to change.

Every step uses all 203 images, so that their order does not affect the numbers.
"""
import os
import shutil
import struct
import sys
import tempfile

import numpy as np

FOLDER = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(FOLDER))))

from training import runtime  # noqa: E402 (first: it prepares TensorFlow)
import tensorflow.compat.v1 as tf  # noqa: E402
from config.schema import Config  # noqa: E402
from data import idx, mnist  # noqa: E402
from training import checkpoints, devices, loop  # noqa: E402
from training.choices import choices  # noqa: E402
from training.experiment import Experiment  # noqa: E402

VERSIONS = ('tensorflow1', 'tensorflow2')
IMAGES = dict(train=203, test=101)
STEPS = 20
SETTINGS = dict(model='fc', layers_list=(7, 5), activation='tanh', image_size=6, alignment='information',
                optimizer='momentum', learning_rate=0.2, alignment_optimizer='adam', alignment_learning_rate=0.01,
                train_epochs=30.0, train_batch_size=IMAGES['train'], eval_batch_size=13)


class Observed(Experiment):
    """An experiment whose gradients and logits can be read.

    Attributes:
        gradients: {objective and variable: tensor}, the gradients that the optimisers apply.
        logits: The logits of the first 13 validation images.
    """

    def _network(self, rule, images, is_training, precision='float32', replicated=False):
        self.logits, layers = super()._network(rule, images, is_training, precision, replicated)
        return self.logits, layers

    def _apply(self, updated, now):
        self.gradients = {'task/' + variable.op.name: tf.zeros(variable.shape) for variable in updated[0].idle}
        self.gradients.update({'{}/{}'.format(objective, variable.op.name): gradient
                               for objective, each in zip(('task', 'alignment'), updated) for gradient, variable in each.gradients})
        return super()._apply(updated, now)


def experiment(folder):
    """Returns the experiment, on digits that are written to a folder as the files of MNIST."""
    for split, (images, labels) in mnist.read_subset().items():
        for name, array in zip(idx.FILES[split], (images, labels)):
            array = array[::len(array) // IMAGES[split]][:IMAGES[split]]  # the images are ordered by digit
            with open(os.path.join(folder, name), 'wb') as file:
                file.write(struct.pack('>{}I'.format(1 + array.ndim), 0x800 + array.ndim, *array.shape) + array.tobytes())
    config = Config.of(dict(SETTINGS, data_dir=folder), choices())
    return Observed(config, devices.choose(config))


def numbers(exp, prefix):
    """Returns {name: array} of a checkpoint.

    They are the logits, the losses and gradients of the next step, and all variables after it.
    """
    with loop.session(exp, runtime.session_config()) as session:
        checkpoints.restore(session, exp, prefix)
        session.run([exp.step.initializer, exp.validation.initializer])
        found = {'logits': session.run(exp.logits)}
        _, scalars, gradients = session.run([exp.step.train_op, exp.step.scalars, exp.gradients])
        variables = session.run({variable.op.name: variable for variable in exp.variables})
    for group, values in (('scalar', scalars), ('gradient', gradients), ('after', variables)):
        found.update({'{}/{}'.format(group, name): value for name, value in values.items()})
    return found


def place(version):
    """Returns (path prefix of the checkpoint, path of its numbers) for a version of TensorFlow."""
    folder = os.path.join(FOLDER, version)
    return os.path.join(folder, 'checkpoint-{}'.format(STEPS)), os.path.join(folder, 'numbers.npz')


def main():
    prefix, path = place(VERSIONS[runtime.IS_TF2])
    shutil.rmtree(os.path.dirname(prefix), ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        exp = experiment(folder)
        with loop.session(exp, runtime.session_config()) as session:
            session.run(exp.step.initializer)
            for _ in range(STEPS):
                session.run(exp.step.train_op)
            checkpoints.save(session, exp, os.path.dirname(prefix), STEPS)
        np.savez_compressed(path, **numbers(exp, prefix))
    print('{}: {}'.format(os.path.dirname(prefix), runtime.describe()))


if __name__ == '__main__':
    main()
