"""The overview that a run prints before it starts."""

import collections
from typing import Container, Counter, List, Optional, Sequence, Union

import tensorflow.compat.v1 as tf

from config.schema import Config
from data.base import Dataset
from models.roles import Role, Slot
from training import cost, runtime
from training.devices import Device
from training.experiment import Experiment


def settings(config: Config) -> List[str]:
    """Returns the settings that differ from their defaults, one line each."""
    given = config.differing()
    width = max([len(name) for name in given] or [0])
    return [f'  {name:{width}}  {value}' for name, value in given.items()]


def ignored(names: Sequence[str]) -> List[str]:
    """Returns a line that names the given flags that are ignored, if there are any."""
    return (
        [
            'flags ignored in favour of the settings file: '
            + ', '.join('--' + name for name in names)
        ]
        if names
        else []
    )


def experiment(exp: Experiment, device: Device) -> List[str]:
    """Returns a few lines about the device, the network, the data and the training."""
    config, dataset = exp.config, exp.dataset
    parameters: Counter[str] = collections.Counter()
    for variable in exp.variables:
        parameters[_kind(exp.roles[variable.op.name])] += variable.shape.num_elements()
    shape = 'x'.join(str(n) for n in dataset.image_shape)
    counts = ', '.join(f'{count:,} in {kind}' for kind, count in parameters.most_common())
    return [
        f'{runtime.describe()}, {device.title}, images as {device.data_format}',
        f'{exp.collection} with {config.alignment or "backpropagation"} on {config.dataset}: '
        f'{dataset.train_images:,} training and {dataset.validation_images:,} '
        f'{dataset.validated_split} images of {shape}, {dataset.classes:,} classes',
        f'{exp.train_steps:,} steps of {config.train_batch_size:,} images '
        f'({config.train_epochs:g} epochs of {exp.steps_per_epoch:,} steps)'
        + (f', each in {device.minibatches} minibatches' if device.minibatches > 1 else '')
        + (f', up to {device.steps_per_call:,} steps a call' if device.steps_per_call > 1 else '')
        + (', compiled by XLA' if device.compiled else ''),
        f'a batch: {config.train_batch_size:,} images, '
        f'{config.train_batch_size // device.replicas:,} on each of {device.replicas:,} '
        f'replica{"s" if device.replicas > 1 else ""}, {device.hosts:,} '
        f'host{"s" if device.hosts > 1 else ""}',
        'variables: ' + counts,
    ] + _gradients(exp.automatic_layers, config.alignment)


def images(dataset: Dataset) -> str:
    """Returns a line that tells the images from others, as params.environment.dataset does."""
    identity = dataset.identity()
    return f'images: digest {identity.digest}, of {identity.of}'


def step_cost(exp: Experiment) -> List[str]:
    """Returns a line with the number of multiply-adds of a training step."""
    where = (
        ' on each core' if exp.config.tpu_name else ' on each host' if exp.device.hosts > 1 else ''
    )
    counts = cost.of_step(exp)
    return [
        f'a step{where}: {_millions(sum(counts.values()))} million multiply-adds, '
        + ', '.join(f'{_millions(count)} in {kind}' for kind, count in counts.items())
    ]


def _millions(count: int) -> str:
    return f'{count / 1e6:,.1f}'


def _gradients(automatic: Optional[List[str]], alignment: Optional[str]) -> List[str]:
    """Returns how the gradients of the alignment losses are computed."""
    if automatic is None:
        return []
    return [
        f'gradients of the {alignment} loss: '
        + (
            'closed form'
            if not automatic
            else f'automatic differentiation in {len(automatic):,} layers; these options have no '
            'closed form'
        )
    ]


def variables(exp: Experiment, restored: bool, new: Container[str]) -> List[str]:
    """Returns a line for each variable: its name, shape, role, and whether it was restored.

    Args:
        exp: The experiment.
        restored: Whether a checkpoint was restored.
        new: The names of the variables that were not in it.
    """
    rows = [
        (
            v.op.name,
            'x'.join(str(n) for n in v.shape.as_list()) or 'scalar',
            exp.roles[v.op.name].text,
            'restored' if restored and v.op.name not in new else 'new',
        )
        for v in exp.variables
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return [
        '  ' + '  '.join(f'{cell:{width}}' for cell, width in zip(row, widths)).rstrip()
        for row in rows
    ]


def variable_counts(exp: Experiment, restored: bool, new: Sequence[str]) -> List[str]:
    """Returns a line with the number of variables; see `variables`."""
    with exp.graph.as_default():
        trainable = len(tf.trainable_variables())
    total = len(exp.variables)
    kept = total - len(set(new)) if restored else 0
    return [
        f'{total:,} variables: {trainable:,} trainable, {kept:,} restored, {total - kept:,} new '
        '(--verbose lists them)'
    ]


def _kind(role: Union[Role, Slot]) -> str:
    """Returns the name under which the parameters of a variable are counted."""
    if role in (Role.FORWARD, Role.BACKWARD, Role.FIXED):
        return role.text + 's'
    return 'others' if role.is_of_network or role is Role.STEP else 'optimiser slots'
