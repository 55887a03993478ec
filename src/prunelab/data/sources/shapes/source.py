"""Built-in data set of drawn shapes, for use without a download.

Designed so that the number of filters matters. `experiment=demo` (resnet8, 6,000 images, 8 epochs, n = 1) reaches
97.3 % test accuracy dense, 94.2 % with 80 % of the weights of each layer pruned, 81.6 % with 80 % of the filters.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from prunelab.data.dataset import Dataset
from prunelab.data.sources.shapes.drawing import draw
from prunelab.data.sources.shapes.signed_distance import SHAPES
from prunelab.data.sources.source import Source

VERSION = 1  # increment when the images change: cached ones are then drawn again


@dataclass(frozen=True)
class Shapes(Source):
    """Ten classes of shapes, drawn by `seed`; `train`, `val` and `test` are numbers of images."""

    train: int = 6000
    val: int = 1000
    test: int = 2000
    seed: int = 0
    split_seed: int = 0
    cache: str | None = None

    def check(self) -> None:
        """Raises ValueError if a split is too small to contain every class."""
        for name, count in (("train", self.train), ("val", self.val), ("test", self.test)):
            if not isinstance(count, int) or count < len(SHAPES):
                raise ValueError(f"data.{name}={count}: expected {len(SHAPES)} images or more")
        if not isinstance(self.seed, int) or self.seed < 0:
            raise ValueError(f"data.seed={self.seed}: expected 0 or more")

    def key(self) -> str:
        return f"shapes-v{VERSION}-{self.train + self.val}-{self.test}-seed{self.seed}"

    def decode(self) -> Dataset:
        train = examples(self.train + self.val, 0, self.seed)
        test = examples(self.test, 1, self.seed)
        return Dataset.from_tensors(train, test, tuple(shape.__name__ for shape in SHAPES))


def examples(n: int, part: int, seed: int) -> tuple[Tensor, Tensor]:
    """n images and their labels, classes balanced; each pair of `part` (0 or 1) and seed gives different images."""
    generator = torch.Generator().manual_seed(2 * seed + part)
    y = (torch.arange(n) % len(SHAPES))[torch.randperm(n, generator=generator)]
    return draw(y, generator), y
