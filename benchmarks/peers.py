"""Serves steps of the same ResNet-18 in PyTorch and with BioTorch's layers.

The layers are feedback alignment ('fa') and sign symmetry ('usf'). benchmarks.bench runs this
program in a separate environment with torch 2.13.0 and biotorch 0.0.16. No other module here needs
these packages.
"""

import argparse
import sys
import time

import torch
from biotorch.layers import fa, usf
from torch import nn

from benchmarks import turns
from benchmarks.types import Maker

LAYERS = {
    'backprop': (nn.Conv2d, nn.Linear),
    'feedback': (fa.Conv2d, fa.Linear),
    'uSF': (usf.Conv2d, usf.Linear),
}


class Block(nn.Module):
    """A basic block of ResNet v1."""

    def __init__(self, conv: Maker, inputs: int, filters: int, stride: int, project: bool) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            conv(inputs, filters, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(filters),
            nn.ReLU(inplace=True),
            conv(filters, filters, 3, padding=1, bias=False),
            nn.BatchNorm2d(filters),
        )
        self.shortcut = (
            nn.Sequential(
                conv(inputs, filters, 1, stride=stride, bias=False), nn.BatchNorm2d(filters)
            )
            if project
            else nn.Identity()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the output of the block; x is float32 [batch, channels, height, width]."""
        return torch.relu(self.branch(x) + self.shortcut(x))


def resnet18(conv: Maker, linear: Maker) -> nn.Sequential:
    """Returns a ResNet-18 from images [batch, 3, height, width] to logits [batch, 1000]."""
    layers = [
        conv(3, 64, 7, stride=2, padding=3, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2, padding=1),
    ]
    inputs = 64
    for group in range(4):
        filters = 64 * 2**group
        for index in range(2):
            layers.append(
                Block(conv, inputs, filters, 2 if group and not index else 1, project=not index)
            )
            inputs = filters
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear(inputs, 1000))


class TorchSteps:
    """A training that does one step at a time."""

    def __init__(self, name: str, image_size: int, batch: int) -> None:
        torch.manual_seed(0)
        self._model = resnet18(*LAYERS[name]).train()
        self._images = torch.randn(batch, 3, image_size, image_size)
        self._labels = torch.randint(0, 1000, (batch,))
        trained = [parameter for parameter in self._model.parameters() if parameter.requires_grad]
        self._optimizer = torch.optim.SGD(
            trained, lr=1e-3, momentum=0.9, nesterov=True, weight_decay=1e-4
        )

    def seconds(self) -> float:
        """Does a step and returns its seconds."""
        started = time.perf_counter()
        self._optimizer.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(self._model(self._images), self._labels).backward()
        self._optimizer.step()
        return time.perf_counter() - started


def main() -> int:
    """Runs the command and returns its exit code."""
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks.peers', description=__doc__.splitlines()[0]
    )
    parser.add_argument('--image_size', type=int, default=128, help='size in pixels')
    parser.add_argument('--batch', type=int, default=16, help='images per step')
    arguments = parser.parse_args()
    turns.serve(
        {name: TorchSteps(name, arguments.image_size, arguments.batch).seconds for name in LAYERS}
    )
    return 0


if __name__ == '__main__':
    sys.exit(main())
