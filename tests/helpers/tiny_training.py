"""A training that takes a fraction of a second: a network of one convolution, and images in the colours of classes."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

COLOURS = {"blue": (40, 60, 200), "green": (30, 180, 60), "red": (210, 40, 50)}


class Tiny(nn.Module):
    """A network of one convolution, for tests that do not need a real one."""

    def __init__(self, num_classes: int, aux: bool, dropout: float) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 8, 7, stride=7), nn.BatchNorm2d(8)
        self.dropout, self.fc = nn.Dropout(dropout), nn.Linear(8, num_classes)

    def initialise(self, seed: int) -> "Tiny":
        torch.manual_seed(seed)
        self.conv.reset_parameters()
        self.fc.reset_parameters()
        return self

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.dropout(self.bn(self.conv(x)).relu().mean((2, 3))))
        return logits

    def forward_train(self, x: Tensor) -> tuple[Tensor, Tensor]:
        logits = self(x)
        return logits, logits


def draw(folder: Path, counts: dict[str, int], side: int = 90) -> Path:
    """Draw class folders of noisy images in the class's colour."""
    random = np.random.default_rng(0)
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            noisy = np.array(COLOURS[name]) + random.normal(0, 40, (side, side + number % 3, 3))
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / name / f"{number:03}.png")
    return folder
