"""Trains LeNet on images from a file with BioTorch's layers, and prints a line for each epoch.

This is a program for the environment of `experiments.biotorch`, which starts it. It needs torch
2.13.0 and biotorch 0.0.16, and nothing of this project.

Each line of its output is a JSON object: epoch, top1 (a fraction), loss (the mean cross-entropy in
nats), both of the test images, and step, the number of updates.
"""

import argparse
import json
import sys
from typing import Dict, Mapping

import numpy as np
import torch
from biotorch.layers import fa, usf
from torch import nn

LAYERS = {
    'backprop': (nn.Conv2d, nn.Linear),
    'feedback': (fa.Conv2d, fa.Linear),
    'usf': (usf.Conv2d, usf.Linear),
}
Data = Mapping[str, torch.Tensor]
BATCH, MOMENTUM, WEIGHT_DECAY = 64, 0.9, 1e-3


def lenet(name: str) -> nn.Sequential:
    """Returns BioTorch's LeNet for images [batch, 1, 32, 32].

    The kernels are initialised Glorot uniform, as BioTorch's own layers do by themselves, and the
    biases with 0.
    """
    conv, linear = LAYERS[name]
    network = nn.Sequential(
        *(conv(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(conv(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(conv(16, 120, 5), nn.ReLU(), nn.Flatten()),
        *(linear(120, 84), nn.ReLU(), linear(84, 10)),
    )
    if name == 'backprop':
        for layer in network:
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
    return network


def train(network: nn.Module, data: Data, arguments: argparse.Namespace) -> None:
    """Trains and prints a line for each epoch. data: {name: tensor}."""
    # Backward kernels are parameters that need no gradient; the weight decay must not reach them.
    trained = [each for each in network.parameters() if each.requires_grad]
    optimizer = torch.optim.SGD(
        trained, arguments.learning_rate, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY
    )
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, arguments.drop_epochs)
    images, labels = data['train_images'], data['train_labels']
    steps = len(labels) // BATCH  # the last partial batch of an epoch is dropped
    for epoch in range(1, arguments.epochs + 1):
        order = torch.randperm(len(labels))
        for chosen in order[: steps * BATCH].split(BATCH):
            optimizer.zero_grad(set_to_none=True)
            nn.functional.cross_entropy(network(images[chosen]), labels[chosen]).backward()
            optimizer.step()
        schedule.step()
        told = dict(epoch=epoch, step=epoch * steps, **tested(network, data))
        print(json.dumps(told), flush=True)


def tested(network: nn.Module, data: Data) -> Dict[str, float]:
    """Returns {'top1', 'loss'} of the test images."""
    with torch.no_grad():
        logits = torch.cat([network(part) for part in data['test_images'].split(250)])
    loss = nn.functional.cross_entropy(logits, data['test_labels'])
    top1 = (logits.argmax(1) == data['test_labels']).double().mean()
    return dict(top1=float(top1), loss=float(loss))


def main() -> int:
    """Runs the command and returns its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('--images', required=True, help='.npz file of normalised images')
    parser.add_argument('--layers', required=True, choices=LAYERS)
    parser.add_argument('--learning_rate', required=True, type=float)
    parser.add_argument('--epochs', required=True, type=int)
    parser.add_argument('--drop_epochs', type=int, nargs='*', default=[])
    parser.add_argument('--seed', required=True, type=int)
    parser.add_argument('--threads', type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    with np.load(arguments.images) as file:
        data = {name: torch.from_numpy(file[name]) for name in file.files}
    train(lenet(arguments.layers), data, arguments)
    return 0


if __name__ == '__main__':
    sys.exit(main())
