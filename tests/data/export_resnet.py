"""Exports the shipped residual network: bottlenecks with batch norm, the loss inside.

    python export_resnet.py resnet.pt2
"""

import sys

import torch
import torch.nn.functional as F
from torch import nn

import shipped


class Bottleneck(nn.Module):
    def __init__(self, channels, width, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or channels != 4 * width:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
            )

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.relu(y + shortcut)


class ResNet(nn.Module):
    """A small residual network with its classification loss as the only output."""

    def __init__(self, classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(*[Bottleneck(16 if i == 0 else 32, 8, 1) for i in range(3)])
        self.layer2 = nn.Sequential(
            *[Bottleneck(32 if i == 0 else 64, 16, 2 if i == 0 else 1) for i in range(4)]
        )
        self.fc = nn.Linear(64, classes)

    def forward(self, images, labels):
        x = F.relu(self.bn1(self.conv1(images)))
        x = self.layer2(self.layer1(x)).mean((2, 3))
        return F.cross_entropy(self.fc(x), labels)


def main():
    torch.manual_seed(0)
    model = ResNet().train()
    inputs = torch.randn(4, 3, 32, 32), torch.randint(0, 10, (4,))
    program = torch.export.export(model, inputs)
    shipped.save(program, sys.argv[1] if len(sys.argv) > 1 else "resnet.pt2")


if __name__ == "__main__":
    main()
