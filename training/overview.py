"""What a run tells of itself before it starts."""

import collections
from typing import Container, Counter, List, Optional, Sequence, Union

from config.schema import Config
from models.roles import Role, Slot
from training import cost, runtime
from training.devices import Device
from training.experiment import Experiment


def settings(config: Config) -> List[str]:
    """The settings that differ from their defaults, a line each."""
    given = config.differing()
    width = max([len(name) for name in given] or [0])
    return [f'  {name:{width}}  {value}' for name, value in given.items()]


def ignored(names: Sequence[str]) -> List[str]:
    """A line on the flags that were given but do not count; none without any."""
    return (
        [
            'flags that do not count beside the settings file: '
            + ', '.join('--' + name for name in names)
        ]
        if names
        else []
    )


def experiment(exp: Experiment, device: Device) -> List[str]:
    """What is run on what: a few lines."""
    config, dataset = exp.config, exp.dataset
    parameters: Counter[str] = collections.Counter()
    for variable in exp.variables:
        parameters[_kind(exp.roles[variable.op.name])] += variable.shape.num_elements()
    counts = ', '.join(f'{count:,} in {kind}' for kind, count in parameters.most_common())
    return [
        f'{runtime.describe()}, {device.title}, images as {device.data_format}',
        '{} with {} on {}: {:,} training and {:,} validation images of {}, {:,} classes'.format(
            exp.collection,
            config.alignment or 'backpropagation',
            config.dataset,
            dataset.train_images,
            dataset.validation_images,
            'x'.join(str(n) for n in dataset.image_shape),
            dataset.classes,
        ),
        '{:,} steps of {:,} images ({:g} epochs of {:,} steps){}'.format(
            exp.train_steps,
            config.train_batch_size,
            config.train_epochs,
            exp.steps_per_epoch,
            f', in {device.minibatches} parts' if device.minibatches > 1 else '',
        )
        + (f', up to {device.steps_per_call:,} a call' if device.steps_per_call > 1 else '')
        + (', compiled by XLA' if device.compiled else ''),
        'a batch: {:,} images, {:,} on each of {:,} replica{}, {:,} host{}'.format(
            config.train_batch_size,
            config.train_batch_size // device.replicas,
            device.replicas,
            's' if device.replicas > 1 else '',
            device.hosts,
            's' if device.hosts > 1 else '',
        ),
        'variables: ' + counts,
    ] + _gradients(exp.automatic_layers, config.alignment)


def step_cost(exp: Experiment) -> List[str]:
    """What a training step computes, a line."""
    where = (
        ' on each core' if exp.config.tpu_name else ' on each host' if exp.device.hosts > 1 else ''
    )
    counts = cost.of_step(exp)
    return [
        'a step{}: {} million multiply-adds, {}'.format(
            where,
            _millions(sum(counts.values())),
            ', '.join(f'{_millions(count)} in {kind}' for kind, count in counts.items()),
        )
    ]


def _millions(count: int) -> str:
    return f'{count / 1e6:,.1f}'


def _gradients(automatic: Optional[List[str]], alignment: Optional[str]) -> List[str]:
    """How the gradients of the alignment losses are taken."""
    if automatic is None:
        return []
    return [
        'gradients of the {} loss: {}'.format(
            alignment,
            'closed form'
            if not automatic
            else f'automatic differentiation in {len(automatic):,} layers; these options have no '
            'closed form',
        )
    ]


def variables(exp: Experiment, restored: bool, new: Container[str]) -> List[str]:
    """Every variable: name, shape, role and whether it was restored or is new. new: names that are
    not restored.
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
        '  ' + '  '.join('{:{}}'.format(cell, width) for cell, width in zip(row, widths)).rstrip()
        for row in rows
    ]


def _kind(role: Union[Role, Slot]) -> str:
    """What a variable of a Role or a Slot counts as."""
    if role in (Role.FORWARD, Role.BACKWARD, Role.FIXED):
        return role.text + 's'
    return 'others' if role.is_of_network or role is Role.STEP else 'optimiser slots'
